//! A change that nobody confirms is gone back from in time, whoever is dead by then; one that is confirmed stays. Each promise is put to the
//! test again and again on one node.

use std::{
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::Value;

use super::is_whole;
use crate::{
    harness::{
        node::NodeOptions,
        process::{eventually, holds_within},
        registry::Registry,
        rootfs::Generation,
    },
    stand::{Agent, MIRROR, SPEC, Stand, WHOLE_PULL, pull_and_see},
};

/// Where the mirror of the change listens.
const OTHER: &str = "192.0.2.11:5000";
/// What going back may take on top of the time that was given, as promised.
const SLACK: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_secs(3);
/// Changes the wall clock of one process.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

fn spec(endpoint: &str) -> String {
    format!("registryMirrors:\n  - endpoint: http://{endpoint}\n    hosts: [up.lab]\n")
}

fn times() -> usize {
    if is_whole() { 20 } else { 2 }
}

/// A stand whose spec is in effect, and another one that is applied with `--confirm-within` on top of it.
struct Unconfirmed {
    stand: Stand,
    other: Registry,
    agent: Agent,
    /// The generation that waits.
    number: u64,
}

impl Unconfirmed {
    fn new() -> Self {
        let stand = Stand::new();
        let other = stand.another_mirror(OTHER);
        let agent = stand.boot(NodeOptions::new(Generation::V17));
        agent.put_in_effect(&spec(MIRROR));
        agent.node.write("/root/spec.yaml", spec(OTHER));
        Self { stand, other, agent, number: 0 }
    }

    /// The change is in effect, and waits.
    fn apply(&mut self, within: &str) {
        let answer = self.agent.node.run_ok(["mirrorctl", "-o", "json", "apply", "/root/spec.yaml", "--confirm-within", within]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        self.number = answer["generation"].as_u64().unwrap();
        assert!(self.names(OTHER));
    }

    fn names(&self, endpoint: &str) -> bool {
        self.agent.node.read_text("/etc/containerd/certs.d/up.lab/hosts.toml").contains(endpoint)
    }

    /// What was in effect before is there again, not before `left` is over and not much later.
    fn is_gone_back_from_within(&self, left: Duration, when: &str) {
        std::thread::sleep(left / 3);
        assert!(self.names(OTHER), "{when}: too early");
        assert!(holds_within(left + SLACK, || self.names(MIRROR)), "{when}: too late\n{}", self.agent.node.full_journal());
    }

    fn is_held(&self) {
        let status = self.agent.wait_for("held");
        assert_eq!(status["hold"]["cause"], "expiry");
        assert_eq!(status["pending"], Value::Null);
        self.is_served_by(&self.stand.mirror);
    }

    fn is_served_by(&self, mirror: &Registry) {
        let (served, upstream) = pull_and_see(&self.agent, "up.lab/lib/app:1", mirror, &self.stand.upstream);
        assert_eq!(served, WHOLE_PULL, "{}", mirror.log());
        assert!(upstream.is_nothing(), "{}", self.stand.upstream.log());
    }
}

#[test]
fn what_nobody_confirms_is_gone_back_from() {
    let mut unconfirmed = Unconfirmed::new();
    for time in 0..times() {
        unconfirmed.apply("3s");
        let status = unconfirmed.agent.status();
        assert_eq!(
            (status["condition"].as_str(), status["pending"]["generation"].as_u64()),
            (Some("pending-confirm"), Some(unconfirmed.number))
        );
        unconfirmed.is_served_by(&unconfirmed.other);
        unconfirmed.is_gone_back_from_within(SHORT, &format!("{time}: the caller is gone"));
        unconfirmed.is_held();
    }
}

#[test]
fn a_dead_daemon_does_not_keep_it() {
    let mut unconfirmed = Unconfirmed::new();
    for time in 0..times() {
        unconfirmed.apply("3s");
        let node = &unconfirmed.agent.node;
        node.run_ok(["systemctl", "mask", "--now", "--signal=KILL", "mirrorlet"]);
        node.run(["systemctl", "kill", "--signal=KILL", "mirrorlet"]);
        unconfirmed.is_gone_back_from_within(SHORT, &format!("{time}: the daemon is killed and masked"));
        node.run_ok(["systemctl", "unmask", "mirrorlet"]);
        node.run_ok(["systemctl", "start", "mirrorlet"]);
        unconfirmed.is_held();
    }
}

#[test]
fn a_restarted_daemon_goes_on_waiting() {
    let mut unconfirmed = Unconfirmed::new();
    for time in 0..times() {
        unconfirmed.apply("4s");
        unconfirmed.agent.node.run_ok(["systemctl", "reset-failed", "mirrorlet"]);
        unconfirmed.agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
        assert_eq!(unconfirmed.agent.wait_for("pending-confirm")["pending"]["generation"].as_u64(), Some(unconfirmed.number));
        unconfirmed.is_gone_back_from_within(Duration::from_secs(4), &format!("{time}: the daemon was restarted"));
        unconfirmed.is_held();
    }
}

#[test]
fn a_reboot_before_the_confirmation_goes_back_before_containerd_starts() {
    let mut unconfirmed = Unconfirmed::new();
    for time in 0..times() {
        unconfirmed.apply("1h");
        unconfirmed.agent.node.run_ok(["systemctl", "disable", "mirrorlet"]);
        unconfirmed.agent.node.run_ok(["systemctl", "enable", "mirrorlet-recover"]);
        unconfirmed.agent.node.reboot();
        assert!(unconfirmed.names(MIRROR), "{time}: without the daemon\n{}", unconfirmed.agent.node.full_journal());
        unconfirmed.agent.node.run_ok(["systemctl", "enable", "--now", "mirrorlet"]);
        unconfirmed.is_held();
    }
}

/// Neither the daemon's deadline nor that of systemd's timer is one of the wall clock.
#[test]
fn a_wall_clock_that_jumps_moves_no_deadline() {
    assert!(Path::new(FAKETIME).exists(), "apt-get install libfaketime");
    let mut unconfirmed = Unconfirmed::new();
    let node = &unconfirmed.agent.node;
    node.install(&[(Path::new(FAKETIME), "/usr/lib/libfaketime.so.1", 0o755)]);
    let lines =
        ["LD_PRELOAD=/usr/lib/libfaketime.so.1", "FAKETIME_TIMESTAMP_FILE=/etc/faketime", "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1"];
    let environment: String = lines.iter().map(|line| format!("Environment={line}\n")).collect();
    node.write("/etc/faketime", "+0\n");
    node.write("/etc/systemd/system/mirrorlet.service.d/clock.conf", format!("[Service]\n{environment}"));
    node.run_ok(["systemctl", "daemon-reload"]);
    node.run_ok(["systemctl", "restart", "mirrorlet"]);
    let age = |agent: &Agent| {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64 - agent.status()["observed_at"].as_i64().unwrap()
    };
    for time in 0..times() {
        let (jump, hour) = if time % 2 == 0 { ("+3600\n", 3_600) } else { ("-3600\n", -3_600) };
        unconfirmed.apply("3s");
        unconfirmed.agent.node.write("/etc/faketime", jump);
        unconfirmed.is_gone_back_from_within(SHORT, &format!("{time}: the clock jumped by {}", jump.trim()));
        unconfirmed.is_held();
        assert!((age(&unconfirmed.agent) + hour).abs() < 1_800, "the daemon did not see the jump");
        unconfirmed.agent.node.write("/etc/faketime", "+0\n");
    }
}

#[test]
fn containerd_down_at_the_deadline_changes_nothing() {
    let mut unconfirmed = Unconfirmed::new();
    for time in 0..times() {
        unconfirmed.apply("3s");
        let node = &unconfirmed.agent.node;
        node.run_ok(["systemctl", "stop", "containerd"]);
        unconfirmed.is_gone_back_from_within(SHORT, &format!("{time}: containerd is down"));
        node.run_ok(["systemctl", "reset-failed", "containerd"]);
        node.run_ok(["systemctl", "start", "containerd"]);
        unconfirmed.is_held();
    }
}

/// Where certs.d lies for this process is read-only when the time is over; then it is not any more.
fn read_only_at_the_deadline(unconfirmed: &Unconfirmed, process: &str) {
    let node = &unconfirmed.agent.node;
    let there = |words: &str| node.run_ok(["nsenter", "--target", process, "--mount", "sh", "-c", words]);
    there("cd / && mount --bind /etc/containerd/certs.d /etc/containerd/certs.d && mount -o remount,bind,ro /etc/containerd/certs.d");
    eventually("going back failed", Duration::from_secs(30), || node.full_journal().contains("Read-only file system"));
    assert!(unconfirmed.names(OTHER), "it did not fail");
    there("umount /etc/containerd/certs.d");
    eventually("it is tried again", Duration::from_secs(120), || unconfirmed.names(MIRROR));
}

#[test]
fn going_back_that_failed_is_tried_again() {
    let mut unconfirmed = Unconfirmed::new();
    unconfirmed.apply("3s");
    let daemon = unconfirmed.agent.node.main_pid("mirrorlet").unwrap().to_string();
    read_only_at_the_deadline(&unconfirmed, &daemon);
    unconfirmed.is_held();
}

#[test]
fn going_back_that_failed_is_tried_again_by_the_timer_too() {
    let mut unconfirmed = Unconfirmed::new();
    unconfirmed.apply("3s");
    let node = &unconfirmed.agent.node;
    node.run_ok(["systemctl", "mask", "--now", "--signal=KILL", "mirrorlet"]);
    node.run(["systemctl", "kill", "--signal=KILL", "mirrorlet"]);
    read_only_at_the_deadline(&unconfirmed, "1");
    unconfirmed.agent.node.run_ok(["systemctl", "unmask", "mirrorlet"]);
    unconfirmed.agent.node.run_ok(["systemctl", "start", "mirrorlet"]);
    unconfirmed.is_held();
}

#[test]
fn nothing_but_its_own_confirmation_disarms_it() {
    let mut unconfirmed = Unconfirmed::new();
    for _ in 0..times() {
        unconfirmed.apply("8s");
        let node = &unconfirmed.agent.node;
        let wrong = node.run(["mirrorctl", "confirm", "1"]);
        assert!(
            wrong.code == Some(5) && wrong.stderr.contains(&format!("mirrorctl confirm {}", unconfirmed.number)),
            "another one is confirmed: {wrong:?}"
        );
        let second = node.run(["mirrorctl", "apply", "/root/spec.yaml", "--confirm-within", "1h"]);
        assert!(second.code == Some(5) && second.stderr.contains("waits for its confirmation"), "{second:?}");
        node.write("/root/broken.yaml", "registryMirrors: [\n");
        assert!(!node.run(["mirrorctl", "apply", "/root/broken.yaml"]).success());
        node.run(["mirrorctl", "plan", "/root/spec.yaml"]);
        node.run(["mirrorctl", "disable", "--dry-run"]);
        assert_eq!(node.run(["mirrorctl", "resume"]).code, Some(5), "it does not wait any more");
        let text = node.read_text(SPEC);
        unconfirmed.agent.write_spec("registryMirrors: [\n");
        unconfirmed.agent.write_spec(&(spec(OTHER) + "# an edit waits\n"));
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(unconfirmed.agent.status()["condition"], "pending-confirm");
        unconfirmed.agent.write_spec(&text);
        assert!(holds_within(Duration::from_secs(8) + SLACK, || unconfirmed.names(MIRROR)), "it was disarmed");
        unconfirmed.is_held();
    }
}

#[test]
fn what_is_confirmed_stays() {
    let mut unconfirmed = Unconfirmed::new();
    for _ in 0..times() {
        unconfirmed.apply("3s");
        let number = unconfirmed.number.to_string();
        unconfirmed.agent.node.run_ok(["mirrorctl", "confirm", &number]);
        unconfirmed.agent.wait_until("confirmed", |status| status["pending"] == Value::Null);
        std::thread::sleep(SHORT + SLACK);
        assert!(unconfirmed.names(OTHER));
        let none = unconfirmed.agent.node.run(["mirrorctl", "confirm", &number]);
        assert!(none.code == Some(5) && none.stderr.contains("no generation waits"), "{none:?}");
        unconfirmed.agent.node.run_ok(["mirrorctl", "revert"]);
        unconfirmed.agent.wait_for("held");
    }
    unconfirmed.apply("3s");
    unconfirmed.agent.node.run_ok(["mirrorctl", "confirm", &unconfirmed.number.to_string()]);
    unconfirmed.agent.node.reboot();
    unconfirmed.agent.wait_until("still confirmed", |status| status["pending"] == Value::Null);
    unconfirmed.is_served_by(&unconfirmed.other);
}
