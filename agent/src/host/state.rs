//! The agent's own memory on disk: record, kept originals and stored inputs by digest, and the lock.

use std::{fs::File, os::fd::OwnedFd};

use nix::fcntl::{Flock, FlockArg, OFlag, openat};

use super::files::{FileError, Files};
use crate::{
    observed::{
        entry::{Attributes, Content},
        record::{self, Record, RecordProblem},
    },
    spec::names::Digest,
};

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
    #[must_use]
    pub fn object(&self, digest: &Digest) -> Option<Content> {
        self.files.read(&self.object_path(digest)).ok().flatten().filter(|found| found.state.digest == *digest).map(|found| found.content)
    }

    /// Lets go of objects that the record does not name any more.
    ///
    /// # Errors
    /// When the directory cannot be changed.
    pub fn sweep_objects(&self, record: &Record) -> Result<(), StateError> {
        let named: Vec<String> =
            record.originals.values().filter_map(|entry| entry.digest()).chain(record.inline_inputs.values()).map(object_name).collect();
        for name in self.files.names(&self.path("objects")).unwrap_or_default() {
            if !named.contains(&name) {
                self.files.remove(&self.path(&format!("objects/{name}")))?;
            }
        }
        Ok(())
    }

    fn object_path(&self, digest: &Digest) -> String {
        self.path(&format!("objects/{}", object_name(digest)))
    }
}

fn object_name(digest: &Digest) -> String {
    digest.to_string().trim_start_matches("sha256:").to_owned()
}
