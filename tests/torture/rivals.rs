//! Two callers with the same etag, a repair and an admin's edit at the same moment: it is as if they had come one after the other, and who came
//! too late is told so.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{SEED, is_whole};
use crate::{
    harness::{node::NodeOptions, process::holds_within, rootfs::Generation},
    stand::{Agent, CONFIG, Stand},
};

const HOSTS: [&str; 2] = ["up.lab", "gcr.io"];
/// Somebody else's change came in between; see README, exit codes.
const TOO_LATE: i32 = 7;
/// Callers and admin begin within so many milliseconds.
const SPREAD_MS: u64 = 80;

/// What the admin does in a round; the first three change what is ours.
const EDITS: [&str; 4] = [
    "echo '# theirs' >> /etc/containerd/certs.d/up.lab/hosts.toml",
    "rm -f /etc/containerd/certs.d/gcr.io/hosts.toml",
    "chmod 0600 /etc/containerd/certs.d/up.lab/hosts.toml",
    "cp -p /etc/containerd/config.toml /root/draft && echo '# a note' >> /root/draft && mv /root/draft /etc/containerd/config.toml",
];

fn delay(round: usize, who: usize) -> Duration {
    let mut hasher = DefaultHasher::new();
    (*SEED, "rivals", round, who).hash(&mut hasher);
    Duration::from_millis(hasher.finish() % SPREAD_MS)
}

fn endpoint(round: usize, who: usize) -> String {
    format!("http://192.0.2.{}:5000", 10 + (2 * round + who) % 200)
}

fn apply(agent: &Agent, round: usize, who: usize, etag: &str) -> Option<i32> {
    std::thread::sleep(delay(round, who));
    let output = agent.node.run(["mirrorctl", "apply", &format!("/root/{who}.yaml"), "--etag", etag]);
    output.code
}

/// The mirror of each host, as containerd would find it.
fn mirrors(agent: &Agent) -> Vec<String> {
    let text = |host: &&str| agent.node.run(["cat", &format!("/etc/containerd/certs.d/{host}/hosts.toml")]).stdout;
    let mirror = |text: String| text.split("[host.\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default().to_owned();
    HOSTS.iter().map(|host| mirror(text(host))).collect()
}

#[test]
fn who_comes_too_late_is_told_so() {
    let rounds = if is_whole() { 1_000 } else { 100 };
    println!("rivals: MIRRORLET_SEED={}", *SEED);
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    let spec = |round, who| format!("registryMirrors:\n  - endpoint: {}\n    hosts: [up.lab]\n", endpoint(round, who));
    agent.put_in_effect(&spec(0, 0));
    let starts = agent.starts();
    let mut present = endpoint(0, 0);
    let (mut notes, mut ends) = (0, BTreeMap::new());
    for round in 1..=rounds {
        (0..2).for_each(|who| agent.node.write(format!("/root/{who}.yaml"), spec(round, who)));
        let etag = agent.status()["etag"].as_str().unwrap().to_owned();
        let edit = EDITS[round % EDITS.len()];
        notes += usize::from(edit.contains("a note"));
        let codes = std::thread::scope(|scope| {
            let callers = [0, 1].map(|who| {
                let (agent, etag) = (&agent, &etag);
                scope.spawn(move || apply(agent, round, who, etag))
            });
            std::thread::sleep(delay(round, 2));
            agent.node.run(["sh", "-c", edit]);
            callers.map(|caller| caller.join().unwrap())
        });
        *ends.entry(codes).or_insert(0) += 1;
        let when = format!("round {round}, {codes:?}, {edit}");
        assert!(codes.iter().all(|code| [Some(0), Some(TOO_LATE)].contains(code)), "{when}\n{}", agent.node.journal("mirrorlet"));
        assert!(codes != [Some(0); 2], "{when}: both were first");
        if let Some(winner) = codes.iter().position(|code| *code == Some(0)) {
            present = endpoint(round, winner);
        }
        let is_settled = || {
            let status = agent.status();
            if status["condition"] == "drifted" {
                // After eight repairs in a row that no change of the spec came between, it takes an operator to go on with the fight.
                agent.node.run(["mirrorctl", "resume"]);
            }
            status["condition"] == "in-effect" && mirrors(&agent) == [present.as_str(); 2]
        };
        assert!(
            holds_within(Duration::from_secs(20), is_settled),
            "{when}: {:?} in place of {present}\n{:#}",
            mirrors(&agent),
            agent.status()
        );
    }
    assert_eq!(agent.node.read_text(CONFIG).matches("# a note").count(), notes, "no edit of the admin's is lost");
    assert_eq!(agent.starts(), starts, "no restart");
    println!("{rounds} rounds ended as {ends:?}");
}
