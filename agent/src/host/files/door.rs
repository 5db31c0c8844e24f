//! Opening parents, and the few system calls that change something.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::{AsFd, OwnedFd},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use nix::{
    dir::Dir,
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat, renameat2},
    sys::stat::{Mode, fchmod, fstatat, mkdirat},
    unistd::{Gid, Uid, UnlinkatFlags, fchown, linkat, symlinkat, unlinkat},
};
use xattr::FileExt;

use super::{FileError, Files};
use crate::{
    host::planted,
    observed::entry::{Attributes, Content},
};

/// A directory that is open, and the last part of a path in it.
pub struct Parent<'a> {
    pub fd: OwnedFd,
    pub name: &'a str,
}

/// Turns an errno into an error that names verb and path.
pub fn failed<T>(result: nix::Result<T>, action: &'static str, path: &str) -> Result<T, FileError> {
    result.map_err(|errno| FileError { action, path: path.to_owned(), source: errno.into() })
}

pub fn failed_io<T>(result: io::Result<T>, action: &'static str, path: &str) -> Result<T, FileError> {
    result.map_err(|source| FileError { action, path: path.to_owned(), source })
}

impl Files {
    /// Opens the directory a path is in.
    pub fn parent<'a>(&self, path: &'a str) -> Result<Parent<'a>, FileError> {
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok(Parent { fd: failed(self.directory(directory), "open the directory of", path)?, name })
    }

    /// Opens a directory beneath the root, following no link.
    pub fn directory(&self, path: &str) -> nix::Result<OwnedFd> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let relative = path.trim_matches('/');
        let relative = if relative.is_empty() { "." } else { relative };
        let how = OpenHow::new().flags(flags).resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        match openat2(&self.root, relative, how) {
            Err(Errno::ENOSYS) => self.walk(relative, flags),
            opened => opened,
        }
    }

    /// Kernels before 5.6: one part of the path at a time.
    fn walk(&self, relative: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let mut directory = openat(&self.root, ".", flags, Mode::empty())?;
        for part in relative.split('/').filter(|part| *part != ".") {
            directory = openat(&directory, part, flags | OFlag::O_NOFOLLOW, Mode::empty())?;
        }
        Ok(directory)
    }
}

/// Makes a file with its owner, labels and mode before its bytes, and syncs it.
pub fn write_new(directory: &impl AsFd, name: &str, content: &Content, attributes: &Attributes, path: &str) -> Result<(), FileError> {
    let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
    let fd = failed(openat(directory, name, flags, Mode::from_bits_truncate(0o600)), "create a file beside", path)?;
    let mut file = File::from(fd);
    dress(&file, attributes, path)?;
    failed_io(file.write_all(content.bytes()), "write", path)?;
    if planted::has("file-not-synced") {
        return Ok(());
    }
    failed_io(file.sync_all(), "sync", path)
}

/// Gives an open file or directory its owner, labels and mode.
pub fn dress(file: &File, attributes: &Attributes, path: &str) -> Result<(), FileError> {
    use std::os::unix::fs::MetadataExt;
    let metadata = failed_io(file.metadata(), "look at", path)?;
    if (metadata.uid(), metadata.gid()) != (attributes.uid, attributes.gid) {
        failed(fchown(file, Some(Uid::from_raw(attributes.uid)), Some(Gid::from_raw(attributes.gid))), "set the owner of", path)?;
    }
    for (name, value) in &attributes.xattrs {
        let value = STANDARD.decode(value).unwrap_or_default();
        let there = file.get_xattr(name).ok().flatten();
        if there.as_ref() != Some(&value) {
            failed_io(file.set_xattr(name, &value), "set a label of", path)?;
        }
    }
    failed(fchmod(file, Mode::from_bits_truncate(attributes.mode)), "set the mode of", path)
}

/// Syncs a directory, so that names in it outlive a power cut.
pub fn sync(directory: &OwnedFd, path: &str) -> Result<(), FileError> {
    if planted::has("directory-not-synced") {
        return Ok(());
    }
    let file = failed_io(directory.try_clone(), "open", path)?;
    failed_io(File::from(file).sync_all(), "sync the directory of", path)
}

pub fn rename(directory: &OwnedFd, from: &str, to: &str, path: &str) -> Result<(), FileError> {
    failed(renameat(directory, from, directory, to), "rename", path)
}

/// Takes a name that is free: what somebody put there in this moment is not written over.
pub fn rename_to_free(directory: &OwnedFd, from: &str, to: &str, path: &str) -> Result<(), FileError> {
    match renameat2(directory, from, directory, to, RenameFlags::RENAME_NOREPLACE) {
        // Network file systems and old kernels do not know the flag.
        Err(Errno::EINVAL | Errno::ENOSYS) => rename(directory, from, to, path),
        renamed => failed(renamed, "rename", path),
    }
}

pub fn link(directory: &OwnedFd, from: &str, to: &str, path: &str) -> Result<(), FileError> {
    failed(linkat(directory, from, directory, to, AtFlags::empty()), "keep the old", path)
}

pub fn symlink(directory: &OwnedFd, target: &str, name: &str, path: &str) -> Result<(), FileError> {
    failed(symlinkat(target, directory, name), "link", path)
}

pub fn make_directory(directory: &OwnedFd, name: &str, path: &str) -> Result<OwnedFd, FileError> {
    failed(mkdirat(directory, name, Mode::from_bits_truncate(0o700)), "make a directory for", path)?;
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    failed(openat(directory, name, flags, Mode::empty()), "open", path)
}

/// Removes a name that may be gone already.
pub fn unlink(directory: &OwnedFd, name: &str, path: &str) -> Result<(), FileError> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        // A read-only file system says so before it says that there is nothing to remove.
        Err(Errno::EROFS) if fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW) == Err(Errno::ENOENT) => Ok(()),
        Err(errno) => failed(Err(errno), "remove", path),
    }
}

/// Names in an open directory, dots left out.
pub fn names_in(directory: &OwnedFd, path: &str) -> Result<Vec<String>, FileError> {
    let mut listing = failed(Dir::openat(directory, ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty()), "list", path)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = failed(entry, "list", path)?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes whatever has this name, a directory with all that is in it. It may be gone already.
pub fn remove_tree(directory: &OwnedFd, name: &str, path: &str) -> Result<(), FileError> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        _ => return unlink(directory, name, path),
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let inner = failed(openat(directory, name, flags, Mode::empty()), "open", path)?;
    for name in names_in(&inner, path)? {
        remove_tree(&inner, &name, path)?;
    }
    failed(unlinkat(directory, name, UnlinkatFlags::RemoveDir), "remove", path)
}
