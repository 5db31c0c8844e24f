//! One daemon through many changes, and one that has nothing to do: what it holds stays the same, and it raises no false alarm.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{SEED, is_whole};
use crate::{
    harness::{node::NodeOptions, process::eventually, rootfs::Generation},
    stand::{Agent, MIRROR, Stand},
};

/// Lives of the daemon; between two of them it is killed in the middle of a change.
const LIVES: usize = 4;
/// What a life may take more at its end than after its first changes.
const MORE_MEMORY: u64 = 1 << 20;
/// `[state] keep_generations` by default, with record, lock, and the directory of kept files.
const MOST_FILES: usize = 20 + 4;

fn spec(number: usize) -> String {
    let hosts = ["up.lab", "other.lab", "third.lab"].get(..=number % 3).unwrap().join(", ");
    format!("registryMirrors:\n  - endpoint: http://192.0.2.{}:5000\n    hosts: [{hosts}]\n# {number}\n", 10 + number % 200)
}

/// Open descriptors and resident memory in bytes, the least of some looks: a caller may be connected during one.
fn held(agent: &Agent) -> (usize, u64) {
    let looks = (0..10).map(|_| {
        std::thread::sleep(Duration::from_millis(100));
        held_now(agent)
    });
    looks.min().unwrap()
}

fn held_now(agent: &Agent) -> (usize, u64) {
    let process = agent.node.path(format!("/proc/{}", agent.node.main_pid("mirrorlet").unwrap()));
    let status = fs::read_to_string(process.join("status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: u64 = resident.split_whitespace().next().unwrap().parse().unwrap();
    (fs::read_dir(process.join("fd")).unwrap().count(), kilobytes * 1024)
}

fn random(number: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (*SEED, "lives", number).hash(&mut hasher);
    hasher.finish()
}

#[test]
fn many_changes_leave_the_daemon_as_it_was() {
    let changes = if is_whole() { 2_000 } else { 200 };
    println!("lives: MIRRORLET_SEED={}", *SEED);
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    agent.put_in_effect(&spec(0));
    let starts = agent.starts();
    let in_a_life = changes / LIVES;
    for life in 0..LIVES {
        let mut early = None;
        for change in 1..=in_a_life {
            agent.put_in_effect(&spec(life * in_a_life + change));
            if change == in_a_life / 5 {
                early = Some(held(&agent));
            }
        }
        let (early, late) = (early.unwrap(), held(&agent));
        println!(
            "life {life}: {} descriptors, {} KiB after {} changes; {} and {} KiB after {in_a_life}",
            early.0,
            early.1 >> 10,
            in_a_life / 5,
            late.0,
            late.1 >> 10
        );
        assert_eq!(late.0, early.0, "life {life}: descriptors");
        assert!(late.1 <= early.1 + MORE_MEMORY, "life {life}: {} KiB more", (late.1 - early.1) >> 10);
        let files = agent.node.run_ok(["ls", "/var/lib/mirrorlet"]).lines().count();
        assert!(files <= MOST_FILES, "life {life}: {files} files of state");
        agent.write_spec(&spec(changes + life));
        std::thread::sleep(Duration::from_millis(100 + random(life) % 100));
        agent.node.run_ok(["systemctl", "kill", "--signal=KILL", "mirrorlet"]);
        eventually("the next life", Duration::from_secs(20), || agent.node.run(["mirrorctl", "status"]).code.is_some_and(|code| code < 2));
        agent.wait_for("in-effect");
    }
    assert_eq!(agent.starts(), starts, "no restart of containerd");
}

#[test]
fn in_quiet_times_nothing_happens() {
    let time = Duration::from_secs(if is_whole() { 600 } else { 60 });
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V2));
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"));
    let seen = || {
        let mut status = agent.status();
        status["observed_at"] = 0.into();
        (status, agent.containerd_tree(), agent.node.run_ok(["mirrorctl", "history"]), agent.node.journal("mirrorlet"), agent.starts())
    };
    let before = seen();
    std::thread::sleep(time);
    assert_eq!(seen(), before, "something happened within {time:?}");
    stand.mirror_serves(&agent);
}
