//! Past changes: showing them and going back to them.

use std::time::Duration;

use serde_json::Value;

use crate::{
    harness::{node::NodeOptions, process::holds_within, registry::Registry, rootfs::Generation},
    on_each_generation,
    stand::{Agent, CONFIG, MIRROR, SPEC, Stand, WHOLE_PULL, pull_and_see},
};

/// Where a second mirror listens.
const OTHER: &str = "192.0.2.11:5000";

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
