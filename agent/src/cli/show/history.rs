//! Past changes.

use super::{below, finding, line, seconds};
use crate::{
    cli::paint::Paint,
    status::{GenerationView, ReplacedFile, moment},
};

/// A line for each, newest first.
#[must_use]
pub fn history(past: &[GenerationView], paint: Paint) -> String {
    if past.is_empty() {
        return "nothing was changed yet; the node is as it was found\n".into();
    }
    let mut text = paint.label(&format!("{:>5}  {:<20}  {:<11}  {:<28}  {}\n", "", "when", "outcome", "who", "why"));
    for one in past {
        let kind = &one.outcome.kind;
        let shown = if kind == "changed" { paint.good(&format!("{kind:<11}")) } else { paint.bad(&format!("{kind:<11}")) };
        let (when, who) = (moment(one.time), &one.who);
        text.push_str(&format!("{:>5}  {when:<20}  {shown}  {who:<28}  {}{}\n", one.generation, one.reason, effort(one)));
    }
    text
}

fn effort(one: &GenerationView) -> String {
    let restores = match one.restores {
        None => String::new(),
        Some(0) => "; to the node as it was found".into(),
        Some(number) => format!("; to generation {number}"),
    };
    let restarts = match one.outcome.restarts {
        0 => String::new(),
        1 => format!("; 1 restart, {} without CRI", seconds(one.outcome.cri_gap_ms)),
        many => format!("; {many} restarts, {} without CRI", seconds(one.outcome.cri_gap_ms)),
    };
    restores + &restarts
}

/// One change with its diff.
#[must_use]
pub fn generation(one: &GenerationView, paint: Paint) -> String {
    let mut text = line(paint, "generation", &format!("{}, {}", one.generation, one.outcome.kind));
    text.push_str(&line(paint, "when", &moment(one.time)));
    text.push_str(&line(paint, "who", &one.who));
    text.push_str(&line(paint, "why", &format!("{}{}", one.reason, effort(one))));
    let findings = one.outcome.problems.iter().map(|problem| finding(problem, &paint.bad("problem")));
    text.extend(findings);
    text.extend(one.outcome.notices.iter().map(|notice| finding(notice, &paint.notable("notice"))));
    for file in &one.replaced {
        text.push_str(&line(paint, "replaced", &replaced(file)));
    }
    text.push('\n');
    text.push_str(&if one.diff.is_empty() { below("no diff is kept of it") } else { paint.diff(&one.diff) });
    text
}

fn replaced(file: &ReplacedFile) -> String {
    let ReplacedFile { path, kept_at, changed_at, changed_by } = file;
    let by = if changed_by.is_empty() { "somebody else" } else { changed_by };
    let kept = if kept_at.is_empty() { String::new() } else { format!("; their version is kept as {kept_at}") };
    format!("{path}, changed by {by}, {}{kept}", moment(*changed_at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::OutcomeView;

    fn change() -> GenerationView {
        GenerationView {
            generation: 4,
            time: 1_800_000_000,
            who: "uid 0 (revert)".into(),
            reason: "somebody went back".into(),
            outcome: OutcomeView { kind: "changed".into(), generation: 4, restarts: 1, cri_gap_ms: 126, ..OutcomeView::default() },
            restores: Some(2),
            diff: "--- a\n+++ b\n".into(),
            replaced: vec![
                ReplacedFile { path: "/etc/x".into(), kept_at: "/kept/ab".into(), changed_at: 1_799_999_000, changed_by: String::new() },
                ReplacedFile { path: "/etc/y".into(), kept_at: String::new(), changed_at: 0, changed_by: "rm (pid 7)".into() },
            ],
        }
    }

    #[test]
    fn a_list_has_a_line_for_each() {
        let shown = history(&[change()], Paint::new(false));
        let line = "    4  2027-01-15T08:00:00Z  changed      uid 0 (revert)                somebody went back; to generation 2; 1 restart, 126 ms without CRI\n";
        assert!(shown.ends_with(line), "{shown}");
        assert!(history(&[], Paint::new(false)).contains("nothing was changed"));
    }

    #[test]
    fn one_is_shown_with_its_diff() {
        let shown = generation(&change(), Paint::new(false));
        assert!(shown.starts_with("generation  4, changed\nwhen        2027-01-15T08:00:00Z\n") && shown.ends_with("+++ b\n"), "{shown}");
        let first = "replaced    /etc/x, changed by somebody else, 2027-01-15T07:43:20Z; their version is kept as /kept/ab\n";
        assert!(shown.contains(first), "{shown}");
        assert!(shown.contains("replaced    /etc/y, changed by rm (pid 7), at an unknown time\n"), "{shown}");
    }
}
