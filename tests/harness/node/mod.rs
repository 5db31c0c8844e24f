//! A node: systemd as PID 1 with its own containerd, in namespaces of its own and the network of its lab. What is written to its
//! disk stays over a reboot; /run, /tmp and the journal do not.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::netns::Netns;
use super::process::{Leashed, holds_within, leash};
use super::rootfs::Generation;
use super::workdir::{Cgroup, WorkDir, write_file};

pub use disk::NodeOptions;

mod commands;
mod containerd;
/// What a node is born with.
pub mod disk;
/// Files of a node.
pub mod files;
mod units;

const BOOT_SCRIPT: &str = include_str!("boot.sh");
/// Of a line of the journal that is shown, in characters: containerd prints its whole config in one.
const LONGEST_LINE: usize = 240;
const BOOT_TIMEOUT: Duration = Duration::from_secs(30);

/// A booted node; dropped, it is gone without a trace, and a test that panics is told its journal first.
#[derive(Debug)]
pub struct Node {
    generation: Generation,
    netns: Arc<Netns>,
    power: Option<Power>,
    work: WorkDir,
}

/// What exists only while a node runs. The order matters: the processes end before their cgroup is removed.
#[derive(Debug)]
struct Power {
    pid: u32,
    init: Leashed,
    _cgroup: Cgroup,
}

impl Drop for Power {
    /// PID 1 first, so that its parent, which we hold, reaps it; with PID 1 all others of its namespace have ended.
    fn drop(&mut self) {
        // while its parent lives the pid is still its own
        if let (true, Ok(pid)) = (self.init.is_alive(), i32::try_from(self.pid)) {
            kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
        }
        holds_within(Duration::from_secs(10), || !self.init.is_alive());
    }
}

impl Node {
    /// Makes the node's disk and boots it; [`Lab::boot`](super::lab::Lab::boot) adds the lab's trust and names.
    pub fn boot(netns: &Arc<Netns>, options: &NodeOptions) -> Self {
        let mut node = Self { generation: options.generation, netns: Arc::clone(netns), power: None, work: WorkDir::claim() };
        node.make_disk(options);
        node.power_on();
        if options.cri_expected {
            node.wait_cri(BOOT_TIMEOUT);
        }
        node
    }

    /// Which containerd it runs.
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// PID 1 of the node as the host sees it.
    pub fn pid(&self) -> u32 {
        self.power.as_ref().map_or_else(|| panic!("the node is off"), |power| power.pid)
    }

    /// Pulls the plug: every process dies at once, the disk stays.
    pub fn power_off(&mut self) {
        self.power = None;
    }

    /// Boots from the disk as it is and waits for systemd, not for the CRI.
    pub fn power_on(&mut self) {
        assert!(self.power.is_none(), "the node is on already");
        write_file(&self.disk().join("boot_id"), random_id());
        fs::remove_file(self.disk().join("pid")).ok();
        self.power = Some(self.start());
        holds_within(BOOT_TIMEOUT, || self.has_died() || self.is_up());
        let up = !self.has_died() && self.is_up();
        assert!(up, "the node did not boot within {BOOT_TIMEOUT:?} (inotify instances exhausted?):\n{}", self.console());
    }

    /// Pulls the plug and boots again, until the CRI answers.
    pub fn reboot(&mut self) {
        self.power_off();
        self.power_on();
        self.wait_cri(BOOT_TIMEOUT);
    }

    fn disk(&self) -> &Path {
        self.work.path()
    }

    fn upper(&self) -> PathBuf {
        self.disk().join("upper")
    }

    fn console(&self) -> String {
        let console = fs::read(self.disk().join("console")).unwrap_or_default();
        tail(&String::from_utf8_lossy(&console), 40)
    }

    fn has_died(&mut self) -> bool {
        self.power.as_mut().is_none_or(|power| !power.init.is_alive())
    }

    /// A sick containerd or unit makes systemd say `degraded`.
    fn is_up(&self) -> bool {
        let output = self.run_within(Duration::from_secs(5), ["systemctl", "is-system-running"]);
        matches!(output.stdout.trim(), "running" | "degraded")
    }

    fn start(&self) -> Power {
        let disk = self.disk();
        let cgroup = Cgroup::create(&self.work.name());
        let console = File::create(disk.join("console")).unwrap_or_else(|error| panic!("no console: {error}"));
        let mut command = leash("sh");
        command.args(["-c", r#"echo 0 >"$1/cgroup.procs" && shift && exec "$@""#, "sh"]).arg(cgroup.path());
        command.arg("nsenter").arg(format!("--net={}", self.netns.path().display()));
        command.args(["unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc", "--cgroup"]);
        write_file(&disk.join("boot.sh"), BOOT_SCRIPT);
        command.arg("sh").arg(disk.join("boot.sh")).arg(self.generation.rootfs()).arg(disk).arg("node");
        command.stderr(console.try_clone().map_or_else(|_| Stdio::null(), Stdio::from)).stdout(console);
        let init = Leashed::spawn(command);
        let mut pid = None;
        holds_within(BOOT_TIMEOUT, || {
            pid = fs::read_to_string(disk.join("pid")).ok().and_then(|text| text.trim().parse().ok());
            pid.is_some()
        });
        let pid = pid.unwrap_or_else(|| panic!("the node did not start:\n{}", self.console()));
        Power { pid, init, _cgroup: cgroup }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !std::thread::panicking() || self.power.is_none() {
            return;
        }
        let output = self.run_within(Duration::from_secs(5), ["journalctl", "-q", "--no-pager", "--no-hostname", "-n", "200"]);
        let telling = output.stdout.lines().filter(|line| !line.contains("loading plugin"));
        let journal: Vec<String> = telling.map(|line| line.chars().take(LONGEST_LINE).collect()).collect();
        let (suite, console) = (self.generation.suite(), self.console());
        eprintln!("-- console of the {suite} node\n{console}\n-- end of its journal\n{}\n{}", journal.join("\n"), output.stderr);
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

fn random_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_else(|error| panic!("no random id: {error}"))
}
