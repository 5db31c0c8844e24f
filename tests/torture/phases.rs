//! The daemon of a node at work is killed at the beginning and at the end of each phase of a change. Where it is the journal says: it is ended
//! when it has added the n-th line to it, or is about to.

use std::{fs, time::Duration};

use serde_json::Value;

use super::{chosen, is_whole};
use crate::{
    harness::{
        node::NodeOptions,
        process::{Leashed, Output, eventually, holds_within, leash},
        rootfs::Generation,
    },
    stand::{Agent, MIRROR, Stand},
};

const JOURNAL: &str = "/var/lib/mirrorlet/journal";
const SOON: Duration = Duration::from_secs(30);

/// When it is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Edge {
    /// This many lines were added: the last one names the phase.
    Begin(usize),
    /// The next line is about to be added.
    End(usize),
}
use Edge::{Begin, End};

/// What the journal says last, and whether containerd starts with the change.
type Moment = (&'static str, Edge, bool);

const MOMENTS: [Moment; 12] = [
    ("prepared", End(0), true),
    ("writing", Begin(1), true),
    ("writing", End(1), true),
    ("activating", Begin(2), true),
    ("activating", End(2), true),
    ("proving", Begin(3), true),
    ("proving", End(3), true),
    ("settling", Begin(4), true),
    ("settling", End(4), true),
    ("closed", Begin(5), true),
    ("undoing", Begin(3), false),
    ("undoing", End(3), false),
];

/// A node with nothing in effect, whose daemon stays dead once it is.
struct Node {
    stand: Stand,
    agent: Agent,
    before: String,
}

impl Node {
    fn new() -> Self {
        let stand = Stand::new();
        let agent = stand.boot(NodeOptions::new(Generation::V17));
        let node = &agent.node;
        node.write("/etc/systemd/system/mirrorlet.service.d/dead.conf", "[Service]\nRestart=no\n[Unit]\nStartLimitIntervalSec=0\n");
        node.run_ok(["systemctl", "daemon-reload"]);
        let settings =
            "[restart]\nsettle_for = \"200ms\"\nquiet_for = \"0s\"\ntrial_boot = false\nready_deadline = \"3s\"\nmax_per_hour = 60\n";
        node.write("/etc/mirrorlet/mirrorlet.toml", settings);
        node.run_ok(["systemctl", "restart", "mirrorlet"]);
        node.write("/root/spec.yaml", format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"));
        // containerd does not start with a change once this file is there.
        let stub = "#!/bin/sh\ncase \"$*\" in *--version*|*dump*) exec /usr/bin/containerd.real \"$@\";; esac\n[ -e /root/fails ] && grep -q certs.d /etc/containerd/config.toml && exit 7\nexec /usr/bin/containerd.real \"$@\"\n";
        node.write("/usr/bin/containerd.stub", stub);
        let swap = "chmod 755 /usr/bin/containerd.stub && ln /usr/bin/containerd /usr/bin/containerd.real && mv /usr/bin/containerd.stub /usr/bin/containerd";
        node.run_ok(["sh", "-c", swap]);
        let before = agent.containerd_tree();
        Self { stand, agent, before }
    }

    /// Applies, and is killed at this moment.
    fn killed_at(&self, moment: Moment, more: &[&str]) -> Output {
        let (phase, edge, starts) = moment;
        let node = &self.agent.node;
        if !starts {
            node.write("/root/fails", "");
        }
        node.wait_cri(SOON);
        let _tracer = lie_in_wait(&self.agent, edge);
        let answer = node.run(["mirrorctl", "apply", "/root/spec.yaml"].iter().chain(more));
        eventually("the daemon is dead", SOON, || node.main_pid("mirrorlet").is_none());
        assert_eq!(last_phase(&node.read_text(JOURNAL)), phase, "{moment:?}: {answer:?}\n{}", node.read_text(JOURNAL));
        node.remove("/root/fails");
        answer
    }

    /// As systemd does by itself, were it let: what the timers have begun comes first.
    fn start(&self) {
        let is_started = || self.agent.node.run(["systemctl", "start", "mirrorlet"]).success();
        eventually("the daemon is started", SOON, is_started);
    }

    /// Everything is as before the change, nothing of it is left, and containerd answers.
    fn is_as_before(&self, when: &str) {
        let agent = &self.agent;
        let is_over = || !agent.node.exists(JOURNAL) && agent.containerd_tree() == self.before;
        assert!(holds_within(SOON, is_over), "{when}: {}", agent.containerd_tree());
        agent.node.wait_cri(SOON);
    }

    fn has_no_timers(&self, when: &str) {
        let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", "mirrorlet-confirm-*", "mirrorlet-guard-*"];
        let left = || self.agent.node.run_ok(list);
        assert!(holds_within(SOON, || left().is_empty()), "{when}: {}", left());
    }
}

fn last_phase(journal: &str) -> String {
    let marks = journal.lines().skip(1).filter_map(|line| serde_json::from_str::<Value>(line).ok());
    marks.last().map_or("prepared".into(), |mark| mark["phase"].as_str().unwrap().to_owned())
}

/// The daemon's process as the host sees it, once it has no children.
fn host_pid(agent: &Agent) -> String {
    let mut pids = String::new();
    eventually("the daemon runs, and nothing for it", SOON, || {
        pids = agent.node.read_text("/sys/fs/cgroup/system.slice/mirrorlet.service/cgroup.procs");
        pids.lines().count() == 1
    });
    pids.trim().to_owned()
}

/// The journal is opened for each line and closed after it; from when on strace ends the daemon on its way into that call.
fn lie_in_wait(agent: &Agent, edge: Edge) -> Leashed {
    let pid = host_pid(agent);
    let inject = match edge {
        Begin(lines) => format!("inject=close:signal=SIGKILL:when={lines}"),
        End(lines) => format!("inject=openat:signal=SIGKILL:when={}", lines + 1),
    };
    let mut command = leash("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-P", "journal", "-P", JOURNAL, "-e", "trace=openat,close", "-e", &inject, "-p", &pid]);
    let tracer = Leashed::spawn(command);
    let is_traced =
        |task: fs::DirEntry| fs::read_to_string(task.path().join("status")).is_ok_and(|status| !status.contains("TracerPid:\t0\n"));
    eventually("strace is attached", SOON, || fs::read_dir(format!("/proc/{pid}/task")).unwrap().all(|task| is_traced(task.unwrap())));
    tracer
}

fn killed_in_each_phase(row: &str, more: &[&str]) {
    let node = Node::new();
    for (number, moment) in chosen(row, &MOMENTS).into_iter().enumerate() {
        let when = format!("{row}: {moment:?}");
        node.killed_at(moment, more);
        if number % 2 == 0 {
            node.agent.node.run_ok(["mirrorlet", "recover"]);
            assert!(!node.agent.node.exists(JOURNAL), "{when}: not recovered");
        }
        node.start();
        let is_decided = moment.0 == "closed";
        if is_decided && more.is_empty() {
            node.agent.wait_for("in-effect");
            node.agent.node.wait_cri(SOON);
            node.stand.mirror_serves(&node.agent);
            node.agent.disable();
        } else if is_decided {
            assert_eq!(node.agent.wait_for("held")["hold"]["cause"], "expiry", "{when}");
        }
        node.is_as_before(&when);
        node.has_no_timers(&when);
        println!("{when}");
    }
}

#[test]
fn killed_in_each_phase_without_confirmation() {
    killed_in_each_phase("killed at work", &[]);
}

#[test]
fn killed_in_each_phase_before_the_confirmation() {
    killed_in_each_phase("killed at work, to be confirmed", &["--confirm-within", "3s"]);
}

/// Nobody starts the daemon again, and what was begun is still undone: by the timer that was set before the first write. Here its time is
/// shorter, all else is as it is.
#[test]
fn the_guard_undoes_what_a_dead_daemon_began() {
    let node = Node::new();
    node.agent.node.write("/etc/systemd/system/mirrorlet-guard-.timer.d/soon.conf", "[Timer]\nOnActiveSec=6s\n");
    let moments = [MOMENTS[0], MOMENTS[2], MOMENTS[4], MOMENTS[8]];
    for moment in moments.into_iter().take(if is_whole() { moments.len() } else { 2 }) {
        let when = format!("killed at {moment:?}, and not started again");
        node.agent.node.run_ok(["systemctl", "unmask", "mirrorlet"]);
        node.start();
        node.killed_at(moment, &["--confirm-within", "1h"]);
        node.agent.node.run_ok(["systemctl", "mask", "mirrorlet"]);
        assert!(node.agent.node.exists(JOURNAL), "{when}: the guard came before the test was ready");
        node.is_as_before(&when);
        assert_eq!(node.agent.node.main_pid("mirrorlet"), None, "{when}");
        println!("{when}");
    }
}
