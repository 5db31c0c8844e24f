//! The Debian package: installing it touches nothing, removing it gives the node back, unless the admin chose otherwise.

use std::{env, path::PathBuf};

use crate::{
    harness::{node::NodeOptions, rootfs::Generation},
    stand::{Agent, CONFIG, MIRROR, PLANTED, Stand},
};

/// What `make deb` left.
fn package() -> PathBuf {
    let path = env::var_os("MIRRORLET_DEB").map(PathBuf::from).filter(|path| path.exists());
    path.unwrap_or_else(|| panic!("the package is not built: run \"make deb\", then the tests by \"make test\" (it sets MIRRORLET_DEB)"))
}

fn install(agent: &Agent) {
    agent.node.install(&[(&package(), "/root/mirrorlet.deb", 0o644)]);
    agent.node.run_ok(["dpkg", "-i", "/root/mirrorlet.deb"]);
}

fn installed_and_removed(generation: Generation) {
    let stand = Stand::new();
    let agent = Agent { node: stand.lab.boot(NodeOptions::new(generation)) };
    let (config, starts) = (agent.node.read(CONFIG), agent.starts());
    install(&agent);
    let programs = ["/usr/bin/mirrorlet", "/usr/bin/mirrorctl"];
    assert!(
        programs.iter().all(|program| !agent.node.run(["grep", "-qa", PLANTED, program]).success()),
        "no bug can be planted in a package"
    );
    assert_eq!(agent.node.run(["systemctl", "is-active", "mirrorlet"]).stdout.trim(), "inactive");
    assert_eq!((agent.node.read(CONFIG), agent.starts()), (config.clone(), starts), "installing touches nothing");
    agent.node.run_ok(["systemctl", "enable", "--now", "mirrorlet"]);
    agent.wait_for("no-spec");
    assert_eq!((agent.node.read(CONFIG), agent.starts()), (config.clone(), starts), "without a spec nothing is touched");
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"));
    stand.mirror_serves(&agent);
    agent.node.run_ok(["dpkg", "-r", "mirrorlet"]);
    assert_eq!(agent.node.read(CONFIG), config);
    assert!(!agent.node.exists("/etc/containerd/certs.d") && !agent.node.exists("/usr/bin/mirrorlet"));
    agent.node.run_ok(["dpkg", "--purge", "mirrorlet"]);
    assert!(!agent.node.exists("/var/lib/mirrorlet"));

    let starts = agent.starts();
    install(&agent);
    agent.node.run_ok(["dpkg", "-r", "mirrorlet"]);
    assert_eq!(agent.starts(), starts, "removing what was never used restarts nothing");
}
crate::on_each_generation!(installed_and_removed);

#[test]
fn kept_when_the_admin_chose_so() {
    let stand = Stand::new();
    let agent = Agent { node: stand.lab.boot(NodeOptions::new(Generation::V17)) };
    install(&agent);
    agent.node.run_ok(["systemctl", "enable", "--now", "mirrorlet"]);
    agent.put_in_effect(&format!("registryMirrors:\n  - endpoint: http://{MIRROR}\n    hosts: [up.lab]\n"));
    agent.node.write("/etc/mirrorlet/keep-on-removal", "");
    agent.node.run_ok(["dpkg", "-r", "mirrorlet"]);
    stand.mirror_serves(&agent);
}
