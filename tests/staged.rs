//! Host directories are shown to containerd before they are live, where it can be shown them (2.0 and later).

use std::time::Duration;

use crate::{
    harness::{ca::Ca, node::NodeOptions, process::eventually, rootfs::Generation},
    stand::{Agent, CONFIG, MIRROR, Stand},
};

/// What containerd has of its own, in a list.
fn belongings(agent: &Agent) -> String {
    let list = "ctr namespaces ls -q; for kind in leases images content; do ctr -n k8s.io $kind ls -q; done; ctr -n k8s.io content active";
    agent.node.run_ok(["sh", "-c", list])
}

/// Certificate and key are each what they should be, but not of each other: containerd could use the mirror for nothing, nor fall back.
#[test]
fn a_client_pair_that_is_none_is_found_beforehand() {
    let ca = Ca::create();
    let stand = Stand::with_mirror(|_, options| options.tls(ca.issue(&["192.0.2.10"])));
    let (client, other) = (ca.issue(&["client"]), ca.issue(&["other"]));
    let options = NodeOptions::new(Generation::V2)
        .file("/root/ca.crt", ca.certificate(), 0o644)
        .file("/root/client.crt", client.certificate, 0o644)
        .file("/root/other.key", other.key, 0o600)
        .file("/root/client.key", client.key, 0o600);
    let agent = stand.boot(options);
    let spec = |key: &str| {
        format!(
            "registryMirrors:\n  - endpoint: https://{MIRROR}\n    caCertPath: /root/ca.crt\n    clientCertPath: /root/client.crt\n    clientKeyPath: {key}\n    hosts: [up.lab]\n"
        )
    };
    let (tree, starts, before) = (agent.containerd_tree(), agent.starts(), belongings(&agent));
    stand.mirror.forget();
    agent.write_spec(&spec("/root/other.key"));
    let status = agent.wait_for("refused");
    let problem = status["problems"][0].to_string();
    assert_eq!(status["problems"][0]["code"], "candidate.hosts-unread", "{status:#}");
    assert!(problem.contains("up.lab: failed to resolve image: failed to load X509 key pair"), "{problem}");
    assert_eq!((agent.containerd_tree(), agent.starts()), (tree, starts), "nothing was changed");
    assert_eq!(belongings(&agent), before, "nothing stays");
    assert!(!agent.node.exists("/run/mirrorlet/staged"), "nothing stays");

    agent.put_in_effect(&spec("/root/client.key"));
    let asked: Vec<_> = stand.mirror.requests().into_iter().filter(|request| request.path.contains("mirrorlet")).collect();
    assert!(asked.is_empty(), "no mirror is asked: {asked:?}");
    stand.mirror_serves(&agent);

    agent.node.run_ok(["mkdir", "-p", "/run/mirrorlet/staged/127.116.0.0:1"]);
    agent.node.run_ok(["systemctl", "kill", "--signal=KILL", "mirrorlet"]);
    let is_gone = || !agent.node.exists("/run/mirrorlet/staged") && agent.node.exists("/run/mirrorlet/mirrorlet.sock");
    eventually("what a killed daemon left is gone", Duration::from_secs(20), is_gone);
}

/// A mirror that the node had before has an address that is none. In hosts.toml that would cost containerd the whole file, without a word:
/// the mirror that the spec names would never be asked.
#[test]
fn a_file_that_containerd_would_ignore_is_found_beforehand() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V2));
    let mirrors = "\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"up.lab\"]\n  endpoint = [\"http://192.0.2.9:port\"]\n";
    agent.node.run_ok(["sh".into(), "-c".into(), format!("printf '%s' '{mirrors}' >> {CONFIG}; systemctl restart containerd")]);
    let (tree, starts) = (agent.containerd_tree(), agent.starts());
    agent.write_spec(&format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"));
    let status = agent.wait_for("refused");
    assert_eq!(status["problems"][0]["code"], "candidate.hosts-unread", "{status:#}");
    assert!(status["problems"][0]["message"].as_str().is_some_and(|message| message.contains("ignores")), "{status:#}");
    assert_eq!((agent.containerd_tree(), agent.starts()), (tree, starts), "nothing was changed");
}
