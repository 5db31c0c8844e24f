//! The one door to disk: everything the agent writes is written here, by the same recipe.
//!
//! Parent opened beneath the root without following links → temporary name in the same directory, exclusive, 0600 → owner, labels, mode
//! before the data → write → fsync → rename → fsync of the directory. What was there stays as a hard link (a file) or under another name
//! (a directory) until the apply is closed, so that going back is a rename and needs no free block.
#![expect(clippy::disallowed_methods, reason = "this is the door")]

mod door;
pub mod export;
mod look;
mod steps;

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

pub use look::Found;
pub use steps::{OURS, Transaction};

/// An access to a path failed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {path}: {source}{}", hint(.source))]
pub struct FileError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// On what.
    pub path: String,
    /// Why not.
    pub source: io::Error,
}

fn hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(40) => " (a part of the path is a symbolic link, which is never followed for writing)",
        Some(30) => {
            " (if the unit's ReadWritePaths does not open it, add a drop-in that does; if the directory was replaced, restart mirrorlet)"
        }
        _ => "",
    }
}

/// The files below a root; `/` in production.
#[derive(Debug)]
pub struct Files {
    root: OwnedFd,
    prefix: PathBuf,
}

impl Files {
    /// Opens the root that every path is below.
    ///
    /// # Errors
    /// When it is not a directory that can be opened.
    pub fn open(root: &Path) -> Result<Self, FileError> {
        let opened = File::open(root).map_err(|source| FileError { action: "open", path: root.display().to_string(), source })?;
        Ok(Self { root: opened.into(), prefix: root.to_owned() })
    }

    /// The path as this process sees it, for readers that follow links.
    #[must_use]
    pub fn seen(&self, path: &str) -> PathBuf {
        self.prefix.join(path.trim_start_matches('/'))
    }

    /// Reads a file the operator names; links are followed, at most `limit` bytes.
    ///
    /// # Errors
    /// When it cannot be read or is larger.
    pub fn read_named(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        use std::io::Read;
        let file = File::open(self.seen(path))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > limit {
            return Err(io::Error::other(format!("it is larger than {limit} bytes")));
        }
        Ok(bytes)
    }

    /// Names in a directory, sorted; links are followed.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn names(&self, path: &str) -> Result<Vec<String>, FileError> {
        let listed = |entries: std::fs::ReadDir| entries.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>();
        let names = door::failed_io(std::fs::read_dir(self.seen(path)).and_then(listed), "list", path)?;
        let mut names: Vec<String> = names.into_iter().filter_map(|name| name.into_string().ok()).collect();
        names.sort();
        Ok(names)
    }

    /// Whether a path is a directory; links are followed.
    #[must_use]
    pub fn is_directory(&self, path: &str) -> bool {
        std::fs::metadata(self.seen(path)).is_ok_and(|metadata| metadata.is_dir())
    }

    /// When the inode of a path last changed, in milliseconds of Unix time; links are followed.
    #[must_use]
    pub fn changed_ms(&self, path: &str) -> Option<i64> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(self.seen(path)).ok()?;
        Some(metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000)
    }

    /// Paths that match a pattern, sorted.
    #[must_use]
    pub fn matching(&self, pattern: &str) -> Vec<String> {
        let seen = self.seen(pattern);
        let found = glob::glob(&seen.to_string_lossy()).into_iter().flatten().flatten();
        let below = found.filter_map(|path| Some(format!("/{}", path.strip_prefix(&self.prefix).ok()?.display())));
        below.collect()
    }

    /// The target of a symbolic link.
    #[must_use]
    pub fn link_target(&self, path: &str) -> Option<PathBuf> {
        std::fs::read_link(self.seen(path)).ok()
    }
}
