//! What we own on the node and why, as it is remembered between two lives of the daemon. Versioned text.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Asks, Place, Process, entry::Entry, start::Start};
use crate::spec::{names::Digest, problem::Problem};

/// The format written by this release.
pub const FORMAT: u32 = 1;

/// Everything remembered.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Record {
    /// Format of this text.
    pub version: u32,
    /// Last generation number that was taken.
    pub generation: u64,
    /// The generation that is on the node; 0: as it was found.
    pub effective_generation: u64,
    /// What we left at each path.
    pub owned: BTreeMap<String, Entry>,
    /// What was there before us; content of files is kept by digest.
    pub originals: BTreeMap<String, Entry>,
    /// Mirrors the node had before, kept working.
    pub carried: Carried,
    /// Hosts whose `registry.configs."HOST".auth` is ours.
    pub config_logins: BTreeSet<String>,
    /// What of the legacy tables is ours; absent in the other layout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub legacy: Option<LegacyKeys>,
    /// The spec that is in effect.
    pub applied: Option<Applied>,
    /// Why nothing is applied for now.
    pub hold: Option<Hold>,
    /// The spec that failed.
    pub parked: Option<Parked>,
    /// How mirrors ask for a login, by HOST:PORT.
    pub asks: BTreeMap<String, Asks>,
    /// The registry settings that the running containerd was started with.
    pub loaded: Option<Loaded>,
    /// The files that the running containerd was started from.
    pub start: Option<Start>,
    /// The last proof that containerd reads our directory.
    pub proof: Option<Proof>,
    /// The last change that took a generation.
    pub last_change: Option<Change>,
    /// The generation that waits for its confirmation.
    pub pending: Option<Pending>,
    /// The last restarts of containerd, undos included, oldest first.
    pub restarts: Vec<RestartNote>,
    /// Where containerd's files, binary and socket were seen last.
    pub place: Option<Place>,
    /// An undone apply had restarted containerd in this boot, and it was not restarted with the old files yet: the boot's id.
    pub owed_restart: Option<String>,
    /// Inputs that a caller sent along, by the name the spec gives them; content is kept by digest.
    pub inline_inputs: BTreeMap<String, Digest>,
    /// Spec text digest the inline inputs belong to.
    pub inline_inputs_for: Option<Digest>,
    /// Answers given to request ids.
    pub requests: Vec<AnsweredRequest>,
}

/// Mirrors the node had before us.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Carried {
    /// `registry.mirrors."NAMESPACE".endpoint`, as written.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// `registry.configs."HOST".tls` of 1.x.
    pub tls: BTreeMap<String, ConfigsTls>,
    /// Host directories of other roots of a `config_path` list: name to directory.
    pub links: BTreeMap<String, String>,
}

/// `registry.configs."HOST".tls`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ConfigsTls {
    /// CA file, absolute.
    pub ca_file: String,
    /// Client certificate, absolute.
    pub cert_file: String,
    /// Its key, absolute.
    pub key_file: String,
    /// Certificates are not checked.
    pub insecure_skip_verify: bool,
}

/// What of the legacy tables in config.toml is ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LegacyKeys {
    /// `registry.mirrors."NAMESPACE".endpoint` as it was written, with what others have there after ours.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// Hosts whose `registry.configs."HOST".tls` is ours.
    pub tls: BTreeSet<String>,
}

impl LegacyKeys {
    /// What others have at a namespace of ours: what was there before us; where somebody edited the list since, what of it is not ours.
    #[must_use]
    pub fn of_others(&self, namespace: &str, now: Option<&Vec<String>>, before: Option<&Vec<String>>) -> Option<Vec<String>> {
        let written = self.mirrors.get(namespace);
        let Some(edited) = now.filter(|now| Some(*now) != written) else { return before.cloned() };
        let was_before = |endpoint: &String| before.is_some_and(|before| before.contains(endpoint));
        let is_ours = |endpoint: &String| written.is_some_and(|written| written.contains(endpoint)) && !was_before(endpoint);
        let rest: Vec<String> = edited.iter().filter(|endpoint| !is_ours(endpoint)).cloned().collect();
        (!rest.is_empty()).then_some(rest)
    }
}

/// The keys of config.toml that are ours, beside `config_path`.
#[derive(Debug, Clone, Copy)]
pub struct OwnKeys<'a> {
    /// Hosts whose `registry.configs."HOST".auth` is ours.
    pub logins: &'a BTreeSet<String>,
    /// What of the legacy tables is ours; absent in the other layout.
    pub legacy: Option<&'a LegacyKeys>,
}

impl Record {
    /// The keys of config.toml that are ours.
    #[must_use]
    pub const fn own_keys(&self) -> OwnKeys<'_> {
        OwnKeys { logins: &self.config_logins, legacy: self.legacy.as_ref() }
    }
}

/// The spec that is in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Digest of spec text and inputs.
    pub digest: Digest,
    /// Digest of the spec text alone.
    pub text_digest: Digest,
    /// Where each of its registries is looked for.
    #[serde(default)]
    pub hosts: Vec<Mirrored>,
    /// Its files by name, in order; content is kept by digest.
    #[serde(default)]
    pub texts: Vec<(String, Digest)>,
    /// What it names, by the name it gives; content is kept by digest.
    #[serde(default)]
    pub inputs: BTreeMap<String, Digest>,
}

impl Applied {
    /// Digests of everything that is kept of it.
    pub fn objects(&self) -> impl Iterator<Item = &Digest> {
        self.texts.iter().map(|(_, digest)| digest).chain(self.inputs.values())
    }
}

/// One registry of the spec that is in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mirrored {
    /// Its name.
    pub host: String,
    /// URLs of the spec's endpoints, in order.
    pub endpoints: Vec<String>,
    /// The registry itself is asked last.
    pub falls_back: bool,
}

/// Why a hold is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoldCause {
    /// The operator asked for the node as it was found.
    Disable,
    /// The operator went back to an earlier generation.
    Revert,
    /// A generation was not confirmed in time.
    Expiry,
    /// containerd's CRI came back with no other state than the original.
    Rescue,
}

/// After disable, revert or expiry nothing is applied until the spec changes or `resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub cause: HoldCause,
    /// Since when, in seconds of Unix time.
    pub since: i64,
    /// Digest of the spec text that is held; `None`: there was no spec.
    pub text_digest: Option<Digest>,
}

/// A generation that is gone back from unless somebody confirms it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Its number.
    pub generation: u64,
    /// What was in effect before; `None`: the node as it was found.
    pub back_to: Option<Applied>,
    /// The boot the deadline belongs to. In another one it is over.
    pub boot_id: String,
    /// Milliseconds since boot, suspended time included.
    pub deadline_ms: u64,
    /// The same for people, in seconds of Unix time when it was set.
    pub deadline: i64,
    /// Tries to go back that cost a restart and failed.
    #[serde(default)]
    pub failures: u32,
}

/// One restart of containerd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestartNote {
    /// When, in seconds of Unix time.
    pub time: i64,
    /// The generation it was done for.
    pub generation: u64,
    /// Why, a sentence.
    pub reason: String,
}

/// A spec that failed, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// Digest of spec text and inputs.
    pub digest: Digest,
    /// Since when, in seconds of Unix time.
    pub since: i64,
    /// What went wrong.
    pub problems: Vec<Note>,
}

/// A [`Problem`] as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its code.
    pub code: String,
    /// Its message.
    pub message: String,
    /// Its remedy.
    pub remedy: String,
}

impl From<&Problem> for Note {
    fn from(problem: &Problem) -> Self {
        Self { code: problem.code.to_string(), message: problem.message.clone(), remedy: problem.remedy.clone() }
    }
}

impl From<&Note> for Problem {
    fn from(note: &Note) -> Self {
        Self { code: note.code.clone().into(), message: note.message.clone(), remedy: note.remedy.clone(), at: None, field: String::new() }
    }
}

/// Registry settings a containerd process was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// The process.
    pub process: Process,
    /// Digest of its effective registry settings.
    pub settings: Digest,
}

/// A proof that containerd reads our directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// The process that was asked.
    pub process: Process,
    /// When, in seconds of Unix time.
    pub time: i64,
}

/// How a change ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// It is in effect.
    Changed,
    /// It was undone.
    RolledBack,
}

/// A change that took a generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Its number.
    pub generation: u64,
    /// When it ended, in seconds of Unix time.
    pub time: i64,
    /// Who asked.
    pub who: String,
    /// How it ended.
    pub ending: Ending,
    /// Restarts of containerd it caused.
    pub restarts: u32,
    /// Longest time without a CRI, in milliseconds.
    pub cri_gap_ms: u64,
    /// What went wrong; of one that is in effect, what is worth knowing.
    pub problems: Vec<Note>,
}

/// The answer to a request id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnsweredRequest {
    /// The id.
    pub id: String,
    /// Digest of the request's body.
    pub body: Digest,
    /// When, in seconds of Unix time.
    pub time: i64,
    /// Outcome in the words of the API.
    pub answer: String,
}

/// The remembered text cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RecordProblem {
    /// Written by a newer release.
    #[error("it has format {found}, this mirrorlet reads up to format {FORMAT}; install the release that wrote it, or a newer one")]
    Newer {
        /// Its format.
        found: u64,
    },
    /// Not what a record looks like.
    #[error("it cannot be read as a record: {0}")]
    Damaged(#[from] serde_json::Error),
}

/// Reads a record.
///
/// # Errors
/// When a newer release wrote it, or it is damaged.
pub fn read(text: &str) -> Result<Record, RecordProblem> {
    let value: serde_json::Value = serde_json::from_str(text)?;
    let found = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if found > u64::from(FORMAT) {
        return Err(RecordProblem::Newer { found });
    }
    Ok(serde_json::from_value(value)?)
}

/// Writes a record.
///
/// # Errors
/// Never for a record built here; serde's signature asks for it.
pub fn write(record: &Record) -> Result<String, RecordProblem> {
    let record = Record { version: FORMAT, ..record.clone() };
    Ok(serde_json::to_string_pretty(&record)? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_sample_of_format_1_can_be_read() {
        let record = read(include_str!("samples/record-1.json")).unwrap();
        let hosts: Vec<String> = record.applied.clone().unwrap().hosts.into_iter().map(|mirrored| mirrored.host).collect();
        assert_eq!((record.effective_generation, hosts), (record.generation, vec!["docker.io".to_owned(), "gcr.io".to_owned()]));
        assert_eq!(read(&write(&record).unwrap()).unwrap(), record);
    }

    #[test]
    fn an_edit_of_a_list_of_ours_is_the_part_that_is_not_ours() {
        let list = |endpoints: &[&str]| endpoints.iter().map(|endpoint| (*endpoint).to_owned()).collect::<Vec<_>>();
        let keys = LegacyKeys { mirrors: [("n".to_owned(), list(&["ours", "both", "theirs"]))].into(), ..LegacyKeys::default() };
        let before = list(&["theirs", "both"]);
        let of_others = |now: &[&str]| keys.of_others("n", Some(&list(now)), Some(&before));
        assert_eq!(of_others(&["ours", "both", "theirs"]), Some(before.clone()));
        assert_eq!(of_others(&["new", "ours", "both"]), Some(list(&["new", "both"])));
        assert_eq!(of_others(&["ours"]), None);
        assert_eq!(keys.of_others("n", None, None), None);
    }

    #[test]
    fn a_record_of_a_newer_release_is_refused_with_a_sentence() {
        let message = read(r#"{"version": 99, "something": "new"}"#).unwrap_err().to_string();
        assert!(message.contains("format 99"), "{message}");
    }

    #[test]
    fn a_record_survives_writing_and_reading() {
        let record = Record { generation: 7, ..Record::default() };
        let again = read(&write(&record).unwrap()).unwrap();
        assert_eq!(again, Record { version: FORMAT, ..record });
    }
}
