//! What a killed process left open: finished or undone, as the journal says. Needs no containerd and no network.

use std::collections::BTreeMap;

use super::{
    journal::{self, Phase},
    state_problem, undo,
};
use crate::{
    host::{
        clock,
        files::Transaction,
        listener,
        observe::Host,
        planted,
        state::{Lock, StateError},
    },
    observed::{
        generation::{self, Generation},
        record::{Change, Ending, Note, Record, RestartNote},
    },
    spec::problem::Problem,
};

/// What recovery did.
#[derive(Debug, Clone, PartialEq)]
pub enum Recovery {
    /// There was nothing to do.
    Clean,
    /// The end had been decided; what was left was done.
    Finished {
        /// Number of the change.
        generation: u64,
    },
    /// Some step could not be undone; the journal stays open.
    Incomplete {
        /// Number of the change.
        generation: u64,
        /// Why not.
        problems: Vec<Problem>,
    },
    /// Every step was undone.
    Undone {
        /// Number of the change.
        generation: u64,
        /// What could not be undone.
        problems: Vec<Problem>,
    },
}

/// Finishes or undoes an open apply, and sweeps what killed processes left. A restart that is owed after an undo stays noted in the record
/// ([`Record::owed_restart`]) until somebody who can ask containerd has done it.
///
/// # Errors
/// When journal or record cannot be used; a sentence that says what to do.
pub fn recover(host: &Host, _lock: &Lock) -> Result<(Recovery, Record), Problem> {
    let state = host.state();
    let record = state.record().map_err(|error| state_problem(&error))?;
    let path = state.journal_path();
    let text = host.files.read(&path).map_err(|error| super::file_problem(&error))?;
    let (recovery, record) = match text {
        None => (Recovery::Clean, record),
        Some(found) => {
            let text = found.content.text().unwrap_or_default();
            let found = journal::read(text)
                .map_err(|reason| Problem::new("recover.journal", format!("{path}: {reason}"), "move it away to start without it"))?;
            end(host, &found, record).map_err(|error| state_problem(&error))?
        }
    };
    if !matches!(recovery, Recovery::Incomplete { .. }) {
        sweep(host).map_err(|error| state_problem(&error))?;
    }
    Ok((recovery, record))
}

fn end(host: &Host, found: &journal::Found, record: Record) -> Result<(Recovery, Record), StateError> {
    let header = &found.header;
    let transaction = Transaction { files: &host.files, id: &header.transaction };
    let generation = header.generation;
    if let (Phase::Closed, Some(record)) = (found.last.phase, &found.last.record) {
        journal::finish(host, header, record, found.last.generation.as_deref(), &transaction)?;
        return Ok((Recovery::Finished { generation }, (**record).clone()));
    }
    if planted::has("unfinished-counts-as-finished") {
        journal::finish(host, header, &record, None, &transaction)?;
        return Ok((Recovery::Finished { generation }, record));
    }
    let undo::Undone { problems, edited, is_incomplete } = undo::steps(&transaction, header, header.steps.len());
    let was_restarted = match found.last.phase {
        Phase::Undoing => found.last.restarted,
        phase => header.restarts && phase >= Phase::Activating,
    };
    if is_incomplete {
        return Ok((Recovery::Incomplete { generation, problems }, record));
    }
    // Remembered before the journal goes: whoever is killed between the two still knows of it.
    let owed_restart = was_restarted.then(|| header.boot_id.clone()).or_else(|| record.owed_restart.clone());
    let past = interrupted(header, &problems, was_restarted);
    let mut record =
        Record { generation, owed_restart, last_change: Some(past.change.clone()), ..undo::with_edited(record, &edited, &header.claims) };
    if was_restarted && record.restarts.last().is_none_or(|last| last.generation != generation) {
        record.restarts.push(RestartNote { time: clock::unix_seconds(), generation, reason: header.reason.clone() });
    }
    journal::finish(host, header, &record, Some(&past), &transaction)?;
    Ok((Recovery::Undone { generation, problems }, record))
}

fn interrupted(header: &journal::Header, problems: &[Problem], was_restarted: bool) -> Generation {
    let cause = Problem::new("apply.interrupted", "mirrorlet or the node stopped in the middle of it; every step was undone", "");
    let change = Change {
        generation: header.generation,
        time: clock::unix_seconds(),
        who: header.who.clone(),
        ending: Ending::RolledBack,
        restarts: u32::from(was_restarted),
        cri_gap_ms: 0,
        problems: std::iter::once(&cause).chain(problems).map(Note::from).collect(),
    };
    Generation {
        version: generation::FORMAT,
        change,
        reason: header.reason.clone(),
        restores: None,
        applied: None,
        diff: String::new(),
        replaced: BTreeMap::new(),
        touched: BTreeMap::new(),
    }
}

/// Temporary names and nonce directories; no apply is open any more.
fn sweep(host: &Host) -> Result<(), StateError> {
    let (hosts_dir, state) = (&host.settings.containerd.hosts_dir, &host.settings.state.dir);
    for directory in [hosts_dir, state, &format!("{state}/objects")] {
        host.files.sweep(directory)?;
    }
    if let Some((parent, _)) = hosts_dir.rsplit_once('/') {
        host.files.sweep(parent)?;
    }
    for name in host.files.names(hosts_dir).unwrap_or_default() {
        if listener::is_nonce_directory(&name) {
            host.files.remove(&format!("{hosts_dir}/{name}"))?;
        } else if host.files.is_directory(&format!("{hosts_dir}/{name}"))
            && host.files.link_target(&format!("{hosts_dir}/{name}")).is_none()
        {
            host.files.sweep(&format!("{hosts_dir}/{name}"))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        apply::journal::{Header, Mark},
        config::Settings,
        host::files::Files,
        observed::entry::Attributes,
    };

    fn interrupted(last: Phase) -> (tempfile::TempDir, Host) {
        let root = tempfile::tempdir().unwrap();
        let host = Host::new(Files::open(root.path()).unwrap(), Settings::default(), true);
        let header = Header {
            version: journal::FORMAT,
            transaction: "g1".into(),
            generation: 1,
            who: "test".into(),
            reason: "a test".into(),
            request_id: String::new(),
            boot_id: "this boot".into(),
            restarts: true,
            steps: Vec::new(),
            claims: journal::Claims::default(),
        };
        let mark = Mark::entered(last);
        let text = format!("{}\n{}\n", serde_json::to_string(&header).unwrap(), serde_json::to_string(&mark).unwrap());
        host.state().lock().unwrap();
        host.files.put(&host.state().journal_path(), &text.into(), &Attributes::root(0o600)).unwrap();
        (root, host)
    }

    #[test]
    fn a_restart_that_is_owed_is_known_to_every_later_start() {
        let (_root, host) = interrupted(Phase::Proving);
        let lock = host.state().lock().unwrap();
        for _ in 0..2 {
            let (_, record) = recover(&host, &lock).unwrap();
            assert_eq!((record.generation, record.owed_restart.as_deref()), (1, Some("this boot")));
        }
    }

    #[test]
    fn nothing_is_owed_before_containerd_was_asked() {
        let (_root, host) = interrupted(Phase::Writing);
        let lock = host.state().lock().unwrap();
        assert_eq!(recover(&host, &lock).unwrap().1.owed_restart, None);
    }
}
