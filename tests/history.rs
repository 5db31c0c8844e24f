//! Past changes: going back, and keeping a change only when somebody confirms it.

use std::time::Duration;

use serde_json::Value;

use crate::{
    harness::{node::NodeOptions, process::holds_within, registry::Registry, rootfs::Generation},
    on_each_generation,
    stand::{Agent, CONFIG, MIRROR, SPEC, Stand, WHOLE_PULL, pull_and_see},
};

/// Where a second mirror listens.
const OTHER: &str = "192.0.2.11:5000";
/// What going back may take on top of the time that was given, as promised.
const SLACK: Duration = Duration::from_secs(2);

fn spec(endpoint: &str) -> String {
    format!("registryMirrors:\n  - endpoint: http://{endpoint}\n    hosts: [up.lab]\n")
}

fn history(agent: &Agent) -> Vec<Value> {
    serde_json::from_str(&agent.node.run_ok(["mirrorctl", "history", "-o", "json"])).unwrap()
}

fn is_served_by(agent: &Agent, stand: &Stand, mirror: &Registry) {
    let (served, upstream) = pull_and_see(agent, "up.lab/lib/app:1", mirror, &stand.upstream);
    assert_eq!(served, WHOLE_PULL, "{}", mirror.log());
    assert!(upstream.is_nothing(), "{}", stand.upstream.log());
}

fn going_back_and_forth(generation: Generation) {
    let stand = Stand::new();
    let other = stand.another_mirror(OTHER);
    let mut agent = stand.boot(NodeOptions::new(generation));
    let config = agent.node.read(CONFIG);
    agent.put_in_effect(&spec(MIRROR));
    agent.put_in_effect(&spec(OTHER));
    let starts = agent.starts();
    agent.node.run_ok(["mirrorctl", "revert"]);
    assert_eq!(agent.starts(), starts, "another endpoint costs no restart");
    let status = agent.wait_for("held");
    assert_eq!((status["effective_generation"].as_u64(), status["hold"]["cause"].as_str()), (Some(3), Some("revert")));
    is_served_by(&agent, &stand, &stand.mirror);
    assert_eq!(agent.node.read_text(SPEC), spec(OTHER), "the spec is the operator's");

    // What is held is looked after, through a restart of the daemon and of the node.
    let hosts_toml = "/etc/containerd/certs.d/up.lab/hosts.toml";
    let before = agent.node.read_text(hosts_toml);
    agent.node.write_atomic(hosts_toml, "server = \"https://elsewhere.lab\"\n");
    assert!(holds_within(Duration::from_secs(10), || agent.node.read_text(hosts_toml) == before), "drift is repaired");
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("held");
    agent.node.reboot();
    agent.node.wait_cri(Duration::from_secs(30));
    agent.wait_for("held");
    is_served_by(&agent, &stand, &stand.mirror);

    let past = history(&agent);
    let numbers: Vec<u64> = past.iter().map(|one| one["generation"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 3, 2, 1], "{past:#?}");
    assert_eq!((past[1]["restores"].as_u64(), past[0]["who"].as_str()), (Some(1), Some("drift")));
    let shown = agent.node.run_ok(["mirrorctl", "show", "2"]);
    assert!(shown.contains(&format!("+[host.\"http://{OTHER}\"]")), "{shown}");

    agent.node.run_ok(["mirrorctl", "resume"]);
    agent.wait_for("in-effect");
    is_served_by(&agent, &stand, &other);
    agent.node.run_ok(["systemctl", "stop", "mirrorlet"]);
    agent.node.run_ok(["mirrorlet", "revert", "1"]);
    is_served_by(&agent, &stand, &stand.mirror);
    agent.node.run_ok(["systemctl", "start", "mirrorlet"]);
    agent.node.run_ok(["mirrorctl", "revert", "0"]);
    assert_eq!(agent.node.read(CONFIG), config);
    assert_eq!(agent.status()["effective_generation"], 0);
    let unknown = agent.node.run(["mirrorctl", "revert", "99"]);
    assert!(unknown.code == Some(5) && unknown.stderr.contains("mirrorctl history"), "{unknown:?}");
}

on_each_generation!(going_back_and_forth);

#[test]
fn history_is_bounded_and_old_changes_stay_usable() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V2));
    let settings = "[restart]\nsettle_for = \"100ms\"\nquiet_for = \"0s\"\n[state]\nkeep_generations = 3\n";
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", settings);
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    for number in 0..7 {
        agent.put_in_effect(&format!("{}    dialTimeout: {number}0s\n", spec(MIRROR)).replace(" 00s", " 5s"));
    }
    let numbers: Vec<u64> = history(&agent).iter().map(|one| one["generation"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [7, 6, 5]);
    let objects = || agent.node.run_ok(["ls", "/var/lib/mirrorlet/objects"]).lines().count();
    assert!(objects() <= 4 + 1, "three specs, the spec in effect and the original config: {}", objects());
    agent.node.run_ok(["mirrorctl", "revert", "5"]);
    let forgotten = agent.node.run(["mirrorctl", "revert", "2"]);
    assert!(forgotten.code == Some(5) && forgotten.stderr.contains("6 to 8 are remembered"), "{forgotten:?}");
}

/// A stand whose spec was applied with `--confirm-within`, on top of one that is in effect.
struct Unconfirmed {
    stand: Stand,
    other: Registry,
    agent: Agent,
    number: u64,
}

impl Unconfirmed {
    fn within(within: &str) -> Self {
        let stand = Stand::new();
        let other = stand.another_mirror(OTHER);
        let agent = stand.boot(NodeOptions::new(Generation::V17));
        agent.put_in_effect(&spec(MIRROR));
        agent.node.write("/root/spec.yaml", spec(OTHER));
        let mut unconfirmed = Self { stand, other, agent, number: 0 };
        unconfirmed.number = unconfirmed.apply(within);
        unconfirmed
    }

    fn apply(&self, within: &str) -> u64 {
        let answer = self.agent.node.run_ok(["mirrorctl", "-o", "json", "apply", "/root/spec.yaml", "--confirm-within", within]);
        let answer: Value = serde_json::from_str(&answer).unwrap();
        answer["generation"].as_u64().unwrap()
    }

    fn names(&self, endpoint: &str) -> bool {
        self.agent.node.read_text("/etc/containerd/certs.d/up.lab/hosts.toml").contains(endpoint)
    }

    /// What was in effect before is there again, not before `left` is over and not much later.
    fn is_gone_back_from_within(&self, left: Duration, when: &str) {
        assert!(self.names(OTHER), "{when}: too early");
        assert!(holds_within(left + SLACK, || self.names(MIRROR)), "{when}: too late\n{}", self.agent.node.full_journal());
    }

    fn is_held(&self) {
        let status = self.agent.wait_for("held");
        assert_eq!(status["hold"]["cause"], "expiry");
        assert_eq!(status["pending"], Value::Null);
        is_served_by(&self.agent, &self.stand, &self.stand.mirror);
    }
}

const SHORT: Duration = Duration::from_secs(3);

#[test]
fn what_nobody_confirms_is_gone_back_from() {
    let unconfirmed = Unconfirmed::within("3s");
    let status = unconfirmed.agent.status();
    assert_eq!(
        (status["condition"].as_str(), status["pending"]["generation"].as_u64()),
        (Some("pending-confirm"), Some(unconfirmed.number))
    );
    is_served_by(&unconfirmed.agent, &unconfirmed.stand, &unconfirmed.other);
    unconfirmed.is_gone_back_from_within(SHORT, "the caller is gone");
    unconfirmed.is_held();
}

#[test]
fn a_dead_daemon_does_not_keep_it() {
    let unconfirmed = Unconfirmed::within("3s");
    let node = &unconfirmed.agent.node;
    node.run_ok(["systemctl", "mask", "--now", "--signal=KILL", "mirrorlet"]);
    node.run(["systemctl", "kill", "--signal=KILL", "mirrorlet"]);
    unconfirmed.is_gone_back_from_within(SHORT, "the daemon is killed and masked");
    node.run_ok(["systemctl", "unmask", "mirrorlet"]);
    node.run_ok(["systemctl", "start", "mirrorlet"]);
    unconfirmed.is_held();
}

#[test]
fn a_restarted_daemon_goes_on_waiting() {
    let unconfirmed = Unconfirmed::within("4s");
    unconfirmed.agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    assert_eq!(unconfirmed.agent.wait_for("pending-confirm")["pending"]["generation"].as_u64(), Some(unconfirmed.number));
    unconfirmed.is_gone_back_from_within(Duration::from_secs(4), "the daemon was restarted");
    unconfirmed.is_held();
}

#[test]
fn a_reboot_before_the_confirmation_goes_back_before_containerd_starts() {
    let mut unconfirmed = Unconfirmed::within("1h");
    unconfirmed.agent.node.run_ok(["systemctl", "disable", "mirrorlet"]);
    unconfirmed.agent.node.run_ok(["systemctl", "enable", "mirrorlet-recover"]);
    unconfirmed.agent.node.reboot();
    unconfirmed.agent.node.wait_cri(Duration::from_secs(30));
    assert!(unconfirmed.names(MIRROR), "without the daemon\n{}", unconfirmed.agent.node.full_journal());
    unconfirmed.agent.node.run_ok(["systemctl", "start", "mirrorlet"]);
    unconfirmed.is_held();
}

#[test]
fn containerd_down_at_the_deadline_changes_nothing() {
    let unconfirmed = Unconfirmed::within("3s");
    let node = &unconfirmed.agent.node;
    node.run_ok(["systemctl", "stop", "containerd"]);
    unconfirmed.is_gone_back_from_within(SHORT, "containerd is down");
    node.run_ok(["systemctl", "start", "containerd"]);
    unconfirmed.is_held();
}

#[test]
fn nothing_but_its_own_confirmation_disarms_it() {
    let unconfirmed = Unconfirmed::within("12s");
    let node = &unconfirmed.agent.node;
    let wrong = node.run(["mirrorctl", "confirm", "1"]);
    assert!(wrong.code == Some(5) && wrong.stderr.contains(&format!("mirrorctl confirm {}", unconfirmed.number)), "{wrong:?}");
    let second = node.run(["mirrorctl", "apply", "/root/spec.yaml", "--confirm-within", "1h"]);
    assert!(second.code == Some(5) && second.stderr.contains("waits for its confirmation"), "{second:?}");
    node.run(["mirrorctl", "plan", "/root/spec.yaml"]);
    node.run(["mirrorctl", "disable", "--dry-run"]);
    assert_eq!(node.run(["mirrorctl", "resume"]).code, Some(5));
    unconfirmed.agent.write_spec("registryMirrors: [\n");
    unconfirmed.agent.write_spec(&(spec(OTHER) + "# an edit waits\n"));
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(unconfirmed.agent.status()["condition"], "pending-confirm");
    assert!(holds_within(Duration::from_secs(12) + SLACK, || unconfirmed.names(MIRROR)), "it was disarmed");
}

#[test]
fn what_is_confirmed_stays() {
    let mut unconfirmed = Unconfirmed::within("3s");
    let number = unconfirmed.number.to_string();
    unconfirmed.agent.node.run_ok(["mirrorctl", "confirm", &number]);
    unconfirmed.agent.wait_for("in-effect");
    std::thread::sleep(SHORT + SLACK);
    assert!(unconfirmed.names(OTHER));
    unconfirmed.agent.node.reboot();
    unconfirmed.agent.node.wait_cri(Duration::from_secs(30));
    assert_eq!(unconfirmed.agent.wait_for("in-effect")["pending"], Value::Null);
    is_served_by(&unconfirmed.agent, &unconfirmed.stand, &unconfirmed.other);
    let none = unconfirmed.agent.node.run(["mirrorctl", "confirm", &number]);
    assert!(none.code == Some(5) && none.stderr.contains("no generation waits"), "{none:?}");
}
