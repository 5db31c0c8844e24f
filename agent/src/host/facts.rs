//! Facts about the node that change all the time, for people and orchestrators; nothing is decided by them but whether a pull may start.

use std::path::Path;

use nix::sys::inotify::{InitFlags, Inotify};
use sysinfo::{MemoryRefreshKind, RefreshKind, System};

/// Free and whole size of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// All of it.
    pub total: u64,
    /// What may still be written.
    pub available: u64,
}

/// What the node is and how it is doing.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel_version: String,
    /// Distribution and its version.
    pub os_name: String,
    /// Processors.
    pub cpus: u32,
    /// Load over 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Bytes.
    pub memory_total: u64,
    /// Bytes.
    pub memory_available: u64,
    /// Seconds since boot.
    pub uptime: u64,
    /// Resident bytes of this process.
    pub agent_resident: u64,
    /// `fs.inotify.max_user_instances`.
    pub inotify_instances_max: u32,
}

/// Reads them.
#[must_use]
pub fn node() -> NodeFacts {
    let system = System::new_with_specifics(RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram()));
    NodeFacts {
        hostname: System::host_name().unwrap_or_default(),
        kernel_version: System::kernel_version().unwrap_or_default(),
        os_name: System::long_os_version().unwrap_or_default(),
        cpus: std::thread::available_parallelism().map_or(1, |cpus| cpus.get() as u32),
        load: System::load_average().map_or([0.0; 3], |load| [load.one, load.five, load.fifteen]),
        memory_total: system.as_ref().map_or(0, System::total_memory),
        memory_available: system.as_ref().map_or(0, System::available_memory),
        uptime: System::uptime().unwrap_or(0),
        agent_resident: agent_resident(),
        inotify_instances_max: proc_number("/proc/sys/fs/inotify/max_user_instances"),
    }
}

/// The disk that holds a path, or the nearest directory above it that exists.
#[must_use]
pub fn disk(path: &Path) -> Option<Disk> {
    let there = path.ancestors().find(|path| path.is_dir())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    Some(Disk { total: stat.blocks() * stat.fragment_size(), available: stat.blocks_available() * stat.fragment_size() })
}

/// Whether root can make some more inotify instances. containerd needs one or two when it starts, and comes up without its CRI when it
/// gets none (LAB.md 1). The limit counts by user, so that trying is the only way to know.
///
/// # Errors
/// The errno that making them met.
pub fn inotify_head_room() -> Result<(), String> {
    const WANTED: usize = 4;
    let mut held = Vec::with_capacity(WANTED);
    for count in 0..WANTED {
        match Inotify::init(InitFlags::IN_CLOEXEC) {
            Ok(instance) => held.push(instance),
            Err(errno) => return Err(format!("only {count} of {WANTED} more could be made: {}", errno.desc())),
        }
    }
    Ok(())
}

/// Whether this process may give a file to another owner.
#[must_use]
pub fn can_change_owner() -> bool {
    const CAP_CHOWN: u64 = 1;
    let capabilities = proc_line("/proc/self/status", "CapEff:").and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    capabilities.is_some_and(|set| set & CAP_CHOWN != 0)
}

fn agent_resident() -> u64 {
    let kilobytes = proc_line("/proc/self/status", "VmRSS:").and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

#[expect(clippy::disallowed_methods, reason = "reads /proc")]
fn proc_line(path: &str, start: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| line.strip_prefix(start)).map(str::to_owned)
}

#[expect(clippy::disallowed_methods, reason = "reads /proc")]
fn proc_number(path: &str) -> u32 {
    std::fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// A directory as this process sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct View {
    /// Device and inode.
    identity: (u64, u64),
    is_writable: bool,
}

impl View {
    /// Looks at a directory; `None` when there is none.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "looks at a directory")]
    pub fn of(directory: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt;
        let metadata = std::fs::metadata(directory).ok()?;
        let flags = nix::sys::statvfs::statvfs(directory).ok()?.flags();
        let is_writable = !flags.contains(nix::sys::statvfs::FsFlags::ST_RDONLY);
        Some(Self { identity: (metadata.dev(), metadata.ino()), is_writable })
    }

    /// The directory could be written once; another one has its name now, and that one this process may only read: the unit opened
    /// the first.
    #[must_use]
    pub fn is_lost(self, now: Option<Self>) -> bool {
        now.is_some_and(|now| self.is_writable && !now.is_writable && self.identity != now.identity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_lost_when_another_one_can_only_be_read() {
        let view = |inode, is_writable| View { identity: (1, inode), is_writable };
        assert!(view(1, true).is_lost(Some(view(2, false))));
        for (before, now) in [(view(1, true), view(2, true)), (view(1, true), view(1, false)), (view(1, false), view(2, false))] {
            assert!(!before.is_lost(Some(now)));
        }
        assert!(!view(1, true).is_lost(None));
    }
}
