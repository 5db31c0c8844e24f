//! The open apply on disk: its steps with the states before and after, then one line for each phase that is entered. Versioned.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Order;
use crate::{
    host::{files::Transaction, observe::Host, planted, state::StateError},
    observed::{
        entry::{Attributes, Entry},
        generation::Generation,
        record::{Carried, LegacyKeys, Record},
    },
    plan::Plan,
};

/// The format written by this release.
pub const FORMAT: u32 = 1;

/// Where an apply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Nothing is begun: the new config is tried.
    Checking,
    /// Nothing is begun: containerd is busy, and a quiet moment is waited for.
    Waiting,
    /// The intent is on disk, nothing else was touched.
    Prepared,
    /// Steps are carried out.
    Writing,
    /// containerd is restarted.
    Activating,
    /// containerd is asked to show that it reads the new files.
    Proving,
    /// It is watched for a while.
    Settling,
    /// Something failed; steps are undone.
    Undoing,
    /// The end is decided; what is left is tidying.
    Closed,
}

/// One step as it has to be undone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStep {
    /// Its path.
    pub path: String,
    /// What was there.
    pub before: Entry,
    /// What is there once it is carried out.
    pub after: Entry,
}

/// The first line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Format of the journal.
    pub version: u32,
    /// Part of every temporary name.
    pub transaction: String,
    /// Number of the change.
    pub generation: u64,
    /// Who asked.
    pub who: String,
    /// Why, a phrase.
    #[serde(default)]
    pub reason: String,
    /// The caller's id.
    pub request_id: String,
    /// The boot it was begun in.
    pub boot_id: String,
    /// Whether containerd is restarted by it.
    pub restarts: bool,
    /// The steps, in order.
    pub steps: Vec<JournalStep>,
    /// What is ours once they are carried out.
    #[serde(default)]
    pub claims: Claims,
}

/// What an apply makes ours, and what was there before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Claims {
    /// What is ours at each path.
    pub owned: BTreeMap<String, Entry>,
    /// What was there before us.
    pub originals: BTreeMap<String, Entry>,
    /// Mirrors of the node's own.
    pub carried: Carried,
    /// Hosts whose login is in config.toml by us.
    pub config_logins: BTreeSet<String>,
    /// What of the legacy tables is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<LegacyKeys>,
}

impl Header {
    /// For a plan.
    #[must_use]
    pub fn new(generation: u64, order: &Order, plan: &Plan, boot_id: String) -> Self {
        let steps = plan.steps.iter().map(|step| JournalStep { path: step.path.clone(), before: step.before.clone(), after: step.after() });
        Self {
            version: FORMAT,
            transaction: format!("g{generation}"),
            generation,
            who: order.who.clone(),
            reason: order.reason.clone(),
            request_id: order.request_id.clone(),
            boot_id,
            restarts: plan.restart.is_some(),
            steps: steps.collect(),
            claims: Claims {
                owned: plan.after.owned.clone(),
                originals: plan.after.originals.clone(),
                carried: plan.after.carried.clone(),
                config_logins: plan.after.config_logins.clone(),
                legacy: plan.after.legacy.clone(),
            },
        }
    }
}

/// A further line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Mark {
    /// The phase that is entered.
    pub phase: Phase,
    /// With [`Phase::Undoing`]: containerd was restarted, or asked to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub restarted: bool,
    /// With [`Phase::Closed`]: the record as it is to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Box<Record>>,
    /// With [`Phase::Closed`]: the change as it is remembered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generation: Option<Box<Generation>>,
}

impl Mark {
    /// A phase that is entered, and no more.
    #[must_use]
    pub const fn entered(phase: Phase) -> Self {
        Self { phase, restarted: false, record: None, generation: None }
    }
}

/// A journal that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Its first line.
    pub header: Header,
    /// Its last whole mark.
    pub last: Mark,
}

/// Reads a journal. A last line that is not whole was being written when the power went, and does not count.
///
/// # Errors
/// When the first line is damaged or of a newer format; a sentence.
pub fn read(text: &str) -> Result<Found, String> {
    let mut lines = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    let first = lines.next().ok_or("it has no whole line")?;
    let value: serde_json::Value = serde_json::from_str(first).map_err(|error| format!("its first line cannot be read: {error}"))?;
    let version = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if version > u64::from(FORMAT) {
        return Err(format!(
            "it has format {version}, this mirrorlet reads up to format {FORMAT}; install the release that wrote it, or a newer one"
        ));
    }
    let header = serde_json::from_value(value).map_err(|error| format!("its first line cannot be read: {error}"))?;
    let last = lines.filter_map(|line| serde_json::from_str(line).ok()).next_back();
    Ok(Found { header, last: last.unwrap_or(Mark::entered(Phase::Prepared)) })
}

/// A journal that is open.
#[derive(Debug)]
pub struct Journal<'a> {
    host: &'a Host,
    path: String,
    header: Header,
    transaction: String,
}

impl<'a> Journal<'a> {
    /// Puts the intent on disk.
    ///
    /// # Errors
    /// When it cannot be written; nothing else was touched then.
    pub fn open(host: &'a Host, header: Header) -> Result<Self, StateError> {
        let path = host.state().journal_path();
        let line = line(&header, &path)?;
        if !planted::has("no-journal") {
            host.files.put(&path, &line.into(), &Attributes::root(0o600))?;
        }
        Ok(Self { host, path, transaction: header.transaction.clone(), header })
    }

    /// Notes that a phase is entered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark(&self, phase: Phase) -> Result<(), StateError> {
        // Undoing looks at the files, whatever was noted; that containerd may have been restarted, they do not show.
        self.add(&Mark::entered(phase), phase == Phase::Activating)
    }

    /// Notes that steps are undone, and whether containerd has seen them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark_undoing(&self, restarted: bool) -> Result<(), StateError> {
        self.add(&Mark { restarted, ..Mark::entered(Phase::Undoing) }, true)
    }

    fn add(&self, mark: &Mark, is_synced: bool) -> Result<(), StateError> {
        if planted::has("no-journal") {
            return Ok(());
        }
        // A line that the disk had no room for may stand there by half.
        Ok(self.host.files.append(&self.path, &format!("\n{}", line(mark, &self.path)?), is_synced)?)
    }

    /// The first line.
    #[must_use]
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// Part of every temporary name.
    #[must_use]
    pub fn transaction(&self) -> &str {
        &self.transaction
    }

    /// Notes that the end is decided. What is left is done by [`finish`], now or at the next start.
    ///
    /// # Errors
    /// When it cannot be written; then nothing is decided.
    pub fn decide(&self, record: &Record, generation: &Generation) -> Result<(), StateError> {
        let (kept, past) = (Some(Box::new(record.clone())), Some(Box::new(generation.clone())));
        self.add(&Mark { record: kept, generation: past, ..Mark::entered(Phase::Closed) }, true)
    }
}

/// What is left to do once the end is decided; can be done again.
///
/// # Errors
/// When something cannot be written.
pub fn finish(
    host: &Host,
    header: &Header,
    record: &Record,
    generation: Option<&Generation>,
    transaction: &Transaction<'_>,
) -> Result<(), StateError> {
    let state = host.state();
    if let Some(generation) = generation {
        state.keep_generation(generation)?;
    }
    state.keep_record(record)?;
    for (index, step) in header.steps.iter().enumerate() {
        transaction.close(index, &step.path)?;
    }
    state.sweep(record, host.settings.state.keep_generations)?;
    // One that is there again after a power cut says that the end was decided, and is finished once more.
    Ok(host.files.remove_unsynced(&state.journal_path())?)
}

fn line<T: Serialize>(value: &T, path: &str) -> Result<String, StateError> {
    let text = serde_json::to_string(value).map_err(|source| StateError::Record { path: path.to_owned(), source: source.into() })?;
    Ok(text + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> String {
        let header = Header {
            version: FORMAT,
            transaction: "g1".into(),
            generation: 1,
            who: "test".into(),
            reason: String::new(),
            request_id: String::new(),
            boot_id: "b".into(),
            restarts: false,
            steps: Vec::new(),
            claims: Claims::default(),
        };
        serde_json::to_string(&header).unwrap() + "\n"
    }

    #[test]
    fn a_torn_last_line_does_not_count() {
        let text = header() + "{\"phase\":\"writing\"}\n{\"phase\":\"clos";
        assert_eq!(read(&text).unwrap().last.phase, Phase::Writing);
    }

    #[test]
    fn a_journal_without_marks_was_prepared_only() {
        assert_eq!(read(&header()).unwrap().last.phase, Phase::Prepared);
    }

    #[test]
    fn the_committed_sample_of_format_1_can_be_read() {
        let found = read(include_str!("samples/journal-1.jsonl")).unwrap();
        assert_eq!((found.header.generation, found.header.steps.len(), found.last.phase), (1, 5, Phase::Closed));
        assert_eq!(found.last.record.unwrap().owned.len(), found.last.generation.unwrap().applied.unwrap().hosts.len() + 3);
    }

    #[test]
    fn a_newer_format_is_refused_with_a_sentence() {
        assert!(read("{\"version\": 9}\n").unwrap_err().contains("format 9"));
    }
}
