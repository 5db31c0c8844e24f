//! Disks of a test's own: small file systems in files on a tmpfs, and a disk that notes every write it gets.
//!
//! All of it is mounted for the test's thread only, loop devices let go of themselves, and the daemon behind the noting disk dies with
//! the thread: however the test ends, nothing stays but an empty folder, which the next test sweeps.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use nix::{
    sched::{CloneFlags, unshare},
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::harness::{
    process::{Leashed, eventually, holds_within, leash},
    workdir::WorkDir,
};

const SOON: Duration = Duration::from_secs(20);

/// What a disk is formatted and mounted as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    Ext4,
    /// Without the mending of programs that rename before they sync: with it, wrong code passes by luck.
    Ext4NoAutoDaAlloc,
    Xfs,
}

impl FileSystem {
    const fn options(self) -> &'static str {
        match self {
            Self::Ext4 | Self::Xfs => "loop",
            Self::Ext4NoAutoDaAlloc => "loop,noauto_da_alloc",
        }
    }

    fn format(self, disk: &Path) {
        let disk = disk.to_str().unwrap();
        match self {
            Self::Ext4 | Self::Ext4NoAutoDaAlloc => {
                let at_once = "lazy_itable_init=0,lazy_journal_init=0,nodiscard";
                tool("mkfs.ext4", &["-q", "-F", "-b", "4096", "-m", "0", "-N", "1024", "-E", at_once, disk]);
            }
            // Unsupported is only that it is small.
            Self::Xfs => drop(tool("mkfs.xfs", &["-q", "-f", "-K", "--unsupported", disk])),
        }
    }
}

/// Runs a program that has to be there and to succeed.
pub fn tool(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("{program}: {error}; \"make prerequisites\" installs it"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Where disks lie, and where they are mounted.
pub struct Bench {
    directory: WorkDir,
}

impl Bench {
    /// From here on what this thread and its children mount is seen by nobody else.
    pub fn set_up() -> Self {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace needs root");
        tool("mount", &["--make-rprivate", "/"]);
        let directory = WorkDir::claim();
        tool("mount", &["-t", "tmpfs", "mirrorlet-bench", directory.path().to_str().unwrap()]);
        Self { directory }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A formatted disk.
    pub fn disk(&self, name: &str, file_system: FileSystem, mebibytes: u64) -> PathBuf {
        let path = self.path(name);
        File::create_new(&path).unwrap().set_len(mebibytes << 20).unwrap();
        file_system.format(&path);
        path
    }

    /// Another disk with what is on this one.
    pub fn copy(&self, disk: &Path, name: &str) -> PathBuf {
        let path = self.path(name);
        // A new file: the kernel may still be letting go of the loop device of the one that had this name.
        let _ = fs::remove_file(&path);
        tool("cp", &["--sparse=always", disk.to_str().unwrap(), path.to_str().unwrap()]);
        path
    }

    pub fn mount(&self, disk: &Path, file_system: FileSystem) -> Mounted {
        self.mount_at(disk, file_system, &self.path("mounted"))
    }

    pub fn mount_at(&self, disk: &Path, file_system: FileSystem, at: &Path) -> Mounted {
        Mounted::at(at, &["-o", file_system.options(), disk.to_str().unwrap()])
    }

    /// A file system in memory, of a size.
    pub fn mount_tmpfs(&self, options: &str, at: &Path) -> Mounted {
        Mounted::at(at, &["-t", "tmpfs", "-o", options, "mirrorlet-small"])
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        unmount_anyhow(self.directory.path());
    }
}

fn unmount_anyhow(at: &Path) {
    let _ = Command::new("umount").arg("--lazy").arg(at).output();
}

/// A disk that is mounted.
pub struct Mounted {
    at: PathBuf,
    is_mounted: bool,
}

impl Mounted {
    fn at(at: &Path, arguments: &[&str]) -> Self {
        fs::create_dir_all(at).unwrap();
        tool("mount", &[arguments, &[at.to_str().unwrap()]].concat());
        Self { at: at.to_owned(), is_mounted: true }
    }

    pub fn root(&self) -> &Path {
        &self.at
    }

    /// Everything that is still in memory reaches the disk.
    pub fn unmount(mut self) {
        tool("umount", &[self.at.to_str().unwrap()]);
        self.is_mounted = false;
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if self.is_mounted {
            unmount_anyhow(&self.at);
        }
    }
}

/// A disk that notes every write and every flush in the order it gets them.
pub struct NotingDisk {
    daemon: Leashed,
    /// The disk as a file.
    pub disk: PathBuf,
    log: PathBuf,
}

impl NotingDisk {
    /// Notes from now on what happens to a disk.
    pub fn around(disk: &Path, bench: &Bench) -> Self {
        let (log, export) = (bench.path("log"), bench.path("export"));
        File::create_new(&log).unwrap();
        File::create_new(&export).unwrap();
        let mut command = leash("qemu-storage-daemon");
        command.args(["--blockdev", &format!("driver=file,node-name=disk,filename={}", disk.display())]);
        command.args(["--blockdev", &format!("driver=file,node-name=log,filename={}", log.display())]);
        command.args(["--blockdev", "driver=blklogwrites,node-name=noting,file=disk,log=log,log-sector-size=512"]);
        command.args(["--export", &format!("type=fuse,id=export,node-name=noting,mountpoint={},writable=on", export.display())]);
        let mut daemon = Leashed::spawn_here(command);
        let is_there = || fs::metadata(&export).is_ok_and(|metadata| metadata.len() > 0);
        let is_settled = || is_there() || !daemon.is_alive();
        eventually("qemu-storage-daemon exports the disk", SOON, is_settled);
        assert!(is_there(), "qemu-storage-daemon ended; \"make prerequisites\" installs it, and it needs /dev/fuse");
        Self { daemon, disk: export, log }
    }

    /// How much is noted so far.
    pub fn noted(&self) -> u64 {
        fs::metadata(&self.log).unwrap().len()
    }

    /// All that was noted.
    pub fn end(mut self) -> Vec<u8> {
        kill(Pid::from_raw(self.daemon.pid().cast_signed()), Signal::SIGTERM).unwrap();
        holds_within(SOON, || !self.daemon.is_alive());
        fs::read(&self.log).unwrap()
    }
}
