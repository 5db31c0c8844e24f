//! The agent's own memory on disk: record, past generations, kept originals, specs and inputs by digest, and the lock.

use std::{collections::BTreeSet, fs::File, os::fd::OwnedFd};

use nix::fcntl::{Flock, FlockArg, OFlag, openat};

use super::files::{FileError, Files};
use crate::{
    observed::{
        entry::{Attributes, Content, Entry},
        generation::{self, Generation},
        record::{self, Record, RecordProblem},
    },
    spec::names::Digest,
};

/// Start of the names of past changes.
const GENERATION: &str = "generation-";

/// The state directory.
#[derive(Debug, Clone, Copy)]
pub struct State<'a> {
    files: &'a Files,
    dir: &'a str,
}

/// The state cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// A file access failed.
    #[error(transparent)]
    File(#[from] FileError),
    /// The record cannot be read.
    #[error("{path}: {source}")]
    Record {
        /// The record's path.
        path: String,
        /// Why not.
        source: RecordProblem,
    },
    /// Another mirrorlet holds the lock.
    #[error(
        "another mirrorlet is at work on this node (it holds {path}); ask it with mirrorctl, or stop it with \"systemctl stop mirrorlet\""
    )]
    Locked {
        /// The lock file.
        path: String,
    },
    /// The lock file cannot be opened.
    #[error("cannot lock {path}: {source}")]
    Unlockable {
        /// The lock file.
        path: String,
        /// Why not.
        source: nix::Error,
    },
}

/// Held as long as this process may change the node.
#[derive(Debug)]
pub struct Lock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

impl<'a> State<'a> {
    /// The state below this directory.
    #[must_use]
    pub const fn new(files: &'a Files, dir: &'a str) -> Self {
        Self { files, dir }
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.dir)
    }

    /// Path of the journal.
    #[must_use]
    pub fn journal_path(&self) -> String {
        self.path("journal")
    }

    /// Whether an apply is open.
    #[must_use]
    pub fn has_journal(&self) -> bool {
        !matches!(self.files.entry(&self.journal_path()), Ok(Entry::Absent))
    }

    /// Makes the directory and takes the lock.
    ///
    /// # Errors
    /// When another process holds it, or the directory cannot be made.
    pub fn lock(&self) -> Result<Lock, StateError> {
        self.files.make_own_directory(self.dir)?;
        self.files.make_own_directory(&self.path("objects"))?;
        let path = self.path("lock");
        let parent = self.files.parent(&path)?;
        let flags = OFlag::O_CREAT | OFlag::O_RDWR | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
        let unlockable = |source| StateError::Unlockable { path: path.clone(), source };
        let fd: OwnedFd = openat(&parent.fd, parent.name, flags, nix::sys::stat::Mode::from_bits_truncate(0o600)).map_err(unlockable)?;
        match Flock::lock(File::from(fd), FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Lock(lock)),
            Err((_, nix::Error::EWOULDBLOCK)) => Err(StateError::Locked { path }),
            Err((_, source)) => Err(StateError::Unlockable { path, source }),
        }
    }

    /// The record; an empty one when there is none yet.
    ///
    /// # Errors
    /// When it is there and cannot be used.
    pub fn record(&self) -> Result<Record, StateError> {
        let path = self.path("record.json");
        let Some(found) = self.files.read(&path)? else { return Ok(Record::default()) };
        record::read(found.content.text().unwrap_or_default()).map_err(|source| StateError::Record { path, source })
    }

    /// Writes the record.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_record(&self, record: &Record) -> Result<(), StateError> {
        let path = self.path("record.json");
        let text = record::write(record).map_err(|source| StateError::Record { path: path.clone(), source })?;
        Ok(self.files.put(&path, &text.into(), &Attributes::root(0o600))?)
    }

    /// Writes one past change down. Durable with the record that is written next: the two are in one directory, which is synced then.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn keep_generation(&self, generation: &Generation) -> Result<(), StateError> {
        let path = self.generation_path(generation.change.generation);
        let text = serde_json::to_string(generation).map_err(|source| StateError::Record { path: path.clone(), source: source.into() })?;
        Ok(self.files.put_unsynced(&path, &text.into(), &Attributes::root(0o600))?)
    }

    /// Numbers of the changes that are remembered, oldest first.
    ///
    /// # Errors
    /// When they cannot be listed; that is not to say that there are none.
    pub fn generations(&self) -> Result<Vec<u64>, FileError> {
        let names = self.files.names(self.dir)?;
        let number = |name: &String| name.strip_prefix(GENERATION)?.strip_suffix(".json")?.parse().ok();
        let mut numbers: Vec<u64> = names.iter().filter_map(number).collect();
        numbers.sort_unstable();
        Ok(numbers)
    }

    /// One past change; `None` when it is not remembered.
    ///
    /// # Errors
    /// When it is there and cannot be used; a sentence.
    pub fn generation(&self, number: u64) -> Result<Option<Generation>, String> {
        let path = self.generation_path(number);
        let found = self.files.read(&path).map_err(|error| error.to_string())?;
        let Some(found) = found else { return Ok(None) };
        generation::read(found.content.text().unwrap_or_default()).map(Some).map_err(|reason| format!("{path}: {reason}"))
    }

    /// Forgets all but the newest changes, and the bytes that nothing names any more.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn sweep(&self, record: &Record, keep_generations: usize) -> Result<(), StateError> {
        let numbers = self.generations()?;
        let (old, kept) = numbers.split_at(numbers.len().saturating_sub(keep_generations));
        for number in old {
            self.files.remove_unsynced(&self.generation_path(*number))?;
        }
        let past: Vec<Generation> = kept.iter().filter_map(|number| self.generation(*number).ok().flatten()).collect();
        if past.len() == kept.len() {
            self.sweep_objects(record, &past)?;
        }
        Ok(())
    }

    fn generation_path(&self, number: u64) -> String {
        self.path(&format!("{GENERATION}{number}.json"))
    }

    /// Keeps bytes under their digest.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn keep_object(&self, content: &Content) -> Result<Digest, StateError> {
        let digest = content.digest();
        let path = self.object_path(&digest);
        if self.files.read(&path)?.is_none_or(|found| found.state.digest != digest) {
            self.files.put(&path, content, &Attributes::root(0o600))?;
        }
        Ok(digest)
    }

    /// Bytes kept under a digest; `None` when they are gone or damaged.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn object(&self, digest: &Digest) -> Result<Option<Content>, FileError> {
        let found = self.files.read(&self.object_path(digest))?;
        Ok(found.filter(|found| found.state.digest == *digest).map(|found| found.content))
    }

    /// Lets go of objects that neither the record nor a past change names.
    fn sweep_objects(&self, record: &Record, past: &[Generation]) -> Result<(), StateError> {
        let specs = record.applied.iter().chain(record.pending.iter().filter_map(|pending| pending.back_to.as_ref()));
        let originals = record.originals.values().filter_map(|entry| entry.digest());
        let named = originals.chain(record.inline_inputs.values()).chain(specs.flat_map(|applied| applied.objects()));
        let named = named.chain(past.iter().flat_map(Generation::objects));
        let named: BTreeSet<String> = named.map(object_name).collect();
        for name in self.files.names(&self.path("objects"))? {
            if !named.contains(&name) {
                self.files.remove_unsynced(&self.path(&format!("objects/{name}")))?;
            }
        }
        Ok(())
    }

    /// Where bytes are kept.
    #[must_use]
    pub fn object_path(&self, digest: &Digest) -> String {
        self.path(&format!("objects/{}", object_name(digest)))
    }
}

fn object_name(digest: &Digest) -> String {
    digest.to_string().trim_start_matches("sha256:").to_owned()
}
