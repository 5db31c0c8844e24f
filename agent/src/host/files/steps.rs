//! Steps of a plan carried out, undone and closed.

use std::{fs::File, os::fd::OwnedFd};

use super::{
    FileError, Files,
    door::{self, Parent},
};
use crate::{
    host::planted,
    observed::entry::{Attributes, Content, Entry},
    plan::step::{Change, NewFile, Step},
};

/// Start of every temporary name; containerd never looks for a host that begins with a dot, nor at files that do not end in .crt, .cert or .key.
pub const OURS: &str = ".mirrorlet.";

/// One apply on disk. Its temporary names hold its id, so that those of another one are known for what they are.
#[derive(Debug, Clone, Copy)]
pub struct Transaction<'a> {
    /// The files.
    pub files: &'a Files,
    /// The apply's id.
    pub id: &'a str,
}

impl Transaction<'_> {
    fn new_name(&self, index: usize) -> String {
        format!("{OURS}{}.{index}.new", self.id)
    }

    fn before_name(&self, index: usize) -> String {
        format!("{OURS}{}.{index}.before", self.id)
    }

    /// Carries one step out. The state before it stays under a temporary name.
    ///
    /// # Errors
    /// When a system call fails; what was begun is undone by [`Transaction::undo`].
    pub fn carry_out(&self, index: usize, step: &Step) -> Result<(), FileError> {
        let path = step.path.as_str();
        let parent = self.files.parent(path)?;
        let new = self.new_name(index);
        match &step.change {
            Change::PutFile(file) => self.put(&parent, index, file, &step.before, path)?,
            Change::RemoveDirectory => {
                self.check_emptied(step)?;
                door::rename(&parent.fd, parent.name, &self.before_name(index), path)?;
            }
            Change::RemoveFile => door::rename(&parent.fd, parent.name, &self.before_name(index), path)?,
            Change::PlaceDirectory { attributes, files } => {
                let directory = door::make_directory(&parent.fd, &new, path)?;
                for (name, file) in files {
                    door::write_new(&directory, name, &file.content, &file.attributes, path)?;
                }
                finish_directory(&directory, attributes, path)?;
                door::rename_to_free(&parent.fd, &new, parent.name, path)?;
            }
            Change::Symlink { target } => {
                door::symlink(&parent.fd, target, &new, path)?;
                door::rename_to_free(&parent.fd, &new, parent.name, path)?;
            }
        }
        door::sync(&parent.fd, path)
    }

    /// A directory that was made for ours and is to be empty holds nothing but what earlier steps moved aside in it.
    fn check_emptied(&self, step: &Step) -> Result<(), FileError> {
        let Entry::Directory { files, .. } = &step.before else { return Ok(()) };
        let names = self.files.names(&step.path)?;
        if files.is_empty() && names.iter().any(|name| !name.starts_with(OURS)) {
            let source = std::io::Error::from(std::io::ErrorKind::DirectoryNotEmpty);
            return Err(FileError { action: "remove", path: step.path.clone(), source });
        }
        Ok(())
    }

    fn put(&self, parent: &Parent<'_>, index: usize, file: &NewFile, before: &Entry, path: &str) -> Result<(), FileError> {
        if planted::has("written-in-place") {
            door::unlink(&parent.fd, parent.name, path)?;
            return door::write_new(&parent.fd, parent.name, &file.content, &file.attributes, path);
        }
        let new = self.new_name(index);
        door::write_new(&parent.fd, &new, &file.content, &file.attributes, path)?;
        if *before == Entry::Absent {
            return door::rename_to_free(&parent.fd, &new, parent.name, path);
        }
        door::link(&parent.fd, parent.name, &self.before_name(index), path)?;
        door::rename(&parent.fd, &new, parent.name, path)
    }

    /// Puts back what was there before the step. Safe to call whether the step was carried out, half carried out, or not begun, and again.
    /// Returns whether the path is as before; `false` when somebody else changed it since, whose change then stays.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn undo(&self, index: usize, path: &str, before: &Entry, after: &Entry) -> Result<bool, FileError> {
        let parent = match self.files.parent(path) {
            Ok(parent) => parent,
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => return Ok(*before == Entry::Absent),
            Err(error) => return Err(error),
        };
        let before_path = sibling(path, &self.before_name(index));
        let current = self.files.entry(path)?;
        let is_kept = self.files.entry(&before_path)? != Entry::Absent;
        if *before == Entry::Absent && self.files.entry(&sibling(path, &self.new_name(index)))? != Entry::Absent {
            // The name was never taken: whatever is there is not ours.
            door::remove_tree(&parent.fd, &self.new_name(index), path)?;
            door::sync(&parent.fd, path)?;
            return Ok(true);
        }
        let is_untouched = same_kind_of(&current, after) || current == *before || planted::has("undo-takes-their-edit");
        if is_untouched && is_kept {
            door::rename(&parent.fd, &self.before_name(index), parent.name, path)?;
            // A rename onto another link of the same file does nothing (rename(2)): the step had not got to its own rename.
            door::remove_tree(&parent.fd, &self.before_name(index), path)?;
        } else if current == *after && *before == Entry::Absent && !is_kept {
            // Whole, as it came: a directory that loses its hosts.toml first would hide `_default` for a moment.
            door::remove_tree(&parent.fd, &self.new_name(index), path)?;
            door::rename(&parent.fd, parent.name, &self.new_name(index), path)?;
        }
        door::remove_tree(&parent.fd, &self.new_name(index), path)?;
        door::sync(&parent.fd, path)?;
        Ok(is_untouched)
    }

    /// Lets go of what was kept for undoing the step.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn close(&self, index: usize, path: &str) -> Result<(), FileError> {
        if planted::has("temporary-names-stay") {
            return Ok(());
        }
        match self.files.parent(path) {
            Ok(parent) => door::remove_tree(&parent.fd, &self.before_name(index), path),
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// A directory counts as ours still when it is one: files inside it have steps of their own.
fn same_kind_of(current: &Entry, after: &Entry) -> bool {
    current == after || matches!((current, after), (Entry::Directory { .. }, Entry::Directory { .. }))
}

fn finish_directory(directory: &OwnedFd, attributes: &Attributes, path: &str) -> Result<(), FileError> {
    let file = door::failed_io(directory.try_clone().map(File::from), "open", path)?;
    door::dress(&file, attributes, path)?;
    door::failed_io(file.sync_all(), "sync", path)
}

fn sibling(path: &str, name: &str) -> String {
    let (directory, _) = path.rsplit_once('/').unwrap_or(("", path));
    format!("{directory}/{name}")
}

impl Files {
    /// Puts one file of the agent's own state in place, whole.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn put(&self, path: &str, content: &Content, attributes: &Attributes) -> Result<(), FileError> {
        self.put_unsynced(path, content, attributes)?;
        door::sync(&self.parent(path)?.fd, path)
    }

    /// The same, but its name outlives a power cut only once the directory is synced by a later change in it.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn put_unsynced(&self, path: &str, content: &Content, attributes: &Attributes) -> Result<(), FileError> {
        let parent = self.parent(path)?;
        let new = format!("{OURS}{}.new", parent.name);
        door::unlink(&parent.fd, &new, path)?;
        door::write_new(&parent.fd, &new, content, attributes, path)?;
        door::rename(&parent.fd, &new, parent.name, path)
    }

    /// Adds a line to a file, and syncs it when that is asked for.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn append(&self, path: &str, line: &str, is_synced: bool) -> Result<(), FileError> {
        use std::io::Write;

        use nix::{
            fcntl::{OFlag, openat},
            sys::stat::Mode,
        };
        let parent = self.parent(path)?;
        let flags = OFlag::O_APPEND | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(door::failed(openat(&parent.fd, parent.name, flags, Mode::empty()), "open", path)?);
        door::failed_io(file.write_all(line.as_bytes()), "write", path)?;
        if is_synced { door::failed_io(file.sync_data(), "sync", path) } else { Ok(()) }
    }

    /// Removes a file, link or whole directory that may be gone already.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn remove(&self, path: &str) -> Result<(), FileError> {
        self.remove_unsynced(path)?;
        door::sync(&self.parent(path)?.fd, path)
    }

    /// The same, but after a power cut it may be there again.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn remove_unsynced(&self, path: &str) -> Result<(), FileError> {
        let parent = self.parent(path)?;
        door::remove_tree(&parent.fd, parent.name, path)
    }

    /// Makes a directory of the agent's own and what is above it, 0700 at its end.
    ///
    /// # Errors
    /// When a system call fails.
    pub fn make_own_directory(&self, path: &str) -> Result<(), FileError> {
        let mut made = String::new();
        for part in path.split('/').filter(|part| !part.is_empty()) {
            made = format!("{made}/{part}");
            if self.directory(&made).is_err() {
                let parent = self.parent(&made)?;
                let directory = door::make_directory(&parent.fd, parent.name, &made)?;
                finish_directory(&directory, &Attributes::root(if made == path { 0o700 } else { 0o755 }), &made)?;
                door::sync(&parent.fd, &made)?;
            }
        }
        Ok(())
    }

    /// Removes temporary names of applies that are over from a directory.
    ///
    /// # Errors
    /// When a system call fails; a missing directory is fine.
    pub fn sweep(&self, path: &str) -> Result<usize, FileError> {
        let Ok(directory) = self.directory(path) else { return Ok(0) };
        let stale: Vec<String> = door::names_in(&directory, path)?.into_iter().filter(|name| name.starts_with(OURS)).collect();
        for name in &stale {
            door::remove_tree(&directory, name, path)?;
        }
        Ok(stale.len())
    }
}
