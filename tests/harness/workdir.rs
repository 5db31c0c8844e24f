//! A work directory is named after the process that owns it: its PID namespace, pid and start time, so that a reused pid is no owner.
//! Whoever comes next in that namespace removes what dead owners left: folders and cgroups; processes and mounts have died with their
//! owner. Whether somebody lives in another namespace cannot be seen, so what is from there stays.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::process::holds_within;

const ROOT: &str = "/var/tmp/mirrorlet-house";
const CGROUP_PREFIX: &str = "mirrorlet-house.";

/// A folder that is removed with its owner.
#[derive(Debug)]
pub struct WorkDir {
    path: PathBuf,
}

impl WorkDir {
    /// A new folder; the first call of a process sweeps after the dead.
    pub fn claim() -> Self {
        static SWEPT: Once = Once::new();
        SWEPT.call_once(sweep);
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!("{}.{}", owner(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(ROOT).join(name);
        create_dir(&path);
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A name no other live lab, node or registry has.
    pub fn name(&self) -> String {
        self.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// A folder inside, made on the way.
    pub fn folder(&self, name: &str) -> PathBuf {
        let path = self.path.join(name);
        create_dir(&path);
        path
    }
}

impl Drop for WorkDir {
    fn drop(&mut self) {
        holds_within(Duration::from_secs(5), || is_gone(fs::remove_dir_all(&self.path)));
    }
}

/// A cgroup of the unified hierarchy, under which a node's systemd builds its own.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    /// A new cgroup directly under the host's root.
    pub fn create(name: &str) -> Self {
        let path = hierarchy().join(format!("{CGROUP_PREFIX}{name}"));
        create_dir(&path);
        Self { path }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        destroy_cgroup(&self.path);
    }
}

/// Makes a folder with its parents, or panics with the path.
pub fn create_dir(path: &Path) {
    fs::create_dir_all(path).unwrap_or_else(|error| panic!("cannot make {}: {error}", path.display()));
}

/// Writes a file with its parents, or panics with the path.
pub fn write_file(path: &Path, bytes: impl AsRef<[u8]>) {
    if let Some(parent) = path.parent() {
        create_dir(parent);
    }
    fs::write(path, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", path.display()));
}

fn hierarchy() -> PathBuf {
    let unified = PathBuf::from("/sys/fs/cgroup/unified");
    let root = if unified.is_dir() { unified } else { PathBuf::from("/sys/fs/cgroup") };
    assert!(root.join("cgroup.procs").exists(), "{} is no cgroup2 hierarchy", root.display());
    root
}

fn destroy_cgroup(path: &Path) {
    fs::write(path.join("cgroup.kill"), "1").ok();
    holds_within(Duration::from_secs(10), || is_gone(remove_cgroup(path)));
}

/// The kernel's files cannot be unlinked, so only folders are removed, the deepest first.
fn remove_cgroup(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)?.flatten() {
        if entry.file_type()?.is_dir() {
            remove_cgroup(&entry.path())?;
        }
    }
    fs::remove_dir(path)
}

fn is_gone(removed: io::Result<()>) -> bool {
    removed.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
}

/// How the names begin of whatever belongs to this process.
pub fn owner() -> String {
    let pid = std::process::id();
    format!("{}.{pid}.{}", pid_namespace(), start_time(pid).unwrap_or_default())
}

fn pid_namespace() -> u64 {
    fs::metadata("/proc/self/ns/pid").expect("/proc is mounted").ino()
}

fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the command name may hold spaces and brackets: count the fields behind its last bracket
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

fn is_orphan(name: &str) -> bool {
    let mut parts = name.split('.').map(|part| part.parse::<u64>().ok());
    let (Some(Some(namespace)), Some(Some(pid)), Some(Some(started))) = (parts.next(), parts.next(), parts.next()) else { return false };
    namespace == pid_namespace() && u32::try_from(pid).ok().and_then(start_time) != Some(started)
}

fn sweep() {
    for (name, path) in children(&hierarchy()) {
        if name.strip_prefix(CGROUP_PREFIX).is_some_and(is_orphan) {
            destroy_cgroup(&path);
        }
    }
    for (name, path) in children(Path::new(ROOT)) {
        if is_orphan(&name) {
            fs::remove_dir_all(path).ok();
        }
    }
}

fn children(path: &Path) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(path) else { return Vec::new() };
    entries.flatten().map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}
