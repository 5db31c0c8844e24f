//! Files of a node, reached by the host.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::Node;
use crate::harness::workdir::{create_dir, write_file};

/// Owner and permissions of a file in the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Inode, another one after each replacement.
    pub inode: u64,
    /// Size in bytes.
    pub size: u64,
}

impl Node {
    /// A path of the node as the host reaches it, also while the node is off (then only for what was ever written there).
    /// Absolute symlinks on the way lead into the host: use /run, never /var/run.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref().strip_prefix("/").unwrap_or_else(|_| panic!("{} is not absolute", path.as_ref().display()));
        let root = self.power.as_ref().map_or_else(|| self.upper(), |power| PathBuf::from(format!("/proc/{}/root", power.pid)));
        root.join(path)
    }

    /// The bytes of a file.
    pub fn read(&self, path: impl AsRef<Path>) -> Vec<u8> {
        let path = self.path(path);
        fs::read(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
    }

    /// The text of a file.
    pub fn read_text(&self, path: impl AsRef<Path>) -> String {
        String::from_utf8_lossy(&self.read(path)).into_owned()
    }

    /// Truncates and writes, as a careless tool does; folders are made on the way.
    pub fn write(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        write_file(&self.path(path), bytes);
    }

    /// Writes beside and renames, as a careful tool does.
    pub fn write_atomic(&self, path: impl AsRef<Path>, bytes: impl AsRef<[u8]>) {
        let path = self.path(path);
        let mut draft = path.clone().into_os_string();
        draft.push(".draft");
        write_file(Path::new(&draft), bytes);
        fs::rename(&draft, &path).unwrap_or_else(|error| panic!("cannot rename to {}: {error}", path.display()));
    }

    /// Removes a file or a folder; it may be absent.
    pub fn remove(&self, path: impl AsRef<Path>) {
        let path = self.path(path);
        let is_dir = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        assert!(removed.is_ok() || !path.exists(), "cannot remove {}: {removed:?}", path.display());
    }

    /// Whether something is there.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        fs::symlink_metadata(self.path(path)).is_ok()
    }

    /// Owner, permissions, inode and size, of a symlink itself.
    pub fn stat(&self, path: impl AsRef<Path>) -> Stat {
        let path = self.path(path);
        let found = fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("no {}: {error}", path.display()));
        Stat { mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid(), inode: found.ino(), size: found.size() }
    }

    /// Copies files of the host into the node: source, destination, permissions.
    pub fn install(&self, files: &[(&Path, &str, u32)]) {
        for (source, destination, mode) in files {
            let target = self.path(destination);
            target.parent().map(create_dir);
            let copied = fs::copy(source, &target).and_then(|_| fs::set_permissions(&target, fs::Permissions::from_mode(*mode)));
            copied.unwrap_or_else(|error| panic!("cannot install {} as {destination}: {error}", source.display()));
        }
    }

    /// Adds a line to /etc/hosts; containerd sees it at the next look-up.
    pub fn add_host(&self, address: &str, names: &str) {
        let text = self.read_text("/etc/hosts");
        self.write("/etc/hosts", format!("{text}{address} {names}\n"));
    }
}
