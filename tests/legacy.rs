//! `layout = "legacy"`: mirrors in config.toml. They are used on every release that honours them, each change costs one restart, and the way
//! back and the way to the other layout are exact.

use serde_json::Value;

use crate::{
    harness::{
        ca::Ca,
        node::NodeOptions,
        registry::RegistryOptions,
        rootfs::{Generation, containerd_version},
    },
    on_each_generation,
    stand::{Agent, CONFIG, MIRROR, SPEC, Stand, WHOLE_PULL, docker_config, pull_and_see},
};

const SECOND: &str = "192.0.2.11:5000";
const SETTINGS: &str = "/etc/mirrorlet/mirrorlet.toml";

fn spec(endpoint: &str, hosts: &str) -> String {
    format!("registryMirrors:\n  - endpoint: http://{endpoint}\n    hosts: [{hosts}]\n")
}

/// Restarts the daemon with this layout.
fn set_layout(agent: &Agent, layout: &str) {
    let restart = "[restart]\nsettle_for = \"500ms\"\nquiet_for = \"50ms\"\nmax_per_hour = 60\n";
    agent.node.write(SETTINGS, format!("[containerd]\nlayout = \"{layout}\"\n{restart}"));
    agent.node.run_ok(["systemctl", "reset-failed", "mirrorlet"]);
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
}

fn legacy_agent(stand: &Stand, options: NodeOptions) -> Agent {
    let agent = stand.boot(options);
    set_layout(&agent, "legacy");
    agent
}

fn is_1_x(generation: Generation) -> bool {
    containerd_version(generation).starts_with("1.")
}

/// By the upstream's name, without being listed, and by the mirror's own: the mirror serves all of it.
fn all_names_are_served(stand: &Stand, agent: &Agent) {
    stand.mirror_serves(agent);
    assert_eq!(stand.pull(agent, "gcr.io").0, WHOLE_PULL, "gcr.io is mirrored without being listed: {}", stand.mirror.log());
    let (mirror, _) = pull_and_see(agent, &format!("{MIRROR}/lib/app:1"), &stand.mirror, &stand.upstream);
    assert_eq!(mirror, WHOLE_PULL, "by its own name: {}", stand.mirror.log());
}

fn there_and_back(generation: Generation) {
    let stand = Stand::new();
    let agent = legacy_agent(&stand, NodeOptions::new(generation));
    let (tree, config, starts) = (agent.containerd_tree(), agent.node.read_text(CONFIG), agent.starts());
    let status = agent.put_in_effect(&spec(MIRROR, "up.lab"));
    all_names_are_served(&stand, &agent);
    assert_eq!(agent.starts(), starts + 1, "one restart");
    assert!(!agent.node.exists("/etc/containerd/certs.d"), "no host directory");
    let proof = status["proof"].as_str().expect("a proof");
    let expected = if is_1_x(generation) { "among the settings it runs with" } else { "does not show what it runs with" };
    assert!(proof.contains(expected), "{proof}");

    agent.node.write("/root/next.yaml", spec(SECOND, "up.lab, other.lab"));
    let planned = agent.node.run(["mirrorctl", "plan", "/root/next.yaml"]).stdout;
    assert!(planned.contains("restart: yes, because containerd reads the registry settings"), "{planned}");
    let view: Value = serde_json::from_str(&agent.node.run(["mirrorctl", "-o", "json", "plan", "/root/next.yaml"]).stdout).expect("JSON");
    assert_eq!(view["plan"]["restart"]["cause"], "registry-settings-change", "{view:#}");
    let second = stand.another_mirror(SECOND);
    agent.put_in_effect(&spec(SECOND, "up.lab, other.lab"));
    for host in ["up.lab", "other.lab"] {
        let served = pull_and_see(&agent, &format!("{host}/lib/app:1"), &second, &stand.upstream).0;
        assert_eq!(served, WHOLE_PULL, "{host}: {}", second.log());
    }
    assert_eq!(agent.starts(), starts + 2, "a change of mirrors costs one restart");
    let pulled = agent.node.run_ok(["mirrorctl", "pull", "up.lab/lib/app:1"]);
    assert!(pulled.contains(SECOND), "{pulled}");

    agent.disable();
    assert_eq!((agent.containerd_tree(), agent.node.read_text(CONFIG)), (tree, config));
    assert_eq!(agent.starts(), starts + 3);
}

/// A login goes to config.toml, which is its owner's only then, and gets its mode back.
fn login(generation: Generation) {
    let stand = Stand::with_mirror(|lab, options| options.tls(lab.ca().issue(&["192.0.2.10"])).basic("me", "pa55 w0rd"));
    let options = NodeOptions::new(generation).file("/root/config.json", docker_config(MIRROR, "me", "pa55 w0rd"), 0o600);
    let agent = legacy_agent(&stand, options);
    agent.node.run_ok(["chown", "daemon:adm", CONFIG]);
    agent.node.run_ok(["chmod", "0640", CONFIG]);
    let tree = agent.containerd_tree();
    agent.put_in_effect(&format!(
        "registryMirrors:\n  - endpoint: https://{MIRROR}\n    pullCredentialConfigPath: /root/config.json\n    hosts: [up.lab]\n"
    ));
    all_names_are_served(&stand, &agent);
    assert!(stand.mirror.requests().iter().filter(|request| request.is_served()).all(|request| request.logged_in));
    assert_eq!(agent.node.stat(CONFIG).mode & 0o777, 0o600);
    agent.node.write("/root/next.yaml", "registryMirrors: []\n");
    let planned = agent.node.run(["mirrorctl", "plan", "/root/next.yaml"]);
    assert!(planned.stdout.contains("(secret)") && !planned.stdout.contains("pa55"), "{planned:?}");
    assert!(!agent.node.journal("mirrorlet").contains("pa55"));
    agent.disable();
    assert_eq!(agent.containerd_tree(), tree);
}

/// 1.x learns a private CA from config.toml; 2.x ignores it there, so the plan is refused and nothing is touched.
fn private_ca(generation: Generation) {
    let (first, second) = (Ca::create(), Ca::create());
    let stand = Stand::with_mirror(|_, options| options.tls(first.issue(&["192.0.2.10"])));
    let agent = legacy_agent(&stand, NodeOptions::new(generation).file("/root/ca.crt", first.certificate(), 0o644));
    let (tree, starts) = (agent.containerd_tree(), agent.starts());
    let spec = format!("registryMirrors:\n  - endpoint: https://{MIRROR}\n    caCertPath: /root/ca.crt\n    hosts: [up.lab]\n");
    if !is_1_x(generation) {
        agent.write_spec(&spec);
        let status = agent.wait_for("refused");
        assert_eq!(status["problems"][0]["code"], "legacy.tls-ignored", "{status:#}");
        let (problem, next) = (status["problems"][0]["message"].to_string(), status["next_step"].to_string());
        assert!(problem.contains("2.1.9") && next.contains("hosts"), "{status:#}");
        assert_eq!((agent.containerd_tree(), agent.starts()), (tree, starts));
        return;
    }
    agent.put_in_effect(&spec);
    all_names_are_served(&stand, &agent);
    assert_eq!(agent.starts(), starts + 1);
    agent.node.run_ok(["sh", "-c", "rm /etc/containerd/certs.d/_mirrorlet/ca-*.pem"]);
    agent.wait_until("repaired", |status| status["last_change"]["who"] == "drift" && status["condition"] == "in-effect");
    stand.mirror_serves(&agent);
    assert_eq!(agent.starts(), starts + 1, "a CA file that somebody deleted costs no restart");
    rotated(&stand, &agent, &second);
    agent.disable();
    assert_eq!(agent.containerd_tree(), tree);
}

/// Another CA: another file, another name in config.toml, one restart.
fn rotated(stand: &Stand, agent: &Agent, ca: &Ca) {
    let starts = agent.starts();
    let address = "192.0.2.13:5443";
    let options = RegistryOptions::new(address).tls(ca.issue(&["192.0.2.13"])).storage(stand.mirror.storage());
    let mirror = stand.lab.registry(options);
    let bundle = format!("{}{}", agent.node.read_text("/root/ca.crt"), ca.certificate());
    let before = agent.status()["wanted_spec_digest"].clone();
    agent.node.write_atomic("/root/ca.crt", bundle);
    agent.wait_until("the new CA is taken up", |status| status["condition"] == "in-effect" && status["wanted_spec_digest"] != before);
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: https://{address}\n    caCertPath: /root/ca.crt\n    hosts: [up.lab]\n"));
    assert_eq!(pull_and_see(agent, "up.lab/lib/app:1", &mirror, &stand.upstream).0, WHOLE_PULL, "{}", mirror.log());
    assert_eq!(agent.starts(), starts + 2);
}

/// What others have in the same tables goes on, in their form; what they change meanwhile stays theirs.
fn beside_others(generation: Generation) {
    let stand = Stand::new();
    let second = stand.another_mirror(SECOND);
    let cri = "plugins.\"io.containerd.grpc.v1.cri\"";
    let config = format!(
        "version = 2\n[{cri}.registry.mirrors]\n  # by hand\n  [{cri}.registry.mirrors.\"old.lab\"]\n    endpoint = [ \"http://{SECOND}\" ]   # theirs\n  [{cri}.registry.mirrors.\"up.lab\"]\n    endpoint = [\"http://{SECOND}\"]\n[debug]\n  level = \"info\"\n"
    );
    let agent = legacy_agent(&stand, NodeOptions::new(generation).config_toml(config.clone()));
    let theirs_serves = |agent: &Agent| {
        assert_eq!(pull_and_see(agent, "old.lab/lib/app:1", &second, &stand.upstream).0, WHOLE_PULL, "{}", second.log());
    };
    theirs_serves(&agent);
    let status = agent.put_in_effect(&spec(MIRROR, "up.lab"));
    assert_eq!(status["hosts"][1]["carried_endpoints"][0], format!("http://{SECOND}"), "{status:#}");
    all_names_are_served(&stand, &agent);
    theirs_serves(&agent);
    assert!(agent.node.read_text(CONFIG).contains(&format!("endpoint = [\"http://{MIRROR}\", \"http://{SECOND}\"]")));
    after_drift(&stand, &agent);
    agent.disable();
    assert_eq!(agent.node.read_text(CONFIG), config.replace("# by hand", "# by another hand"));
    theirs_serves(&agent);
}

/// Somebody takes our endpoint out of a list, and edits a line of their own: the one is mended, the other stays.
fn after_drift(stand: &Stand, agent: &Agent) {
    let text = agent.node.read_text(CONFIG);
    let edited = text.replace(&format!("\"http://{MIRROR}\", \"http://{SECOND}\""), &format!("\"http://{SECOND}\""));
    agent.node.write_atomic(CONFIG, edited.replace("# by hand", "# by another hand"));
    agent.wait_until("repaired", |status| status["last_change"]["who"] == "drift" && status["condition"] == "in-effect");
    let text = agent.node.read_text(CONFIG);
    assert!(text.contains(&format!("\"http://{MIRROR}\", \"http://{SECOND}\"")) && text.contains("# by another hand"), "{text}");
    all_names_are_served(stand, agent);
}

/// Each switch is one change with one restart, whichever was first.
fn switched(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let tree = agent.containerd_tree();
    agent.put_in_effect(&spec(MIRROR, "up.lab"));
    let mut starts = agent.starts();
    for (layout, config_path) in [("legacy", false), ("hosts", true), ("legacy", false)] {
        let generation = agent.status()["effective_generation"].as_u64();
        set_layout(&agent, layout);
        agent.wait_until(layout, |status| {
            status["condition"] == "in-effect" && status["effective_generation"].as_u64() == generation.map(|number| number + 1)
        });
        starts += 1;
        assert_eq!(agent.starts(), starts, "{layout}: one restart");
        assert_eq!(agent.status()["last_change"]["who"], "settings");
        let text = agent.node.read_text(CONFIG);
        assert_eq!((text.contains("config_path"), text.contains("registry.mirrors")), (config_path, !config_path), "{text}");
        all_names_are_served(&stand, &agent);
    }
    agent.disable();
    assert_eq!(agent.containerd_tree(), tree);
}

/// Where nobody may be asked for a restart, the running containerd goes on as before until its owner restarts it.
#[test]
fn a_switch_waits_for_the_owners_restart() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    agent.put_in_effect(&spec(MIRROR, "up.lab"));
    let starts = agent.starts();
    agent.node.write(SETTINGS, "[containerd]\nlayout = \"legacy\"\n[restart]\ndriver = \"never\"\n");
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("awaiting-restart");
    all_names_are_served(&stand, &agent);
    assert_eq!(agent.starts(), starts);
    agent.node.run_ok(["systemctl", "restart", "containerd"]);
    agent.wait_for("in-effect");
    assert!(agent.node.read_text(CONFIG).contains("registry.mirrors"));
    all_names_are_served(&stand, &agent);
    agent.write_spec(&spec(MIRROR, "up.lab, other.lab"));
    agent.wait_for("awaiting-restart");
    assert!(!agent.node.exists("/etc/containerd/certs.d/up.lab"), "host directories went with the next change");
}

/// A containerd that others restart, and a daemon that forgot nothing, are in effect again without a change.
fn restarted_by_others(generation: Generation) {
    let stand = Stand::new();
    let agent = legacy_agent(&stand, NodeOptions::new(generation));
    agent.put_in_effect(&spec(MIRROR, "up.lab"));
    let (generation, pid) = (agent.status()["effective_generation"].clone(), agent.status()["containerd"]["pid"].clone());
    agent.node.run_ok(["systemctl", "restart", "containerd"]);
    let status = agent.wait_until("proven again", |status| status["condition"] == "in-effect" && status["containerd"]["pid"] != pid);
    assert_eq!(status["effective_generation"], generation);
    let starts = agent.starts();
    set_layout(&agent, "legacy");
    agent.wait_for("in-effect");
    assert_eq!((agent.starts(), agent.status()["effective_generation"].clone()), (starts, generation));
    agent.node.remove(SPEC);
}

on_each_generation!(there_and_back, login, private_ca, beside_others, switched, restarted_by_others);
