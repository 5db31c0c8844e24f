//! What mirrorlet adds to an entry: how much a mirror is asked, how long it is waited for, and what comes after it.

use std::time::Duration;

use super::{
    super::{Fallback, codes, names::Capability, problem::Problem, quote::quoted},
    fields::{self, Fields},
    report::{Field, Report},
};

/// Below this a healthy mirror far away would be skipped.
const SHORTEST_DIAL: Duration = Duration::from_millis(100);
/// Above this a pull would be given up by the kubelet before containerd went on.
const LONGEST_DIAL: Duration = Duration::from_secs(300);

/// `capabilities`: pull, or pull and resolve.
pub(super) fn capabilities(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<Vec<Capability>> {
    let node = fields.get("capabilities")?;
    let field = fields.field.key("capabilities");
    let before = report.count();
    let mut found = Vec::new();
    for (index, item) in fields::list(node, &field, report)?.iter().enumerate() {
        let field = field.item(index);
        let Some(word) = fields::text(item, &field, report) else { continue };
        match capability(word, &found) {
            Ok(capability) => found.push(capability),
            Err(problem) => report.problem(item.at, &field, problem),
        }
    }
    if report.count() == before && !found.contains(&Capability::Pull) {
        report.problem(
            node.at,
            &field,
            Problem::new(codes::CAPABILITIES, "a mirror that may not be pulled from is none", "write [pull] or [pull, resolve]"),
        );
    }
    found.sort_unstable();
    (report.count() == before).then_some(found)
}

fn capability(word: &str, found: &[Capability]) -> Result<Capability, Problem> {
    let problem = |message: String, remedy: &str| Problem::new(codes::CAPABILITIES, message, remedy);
    match Capability::from_word(word) {
        Some(again) if found.contains(&again) => Err(problem(format!("{again} is here twice"), "keep one of them")),
        Some(capability) => Ok(capability),
        None if word == "push" => Err(problem("mirrors are pulled from, never pushed to".to_owned(), "write [pull, resolve]")),
        None if word == "referrers" => {
            Err(problem("containerd before 2.2 ignores a whole file that says referrers".to_owned(), "write [pull, resolve]"))
        }
        None => Err(problem(format!("{} is not a capability", quoted(word)), "write [pull] or [pull, resolve]")),
    }
}

/// `dialTimeout`: a duration such as `2s`.
pub(super) fn dial_timeout(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<Duration> {
    let (node, field) = (fields.get("dialTimeout")?, fields.field.key("dialTimeout"));
    let text = fields::text(node, &field, report)?;
    match parse_duration(text) {
        Some(duration) if (SHORTEST_DIAL..=LONGEST_DIAL).contains(&duration) => return Some(duration),
        Some(_) => report.problem(
            node.at,
            &field,
            wrong_time(format!("{} is out of bounds", quoted(text)), "write a time from 100ms to 5m".to_owned()),
        ),
        None => report.problem(node.at, &field, wrong_time(format!("{} is not a time", quoted(text)), time_remedy(text))),
    }
    None
}

fn wrong_time(message: String, remedy: String) -> Problem {
    Problem::new(codes::DIAL_TIMEOUT, message, remedy)
}

fn time_remedy(text: &str) -> String {
    let is_number = !text.is_empty() && text.len() < 4 && text.bytes().all(|b| b.is_ascii_digit());
    if is_number {
        format!("write it with its unit: {text}s")
    } else {
        "write whole numbers with units, for example 2s, 500ms or 1m30s".to_owned()
    }
}

/// Whole numbers, each with its unit: `1m30s`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let (unit, after) = after.split_at(after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len()));
        let milliseconds = number.parse::<u64>().ok()?.checked_mul(milliseconds_of(unit)?)?;
        sum = sum.checked_add(Duration::from_millis(milliseconds))?;
        rest = after;
    }
    (!text.is_empty()).then_some(sum)
}

fn milliseconds_of(unit: &str) -> Option<u64> {
    match unit {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        "h" => Some(3_600_000),
        _ => None,
    }
}

/// `fallback`: upstream or none.
pub(super) fn fallback(fields: &Fields<'_>, report: &mut Report<'_>) -> Option<Fallback> {
    let (node, field): (_, Field<'_>) = (fields.get("fallback")?, fields.field.key("fallback"));
    match fields::text(node, &field, report)? {
        "upstream" => Some(Fallback::Upstream),
        "none" => Some(Fallback::None),
        other => {
            let message = format!("{} is not a fall-back", quoted(other));
            report.problem(
                node.at,
                &field,
                Problem::new(codes::FALLBACK, message, "write upstream (ask the public registry) or none (let the pull fail)"),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_numbers_with_units() {
        let table = [
            ("2s", Some(2_000)),
            ("500ms", Some(500)),
            ("1m30s", Some(90_000)),
            ("1h", Some(3_600_000)),
            ("", None),
            ("2", None),
            ("1.5s", None),
            ("s", None),
            ("-2s", None),
            ("2 s", None),
            ("99999999999999999999s", None),
            ("18446744073709551615h", None),
        ];
        for (text, milliseconds) in table {
            assert_eq!(parse_duration(text), milliseconds.map(Duration::from_millis), "{text}");
        }
    }
}
