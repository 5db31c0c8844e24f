//! Why a verb has no answer: exit code, stable word, sentence, and what is wrong where.

use serde::Serialize;
use tonic::Code;

use super::{paint::Paint, show};
use crate::{exit, spec::problem::ProblemView, wire::failure::CallFailed};

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The exit code.
    pub exit: u8,
    /// The stable word.
    pub reason: String,
    /// The sentence, without its full stop.
    pub message: String,
    /// What is wrong, each with its place.
    pub problems: Vec<ProblemView>,
}

impl Failure {
    /// A failure that is one sentence.
    #[must_use]
    pub fn new(exit: u8, reason: &str, message: impl Into<String>) -> Self {
        Self { exit, reason: reason.into(), message: message.into(), problems: Vec::new() }
    }

    /// What is asked for is not in this version.
    #[must_use]
    pub fn not_built(what: &str) -> Self {
        Self::new(exit::USAGE, "cli.not-built", format!("{what} is not built yet; this version of mirrorctl cannot do it"))
    }

    /// A spec with problems.
    #[must_use]
    pub fn invalid(problems: Vec<ProblemView>) -> Self {
        let message = format!("{}; nothing was done", show::count(problems.len(), "problem"));
        Self { exit: exit::USAGE, reason: "spec.invalid".into(), message, problems }
    }

    /// For people.
    #[must_use]
    pub fn text(&self, paint: Paint) -> String {
        let problems: String = self.problems.iter().map(|problem| show::finding(problem, &paint.bad("error"))).collect();
        format!("{problems}mirrorctl: {}\n", self.message)
    }
}

impl From<CallFailed> for Failure {
    fn from(failed: CallFailed) -> Self {
        let exit = exit_of(failed.code);
        // One problem is the sentence already.
        let problems = if failed.problems.len() > 1 || exit == exit::USAGE { failed.problems } else { Vec::new() };
        let message =
            if problems.is_empty() { failed.message } else { format!("the daemon found {}", show::count(problems.len(), "problem")) };
        let reason = if failed.reason.is_empty() { word_of(failed.code).to_owned() } else { failed.reason };
        Self { exit, reason, message, problems }
    }
}

fn exit_of(code: Code) -> u8 {
    match code {
        Code::Unavailable => exit::UNREACHABLE,
        Code::PermissionDenied | Code::Unauthenticated => exit::DENIED,
        Code::FailedPrecondition => exit::REFUSED,
        Code::Aborted => exit::STALE,
        Code::ResourceExhausted => exit::LOCKED,
        Code::InvalidArgument | Code::OutOfRange | Code::AlreadyExists | Code::Unimplemented => exit::USAGE,
        Code::DeadlineExceeded | Code::Cancelled => exit::LATE,
        _ => exit::FAILED,
    }
}

fn word_of(code: Code) -> &'static str {
    match code {
        Code::Unavailable => "daemon.unreachable",
        Code::DeadlineExceeded | Code::Cancelled => "daemon.late",
        Code::Unimplemented => "api.not-built",
        _ => "daemon.failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_has_its_exit_code() {
        let cases = [
            (Code::Unavailable, exit::UNREACHABLE),
            (Code::PermissionDenied, exit::DENIED),
            (Code::FailedPrecondition, exit::REFUSED),
            (Code::Aborted, exit::STALE),
            (Code::ResourceExhausted, exit::LOCKED),
            (Code::InvalidArgument, exit::USAGE),
            (Code::DeadlineExceeded, exit::LATE),
            (Code::Internal, exit::FAILED),
        ];
        for (code, exit) in cases {
            let failed = CallFailed { code, reason: String::new(), message: "m".into(), problems: Vec::new() };
            let failure = Failure::from(failed);
            assert_eq!((failure.exit, failure.reason.is_empty()), (exit, false), "{code:?}");
        }
    }
}
