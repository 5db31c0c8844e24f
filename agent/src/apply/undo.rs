//! Undo is data: the states in the journal, put back in reverse order.

use super::{file_problem, journal::Header};
use crate::{host::files::Transaction, spec::problem::Problem};

/// Undoes the first `begun` steps. What could not be undone comes back as problems; the others are undone all the same.
pub fn steps(transaction: &Transaction<'_>, header: &Header, begun: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, step) in header.steps.iter().enumerate().take(begun).rev() {
        match transaction.undo(index, &step.path, &step.before, &step.after) {
            Ok(true) => tracing::info!(path = %step.path, "put back {}", step.path),
            Ok(false) => problems.push(Problem::new(
                "undo.edited",
                format!("{} was changed by somebody else during the apply and is left as they made it", step.path),
                "look at it",
            )),
            Err(error) => problems.push(file_problem(&error)),
        }
    }
    problems
}

/// The old files do not bring the CRI back either.
#[must_use]
pub fn node_at_fault(problem: &Problem) -> Problem {
    Problem::new(
        "node.cri-dead",
        format!("every file is as before, but containerd's CRI does not come back: {}", problem.message),
        "the node is at fault, not the change: see \"journalctl -u containerd\" and \"ctr plugins ls\"; nothing is tried again until you ask for it",
    )
}
