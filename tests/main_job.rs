//! The main job: the spec is in effect after apply, changed later without a restart, and gone without a trace.

use crate::{
    harness::{node::NodeOptions, rootfs::Generation},
    stand::{MIRROR, Stand, WHOLE_PULL, pull_and_see},
};

fn stock(generation: Generation) {
    let stand = Stand::new();
    let node = stand.boot(NodeOptions::new(generation));
    let config = node.read("/etc/containerd/config.toml");
    let stat = node.stat("/etc/containerd/config.toml");
    node.write("/etc/mirrorlet/mirrors.yaml", format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"));
    let starts = node.containerd_starts();
    println!("{}", node.run_ok(["mirrorlet", "once"]));
    assert_eq!(node.containerd_starts(), starts + 1);
    let (mirror, upstream) = pull_and_see(&node, "up.lab/lib/app:1", "lib/app", &stand.mirror, &stand.upstream);
    assert_eq!(mirror, WHOLE_PULL, "{}", stand.mirror.log());
    assert!(upstream.is_nothing());
    println!("{}", node.run_ok(["mirrorlet", "disable"]));
    assert_eq!(node.read("/etc/containerd/config.toml"), config);
    assert_eq!((node.stat("/etc/containerd/config.toml").mode, node.stat("/etc/containerd/config.toml").uid), (stat.mode, stat.uid));
    assert!(!node.exists("/etc/containerd/certs.d"));
}

#[test]
fn stock_16() {
    stock(Generation::V16);
}

#[test]
fn stock_17() {
    stock(Generation::V17);
}

#[test]
fn stock_2() {
    stock(Generation::V2);
}
