//! Holds, sick nodes, broken specs, and many changes under load.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use crate::{
    harness::{
        images::Image,
        node::NodeOptions,
        process::{Leashed, holds_within},
        rootfs::Generation,
    },
    on_each_generation,
    stand::{Agent, CONFIG, MIRROR, SPEC, Stand},
};

fn spec(endpoint: &str) -> String {
    format!("registryMirrors:\n  - endpoint: http://{endpoint}\n    hosts: [up.lab]\n")
}

fn disabled_stays_disabled(generation: Generation) {
    let stand = Stand::new();
    let mut agent = stand.boot(NodeOptions::new(generation));
    let config = agent.node.read(CONFIG);
    agent.put_in_effect(&spec(MIRROR));
    agent.disable();
    let still_disabled = |agent: &Agent, when: &str| {
        std::thread::sleep(Duration::from_millis(700));
        let status = agent.wait_for("held");
        assert_eq!(agent.node.read(CONFIG), config, "{when}");
        assert_eq!(status["hold"]["cause"], "disable", "{when}");
        assert_eq!(status["effective_generation"], 0, "{when}: the node is as it was found");
        assert_eq!(status["hosts"], serde_json::json!([]), "{when}: containerd looks for nothing at mirrors");
    };
    still_disabled(&agent, "at once");
    agent.node.run_ok(["touch", SPEC]);
    agent.write_spec(&spec(MIRROR));
    still_disabled(&agent, "after a touched spec");
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    still_disabled(&agent, "after a restart of the daemon");
    agent.node.reboot();
    agent.node.wait_cri(Duration::from_secs(30));
    still_disabled(&agent, "after a reboot");

    agent.node.run_ok(["mirrorctl", "resume"]);
    agent.wait_for("in-effect");
    stand.mirror_serves(&agent);
    agent.disable();
    agent.wait_for("held");
    agent.put_in_effect(&(spec(MIRROR) + "# changed\n"));
    stand.mirror_serves(&agent);
}

/// The config is fine by every check, but containerd's CRI does not come up with it: the node ends as before and nothing loops.
fn cri_dead_after_restart(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let tree = agent.containerd_tree();
    // With whatever names our directory it comes up without its CRI, which no check beforehand sees.
    let stub = "#!/bin/sh\ncase \"$*\" in *--version*|*dump*) exec /usr/bin/containerd.real \"$@\";; esac\nif grep -q certs.d /etc/containerd/config.toml; then sed 's/^version = 2/version = 2\\ndisabled_plugins = [\"io.containerd.internal.v1.opt\", \"io.containerd.grpc.v1.cri\", \"io.containerd.cri.v1.images\"]/' /etc/containerd/config.toml > /run/broken.toml; exec /usr/bin/containerd.real -c /run/broken.toml \"$@\"; fi\nexec /usr/bin/containerd.real \"$@\"\n";
    agent.node.run_ok(["mv", "/usr/bin/containerd", "/usr/bin/containerd.real"]);
    agent.node.write("/usr/bin/containerd", stub);
    agent.node.run_ok(["chmod", "755", "/usr/bin/containerd"]);
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", "[restart]\nsettle_for = \"500ms\"\nready_deadline = \"5s\"\n");
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("rolled-back");
    assert_eq!(agent.containerd_tree(), tree);
    assert!(status["summary"].as_str().is_some_and(|summary| summary.contains("CRI")), "{status:#}");
    assert_eq!(status["last_change"]["outcome"]["restarts"], 2, "there and back: {status:#}");
    agent.node.wait_cri(Duration::from_secs(10));
    let starts = agent.starts();
    std::thread::sleep(Duration::from_secs(2));
    agent.node.run_ok(["touch", SPEC]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(agent.starts(), starts, "a parked spec is not tried again");
    assert_eq!(agent.status()["condition"], "rolled-back");
}

/// Since containerd was started somebody put a mistake into its config that "config dump" does not see. The restart that the spec needs
/// would make it effective: tried beforehand, it is refused, and containerd goes on as it is. Without the trial it costs two restarts.
fn a_config_that_kills_the_cri_is_found_beforehand(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let mistake = "\n[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"nope\"\n";
    agent.node.run_ok(["sh".into(), "-c".into(), format!("printf '%s' '{mistake}' >> {CONFIG}")]);
    let tree = agent.containerd_tree();
    let starts = agent.starts();
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("refused");
    assert_eq!(status["problems"][0]["code"], "restart.also-effective", "{status:#}");
    let accept = |more: &str| {
        let settings =
            format!("[restart]\nsettle_for = \"100ms\"\nquiet_for = \"0s\"\nready_deadline = \"3s\"\naccept = [\"config\"]\n{more}");
        agent.node.write("/etc/mirrorlet/mirrorlet.toml", settings);
        agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    };
    accept("");
    let status = agent.wait_until("tried", |status| status["problems"][0]["code"] == "candidate.cri-dead");
    assert!(status["problems"].to_string().contains("nope"), "{status:#}");
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!((agent.starts(), agent.containerd_tree()), (starts, tree.clone()));
    assert!(agent.node.cri_answers());
    assert!(!agent.node.exists("/run/mirrorlet/trial"), "a trial leaves nothing");
    assert!(!agent.node.run(["systemctl", "is-active", "--quiet", "mirrorlet-trial"]).success());

    accept("trial_boot = false\n");
    let status = agent.wait_for("rolled-back");
    assert!(status["problems"].to_string().contains("node.cri-dead"), "the old files hold the mistake too: {status:#}");
    assert_eq!((agent.starts(), agent.containerd_tree()), (starts + 2, tree));
}

/// A restart would make effective what somebody else changed since containerd was started: it waits for their restart, or for a word.
fn what_others_changed_waits_for_a_word(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let node = &agent.node;
    let sh = |script: &str| drop(node.run_ok(["sh", "-c", script]));
    let refused = |named: &str| {
        let resumed = node.run(["mirrorctl", "resume"]);
        let is_named = resumed.stdout.contains("restart.also-effective") && resumed.stdout.contains(named);
        assert!(resumed.code == Some(5) && is_named, "{resumed:?}");
    };
    agent.wait_for("no-spec");
    sh(&format!("echo '# theirs' >> {CONFIG}"));
    let starts = agent.starts();
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("refused");
    assert!(status["summary"].to_string().contains(CONFIG) && status["problems"][0]["code"] == "restart.also-effective", "{status:#}");
    assert_eq!(agent.starts(), starts);
    node.run_ok(["systemctl", "restart", "containerd"]);
    agent.wait_for("in-effect");
    agent.disable();
    // The same bytes are no change, whatever the clock says of them.
    sh(&format!("cp {CONFIG} /root/config; cat /root/config > {CONFIG}; chmod 0600 {CONFIG}; chmod 0644 {CONFIG}"));
    node.run_ok(["mirrorctl", "resume"]);

    // An undo is never refused.
    let drop_in = |nice: u8| {
        let directory = "/etc/systemd/system/containerd.service.d";
        sh(&format!(
            "mkdir -p {directory}; echo [Service] > {directory}/theirs.conf; echo Nice={nice} >> {directory}/theirs.conf; systemctl daemon-reload"
        ));
    };
    drop_in(1);
    agent.disable();
    drop_in(2);
    refused("theirs.conf");
    let apply = |accept: &[&str]| node.run([&["mirrorctl", "apply", SPEC], accept].concat());
    assert_eq!(apply(&["--accept", "config"]).code, Some(5));
    assert_eq!(apply(&["--accept", "unit"]).code, Some(0));
    agent.disable();

    sh("mkdir -p /etc/containerd/certs.d/other.lab");
    refused("other.lab");
    let wrapper = "#!/bin/sh\ncase \"$*\" in *--version*) /usr/bin/containerd.real --version | sed 's/\\.[0-9]*\\([~+]\\)/.99\\1/'; exit;; esac\nexec /usr/bin/containerd.real \"$@\"\n";
    sh("mv /usr/bin/containerd /usr/bin/containerd.real");
    node.write("/usr/bin/containerd", wrapper);
    sh("chmod 755 /usr/bin/containerd; systemctl daemon-reload");
    assert_eq!(apply(&["--accept", "host-directories"]).code, Some(5));
    refused(".99");
    assert_eq!(apply(&["--accept", "host-directories", "--accept", "upgrade"]).code, Some(0));
    stand.mirror_serves(&agent);
}

/// What was tried is what containerd is restarted with, whoever writes a drop-in in between.
fn a_drop_in_during_the_trial_is_not_restarted_with(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let config = agent.node.read_text(CONFIG);
    agent.node.write_atomic(CONFIG, format!("imports = [\"/etc/containerd/conf.d/*.toml\"]\n{config}"));
    // Each trial leaves its line in a drop-in, as an admin at the same moment would.
    let stub = "#!/bin/sh\ncase \"$*\" in *--version*|*dump*) ;; *trial*) echo '# theirs' >> /dev/shm/theirs.toml;; esac\nexec /usr/bin/containerd.real \"$@\"\n";
    agent.node.run_ok(["sh", "-c", "mkdir /etc/containerd/conf.d; echo version = 2 > /dev/shm/theirs.toml; ln -s /dev/shm/theirs.toml /etc/containerd/conf.d/theirs.toml"]);
    agent.node.run_ok(["mv", "/usr/bin/containerd", "/usr/bin/containerd.real"]);
    agent.node.write("/usr/bin/containerd", stub);
    agent.node.run_ok(["sh", "-c", "chmod 755 /usr/bin/containerd; systemctl restart containerd"]);
    let starts = agent.starts();
    agent.node.write("/root/spec.yaml", spec(MIRROR));
    let applied = agent.node.run(["mirrorctl", "apply", "/root/spec.yaml"]);
    assert!(applied.code == Some(7) && applied.stderr.contains("imports was changed"), "{applied:?}");
    assert_eq!(agent.starts(), starts);
    assert!(!agent.node.exists("/etc/containerd/certs.d"));
}

/// Nothing that is kept from a trial is missed by it.
fn a_healthy_config_passes_its_trial(generation: Generation) {
    let stand = Stand::new();
    let at_its_address = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\n  stream_server_address = \"192.0.2.1\"\n";
    for (config, left_out) in [(None, None), (Some(at_its_address), Some("without stream server at 192.0.2.1"))] {
        let options = NodeOptions::new(generation);
        let agent = stand.boot(config.into_iter().fold(options, NodeOptions::config_toml));
        agent.put_in_effect(&spec(MIRROR));
        assert!(agent.node.journal("mirrorlet-trial").contains("Started"), "there was a trial");
        let shown = agent.node.run_ok(["mirrorctl", "-o", "json", "show", "1"]);
        assert!(!shown.contains("candidate.not-tried"), "{shown}");
        assert_eq!(shown.contains("candidate.left-out"), left_out.is_some(), "{shown}");
        assert!(left_out.is_none_or(|left_out| shown.contains(left_out)), "{shown}");
    }
}

/// A trial that fails once and not again, and a binary that is being replaced at that moment: neither is held against the spec.
fn one_failed_trial_refuses_nothing(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let stub = "#!/bin/sh\ncase \"$*\" in *--version*|*dump*) ;; *trial*) mkdir /dev/shm/tried && exit 7;; esac\nexec /usr/bin/containerd.real \"$@\"\n";
    agent.node.run_ok(["mv", "/usr/bin/containerd", "/usr/bin/containerd.real"]);
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("containerd-sick");
    assert_eq!(status["problems"][0]["code"], "candidate.not-run", "{status:#}");
    agent.node.write("/usr/bin/containerd", stub);
    agent.node.run_ok(["chmod", "755", "/usr/bin/containerd"]);
    agent.wait_for("in-effect");
    assert!(agent.node.exists("/dev/shm/tried"));
    stand.mirror_serves(&agent);
}

/// containerd does not start at all with the new config.
fn containerd_does_not_come_back(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let tree = agent.containerd_tree();
    let stub = "#!/bin/sh\ncase \"$*\" in *--version*|*dump*) exec /usr/bin/containerd.real \"$@\";; esac\ngrep -q certs.d /etc/containerd/config.toml && exit 7\nexec /usr/bin/containerd.real \"$@\"\n";
    agent.node.run_ok(["mv", "/usr/bin/containerd", "/usr/bin/containerd.real"]);
    agent.node.write("/usr/bin/containerd", stub);
    agent.node.run_ok(["chmod", "755", "/usr/bin/containerd"]);
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("rolled-back");
    assert_eq!(agent.containerd_tree(), tree);
    assert!(status["problems"].to_string().contains("restart.failed"), "{status:#}");
    let failed = status["last_change"]["outcome"]["generation"].to_string();
    let revert = agent.node.run(["mirrorctl", "revert", &failed]);
    assert!(revert.stderr.contains("never in effect"), "it was never good: {revert:?}");
    agent.node.wait_cri(Duration::from_secs(10));
}

fn a_spec_that_stops_being_valid(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    agent.put_in_effect(&spec(MIRROR));
    let tree = agent.containerd_tree();
    for broken in ["", "registryMirrors:\n  - endpoint: http://192.0.2.9:5000/nope\n", "registryMirrors:\n  - endp"] {
        agent.write_spec(broken);
        let status = agent.wait_for("spec-invalid");
        assert!(!status["problems"][0]["message"].as_str().unwrap_or_default().is_empty(), "{status:#}");
        assert_eq!(agent.containerd_tree(), tree, "nothing moves for {broken:?}");
    }
    agent.node.remove(SPEC);
    agent.wait_until("the loss is reported", |status| status["summary"].as_str().is_some_and(|summary| summary.contains("gone")));
    assert_eq!(agent.containerd_tree(), tree, "losing the spec changes nothing");
    stand.mirror_serves(&agent);
    agent.write_spec("registryMirrors: []\n");
    agent.wait_for("switched-off");
    assert!(!agent.node.exists("/etc/containerd/certs.d"));
}

/// A spec is refused because containerd is in the middle of fetching something, which goes on until somebody says that it is enough.
fn refused_while_fetching(agent: &Agent) -> Leashed {
    let slowly = "until [ -e /run/enough ]; do echo x; sleep 0.1; done | ctr content ingest slow";
    let fetching = agent.node.spawn(["sh", "-c", slowly]);
    assert!(holds_within(Duration::from_secs(10), || agent.node.run_ok(["ctr", "content", "active"]).contains("slow")));
    agent.write_spec(&spec(MIRROR));
    let status = agent.wait_for("containerd-sick");
    assert_eq!(status["problems"][0]["code"], "restart.busy", "{status:#}");
    fetching
}

fn fetched(agent: &Agent) {
    agent.node.run_ok(["sh", "-c", "touch /run/enough; while ctr content active | grep -q slow; do sleep 0.1; done"]);
}

/// While something is being fetched containerd is not restarted; that is told, and is no failure of the spec.
fn a_restart_waits_for_a_quiet_moment(generation: Generation) {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let settings = "[restart]\nsettle_for = \"100ms\"\nquiet_for = \"300ms\"\nquiet_deadline = \"2s\"\nmax_per_hour = 2\n";
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", settings);
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    let starts = agent.starts();
    let _fetching = refused_while_fetching(&agent);
    assert_eq!((agent.starts(), agent.status()["effective_generation"].as_u64()), (starts, Some(0)), "nothing was changed");
    fetched(&agent);
    agent.node.run_ok(["mirrorctl", "resume"]);
    agent.wait_for("in-effect");
    assert_eq!(agent.starts(), starts + 1);

    // Two an hour are allowed, and going back is never refused.
    agent.disable();
    assert_eq!(agent.starts(), starts + 2);
    let refused = agent.node.run(["mirrorctl", "resume"]);
    assert!(refused.code == Some(5) && refused.stdout.contains("[restart.budget]"), "{refused:?}");
    assert_eq!(agent.starts(), starts + 2);
    agent.node.wait_cri(Duration::from_secs(10));
}

/// containerd starts the NRI plugins it finds: a trial must not, for they do things on the node. There is no quiet moment afterwards, so
/// that the live one is not restarted.
#[test]
fn a_trial_starts_no_plugins() {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(Generation::V2));
    agent.node.run_ok(["mkdir", "-p", "/opt/nri/plugins"]);
    agent.node.write("/opt/nri/plugins/10-told", "#!/bin/sh\ntouch /dev/shm/started\n");
    agent.node.run_ok(["chmod", "755", "/opt/nri/plugins/10-told"]);
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", "[restart]\nquiet_for = \"300ms\"\nquiet_deadline = \"1s\"\n");
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    let _fetching = refused_while_fetching(&agent);
    assert!(!agent.node.exists("/dev/shm/started"), "a trial started a plugin");
    agent.node.run_ok(["sh", "-c", "rm /opt/nri/plugins/10-told; echo text > /opt/nri/plugins/README"]);
    fetched(&agent);
    agent.node.run_ok(["mirrorctl", "resume"]);
    let status = agent.wait_for("in-effect");
    let shown = agent.node.run_ok(["mirrorctl", "-o", "json", "show", &status["effective_generation"].to_string()]);
    assert!(shown.contains("NRI plugins of /opt/nri/plugins"), "{shown}");
}

fn two_hundred_changes_under_load(generation: Generation) {
    const CHANGES: usize = 200;
    let mut stand = Stand::new();
    let second = "192.0.2.11:5000";
    let _second = stand.another_mirror(second);
    let images: Vec<Image> = (0..4).map(|number| Image::random(&format!("lib/load{number}"), "1", &[1000, 20_000])).collect();
    images.iter().for_each(|image| image.put(&stand.mirror.storage()));
    let agent = stand.boot(NodeOptions::new(generation));
    agent.put_in_effect(&spec(MIRROR));
    stand.upstream.stop();
    let starts = agent.starts();
    let (is_over, pulls) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for image in &images {
            let (node, is_over, pulls) = (&agent.node, &is_over, &pulls);
            scope.spawn(move || {
                let reference = image.reference("up.lab");
                while !is_over.load(Ordering::Relaxed) {
                    node.remove_image(&reference);
                    if let Err(error) = node.pull(&reference, None) {
                        is_over.store(true, Ordering::Relaxed);
                        panic!("pull {} failed: {error}", pulls.load(Ordering::Relaxed));
                    }
                    pulls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for change in 0..CHANGES {
            if is_over.load(Ordering::Relaxed) {
                break;
            }
            let endpoint = if change % 2 == 0 { second } else { MIRROR };
            agent.put_in_effect(&format!("{}# {change}\n", spec(endpoint)));
        }
        is_over.store(true, Ordering::Relaxed);
    });
    println!("{} pulls during {CHANGES} changes", pulls.load(Ordering::Relaxed));
    assert!(pulls.load(Ordering::Relaxed) > 100, "the load was no load");
    assert_eq!(agent.starts(), starts, "no restart");
}

on_each_generation!(
    disabled_stays_disabled,
    a_restart_waits_for_a_quiet_moment,
    cri_dead_after_restart,
    a_config_that_kills_the_cri_is_found_beforehand,
    containerd_does_not_come_back,
    a_drop_in_during_the_trial_is_not_restarted_with,
    a_healthy_config_passes_its_trial,
    one_failed_trial_refuses_nothing,
    what_others_changed_waits_for_a_word,
    a_spec_that_stops_being_valid,
    two_hundred_changes_under_load
);
