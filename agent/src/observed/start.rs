//! What a containerd process was started from, and what somebody changed since: the next restart makes that effective.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ConfigFile, Observed, Process, Unit, entry::Content};
use crate::spec::names::Digest;

/// Files by path.
type Digests = BTreeMap<String, Digest>;

/// The files that one life of containerd was started from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// The process.
    pub process: Process,
    /// Its config file and what that imports.
    pub config: Digests,
    /// The files of its unit.
    pub unit: Digests,
}

impl Start {
    /// We replaced a config file without a restart: what others changed in it since the start is as much as before.
    pub fn moved_on(&mut self, path: &str, before: Option<Digest>, after: Option<Digest>) {
        if self.config.get(path).copied() != before {
            return;
        }
        match after {
            Some(after) => drop(self.config.insert(path.to_owned(), after)),
            None => drop(self.config.remove(path)),
        }
    }
}

/// Paths that are not what containerd was started from.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ChangedSince {
    /// Its config file and what that imports.
    pub config: Vec<String>,
    /// The files of its unit.
    pub unit: Vec<String>,
}

impl Observed {
    /// What the running process was started from: as it is remembered, or as it is now when nothing changed since.
    #[must_use]
    pub fn start(&self) -> Option<Start> {
        let process = self.containerd.process.known()?;
        let remembered = self.record.start.as_ref().filter(|start| start.process == *process);
        let is_older = |file: &ConfigFile| file.changed_ms < self.containerd.started_ms;
        let learned = || {
            let unit = self.containerd.unit.known().into_iter().flat_map(|unit| &unit.files);
            self.config.files().chain(unit).all(is_older).then(|| self.start_of(process))
        };
        remembered.cloned().or_else(learned)
    }

    /// A process that is started from what is there now.
    #[must_use]
    pub fn start_of(&self, process: &Process) -> Start {
        let unit = self.containerd.unit.known().map(|unit| digests(unit.files.iter())).unwrap_or_default();
        Start { process: process.clone(), config: digests(self.config.files()), unit }
    }

    /// What is not as [`Observed::start`] says; where that is not known, what changed since by the clock.
    #[must_use]
    pub fn changed_since_start(&self) -> ChangedSince {
        let start = self.start();
        let changed = |files: Vec<&ConfigFile>, then: Option<&Digests>| changed(&files, then, self.containerd.started_ms);
        let unit = self.containerd.unit.known().map(|Unit { files, .. }| files.iter().collect());
        ChangedSince {
            config: changed(self.config.files().collect(), start.as_ref().map(|start| &start.config)),
            unit: unit.map(|files| changed(files, start.as_ref().map(|start| &start.unit))).unwrap_or_default(),
        }
    }
}

fn digests<'a>(files: impl Iterator<Item = &'a ConfigFile>) -> Digests {
    files.filter_map(|file| Some((file.path.clone(), file.text.as_ref().map(Content::digest)?))).collect()
}

fn changed(files: &[&ConfigFile], then: Option<&Digests>, started_ms: i64) -> Vec<String> {
    let now = digests(files.iter().copied());
    let is_other = |path: &String| then.is_none_or(|then| then.get(path) != now.get(path));
    let is_newer = |file: &&&ConfigFile| file.text.is_some() && file.changed_ms >= started_ms;
    let newer = files.iter().filter(is_newer).map(|file| file.path.clone()).filter(is_other);
    let gone = then.into_iter().flat_map(BTreeMap::keys).filter(|path| !now.contains_key(*path)).cloned();
    newer.chain(gone).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: Option<&str>, changed_ms: i64) -> ConfigFile {
        ConfigFile { path: path.into(), text: text.map(Into::into), changed_ms }
    }

    #[test]
    fn what_was_changed_is_told_by_content_where_that_is_known() {
        let then = digests([file("a", Some("1"), 0), file("b", Some("1"), 0)].iter());
        let (touched, edited, new) = (file("a", Some("1"), 20), file("a", Some("2"), 20), file("c", Some("1"), 20));
        let b = file("b", Some("1"), 0);
        let since = |files: &[&ConfigFile], then| changed(files, then, 10);
        assert!(since(&[&touched, &b], Some(&then)).is_empty(), "a file that was only touched, or undone, says the same");
        assert_eq!(since(&[&touched, &b], None), ["a"]);
        assert_eq!(since(&[&edited, &b, &new], Some(&then)), ["a", "c"]);
        assert_eq!(since(&[&touched], Some(&then)), ["b"], "a file that is gone is missed");
    }

    #[test]
    fn our_own_write_hides_no_edit_of_somebody_else() {
        let digest = |text: &str| Some(Digest::of(text.as_bytes()));
        let process = Process { pid: 1, start_ticks: 1, boot_id: String::new() };
        let mut start = Start { process, config: digests([file("a", Some("started"), 0)].iter()), unit: Digests::new() };
        start.moved_on("a", digest("edited"), digest("edited, and ours"));
        assert_eq!(start.config.get("a").copied(), digest("started"));
        start.moved_on("a", digest("started"), digest("started, and ours"));
        assert_eq!(start.config.get("a").copied(), digest("started, and ours"));
    }
}
