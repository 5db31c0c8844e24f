//! Nodes whose containerd would not come back as it was, each in its own way: found beforehand, or gone back from, or lived with.

use std::time::Duration;

use super::chosen;
use crate::{
    harness::{node::NodeOptions, rootfs::Generation},
    stand::{Agent, CONFIG, Stand},
};

/// What becomes of the spec.
#[derive(Clone, Copy)]
enum End {
    /// Nothing was touched and containerd was not restarted; the code of the problem.
    Refused(&'static str),
    /// It was undone; the code of the problem.
    RolledBack(&'static str),
    /// It is no hindrance.
    InEffect,
}
use End::{InEffect, Refused, RolledBack};

/// How a node is made sick: appended to the config, done by a shell, or in place of the binary once our directory is named.
#[derive(Clone, Copy)]
enum Sickness {
    Config(&'static str),
    Shell(&'static str),
    Binary(&'static str),
}
use Sickness::{Binary, Config, Shell};

const SPEC: &str = "registryMirrors:\n  - endpoint: http://192.0.2.10:5000\n    hosts: [up.lab]\n";
/// `[restart] ready_deadline` of the tests.
const READY_DEADLINE_MS: u64 = 3_000;
/// What going back may take on top of it, as promised.
const SLACK_MS: u64 = 2_000;
/// Where a spec can end here.
const ENDS: [&str; 3] = ["refused", "rolled-back", "in-effect"];
const GENERATIONS: [(&str, Generation); 3] = [("1.6", Generation::V16), ("1.7", Generation::V17), ("2", Generation::V2)];

const KINDS: [(&str, Sickness, End); 18] = [
    ("parse error", Config("[[[\n"), Refused("config.syntax")),
    ("wrong type", Shell("sed -i '1i root = 7' /etc/containerd/config.toml"), Refused("config.broken")),
    (
        "unknown runtime",
        Config("[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  default_runtime_name = \"nope\"\n"),
        Refused("candidate.cri-dead"),
    ),
    (
        "mirrors and config_path",
        Config(
            "[plugins.\"io.containerd.grpc.v1.cri\".registry]\n  config_path = \"/etc/x\"\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"up.lab\"]\n  endpoint = [\"http://192.0.2.10:5000\"]\n",
        ),
        InEffect,
    ),
    ("misspelt key", Config("[plugins.\"io.containerd.grpc.v1.cri\".containerd]\n  snapshoter = \"overlayfs\"\n"), InEffect),
    ("CRI disabled", Shell("sed -i '1i disabled_plugins = [\"cri\"]' /etc/containerd/config.toml"), Refused("config.cri-disabled")),
    ("version too new", Shell("sed -i 's/^version = .*/version = 9/' /etc/containerd/config.toml"), Refused("config.version")),
    ("start hangs", Binary("exec sleep infinity"), RolledBack("restart.failed")),
    ("start fails", Binary("exit 7"), RolledBack("restart.failed")),
    ("crash after 3 s", Binary("(sleep 3; kill -KILL $$) & exec /usr/bin/containerd.real \"$@\""), RolledBack("restart.")),
    ("crash loop", Binary("(sleep 0.3; kill -KILL $$) & exec /usr/bin/containerd.real \"$@\""), RolledBack("restart.")),
    (
        "mute socket",
        Binary("(until [ -S /run/containerd/containerd.sock ]; do sleep 0.01; done; kill -STOP $$) & exec /usr/bin/containerd.real \"$@\""),
        RolledBack("restart."),
    ),
    (
        "another --config in the unit",
        Shell(
            "cp -p /etc/containerd/config.toml /etc/containerd/other.toml; mkdir -p /etc/systemd/system/containerd.service.d; printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/containerd --config /etc/containerd/other.toml\\n' > /etc/systemd/system/containerd.service.d/other.conf; systemctl daemon-reload; systemctl restart containerd",
        ),
        InEffect,
    ),
    (
        "a drop-in with another binary",
        Shell(
            "mkdir -p /etc/systemd/system/containerd.service.d; printf '[Service]\\nExecStart=\\nExecStart=/usr/bin/false\\n' > /etc/systemd/system/containerd.service.d/false.conf; systemctl daemon-reload",
        ),
        Refused("config.broken"),
    ),
    (
        "KillMode changed",
        Shell(
            "mkdir -p /etc/systemd/system/containerd.service.d; printf '[Service]\\nKillMode=control-group\\n' > /etc/systemd/system/containerd.service.d/kill.conf; systemctl daemon-reload",
        ),
        Refused("restart.kill-mode"),
    ),
    (
        "inotify used up",
        Shell(
            "mkdir -p /etc/systemd/system/mirrorlet.service.d; printf '[Service]\\nSystemCallFilter=~inotify_init1\\nSystemCallErrorNumber=EMFILE\\n' > /etc/systemd/system/mirrorlet.service.d/inotify.conf; systemctl daemon-reload",
        ),
        Refused("restart.inotify"),
    ),
    ("D-Bus gone", Shell("systemctl stop dbus.socket dbus.service"), InEffect),
    ("start limit nearly hit", Shell("for _ in 1 2 3 4; do systemctl restart containerd; done"), InEffect),
];

fn make_sick(agent: &Agent, sickness: Sickness) {
    let node = &agent.node;
    match sickness {
        Config(lines) => {
            let text = node.read_text(CONFIG);
            node.write_atomic(CONFIG, format!("{text}{lines}"));
        }
        Shell(words) => drop(node.run_ok(["sh", "-c", words])),
        Binary(words) => {
            let stub = format!(
                "#!/bin/sh\ncase \"$*\" in *--version*|*dump*|*trial*) exec /usr/bin/containerd.real \"$@\";; esac\ngrep -q certs.d {CONFIG} || exec /usr/bin/containerd.real \"$@\"\n{words}\n"
            );
            node.write("/usr/bin/containerd.stub", stub);
            node.run_ok(["sh", "-c", "chmod 755 /usr/bin/containerd.stub && ln /usr/bin/containerd /usr/bin/containerd.real && mv /usr/bin/containerd.stub /usr/bin/containerd"]);
        }
    }
}

/// What became of the spec, or how that differs from what is expected.
fn gone_through(kind: &str, sickness: Sickness, end: End, (name, generation): (&str, Generation)) -> Result<String, String> {
    let stand = Stand::new();
    let agent = stand.boot(NodeOptions::new(generation));
    let settings =
        "[restart]\nsettle_for = \"4s\"\nquiet_for = \"0s\"\nready_deadline = \"3s\"\nmax_per_hour = 60\naccept = [\"config\", \"unit\"]\n";
    agent.node.write("/etc/mirrorlet/mirrorlet.toml", settings);
    make_sick(&agent, sickness);
    agent.node.run_ok(["systemctl", "restart", "mirrorlet"]);
    agent.node.wait_cri(Duration::from_secs(10));
    let (tree, starts) = (agent.containerd_tree(), agent.starts());
    agent.write_spec(SPEC);
    let status = agent.wait_until(kind, |status| ENDS.iter().any(|end| status["condition"] == *end));
    let (condition, code) = match end {
        Refused(code) => ("refused", code),
        RolledBack(code) => ("rolled-back", code),
        InEffect => ("in-effect", ""),
    };
    let found = status["problems"][0]["code"].as_str().unwrap_or_default();
    let gap = status["last_change"]["outcome"]["cri_gap_ms"].as_u64().unwrap_or_default();
    let told = format!("{kind} on {name}: {} {found}, CRI gap {gap} ms", status["condition"].as_str().unwrap_or_default());
    let is_as_before = agent.containerd_tree() == tree;
    let is_fine = match end {
        Refused(_) => is_as_before && agent.starts() == starts,
        RolledBack(_) => is_as_before && gap <= READY_DEADLINE_MS + SLACK_MS,
        InEffect => {
            stand.mirror_serves(&agent);
            true
        }
    };
    let is_expected = status["condition"] == condition && found.starts_with(code) && is_fine && agent.node.cri_answers();
    if is_expected { Ok(told) } else { Err(format!("{told}; as before: {is_as_before}\n{:#}", status["problems"])) }
}

fn row(generation: usize) {
    let all: Vec<usize> = (0..KINDS.len()).collect();
    let ends = chosen(&format!("sick-{generation}"), &all).into_iter().map(|kind| {
        let (name, sickness, end) = KINDS[kind];
        gone_through(name, sickness, end, GENERATIONS[generation])
    });
    let (fine, wrong): (Vec<_>, Vec<_>) = ends.partition(Result::is_ok);
    fine.into_iter().flatten().for_each(|told| println!("{told}"));
    let wrong: Vec<String> = wrong.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn sick_on_16() {
    row(0);
}

#[test]
fn sick_on_17() {
    row(1);
}

#[test]
fn sick_on_2() {
    row(2);
}
