//! Answers for people: calm, aligned, short. Pure: values in, text out.

mod history;
mod pull;
mod status;

pub use history::{generation, history};
pub use pull::{phase as pull_phase, pulled, size};
pub use status::status;

use super::paint::Paint;
use crate::{plan::explain::PlanView, spec::problem::ProblemView, status::OutcomeView};

/// Width of the label column.
const LABEL: usize = 12;

/// One labelled line.
fn line(paint: Paint, label: &str, text: &str) -> String {
    format!("{}{text}\n", paint.label(&format!("{label:<LABEL$}")))
}

/// A line below a labelled one.
fn below(text: &str) -> String {
    format!("{:LABEL$}{text}\n", "")
}

/// `1 problem`, `2 problems`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

/// A finding as a compiler shows it: `FILE:LINE:COLUMN: error: FIELD: message [code]`, and what to do in a line of its own.
#[must_use]
pub fn finding(problem: &ProblemView, word: &str) -> String {
    let place = match (problem.file.as_str(), problem.line) {
        ("", _) => String::new(),
        (file, 0) => format!("{file}: "),
        (file, line) => format!("{file}:{line}:{}: ", problem.column),
    };
    let field = if problem.field.is_empty() { String::new() } else { format!("{}: ", problem.field) };
    let remedy = if problem.remedy.is_empty() { String::new() } else { format!("    {}\n", problem.remedy) };
    format!("{place}{word}: {field}{} [{}]\n{remedy}", problem.message, problem.code)
}

/// A plan; its text is the daemon's, or this program's own.
#[must_use]
pub fn plan(plan: &PlanView, paint: Paint) -> String {
    let end = if plan.text.ends_with('\n') { "" } else { "\n" };
    paint.diff(&format!("{}{end}", plan.text))
}

/// How an apply ended, in lines.
#[must_use]
pub fn outcome(outcome: &OutcomeView, paint: Paint) -> String {
    let sentence = match outcome.kind.as_str() {
        "changed" => paint.good(&format!("changed: generation {} is in effect", outcome.generation)),
        "unchanged" => paint.good("unchanged: there was nothing to do"),
        "rolled-back" => {
            paint.bad(&format!("rolled back: generation {} failed and was undone; the node is as it was before", outcome.generation))
        }
        "refused" => paint.bad("refused: nothing was changed"),
        other => format!("ended: {other}"),
    };
    let problems: String = outcome.problems.iter().map(|problem| finding(problem, &paint.bad("error"))).collect();
    let notices: String = outcome.notices.iter().map(|notice| finding(notice, &paint.notable("notice"))).collect();
    format!("{sentence}{}\n{problems}{notices}", effort(outcome))
}

/// `; containerd was restarted once, 1.2 s without it`.
fn effort(outcome: &OutcomeView) -> String {
    let times = match outcome.restarts {
        0 => return String::new(),
        1 => "once".to_owned(),
        times => format!("{times} times"),
    };
    format!("; containerd was restarted {times}, {} without it", seconds(outcome.cri_gap_ms))
}

/// Milliseconds for people.
#[must_use]
pub fn seconds(milliseconds: u64) -> String {
    match milliseconds {
        ..1000 => format!("{milliseconds} ms"),
        _ => format!("{}.{} s", milliseconds / 1000, milliseconds % 1000 / 100),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_reads_like_a_compilers() {
        let problem = ProblemView {
            code: "spec.endpoint.path".into(),
            message: "the path is wrong".into(),
            remedy: "take it out".into(),
            file: "m.yaml".into(),
            line: 3,
            column: 7,
            field: "registryMirrors[0].endpoint".into(),
        };
        let shown = "m.yaml:3:7: error: registryMirrors[0].endpoint: the path is wrong [spec.endpoint.path]\n    take it out\n";
        assert_eq!(finding(&problem, "error"), shown);
        let bare = ProblemView { code: "x".into(), message: "m".into(), ..ProblemView::default() };
        assert_eq!(finding(&bare, "notice"), "notice: m [x]\n");
    }

    #[test]
    fn outcomes_are_sentences() {
        let shown = |kind: &str, restarts| {
            let view = OutcomeView { kind: kind.into(), generation: 4, restarts, cri_gap_ms: 1_240, ..OutcomeView::default() };
            outcome(&view, Paint::new(false))
        };
        assert_eq!(shown("changed", 1), "changed: generation 4 is in effect; containerd was restarted once, 1.2 s without it\n");
        assert_eq!(shown("unchanged", 0), "unchanged: there was nothing to do\n");
        assert!(shown("rolled-back", 2).contains("restarted 2 times"));
        assert_eq!(seconds(75), "75 ms");
    }
}
