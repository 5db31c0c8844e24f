//! Undo is data: the states in the journal, put back in reverse order.

use super::journal::{Claims, Header};
use crate::{
    host::files::Transaction,
    observed::{entry::Entry, record::Record},
    spec::problem::Problem,
};

/// What undoing left behind.
#[derive(Debug, Default)]
pub struct Undone {
    /// What could not be undone.
    pub problems: Vec<Problem>,
    /// Paths that somebody else changed in between.
    pub edited: Vec<String>,
    /// Some step is not undone: the journal has to stay.
    pub is_incomplete: bool,
}

/// A step is tried this often: a disk that answers once with an error may answer twice.
const TRIES: usize = 3;

/// Undoes the first `begun` steps. What could not be undone comes back as problems; the others are undone all the same.
pub fn steps(transaction: &Transaction<'_>, header: &Header, begun: usize) -> Undone {
    let mut undone = Undone::default();
    for (index, step) in header.steps.iter().enumerate().take(begun).rev() {
        let undo = || transaction.undo(index, &step.path, &step.before, &step.after);
        let undone_by_now = (1..TRIES).fold(undo(), |result, _| result.or_else(|_| undo()));
        match undone_by_now {
            Ok(true) => tracing::info!(path = %step.path, "put back {}", step.path),
            Ok(false) => {
                undone.edited.push(step.path.clone());
                undone.problems.push(Problem::new(
                    "undo.edited",
                    format!("{} was changed by somebody else during the apply and is left as they made it", step.path),
                    "\"mirrorctl disable\" takes what is ours out of it and leaves their change",
                ));
            }
            Err(error) => {
                undone.is_incomplete = true;
                let remedy = "the rest is undone as soon as that works; mend the disk or the directory";
                undone.problems.push(Problem::new(INCOMPLETE, format!("not undone yet: {error}"), remedy));
            }
        }
    }
    undone
}

/// What is ours in a path that could not be undone stays known as ours, with what was there before: a later restore needs both.
#[must_use]
pub fn with_edited(mut record: Record, edited: &[String], claims: &Claims) -> Record {
    let is_touched = |path: &&String| edited.iter().any(|edited| edited == *path || edited.starts_with(&format!("{path}/")));
    let touched: Vec<&String> =
        claims.owned.iter().filter(|(_, entry)| !is_empty_directory(entry)).map(|(path, _)| path).filter(is_touched).collect();
    if touched.is_empty() {
        return record;
    }
    for path in touched {
        record.owned.insert(path.clone(), claims.owned[path].clone());
        let originals = claims.originals.iter().filter(|(original, _)| *original == path || original.starts_with(&format!("{path}/")));
        record.originals.extend(originals.map(|(path, entry)| (path.clone(), entry.clone())));
    }
    record.carried = claims.carried.clone();
    record.config_logins.clone_from(&claims.config_logins);
    record.legacy.clone_from(&claims.legacy);
    record
}

fn is_empty_directory(entry: &Entry) -> bool {
    matches!(entry, Entry::Directory { files, .. } if files.is_empty())
}

/// Code of the problem that a step could not be undone for now.
pub const INCOMPLETE: &str = "undo.incomplete";

/// Code of the problem that the old files do not bring the CRI back either.
pub const CRI_DEAD: &str = "node.cri-dead";

/// The old files do not bring the CRI back either.
#[must_use]
pub fn node_at_fault(problem: &Problem) -> Problem {
    Problem::new(
        CRI_DEAD,
        format!("every file is as before, but containerd's CRI does not come back: {}", problem.message),
        "the node is at fault, not the change: see \"journalctl -u containerd\" and \"ctr plugins ls\"; the last that is tried is what the node had before mirrorlet",
    )
}
