//! What the daemon does beside the main job: drift, watches, orders over the API, test pulls, refusals, and life without it.

use std::time::Duration;

use crate::{
    harness::{access_log::Served, images::Image, node::NodeOptions, registry::RegistryOptions, rootfs::Generation},
    stand::{Agent, CONFIG, MIRROR, SPEC, Stand, WHOLE_PULL, docker_config, pull_and_see},
};

const HOSTS_TOML: &str = "/etc/containerd/certs.d/up.lab/hosts.toml";

fn spec(endpoint: &str) -> String {
    format!("registryMirrors:\n  - endpoint: http://{endpoint}\n    hosts: [up.lab]\n")
}

fn in_effect(generation: Generation) -> (Stand, Agent) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    agent.put_in_effect(&spec(MIRROR));
    (stand, agent)
}

fn is_eventually(what: &str, condition: impl FnMut() -> bool) {
    crate::harness::process::eventually(what, Duration::from_secs(20), condition);
}

#[test]
fn drift_is_repaired_without_a_restart() {
    let (stand, agent) = in_effect(Generation::V2);
    let (starts, hosts, config) = (agent.starts(), agent.node.read(HOSTS_TOML), agent.node.read(CONFIG));
    agent.node.write_atomic(HOSTS_TOML, "server = \"https://elsewhere.lab\"\n");
    is_eventually("an edit is undone", || agent.node.read(HOSTS_TOML) == hosts);
    // its before-image is gone, too: nothing vanishes under the hands of rm
    agent.wait_for("in-effect");
    assert_eq!(agent.starts(), starts, "nobody needs a restart for this");
    agent.node.run_ok(["rm", "-r", "/etc/containerd/certs.d/up.lab"]);
    is_eventually("a removed directory is back", || agent.node.exists(HOSTS_TOML));
    agent.node.run_ok(["chmod", "0666", HOSTS_TOML]);
    is_eventually("the mode is back", || agent.node.stat(HOSTS_TOML).mode & 0o777 == 0o644);
    agent.node.run_ok(["sed", "-i", "s|/etc/containerd/certs.d|/nowhere|", CONFIG]);
    is_eventually("config_path is back", || agent.node.read(CONFIG) == config);
    agent.wait_for("in-effect");
    assert_eq!(agent.starts(), starts, "containerd has never seen the other config_path");
    stand.mirror_serves(&agent);
}

#[test]
fn drift_is_only_reported_when_policy_says_so() {
    let (_stand, agent) = in_effect(Generation::V17);
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", "[restart]\nsettle_for = \"500ms\"\n[policy]\ndrift = \"report\"\n");
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("in-effect");
    agent.node.write_atomic(HOSTS_TOML, "server = \"https://elsewhere.lab\"\n");
    let status = agent.wait_for("drifted");
    assert!(status["problems"].to_string().contains(HOSTS_TOML), "{status:#}");
    assert_eq!(agent.node.read_text(HOSTS_TOML), "server = \"https://elsewhere.lab\"\n");
    agent.node.run_ok(["mirrorctl", "resume"]);
    agent.wait_for("in-effect");
}

#[test]
fn foreign_edits_of_the_config_survive_the_way_back() {
    let (_stand, agent) = in_effect(Generation::V17);
    agent.node.run_ok(["sh", "-c", &format!("printf '\\n[debug]\\n  level = \"warn\" # theirs\\n' >> {CONFIG}")]);
    std::thread::sleep(Duration::from_millis(500));
    agent.wait_for("in-effect");
    agent.disable();
    let config = agent.node.read_text(CONFIG);
    assert!(config.contains("level = \"warn\" # theirs") && !config.contains("config_path"), "{config}");
}

#[test]
fn a_config_map_mount_and_a_directory_of_specs_are_watched() {
    let stand = Stand::new();
    let second = stand.another_mirror("192.0.2.11:5000");
    let agent = stand.boot(NodeOptions::new(Generation::V2));
    let node = &agent.node;
    node.run_ok(["mkdir", "-p", "/etc/mirrorlet/specs/..1"]);
    node.write("/etc/mirrorlet/specs/..1/a.yaml", spec(MIRROR));
    node.run_ok(["ln", "-s", "..1", "/etc/mirrorlet/specs/..data"]);
    node.run_ok(["ln", "-s", "..data/a.yaml", "/etc/mirrorlet/specs/a.yaml"]);
    node.write("/etc/mirrorlet/mirrorlet.toml", "[spec]\npath = \"/etc/mirrorlet/specs\"\n[restart]\nsettle_for = \"500ms\"\n");
    node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("in-effect");
    stand.mirror_serves(&agent);

    node.run_ok(["mkdir", "/etc/mirrorlet/specs/..2"]);
    node.write("/etc/mirrorlet/specs/..2/a.yaml", spec("192.0.2.11:5000"));
    node.run_ok(["ln", "-s", "..2", "/etc/mirrorlet/specs/..data_tmp"]);
    node.run_ok(["mv", "-T", "/etc/mirrorlet/specs/..data_tmp", "/etc/mirrorlet/specs/..data"]);
    is_eventually("the swap is taken up", || node.read_text(HOSTS_TOML).contains("192.0.2.11"));
    agent.wait_for("in-effect");
    assert_eq!(pull_and_see(&agent, "up.lab/lib/app:1", &second, &stand.upstream).0, WHOLE_PULL);

    node.write("/etc/mirrorlet/specs/b.yaml", "registryMirrors:\n  - endpoint: http://192.0.2.12:5000\n    hosts: [other.lab]\n");
    is_eventually("a file that appears adds its entries", || node.exists("/etc/containerd/certs.d/other.lab/hosts.toml"));
    node.remove("/etc/mirrorlet/specs/b.yaml");
    is_eventually("a file that goes takes its entries along", || !node.exists("/etc/containerd/certs.d/other.lab"));

    node.write("/root/spec.yaml", spec(MIRROR));
    let refused = node.run(["mirrorctl", "apply", "/root/spec.yaml"]);
    assert_eq!(refused.code, Some(5), "somebody else writes this spec: {refused:?}");
    assert!(refused.stderr.contains("/etc/mirrorlet/specs"), "{refused:?}");
}

#[test]
fn an_applied_spec_brings_its_inputs_along() {
    let ca = crate::harness::ca::Ca::create();
    let stand = Stand::with_mirror(|_, options| options.tls(ca.issue(&["192.0.2.10"])).basic("me", "pa55"));
    let agent = stand.boot(NodeOptions::new(Generation::V2));
    let node = &agent.node;
    node.run_ok(["mkdir", "-p", "/root/elsewhere"]);
    node.write("/root/elsewhere/ca.crt", ca.certificate());
    node.write("/root/elsewhere/config.json", docker_config(MIRROR, "me", "pa55"));
    node.write(
        "/root/elsewhere/spec.yaml",
        format!("registryMirrors:\n  - endpoint: https://{MIRROR}\n    caCertPath: /root/elsewhere/ca.crt\n    pullCredentialConfigPath: /root/elsewhere/config.json\n    hosts: [up.lab]\n"),
    );
    let plan = node.run(["mirrorctl", "plan", "/root/elsewhere/spec.yaml"]);
    assert_eq!(plan.code, Some(1), "{plan:?}");
    assert!(plan.stdout.contains("restart: yes") && !plan.stdout.contains("pa55") && plan.stdout.contains("(secret)"), "{}", plan.stdout);
    assert!(!node.exists(SPEC), "a plan changes nothing");
    let apply = || node.run_ok(["mirrorctl", "-o", "json", "apply", "/root/elsewhere/spec.yaml", "--request-id", "one", "--wait"]);
    let first = apply();
    node.run_ok(["rm", "-r", "/root/elsewhere/ca.crt", "/root/elsewhere/config.json"]);
    node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("in-effect");
    stand.mirror_serves(&agent);
    let stored = node.run_ok(["find", "/var/lib/mirrorlet", "-perm", "/077", "-not", "-type", "d"]);
    assert!(stored.is_empty(), "readable by others: {stored}");
    let generation = agent.status()["effective_generation"].clone();
    node.write("/root/elsewhere/ca.crt", ca.certificate());
    node.write("/root/elsewhere/config.json", docker_config(MIRROR, "me", "pa55"));
    assert_eq!(apply(), first, "the same request gets the same answer");
    assert_eq!(agent.status()["effective_generation"], generation, "and has one effect");
    let stale = node.run(["mirrorctl", "apply", "/root/elsewhere/spec.yaml", "--etag", "000000000000"]);
    assert_eq!(stale.code, Some(7), "{stale:?}");
    let journal = node.journal("mirrorlet");
    assert!(!journal.contains("pa55"), "no secret in the log");
}

#[test]
fn an_apply_that_fails_leaves_the_inputs_of_the_one_in_effect() {
    let ca = crate::harness::ca::Ca::create();
    let stand = Stand::with_mirror(|_, options| options.tls(ca.issue(&["192.0.2.10"])));
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    let node = &agent.node;
    node.write("/root/ca.crt", ca.certificate());
    let text = format!("registryMirrors:\n  - endpoint: https://{MIRROR}\n    caCertPath: /root/ca.crt\n    hosts: [up.lab]\n");
    node.write("/root/spec.yaml", &text);
    node.run_ok(["mirrorctl", "apply", "/root/spec.yaml", "--wait"]);
    node.write("/root/ca.crt", crate::harness::ca::Ca::create().certificate());
    node.write("/root/spec.yaml", text + "# with another CA\n");
    let hosts_dir = "/etc/containerd/certs.d";
    let pid = node.main_pid("mirrorlet").unwrap().to_string();
    let read_only = format!("mount --bind {hosts_dir} {hosts_dir} && mount -o remount,bind,ro {hosts_dir}");
    node.run_ok(["nsenter", "--target", &pid, "--mount", "sh", "-c", &read_only]);
    let failed = node.run(["mirrorctl", "apply", "/root/spec.yaml"]);
    assert!(failed.code == Some(6) && failed.stdout.contains("Read-only file system"), "{failed:?}");
    node.remove("/root/ca.crt");
    node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.wait_for("in-effect");
    stand.mirror_serves(&agent);
}

/// Somebody edits config.toml while it is watched whether containerd stays up, and it does not: the edit stays, and what is ours can be
/// taken out of it later.
#[test]
fn an_edit_during_an_apply_that_fails_costs_nothing() {
    let stand = Stand::new();
    let legacy =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"old.lab\"]\n  endpoint = [\"http://192.0.2.10:5000\"]\n";
    let agent = stand.boot(NodeOptions::new(Generation::V17).config_toml(legacy));
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", "[restart]\nsettle_for = \"4s\"\nquiet_for = \"0s\"\n");
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.write_spec(&spec(MIRROR));
    let starts = agent.starts();
    is_eventually("it settles", || agent.starts() > starts && agent.node.journal("mirrorlet").contains("watching whether it stays so"));
    agent.node.run_ok(["sh", "-c", &format!("echo '# theirs' >> {CONFIG}")]);
    agent.node.run_ok(["systemctl", "kill", "--signal=KILL", "containerd"]);
    agent.wait_for("rolled-back");
    assert!(agent.node.read_text(CONFIG).ends_with("# theirs\n"), "the edit is gone");
    agent.node.run_ok(["mirrorctl", "disable"]);
    assert_eq!(agent.node.read_text(CONFIG), format!("{legacy}# theirs\n"));
    agent.node.wait_cri(Duration::from_secs(10));
}

/// Somebody writes a file of the spec as soon as we do: that is told, and not fought with restarts.
#[test]
fn a_first_apply_that_somebody_fights_does_not_loop() {
    let stand = Stand::new();
    let hosts_toml = "/etc/containerd/certs.d/up.lab/hosts.toml";
    let theirs = "server = \"https://theirs.lab\"\n";
    let agent = stand.boot(NodeOptions::new(Generation::V17).file(hosts_toml, theirs, 0o644).file("/root/theirs", theirs, 0o644));
    let settings = "[restart]\nsettle_for = \"100ms\"\nquiet_for = \"0s\"\n[policy]\ntake_over = [\"up.lab\"]\n";
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", settings);
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    let fight = format!("while :; do cmp -s /root/theirs {hosts_toml} || cat /root/theirs > {hosts_toml}; sleep 0.01; done");
    let _somebody = agent.node.spawn(["sh", "-c", &fight]);
    let starts = agent.starts();
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("rolled-back");
    assert!(status["problems"].to_string().contains("apply.read-back"), "{status:#}");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(agent.starts(), starts + 2, "there and back, once");
    assert_eq!(agent.status()["condition"], "rolled-back");
}

/// A node whose containerd comes back with our directory in its config, and dies three seconds later; and containerd's files on it.
fn dies_later() -> (Stand, Agent, String) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    let tree = agent.containerd_tree();
    let node = &agent.node;
    let stub = "#!/bin/sh\ncase \"$*\" in *--version*|*dump*|*trial*) exec /usr/bin/containerd.real \"$@\";; esac\ngrep -q certs.d /etc/containerd/config.toml && (sleep 3; kill -KILL $$) &\nexec /usr/bin/containerd.real \"$@\"\n";
    node.run_ok(["mv", "/usr/bin/containerd", "/usr/bin/containerd.real"]);
    node.write("/usr/bin/containerd", stub);
    node.run_ok(["chmod", "755", "/usr/bin/containerd"]);
    node.write("/etc/mirrorlet/mirrorlet.toml", "[restart]\nsettle_for = \"6s\"\nquiet_for = \"0s\"\n");
    node.run_ok(["systemctl", "restart", "mirrorlet"]);
    (stand, agent, tree)
}

#[test]
fn what_somebody_applies_is_watched_for_a_while() {
    let (_stand, agent, tree) = dies_later();
    agent.node.write("/root/spec.yaml", spec(MIRROR));
    let answer = agent.node.run(["mirrorctl", "apply", "/root/spec.yaml"]);
    assert_eq!(answer.code, Some(6), "not watched: {answer:?}");
    assert_eq!(agent.containerd_tree(), tree);
}

/// A newer spec makes no change good that was not watched to its end; it is tried in its turn.
#[test]
fn a_newer_spec_does_not_end_the_watching() {
    let (_stand, agent, tree) = dies_later();
    agent.write_spec(&spec(MIRROR));
    is_eventually("it settles", || agent.node.journal("mirrorlet").contains("watching whether it stays so"));
    agent.write_spec(&format!("{}# newer\n", spec(MIRROR)));
    let endings = || {
        let history: serde_json::Value = serde_json::from_str(&agent.node.run_ok(["mirrorctl", "-o", "json", "history"])).unwrap();
        history.as_array().unwrap().iter().map(|change| change["outcome"]["kind"].clone()).collect::<Vec<_>>()
    };
    is_eventually("both are gone back from", || endings() == ["rolled-back", "rolled-back"]);
    assert_eq!(agent.wait_for("rolled-back")["effective_generation"], 0);
    assert_eq!(agent.containerd_tree(), tree);
}

/// Whoever asked is gone in the middle, or before it even began: it is carried to its end all the same.
#[test]
fn a_caller_that_hangs_up_stops_nothing() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    let node = &agent.node;
    node.write("/etc/mirrorlet/mirrorlet.toml", "[restart]\nsettle_for = \"4s\"\nquiet_for = \"0s\"\n");
    node.run_ok(["systemctl", "restart", "mirrorlet"]);
    node.write("/root/first.yaml", spec(MIRROR));
    node.write("/root/second.yaml", spec("192.0.2.11:5000"));
    let first = node.spawn(["mirrorctl", "apply", "/root/first.yaml"]);
    is_eventually("the first settles", || node.journal("mirrorlet").contains("watching whether it stays so"));
    let second = node.spawn(["mirrorctl", "apply", "/root/second.yaml"]);
    is_eventually("the second waits", || node.run_ok(["pgrep", "-c", "mirrorctl"]).trim() == "2");
    // It has nothing to do but to send what it was given.
    std::thread::sleep(Duration::from_millis(500));
    drop((first, second));
    is_eventually("both are gone", || node.run(["pgrep", "mirrorctl"]).stdout.is_empty());
    assert!(node.exists("/var/lib/mirrorlet/journal"), "they hung up in the middle of it");
    agent.wait_until("the second is in effect", |status| status["condition"] == "in-effect" && status["effective_generation"] == 2);
    assert!(node.read_text(HOSTS_TOML).contains("192.0.2.11:5000"));
    assert_eq!(node.read_text(SPEC), spec("192.0.2.11:5000"));
    let past: Vec<serde_json::Value> = serde_json::from_str(&node.run_ok(["mirrorctl", "-o", "json", "history"])).unwrap();
    let ends: Vec<&str> = past.iter().filter_map(|past| past["outcome"]["kind"].as_str()).collect();
    assert_eq!(ends, ["changed"; 2], "{past:#?}");
}

#[test]
fn who_is_not_root_may_look_and_no_more() {
    let (_stand, agent) = in_effect(Generation::V17);
    let node = &agent.node;
    let as_member = |verb: &[&str]| {
        let words: Vec<&str> =
            ["setpriv", "--reuid", "65534", "--regid", "65534", "--groups", "mirrorlet", "mirrorctl"].iter().chain(verb).copied().collect();
        node.run(words)
    };
    assert_eq!(as_member(&["status"]).code, Some(0));
    for verb in [&["resume"][..], &["disable"], &["pull", "up.lab/lib/app:1"]] {
        let answer = as_member(verb);
        assert_eq!(answer.code, Some(4), "{verb:?}: {answer:?}");
    }
    let stranger = node.run(["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "mirrorctl", "status"]);
    assert_eq!(stranger.code, Some(4), "{stranger:?}");
}

fn test_pulls(generation: Generation) {
    let (stand, agent) = in_effect(generation);
    let node = &agent.node;
    let names = || node.run_ok(["sh", "-c", "ctr -n k8s.io images ls -q | sort"]);
    let before = names();
    stand.mirror.forget();
    let pulled = node.run_ok(["mirrorctl", "pull", "up.lab/lib/app:1"]);
    assert!(pulled.contains("Image is up to date for sha256:"), "{pulled}");
    assert_eq!(stand.mirror.served("lib/app"), WHOLE_PULL, "{}", stand.mirror.log());
    assert_eq!(names(), before, "what the pull brought is gone again");
    node.run_ok(["mirrorctl", "pull", &format!("{MIRROR}/lib/app:1"), "--keep"]);
    assert!(names().contains(&format!("{MIRROR}/lib/app:1")));
    let kept = names();
    node.run_ok(["mirrorctl", "pull", "up.lab/lib/app:1"]);
    assert_eq!(names(), kept, "an image that was there before stays under every name it had");

    let elsewhere = node.run(["mirrorctl", "pull", "quay.io/x/y:1"]);
    assert!(!elsewhere.success() && elsewhere.stderr.contains("--any"), "{elsewhere:?}");
    let missing = node.run(["mirrorctl", "pull", "up.lab/lib/nothing:1"]);
    assert_eq!(missing.code, Some(9), "{missing:?}");
}
crate::on_each_generation!(test_pulls);

#[test]
fn a_login_for_one_pull_goes_to_one_host() {
    let stand = Stand::new();
    let login = stand.lab.registry(RegistryOptions::new("192.0.2.14:5000").basic("alex", "pa55w0rd").storage(stand.mirror.storage()));
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    agent.put_in_effect(&format!("{}  - endpoint: http://192.0.2.14:5000\n    hosts: [private.lab]\n", spec(MIRROR)));
    agent.node.write("/root/creds", "alex:pa55w0rd\n");
    let pull = |more: &[&str]| {
        agent.node.run(["mirrorctl", "pull", "192.0.2.14:5000/lib/app:1", "--creds-file", "/root/creds"].iter().chain(more))
    };
    assert!(pull(&[]).success());
    assert!(login.requests().iter().any(|request| request.is_served() && request.logged_in), "{}", login.log());
    login.forget();
    agent.forget_images();
    assert!(!pull(&["--creds-for", "up.lab"]).success(), "a login for another host is not sent here");
    assert!(login.requests().iter().all(|request| !request.logged_in), "{}", login.log());
}

#[test]
fn the_upstream_key_is_for_gcr_io_itself() {
    let key = r#"{"type": "service_account", "project_id": "p", "private_key": "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n", "client_email": "a@p.iam.example"}"#;
    let stand = Stand::new();
    Image::random("lib/rare", "1", &[2000]).put(&stand.upstream.storage());
    let agent = stand.boot(NodeOptions::new(Generation::V2).file("/keys/gcr.json", key, 0o600));
    agent.put_in_effect(&format!("gcrKeyPath: /keys/gcr.json\n{}", spec(MIRROR)));
    let text = agent.node.read_text("/etc/containerd/certs.d/gcr.io/hosts.toml");
    assert!(text.contains("Authorization") && !agent.node.read_text(HOSTS_TOML).contains("Authorization"), "the key goes to gcr.io alone");
    assert_eq!(agent.node.stat("/etc/containerd/certs.d/gcr.io/hosts.toml").mode & 0o777, 0o600);
    agent.node.pull("gcr.io/lib/rare:1", None).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(stand.upstream.served("lib/rare").tags, 1);
}

#[test]
fn a_restart_that_would_kill_containers_is_refused() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    let node = &agent.node;
    node.run_ok(["mkdir", "-p", "/etc/systemd/system/containerd.service.d"]);
    node.write("/etc/systemd/system/containerd.service.d/kill.conf", "[Service]\nKillMode=mixed\n");
    node.run_ok(["systemctl", "daemon-reload"]);
    let (tree, starts) = (agent.containerd_tree(), agent.starts());
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("refused");
    assert!(status["problems"][0]["code"] == "restart.kill-mode", "{status:#}");
    assert_eq!((agent.containerd_tree(), agent.starts()), (tree, starts));
    node.remove("/etc/systemd/system/containerd.service.d/kill.conf");
    node.run_ok(["systemctl", "daemon-reload"]);
    node.run_ok(["mirrorctl", "resume"]);
    agent.wait_for("in-effect");
}

fn containers_survive_the_restart(generation: Generation) {
    let stand = Stand::new();
    Image::sleeper("lib/sleep", "1").put(&stand.upstream.storage());
    let agent = stand.boot(NodeOptions::new(generation));
    agent.node.pull("up.lab/lib/sleep:1", None).unwrap_or_else(|error| panic!("{error}"));
    let pid = agent.node.run_container("up.lab/lib/sleep:1", "sleepy");
    let starts = agent.starts();
    let status = agent.put_in_effect(&spec(MIRROR));
    assert_eq!(agent.starts(), starts + 1);
    assert_eq!(agent.node.container_pid("sleepy"), Some(pid), "the same task with the same process");
    assert!(status["last_change"]["outcome"]["cri_gap_ms"].as_u64().is_some_and(|gap| gap > 0), "{status:#}");
}
crate::on_each_generation!(containers_survive_the_restart);

#[test]
fn a_containerd_restarted_by_others_is_proven_again() {
    let (_stand, agent) = in_effect(Generation::V2);
    let proof = agent.status()["proof"].clone();
    agent.node.run_ok(["systemctl", "restart", "containerd"]);
    let status = agent.wait_until("the new process is proven", |status| {
        let is_new = status["proof"].as_str().is_some_and(|new| !new.is_empty()) && status["proof"] != proof;
        status["condition"] == "in-effect" && is_new
    });
    let pid = agent.node.containerd_pid().expect("containerd runs");
    assert!(status["proof"].as_str().is_some_and(|proof| proof.contains(&format!("process {pid}"))), "{status:#}");
    let nonces = || agent.node.journal("containerd").matches("PullImage \\\"127.116.").count();
    let asked = nonces();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(nonces(), asked, "once proven, containerd is not asked again");
}

#[test]
fn without_a_daemon_there_are_once_and_disable() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    let node = &agent.node;
    let locked = node.run(["mirrorlet", "once"]);
    assert_eq!(locked.code, Some(8), "the daemon has the node: {locked:?}");
    node.run_ok(["systemctl", "stop", "mirrorlet"]);
    let tree = agent.containerd_tree();
    agent.write_spec(&spec(MIRROR));
    node.run_ok(["mirrorlet", "once"]);
    stand.mirror_serves(&agent);
    assert_eq!(node.run(["mirrorctl", "status"]).code, Some(3), "nobody serves");
    node.run_ok(["systemctl", "stop", "dbus.socket", "dbus.service"]);
    node.run_ok(["mirrorlet", "disable"]);
    assert_eq!(agent.containerd_tree(), tree, "also without a message bus");
    node.run_ok(["mirrorlet", "once"]);
    assert_eq!(agent.containerd_tree(), tree, "held");
    agent.write_spec(&(spec(MIRROR) + "# again\n"));
    node.run_ok(["mirrorlet", "once"]);
    agent.write_spec("registryMirrors: [\n");
    node.run_ok(["mirrorlet", "disable"]);
    assert_eq!(agent.containerd_tree(), tree, "a spec that cannot be used is no reason to say that this failed");
}

#[test]
fn other_drivers_than_systemd() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17));
    let settings = |lines: &str| {
        agent.node.write("/etc/mirrorlet/mirrorlet.toml", format!("[restart]\nsettle_for = \"500ms\"\n{lines}\n"));
        agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    };
    settings("driver = \"never\"");
    let starts = agent.starts();
    agent.write_spec(&spec(MIRROR));
    agent.wait_for("awaiting-restart");
    assert_eq!(agent.starts(), starts);
    agent.node.run_ok(["systemctl", "restart", "containerd"]);
    agent.wait_for("in-effect");
    stand.mirror_serves(&agent);
    settings("driver = \"command\"\ncommand = [\"/usr/bin/systemctl\", \"restart\", \"containerd\"]");
    let starts = agent.starts();
    agent.disable();
    assert_eq!(agent.starts(), starts + 1);
    assert_eq!(agent.status()["condition"], "held");
}

#[test]
fn the_mirror_is_told_of_when_it_is_silent() {
    let (mut stand, agent) = in_effect(Generation::V2);
    stand.mirror.stop();
    let status = agent.put_in_effect(&(spec(MIRROR) + "# again\n"));
    assert!(status["notices"].to_string().contains("mirror.silent"), "{status:#}");
    agent.forget_images();
    agent.node.pull("up.lab/lib/app:1", None).unwrap_or_else(|error| panic!("the upstream serves: {error}"));
    assert_ne!(stand.upstream.served("lib/app"), Served::default());
}

/// What somebody else wrote into config.toml since, mirrors among it, is there after the way back, whatever was applied in between.
#[test]
fn foreign_edits_survive_further_applies() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V17).config_toml("version = 2\n"));
    agent.put_in_effect(&spec(MIRROR));
    let late = "\n[debug]\n  level = \"warn\" # theirs\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"late.lab\"]\n  endpoint = [\"http://192.0.2.10:5000\"]\n";
    agent.node.run_ok(["sh".into(), "-c".into(), format!("printf '%s' '{late}' >> {CONFIG}")]);
    is_eventually("the late mirror is carried", || agent.node.exists("/etc/containerd/certs.d/late.lab/hosts.toml"));
    agent.put_in_effect(&(spec(MIRROR) + "  - endpoint: http://192.0.2.15:5000\n    hosts: [more.lab]\n"));
    agent.disable();
    let config = agent.node.read_text(CONFIG);
    assert!(config.contains("level = \"warn\" # theirs") && config.contains("late.lab") && !config.contains("config_path"), "{config}");
    agent.node.wait_cri(Duration::from_secs(10));
}

#[test]
fn a_config_that_became_a_link_is_refused_on_the_way_back() {
    let (_stand, agent) = in_effect(Generation::V17);
    agent.node.run_ok([
        "sh",
        "-c",
        &format!("cp -p {CONFIG} /etc/containerd/real.toml && ln -s real.toml /root/link && mv -T /root/link {CONFIG}"),
    ]);
    let starts = agent.starts();
    let disable = agent.node.run(["mirrorctl", "disable"]);
    assert!(!disable.success() && disable.stdout.contains("symbolic link"), "{disable:?}");
    assert_eq!(agent.starts(), starts);
}

#[test]
fn a_config_that_could_not_start_again_is_no_reason_to_restart() {
    let stand = Stand::new();
    let options = NodeOptions::new(Generation::V2).config_toml("version = 2\nimports = [\"/etc/containerd/extra.toml\"]\n").file(
        "/etc/containerd/extra.toml",
        "version = 2\n",
        0o644,
    );
    let agent = stand.boot(options);
    agent.node.remove("/etc/containerd/extra.toml");
    let starts = agent.starts();
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("refused");
    assert!(status["problems"].to_string().contains("config.import-missing"), "{status:#}");
    assert_eq!(agent.starts(), starts);
    assert!(agent.node.cri_answers());
}

#[test]
fn other_peoples_registry_keys_wait_for_their_restart() {
    let (_stand, agent) = in_effect(Generation::V17);
    let starts = agent.starts();
    let headers = "\n[plugins.\"io.containerd.grpc.v1.cri\".registry.headers]\n  X-Rack = [\"7\"]\n";
    agent.node.run_ok(["sh".into(), "-c".into(), format!("printf '%s' '{headers}' >> {CONFIG}")]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(agent.starts(), starts);
    assert_eq!(agent.wait_for("in-effect")["condition"], "in-effect");
}

#[test]
fn a_linked_host_that_enters_the_spec_is_refused_and_nothing_flaps() {
    let stand = Stand::new();
    let config =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d:/etc/docker/certs.d\"\n";
    let theirs = format!("server = \"https://docker-dir.lab\"\n[host.\"http://{MIRROR}\"]\n");
    let options =
        NodeOptions::new(Generation::V17).config_toml(config).file("/etc/docker/certs.d/docker-dir.lab/hosts.toml", theirs, 0o644);
    let agent = stand.boot(options);
    agent.put_in_effect(&spec(MIRROR));
    agent.write_spec(&spec(MIRROR).replace("[up.lab]", "[up.lab, docker-dir.lab]"));
    let status = agent.wait_for("refused");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(agent.status()["effective_generation"], status["effective_generation"]);
}
