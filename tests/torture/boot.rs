//! The plug is pulled in the middle of a change: at the next boot every file is from one side before containerd opens the first of them.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use super::{SEED, is_whole};
use crate::{
    harness::{node::NodeOptions, rootfs::Generation},
    stand::{Agent, CONFIG, MIRROR, Stand},
};

const JOURNAL: &str = "/var/lib/mirrorlet/journal";
/// A change begins after the tenth of a second in which an edit settles, and ends when it has settled itself.
const MOMENTS_MS: std::ops::Range<u64> = 100..1_600;

fn moment(number: usize) -> Duration {
    let mut hasher = DefaultHasher::new();
    (*SEED, "boot", number).hash(&mut hasher);
    Duration::from_millis(MOMENTS_MS.start + hasher.finish() % (MOMENTS_MS.end - MOMENTS_MS.start))
}

/// In turn: switched on, another mirror, switched off.
fn spec(number: usize) -> String {
    match number % 3 {
        0 => format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n# {number}\n"),
        1 => format!("registryMirrors:\n  - endpoint: http://192.0.2.11:5000\n    hosts: [up.lab, other.lab]\n# {number}\n"),
        _ => format!("registryMirrors: [] # {number}\n"),
    }
}

/// Everything or nothing: the config names our directory if and only if a mirror is in it, and all hosts have the same one.
fn is_from_one_side(agent: &Agent) -> bool {
    let names_ours = agent.node.read_text(CONFIG).contains("certs.d");
    let hosts = agent.node.run(["sh", "-c", "cat /etc/containerd/certs.d/*/hosts.toml"]).stdout;
    let mirrors = [MIRROR, "192.0.2.11:5000"].map(|mirror| hosts.contains(mirror));
    names_ours == (mirrors[0] || mirrors[1]) && !(mirrors[0] && mirrors[1])
}

/// So many plugs are pulled of one node: each may cost it a restart, and sixty in an hour are allowed.
const PLUGS_OF_A_NODE: usize = 50;

fn node(stand: &Stand) -> Agent {
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    agent.node.write(
        "/etc/mirrorlet/mirrorlet.toml",
        "[restart]\nsettle_for = \"1s\"\nquiet_for = \"0s\"\ntrial_boot = false\nmax_per_hour = 60\n",
    );
    agent.node.run_ok(["systemctl", "disable", "mirrorlet"]);
    agent.node.run_ok(["systemctl", "enable", "mirrorlet-recover"]);
    agent
}

/// Pulls one plug and looks at the next boot. Returns whether it was pulled in the middle of a change.
fn pull_the_plug(agent: &mut Agent, number: usize) -> bool {
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.write_spec(&spec(number));
    std::thread::sleep(moment(number));
    agent.node.power_off();
    let is_in_the_middle = agent.node.exists(JOURNAL);
    agent.node.power_on();
    agent.node.wait_cri(Duration::from_secs(30));
    let when = format!("boot {number}, after {:?}", moment(number));
    assert_eq!(agent.starts(), 1, "{when}: containerd's first start was good");
    let (recovered, started) = (
        agent.node.property("mirrorlet-recover", "ExecMainExitTimestampMonotonic"),
        agent.node.property("containerd", "ExecMainStartTimestampMonotonic"),
    );
    let [recovered, started] = [recovered, started].map(|micros| micros.parse::<u64>().unwrap());
    assert!(0 < recovered && recovered <= started, "{when}: recovery ended at {recovered} us, containerd was started at {started} us");
    assert_eq!(agent.node.property("mirrorlet-recover", "Result"), "success", "{when}");
    let tree = agent.containerd_tree();
    assert!(!agent.node.exists(JOURNAL) && !tree.contains(".mirrorlet."), "{when}:\n{tree}");
    assert!(is_from_one_side(agent), "{when}:\n{tree}\n{}", agent.node.read_text(CONFIG));
    is_in_the_middle
}

#[test]
fn a_plug_pulled_in_the_middle_is_mended_before_containerd_starts() {
    let wanted = if is_whole() { 50 } else { 5 };
    println!("boot: MIRRORLET_SEED={}", *SEED);
    let stand = Stand::new();
    let (mut damaged, mut boots) = (0, 0);
    while damaged < wanted {
        let mut agent = node(&stand);
        for _ in 0..PLUGS_OF_A_NODE {
            assert!(boots < 3 * wanted + 30, "only {damaged} of {boots} plugs were pulled in the middle");
            damaged += usize::from(pull_the_plug(&mut agent, boots));
            boots += 1;
            if damaged == wanted {
                break;
            }
        }
        agent.node.run_ok(["systemctl", "start", "mirrorlet"]);
        agent.put_in_effect(&spec(0));
        stand.mirror_serves(&agent);
    }
    println!("{damaged} of {boots} plugs were pulled in the middle of a change");
}
