//! What a killed process left open: finished or undone, as the journal says. Needs no containerd and no network.

use super::{
    journal::{self, Phase},
    state_problem, undo,
};
use crate::{
    host::{
        files::Transaction,
        live_read,
        observe::Host,
        state::{Lock, StateError},
    },
    observed::record::Record,
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
    /// Every step was undone.
    Undone {
        /// Number of the change.
        generation: u64,
        /// containerd was, or may have been, restarted with the files that are gone now.
        was_restarted: bool,
        /// What could not be undone.
        problems: Vec<Problem>,
    },
}

/// Finishes or undoes an open apply, and sweeps what killed processes left.
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
    sweep(host).map_err(|error| state_problem(&error))?;
    Ok((recovery, record))
}

fn end(host: &Host, found: &journal::Found, record: Record) -> Result<(Recovery, Record), StateError> {
    let header = &found.header;
    let transaction = Transaction { files: &host.files, id: &header.transaction };
    let generation = header.generation;
    if let (Phase::Closed, Some(record)) = (found.last.phase, &found.last.record) {
        journal::finish(host, header, record, &transaction)?;
        return Ok((Recovery::Finished { generation }, (**record).clone()));
    }
    let problems = undo::steps(&transaction, header, header.steps.len());
    let record = Record { generation, ..record };
    journal::finish(host, header, &record, &transaction)?;
    let was_restarted = match found.last.phase {
        Phase::Undoing => found.last.restarted,
        phase => header.restarts && phase >= Phase::Activating,
    };
    Ok((Recovery::Undone { generation, was_restarted, problems }, record))
}

/// Temporary names and nonce directories; no apply is open any more.
fn sweep(host: &Host) -> Result<(), StateError> {
    let hosts_dir = &host.settings.containerd.hosts_dir;
    host.files.sweep(hosts_dir)?;
    if let Some((parent, _)) = hosts_dir.rsplit_once('/') {
        host.files.sweep(parent)?;
    }
    for name in host.files.names(hosts_dir).unwrap_or_default() {
        if live_read::is_nonce_directory(&name) {
            host.files.remove(&format!("{hosts_dir}/{name}"))?;
        } else if host.files.is_directory(&format!("{hosts_dir}/{name}"))
            && host.files.link_target(&format!("{hosts_dir}/{name}")).is_none()
        {
            host.files.sweep(&format!("{hosts_dir}/{name}"))?;
        }
    }
    Ok(())
}
