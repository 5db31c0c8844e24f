//! Whatever config a node has: the spec is in effect after one restart at most, later changes cost none, and the way back is exact.

use crate::{
    harness::{node::NodeOptions, rootfs::Generation},
    on_each_generation,
    stand::{Agent, CONFIG, MIRROR, Stand, WHOLE_PULL, docker_config, pull_and_see},
};

const SECOND: &str = "192.0.2.11:5000";

fn spec(endpoint: &str, hosts: &str) -> String {
    format!("registryMirrors:\n  - endpoint: http://{endpoint}\n    hosts: [{hosts}]\n")
}

/// Lines of the config that are nobody's but its owner's.
fn foreign_lines(text: &str) -> Vec<&str> {
    let mut is_registry = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with('[') {
            is_registry = line.contains(".registry");
        }
        if !is_registry && !line.trim().is_empty() || line.trim_start().starts_with('#') {
            lines.push(line);
        }
    }
    lines
}

fn assert_foreign_bytes_stay(before: &str, after: &str) {
    let mut lines = after.lines();
    for line in foreign_lines(before) {
        assert!(lines.any(|there| there == line), "{line:?} is gone or moved:\n{after}");
    }
}

/// From what was found to in effect, through changes, and back.
fn there_and_back(stand: &Stand, agent: &Agent, apply: impl Fn(&Agent, &str)) {
    let tree = agent.containerd_tree();
    let config = agent.node.read_text(CONFIG);
    let starts = agent.starts();
    apply(agent, &spec(MIRROR, "up.lab"));
    stand.mirror_serves(agent);
    assert!(agent.starts() <= starts + 1, "more than one restart");
    assert_foreign_bytes_stay(&config, &agent.node.read_text(CONFIG));

    let starts = agent.starts();
    let second = stand.another_mirror(SECOND);
    apply(agent, &spec(SECOND, "up.lab, other.lab"));
    assert_eq!(pull_and_see(agent, "up.lab/lib/app:1", &second, &stand.upstream).0, WHOLE_PULL);
    assert_eq!(pull_and_see(agent, "other.lab/lib/app:1", &second, &stand.upstream).0, WHOLE_PULL);
    assert_eq!(agent.starts(), starts, "a change of endpoint and hosts costs no restart");

    agent.disable();
    assert_eq!(agent.containerd_tree(), tree);
    assert_eq!(agent.node.read_text(CONFIG), config);
}

fn by_file(agent: &Agent, spec: &str) {
    agent.put_in_effect(spec);
}

fn stock(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    there_and_back(&stand, &agent, by_file);
}

const HAND_EDITED: &str = r#"# /etc/containerd/config.toml -- ours, do not touch without asking ops!
version = 2   # two, not three

root  =  "/var/lib/containerd"   # default
oom_score = -999
imports = ["/etc/containerd/extra/*.toml"]

[debug]
	level = 'info'      # a tab before, single quotes

# ---- CRI --------------------------------------------------------------
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image    = "registry.k8s.io/pause:3.9"   # pinned
  # cni below
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"

  [plugins."io.containerd.grpc.v1.cri".registry]
     # nothing here yet

    [plugins."io.containerd.grpc.v1.cri".registry.headers]
      X-Node = ["rack 7"]

# ---- not ours ---------------------------------------------------------
[plugins."io.containerd.internal.v1.opt"]
  path = "/var/lib/containerd/opt"   # keep

[plugins."io.containerd.vendor.v1.thing"]
  list = [ 1,
           2,   # two
           3 ]
  inline = { a = 1, b = "two" }
# the end, without a line end"#;

fn hand_edited(generation: Generation) {
    let stand = Stand::new();
    let options = NodeOptions::new(generation).config_toml(HAND_EDITED).file(
        "/etc/containerd/extra/10-metrics.toml",
        "[metrics]\n  address = \"\"\n",
        0o640,
    );
    let agent = stand.boot(options);
    agent.node.run_ok(["chown", "daemon:adm", CONFIG]);
    agent.node.run_ok(["chmod", "0640", CONFIG]);
    there_and_back(&stand, &agent, by_file);
}

fn legacy(generation: Generation) {
    let private = "192.0.2.12:5443";
    let stand = Stand::new();
    let private_mirror = stand.lab.registry(
        crate::harness::registry::RegistryOptions::new(private)
            .tls(crate::harness::ca::Ca::create().issue(&["192.0.2.99"]))
            .storage(stand.mirror.storage()),
    );
    drop(private_mirror);
    let own_ca = crate::harness::ca::Ca::create();
    let mut private_mirror = stand.lab.registry(
        crate::harness::registry::RegistryOptions::new(private)
            .tls(own_ca.issue(&["192.0.2.12"]))
            .basic("old", "pa55")
            .storage(stand.mirror.storage()),
    );
    // On 2.x the TLS settings of 1.x have no effect any more (LAB.md 5), so the node trusts that CA as a whole there.
    let tls = format!("[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"{private}\".tls]\n  ca_file = \"/etc/pki/mirror.pem\"\n");
    let config = format!(
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors]\n    # the old mirror\n    [plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"old.lab\"]\n      endpoint = [\"https://{private}\"]\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"{private}\".auth]\n  username = \"old\"\n  password = \"pa55\"\n{}",
        if generation == Generation::V2 { "" } else { &tls }
    );
    let mut options = NodeOptions::new(generation).config_toml(config.clone()).file("/etc/pki/mirror.pem", own_ca.certificate(), 0o644);
    if generation == Generation::V2 {
        options.trusted.push(own_ca.certificate().to_owned());
    }
    let agent = stand.boot(options);
    let old_mirror_serves = |when: &str| {
        let served = pull_and_see(&agent, "old.lab/lib/app:1", &private_mirror, &stand.upstream).0;
        assert_eq!(served, WHOLE_PULL, "{when}: {}", private_mirror.log());
    };
    old_mirror_serves("before");
    there_and_back(&stand, &agent, |agent, spec| {
        agent.put_in_effect(spec);
        let served = pull_and_see(agent, "old.lab/lib/app:1", &private_mirror, &stand.upstream).0;
        assert_eq!(served, WHOLE_PULL, "carried: {}", private_mirror.log());
    });
    old_mirror_serves("after disable");

    agent.node.run_ok(["mirrorctl", "resume"]);
    agent.wait_for("in-effect");
    let starts = agent.starts();
    for round in 0..10 {
        agent.put_in_effect(&spec(MIRROR, &format!("up.lab, round{round}.lab")));
    }
    assert_eq!(agent.starts(), starts);
    old_mirror_serves("after ten plans");
    agent.disable();
    assert_eq!(agent.node.read_text(CONFIG), config);
    old_mirror_serves("after the last disable");
    private_mirror.stop();
}

fn colon_list(generation: Generation) {
    let stand = Stand::new();
    let config =
        "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d:/etc/docker/certs.d\"\n";
    let docker = format!("server = \"https://docker-dir.lab\"\n[host.\"http://{MIRROR}\"]\n  capabilities = [\"pull\", \"resolve\"]\n");
    let options = NodeOptions::new(generation)
        .config_toml(config)
        .file("/etc/containerd/certs.d/mine.lab/hosts.toml", docker.replace("docker-dir", "mine"), 0o644)
        .file("/etc/docker/certs.d/docker-dir.lab/hosts.toml", docker, 0o644);
    let agent = stand.boot(options);
    there_and_back(&stand, &agent, |agent, spec| {
        agent.put_in_effect(spec);
        let served = pull_and_see(agent, "docker-dir.lab/lib/app:1", &stand.mirror, &stand.upstream).0;
        assert_eq!(served, WHOLE_PULL, "the other root stays readable: {}", stand.mirror.log());
    });
}

fn foreign_hosts_toml(generation: Generation) {
    let stand = Stand::new();
    let config = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/containerd/certs.d\"\n";
    let theirs = "# by hand\nserver = \"https://up.lab\"\n[host.\"http://192.0.2.77:5000\"]\n  [host.\"http://192.0.2.77:5000\".header]\n    X-Secret = \"hush-hush\"\n";
    let options = NodeOptions::new(generation)
        .config_toml(config)
        .file("/etc/containerd/certs.d/up.lab/hosts.toml", theirs, 0o640)
        .file("/etc/containerd/certs.d/up.lab/notes.txt", "mine", 0o600)
        .file("/etc/containerd/certs.d/else.lab/hosts.toml", theirs.replace("up.lab", "else.lab"), 0o644);
    let agent = stand.boot(options);
    let tree = agent.containerd_tree();
    agent.write_spec(&spec(MIRROR, "up.lab"));
    let status = agent.wait_for("refused");
    let problem = status["problems"][0]["message"].as_str().expect("a message").to_owned();
    assert!(
        problem.contains("/etc/containerd/certs.d/up.lab") && problem.contains("192.0.2.77") && !problem.contains("hush-hush"),
        "{problem}"
    );
    assert!(status["next_step"].as_str().is_some_and(|step| step.contains("--take-over up.lab")), "{status:#}");
    assert_eq!(agent.containerd_tree(), tree, "a refusal touches nothing");

    agent.node.write("/root/spec.yaml", spec(MIRROR, "up.lab"));
    agent.node.remove(crate::stand::SPEC);
    there_and_back(&stand, &agent, |agent, text| {
        agent.node.write("/root/spec.yaml", text);
        agent.node.run_ok(["mirrorctl", "apply", "/root/spec.yaml", "--take-over", "up.lab", "--wait"]);
        agent.wait_for("in-effect");
    });
}

/// CA and login change in place: editing a file the spec names is enough.
fn inputs_rotate(generation: Generation) {
    let stand = Stand::new();
    let first = crate::harness::ca::Ca::create();
    let second = crate::harness::ca::Ca::create();
    let address = "192.0.2.13:5443";
    let options = |ca: &crate::harness::ca::Ca, password: &str| {
        crate::harness::registry::RegistryOptions::new(address)
            .tls(ca.issue(&["192.0.2.13"]))
            .basic("me", password)
            .storage(stand.mirror.storage())
    };
    let mirror = stand.lab.registry(options(&first, "one"));
    let agent = stand.boot(NodeOptions::new(generation).file("/root/ca.crt", first.certificate(), 0o644).file(
        "/root/.docker/config.json",
        docker_config(address, "me", "one"),
        0o600,
    ));
    agent.put_in_effect(&format!(
        "registryMirrors:\n  - endpoint: https://{address}\n    caCertPath: /root/ca.crt\n    pullCredentialConfigPath: /root/.docker/config.json\n    hosts: [up.lab]\n"
    ));
    assert_eq!(pull_and_see(&agent, "up.lab/lib/app:1", &mirror, &stand.upstream).0, WHOLE_PULL, "{}", mirror.log());
    let starts = agent.starts();
    drop(mirror);

    let mirror = stand.lab.registry(options(&second, "two"));
    let before = agent.status()["wanted_spec_digest"].clone();
    agent.node.write_atomic("/root/ca.crt", second.certificate());
    agent.node.write_atomic("/root/.docker/config.json", docker_config(address, "me", "two"));
    agent.wait_until("both are taken up", |status| {
        let accepted = status["endpoints"].as_array().is_some_and(|all| all.iter().any(|endpoint| endpoint["login"] == "accepted"));
        status["condition"] == "in-effect" && status["wanted_spec_digest"] != before && accepted
    });
    assert_eq!(pull_and_see(&agent, "up.lab/lib/app:1", &mirror, &stand.upstream).0, WHOLE_PULL, "{}", mirror.log());
    assert_eq!(agent.starts(), starts, "a new CA and a new login cost no restart");
    let config = agent.node.read_text(CONFIG);
    assert!(!config.contains("two") && !agent.node.journal("mirrorlet").contains("two\""), "no secret in config or log");
}

on_each_generation!(stock, hand_edited, legacy, colon_list, foreign_hosts_toml, inputs_rotate);
