//! Root file systems by debootstrap, one for each generation of containerd. A folder that exists under its final name is
//! complete: it was built beside and renamed. The recipe's number is part of the name, so a new recipe never changes a root
//! file system below a running node.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};

use super::process::{self, holds_within, leash};
use super::workdir::create_dir;

const RECIPE: u32 = 1;
const PACKAGES: &str = "systemd,systemd-sysv,dbus,containerd,runc,ca-certificates,iproute2,procps";
const SOURCE: &str = "http://deb.debian.org/debian";
const BUILD_TIMEOUT: Duration = Duration::from_secs(900);
const UNWANTED: [&str; 7] =
    ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info", "var/cache/apt", "var/cache/debconf", "var/lib/apt/lists"];

/// A generation of containerd, by the Debian release that carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Generation {
    /// containerd 1.6, Debian bookworm.
    V16,
    /// containerd 1.7, Debian trixie.
    V17,
    /// containerd 2.x, Debian sid.
    V2,
}

impl Generation {
    /// All of them, the oldest first.
    pub const ALL: [Self; 3] = [Self::V16, Self::V17, Self::V2];

    /// The Debian release.
    pub fn suite(self) -> &'static str {
        match self {
            Self::V16 => "bookworm",
            Self::V17 => "trixie",
            Self::V2 => "sid",
        }
    }

    /// Its root file system, built now if nobody has yet (about a minute).
    pub fn rootfs(self) -> PathBuf {
        let root = cache_dir().join(format!("{}.{RECIPE}", self.suite()));
        if !root.is_dir() {
            prepare(self, &root).unwrap_or_else(|problem| panic!("{problem}"));
        }
        root
    }
}

/// Builds what is missing of all root file systems.
pub fn prepare_all() -> Result<(), String> {
    require_prerequisites()?;
    Generation::ALL.into_iter().try_for_each(|generation| {
        let root = cache_dir().join(format!("{}.{RECIPE}", generation.suite()));
        if root.is_dir() { Ok(()) } else { prepare(generation, &root) }
    })
}

/// The version its containerd reports, as Debian writes it (`1.6.20~ds1`, `2.1.9+unknown`).
pub fn containerd_version(generation: Generation) -> String {
    let mut command = leash("chroot");
    command.arg(generation.rootfs()).args(["containerd", "--version"]);
    let said = process::run(command, Duration::from_secs(20)).expect_success("containerd --version");
    said.split_whitespace().nth(2).map(str::to_owned).unwrap_or_else(|| panic!("no version in {said:?}"))
}

/// The programs the house needs and the Debian packages that bring them.
pub fn prerequisites() -> [(&'static str, &'static str); 11] {
    [
        ("/usr/sbin/debootstrap", "debootstrap"),
        ("/usr/bin/docker-registry", "docker-registry"),
        ("/usr/bin/skopeo", "skopeo"),
        ("/usr/bin/htpasswd", "apache2-utils"),
        ("/usr/bin/busybox", "busybox-static"),
        ("/usr/sbin/ip", "iproute2"),
        ("/usr/bin/unshare", "util-linux"),
        ("/usr/bin/nsenter", "util-linux"),
        ("/usr/bin/setpriv", "util-linux"),
        ("/usr/sbin/pivot_root", "util-linux"),
        ("/usr/bin/mount", "mount"),
    ]
}

/// Says which packages are missing, as the command that installs them.
pub fn require_prerequisites() -> Result<(), String> {
    let mut missing: Vec<_> =
        prerequisites().into_iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| package).collect();
    missing.dedup();
    if missing.is_empty() { Ok(()) } else { Err(format!("the test house needs: apt-get install {}", missing.join(" "))) }
}

fn is_installed(program: &str) -> bool {
    let program = Path::new(program);
    let name = program.file_name().unwrap_or_default();
    program.exists() || ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|folder| Path::new(folder).join(name).exists())
}

fn cache_dir() -> PathBuf {
    std::env::var_os("MIRRORLET_CACHE").map_or_else(|| PathBuf::from("/var/cache/mirrorlet-house"), PathBuf::from)
}

/// Builds under a lock, so that of several processes one builds and the others wait for it.
fn prepare(generation: Generation, root: &Path) -> Result<(), String> {
    require_prerequisites()?;
    create_dir(&cache_dir());
    let _lock = lock(&cache_dir().join(format!("{}.lock", generation.suite())))?;
    if root.is_dir() {
        return Ok(());
    }
    let draft = root.with_extension("draft");
    fs::remove_dir_all(&draft).ok();
    debootstrap(generation.suite(), &draft)?;
    trim(&draft);
    fs::rename(&draft, root).map_err(|error| format!("cannot name {}: {error}", root.display()))
}

fn lock(path: &Path) -> Result<Flock<File>, String> {
    let mut locked = None;
    holds_within(BUILD_TIMEOUT, || {
        locked = File::create(path).ok().and_then(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).ok());
        locked.is_some()
    });
    locked.ok_or_else(|| format!("{} is held by another process", path.display()))
}

fn debootstrap(suite: &str, target: &Path) -> Result<(), String> {
    let mut command: Command = leash("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "debootstrap", "--variant=minbase"]);
    command.arg(format!("--include={PACKAGES}")).arg(suite).arg(target).arg(SOURCE);
    let output = process::run(command, BUILD_TIMEOUT);
    let tail: Vec<_> = output.stdout.lines().rev().take(15).collect();
    if output.success() { Ok(()) } else { Err(format!("debootstrap {suite} failed: {}\n{}", output.stderr, tail.join("\n"))) }
}

fn trim(root: &Path) {
    for folder in UNWANTED {
        fs::remove_dir_all(root.join(folder)).ok();
        create_dir(&root.join(folder));
    }
}
