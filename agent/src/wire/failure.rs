//! Why a call failed: `google.rpc.Status` with ErrorInfo and the places of what is wrong, and the same read back.
//!
//! Details travel in a header, of which clients take 8 KiB (grpc-core) to 16 KiB (h2): the list of problems is cut to fit.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, StatusExt};

use crate::{
    reconcile::commands::CommandError,
    spec::problem::{Problem, ProblemView},
};

/// Who gives the reasons of ErrorInfo their meaning.
pub const DOMAIN: &str = "mirrorlet";
/// Bytes of problem text in one answer.
const MOST_TEXT: usize = 4_000;
/// Characters of one problem in one answer.
const MOST_CHARACTERS: usize = 1_000;

/// Why a call failed, as its caller sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailed {
    /// The gRPC code.
    pub code: Code,
    /// The stable word; empty when the answer is not the daemon's own.
    pub reason: String,
    /// The sentence.
    pub message: String,
    /// What is wrong, each with its place.
    pub problems: Vec<ProblemView>,
}

/// A command that was not taken, as it is answered.
#[must_use]
pub fn refusal(error: &CommandError) -> Status {
    match error {
        CommandError::Stale { etag } => {
            let message = "the node changed since the etag was read; look at the status again and repeat the request with its etag";
            with_reason(Code::Aborted, "etag.stale", message, HashMap::from([("etag".to_owned(), etag.clone())]))
        }
        CommandError::Overtaken(problem) => {
            with_reason(Code::Aborted, &problem.code, sentence(std::slice::from_ref(problem)), HashMap::new())
        }
        CommandError::Invalid(problems) => invalid(problems),
        CommandError::Precondition(problem) => precondition(problem),
        CommandError::RequestIdReused => {
            let message = "this request_id was used for another request; repeat a request unchanged, or take a new id";
            failed(Code::AlreadyExists, "request.id-reused", message)
        }
        CommandError::Stopping => failed(Code::Unavailable, "daemon.stopping", "the daemon is stopping; try again when it is back"),
    }
}

/// A failure with a reason and a sentence.
#[must_use]
pub fn failed(code: Code, reason: &str, message: impl Into<String>) -> Status {
    with_reason(code, reason, message, HashMap::new())
}

fn with_reason(code: Code, reason: &str, message: impl Into<String>, metadata: HashMap<String, String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_error_info(reason, DOMAIN, metadata))
}

/// A request that cannot be meant.
#[must_use]
pub fn invalid(problems: &[Problem]) -> Status {
    let reason = match problems {
        [problem] => &problem.code,
        _ => "spec.invalid",
    };
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    details.set_bad_request(fitting(problems).map(violation).collect::<Vec<_>>());
    Status::with_error_details(Code::InvalidArgument, sentence(problems), details)
}

fn precondition(problem: &Problem) -> Status {
    let mut details = ErrorDetails::with_error_info(problem.code.as_ref(), DOMAIN, HashMap::new());
    let violation = PreconditionViolation::new(problem.code.as_ref(), &problem.field, description(problem));
    details.set_precondition_failure(vec![violation]);
    Status::with_error_details(Code::FailedPrecondition, sentence(std::slice::from_ref(problem)), details)
}

fn sentence(problems: &[Problem]) -> String {
    match problems {
        [] => "the request cannot be meant".into(),
        [problem] => cut(&problem.to_string()),
        [first, ..] => format!("{} problems, the first is {}", problems.len(), cut(&first.to_string())),
    }
}

/// The problems at the start of the list that fit into one answer; the first one always does.
fn fitting(problems: &[Problem]) -> impl Iterator<Item = &Problem> {
    let mut text = 0;
    problems.iter().take_while(move |problem| {
        let is_first = text == 0;
        text += description(problem).len() + problem.field.len() + problem.code.len() + 16;
        is_first || text <= MOST_TEXT
    })
}

fn violation(problem: &Problem) -> FieldViolation {
    let mut violation = FieldViolation::new(&problem.field, description(problem));
    violation.reason = problem.code.to_string();
    violation
}

/// `FILE:LINE:COLUMN: message; remedy`.
fn description(problem: &Problem) -> String {
    let at = problem.at.as_ref().map(|at| format!("{at}: ")).unwrap_or_default();
    let remedy = if problem.remedy.is_empty() { String::new() } else { format!("; {}", problem.remedy) };
    cut(&format!("{at}{}{remedy}", problem.message))
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

impl From<&Status> for CallFailed {
    fn from(status: &Status) -> Self {
        let details = status.get_error_details();
        let fields = details.bad_request().into_iter().flat_map(|request| &request.field_violations);
        let fields = fields.map(|violation| problem_of(&violation.reason, &violation.field, &violation.description));
        let states = details.precondition_failure().into_iter().flat_map(|failure| &failure.violations);
        let states = states.map(|violation| problem_of(&violation.r#type, &violation.subject, &violation.description));
        Self {
            code: status.code(),
            reason: details.error_info().map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            problems: fields.chain(states).collect(),
        }
    }
}

fn problem_of(code: &str, field: &str, description: &str) -> ProblemView {
    let problem = ProblemView { code: code.into(), field: field.into(), ..ProblemView::default() };
    match placed(description) {
        Some((file, line, column, message)) => ProblemView { file: file.into(), line, column, message: message.into(), ..problem },
        None => ProblemView { message: description.into(), ..problem },
    }
}

fn placed(description: &str) -> Option<(&str, u32, u32, &str)> {
    let (place, message) = description.split_once(": ")?;
    let mut parts = place.rsplitn(3, ':');
    let column = parts.next()?.parse().ok()?;
    let line = parts.next()?.parse().ok()?;
    Some((parts.next()?, line, column, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::problem::Location;

    fn problem() -> Problem {
        let at = Location { file: "m.yaml".into(), line: 3, column: 7 };
        Problem::new("spec.endpoint.path", "the path is wrong", "take it out").at(at, "registryMirrors[0].endpoint")
    }

    #[test]
    fn problems_of_a_spec_come_back_with_their_places() {
        let failed = CallFailed::from(&refusal(&CommandError::Invalid(vec![problem(), problem()])));
        assert_eq!((failed.code, failed.reason.as_str(), failed.problems.len()), (Code::InvalidArgument, "spec.invalid", 2));
        let back = &failed.problems[0];
        assert_eq!((back.file.as_str(), back.line, back.column), ("m.yaml", 3, 7));
        assert_eq!((back.code.as_str(), back.field.as_str()), ("spec.endpoint.path", "registryMirrors[0].endpoint"));
        assert_eq!(back.message, "the path is wrong; take it out");
    }

    #[test]
    fn a_long_list_fits_into_a_header() {
        let status = invalid(&vec![problem(); 5_000]);
        assert!(status.details().len() < 6_000, "{}", status.details().len());
        assert!(status.message().starts_with("5000 problems"), "{}", status.message());
        let long = Problem::new("x", "ä".repeat(100_000), "");
        assert!(invalid(&[long]).details().len() < 6_000);
    }

    #[test]
    fn every_refusal_has_a_code_a_reason_and_a_sentence() {
        let cases = [
            (CommandError::Stale { etag: "e2".into() }, Code::Aborted, "etag.stale"),
            (CommandError::Overtaken(Problem::new("apply.changed-underneath", "m", "r")), Code::Aborted, "apply.changed-underneath"),
            (CommandError::Precondition(problem()), Code::FailedPrecondition, "spec.endpoint.path"),
            (CommandError::RequestIdReused, Code::AlreadyExists, "request.id-reused"),
            (CommandError::Stopping, Code::Unavailable, "daemon.stopping"),
        ];
        for (error, code, reason) in cases {
            let failed = CallFailed::from(&refusal(&error));
            assert_eq!((failed.code, failed.reason.as_str()), (code, reason));
            assert!(failed.message.len() > 20, "{}", failed.message);
        }
    }
}
