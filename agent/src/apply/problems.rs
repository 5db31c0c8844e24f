//! What went wrong with an apply, and whose fault it is: that decides whether the spec is parked, tried again, or its caller told to look again.

use std::io::ErrorKind;

use super::undo;
use crate::{
    host::{commands::CommandError, files::FileError, state::StateError},
    spec::problem::Problem,
};

/// Code of the problem that containerd gave no answer.
pub const NOT_ASKED: &str = "prove.not-asked";

/// Code of the problem that there was no quiet moment in time.
pub const BUSY: &str = "restart.busy";

/// Code of the problem that containerd's binary cannot be run right now, as in the middle of an upgrade.
pub const NOT_RUN: &str = "candidate.not-run";

/// Remedy for what is no fault of the spec.
pub const TRIED_AGAIN: &str = "the node's own spec is tried again by itself; what was asked for otherwise, ask for again";

/// What goes back by itself could not be given to systemd.
#[must_use]
pub fn not_armed(error: &CommandError) -> Problem {
    let remedy = "a generation that is to be confirmed needs systemd; apply without --confirm-within";
    Problem::new("confirm.not-armed", format!("the timer that goes back cannot be set: {error}"), remedy)
}

/// The files before the change do not bring the CRI back either.
#[must_use]
pub fn is_cri_dead(problems: &[Problem]) -> bool {
    problems.iter().any(|problem| problem.code == undo::CRI_DEAD)
}

/// Code of the problem that a disk did not do what it should.
const WRITE_FAILED: &str = "apply.write-failed";

/// The same of the disk with the state.
const STATE_FAILED: &str = "state.failed";

/// A file access that failed, as a problem.
#[must_use]
pub fn file_problem(error: &FileError) -> Problem {
    if matches!(error.source.kind(), ErrorKind::AlreadyExists | ErrorKind::NotFound) {
        let message = format!("{error}; somebody else made or removed it while this was carried out");
        return Problem::new(CHANGED_UNDERNEATH, message, "nothing of the change stays; plan again");
    }
    Problem::new(WRITE_FAILED, error.to_string(), "see the errno; nothing of the change stays")
}

/// The disk failed, not containerd.
#[must_use]
pub fn is_write_failure(problems: &[Problem]) -> bool {
    problems.first().is_some_and(|problem| problem.code == WRITE_FAILED || problem.code == STATE_FAILED)
}

/// A state access that failed, as a problem.
#[must_use]
pub fn state_problem(error: &StateError) -> Problem {
    match error {
        StateError::Locked { .. } => Problem::new("state.locked", error.to_string(), ""),
        _ => Problem::new(STATE_FAILED, error.to_string(), "the state directory has to be writable by mirrorlet"),
    }
}

/// Code of the problem that a path changed after it was looked at.
pub const CHANGED_UNDERNEATH: &str = "apply.changed-underneath";

/// Code of the problem that a path changed again as soon as it was written.
pub const READ_BACK: &str = "apply.read-back";

/// Somebody else wrote the same path at that moment: that says nothing of the spec either, and their write is an event of its own.
#[must_use]
pub fn is_contested(problems: &[Problem]) -> bool {
    problems.first().is_some_and(|problem| problem.code == READ_BACK || problem.code == CHANGED_UNDERNEATH)
}

/// containerd gave no answer, or had no quiet moment, or the disk was full: that says nothing of the spec, which is tried again later instead of
/// being parked.
#[must_use]
pub fn is_transient(problems: &[Problem]) -> bool {
    let silent = [NOT_ASKED, BUSY, NOT_RUN];
    is_write_failure(problems) || problems.first().is_some_and(|problem| silent.contains(&&*problem.code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_race_is_no_fault_of_the_spec() {
        for kind in [ErrorKind::NotFound, ErrorKind::AlreadyExists] {
            let problem = file_problem(&FileError { action: "rename", path: "/x".into(), source: kind.into() });
            assert!(is_contested(std::slice::from_ref(&problem)) && !is_write_failure(&[problem]));
        }
        let full = file_problem(&FileError { action: "write", path: "/x".into(), source: ErrorKind::StorageFull.into() });
        assert!(is_transient(&[full]));
    }
}
