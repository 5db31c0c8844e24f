//! Looking: what is at a path, without following links.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{MetadataExt, PermissionsExt},
    },
};

use base64::{Engine, engine::general_purpose::STANDARD};
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat, readlinkat},
    sys::stat::{Mode, SFlag, fstatat},
};
use xattr::FileExt;

use super::{
    FileError, Files,
    door::{failed, failed_io, names_in},
};
use crate::observed::entry::{Attributes, Content, Entry, FileState};

/// A file that was read.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its bytes.
    pub content: Content,
    /// Digest, owner, mode, labels.
    pub state: FileState,
    /// When its inode last changed, in milliseconds of Unix time.
    pub changed_ms: i64,
}

/// What is at one name.
#[derive(Debug, Clone)]
pub struct Looked {
    /// What it is.
    pub entry: Entry,
    /// Of a directory: the content of the file that was asked for in it.
    pub wanted: Option<Content>,
    /// Of a directory: the links in it, with their targets.
    pub links: BTreeMap<String, String>,
}

impl From<Entry> for Looked {
    fn from(entry: Entry) -> Self {
        Self { entry, wanted: None, links: BTreeMap::new() }
    }
}

/// What is at each name of a directory.
pub type Tree = BTreeMap<String, Looked>;

impl Files {
    /// What is at a path; a directory with its files.
    ///
    /// # Errors
    /// When it cannot be looked at; a missing path is [`Entry::Absent`].
    pub fn entry(&self, path: &str) -> Result<Entry, FileError> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.directory(directory) {
            Ok(parent) => Ok(entry_in(&parent, name, "", path)?.entry),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(Entry::Absent),
            Err(errno) => failed(Err(errno), "open the directory of", path),
        }
    }

    /// A regular file with its content; `None` when there is none.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(&self, path: &str) -> Result<Option<Found>, FileError> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        match self.directory(directory) {
            Ok(parent) => read_in(&parent, name, path),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
            Err(errno) => failed(Err(errno), "open the directory of", path),
        }
    }

    /// Every name in a directory with what it is and the content of the file `wanted` in it; `None` when there is no such directory.
    ///
    /// # Errors
    /// When it cannot be listed.
    pub fn tree(&self, path: &str, wanted: &str) -> Result<Option<Tree>, FileError> {
        let directory = match self.directory(path) {
            Ok(directory) => directory,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(errno) => return failed(Err(errno), "open", path),
        };
        let names = names_in(&directory, path)?;
        names.into_iter().map(|name| Ok((name.clone(), entry_in(&directory, &name, wanted, path)?))).collect::<Result<_, _>>().map(Some)
    }
}

fn entry_in(parent: &OwnedFd, name: &str, wanted: &str, path: &str) -> Result<Looked, FileError> {
    let stat = match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => stat,
        Err(Errno::ENOENT) => return Ok(Entry::Absent.into()),
        Err(errno) => return failed(Err(errno), "look at", path),
    };
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => Ok(read_in(parent, name, path)?.map_or(Entry::Absent, |found| Entry::File(found.state)).into()),
        SFlag::S_IFLNK => {
            let target = failed(readlinkat(parent, name), "read the link", path)?;
            Ok(Entry::Symlink { target: target.to_string_lossy().into_owned() }.into())
        }
        SFlag::S_IFDIR => directory_in(parent, name, wanted, path),
        _ => Ok(Entry::Other.into()),
    }
}

fn directory_in(parent: &OwnedFd, name: &str, wanted: &str, path: &str) -> Result<Looked, FileError> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let directory = failed(openat(parent, name, flags, Mode::empty()), "open", path)?;
    let mut files = BTreeMap::new();
    let mut others = Vec::new();
    let mut content = None;
    let mut links = BTreeMap::new();
    for name in names_in(&directory, path)? {
        match read_in(&directory, &name, path) {
            Ok(Some(found)) => {
                if name == wanted {
                    content = Some(found.content);
                }
                files.insert(name, found.state);
            }
            Ok(None) => {
                if let Ok(target) = readlinkat(&directory, name.as_str()) {
                    links.insert(name.clone(), target.to_string_lossy().into_owned());
                }
                others.push(name);
            }
            Err(error) => return Err(error),
        }
    }
    others.sort();
    let attributes = attributes(&File::from(directory), path)?;
    Ok(Looked { entry: Entry::Directory { attributes, files, others }, wanted: content, links })
}

/// A regular file; `None` for everything else.
fn read_in(parent: &impl AsFd, name: &str, path: &str) -> Result<Option<Found>, FileError> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut file = match openat(parent, name, flags, Mode::empty()) {
        Ok(fd) => File::from(fd),
        Err(Errno::ENOENT | Errno::ELOOP | Errno::ENXIO) => return Ok(None),
        Err(errno) => return failed(Err(errno), "open", path),
    };
    let metadata = failed_io(file.metadata(), "look at", path)?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    failed_io(file.read_to_end(&mut bytes), "read", path)?;
    let content = Content::from(bytes);
    let state = FileState { digest: content.digest(), attributes: attributes(&file, path)? };
    Ok(Some(Found { content, state, changed_ms: metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000 }))
}

fn attributes(file: &File, path: &str) -> Result<Attributes, FileError> {
    let metadata = failed_io(file.metadata(), "look at", path)?;
    let mut xattrs = BTreeMap::new();
    for name in file.list_xattr().into_iter().flatten() {
        if let (Some(name), Ok(Some(value))) = (name.to_str(), file.get_xattr(&name)) {
            xattrs.insert(name.to_owned(), STANDARD.encode(value));
        }
    }
    Ok(Attributes { mode: metadata.permissions().mode() & 0o7777, uid: metadata.uid(), gid: metadata.gid(), xattrs })
}
