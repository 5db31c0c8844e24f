//! The open apply on disk: its steps with the states before and after, then one line for each phase that is entered. Versioned.

use serde::{Deserialize, Serialize};

use super::Order;
use crate::{
    host::{files::Transaction, observe::Host, state::StateError},
    observed::{
        entry::{Attributes, Entry},
        record::Record,
    },
    plan::Plan,
};

/// The format written by this release.
pub const FORMAT: u32 = 1;

/// Where an apply is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
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
    /// The caller's id.
    pub request_id: String,
    /// The boot it was begun in.
    pub boot_id: String,
    /// Whether containerd is restarted by it.
    pub restarts: bool,
    /// The steps, in order.
    pub steps: Vec<JournalStep>,
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
            request_id: order.request_id.clone(),
            boot_id,
            restarts: plan.restart.is_some(),
            steps: steps.collect(),
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
    Ok(Found { header, last: last.unwrap_or(Mark { phase: Phase::Prepared, restarted: false, record: None }) })
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
        host.files.put(&path, &line.into(), &Attributes::root(0o600))?;
        Ok(Self { host, path, transaction: header.transaction.clone(), header })
    }

    /// Notes that a phase is entered.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark(&self, phase: Phase) -> Result<(), StateError> {
        self.add(&Mark { phase, restarted: false, record: None })
    }

    /// Notes that steps are undone, and whether containerd has seen them.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn mark_undoing(&self, restarted: bool) -> Result<(), StateError> {
        self.add(&Mark { phase: Phase::Undoing, restarted, record: None })
    }

    fn add(&self, mark: &Mark) -> Result<(), StateError> {
        Ok(self.host.files.append(&self.path, &line(mark, &self.path)?)?)
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

    /// The end is decided: the record first, then tidying, then no journal.
    ///
    /// # Errors
    /// When something cannot be written; the next start goes on from here.
    pub fn close(&self, record: &Record, transaction: &Transaction<'_>) -> Result<(), StateError> {
        self.add(&Mark { phase: Phase::Closed, restarted: false, record: Some(Box::new(record.clone())) })?;
        finish(self.host, &self.header, record, transaction)
    }
}

/// What is left to do once the end is decided; can be done again.
///
/// # Errors
/// When something cannot be written.
pub fn finish(host: &Host, header: &Header, record: &Record, transaction: &Transaction<'_>) -> Result<(), StateError> {
    let state = host.state();
    state.keep_record(record)?;
    for (index, step) in header.steps.iter().enumerate() {
        transaction.close(index, &step.path)?;
    }
    state.sweep_objects(record)?;
    host.files.remove(&state.journal_path())?;
    Ok(())
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
            request_id: String::new(),
            boot_id: "b".into(),
            restarts: false,
            steps: Vec::new(),
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
    fn a_newer_format_is_refused_with_a_sentence() {
        assert!(read("{\"version\": 9}\n").unwrap_err().contains("format 9"));
    }
}
