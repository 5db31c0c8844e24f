//! A node with the agent on it, a mirror and an upstream beside it: what most tests begin with.

use std::{env, path::Path, time::Duration};

use serde_json::Value;

use crate::harness::{
    access_log::Served,
    images::Image,
    lab::Lab,
    node::{Node, NodeOptions},
    process::holds_within,
    registry::{Registry, RegistryOptions},
};

/// Where the mirror of a stand listens.
pub const MIRROR: &str = "192.0.2.10:5000";
/// Where the upstream of a stand listens, under its public names.
pub const UPSTREAM: &str = "192.0.2.20";
/// Where the spec of a node is.
pub const SPEC: &str = "/etc/mirrorlet/mirrors.yaml";
/// containerd's config file.
pub const CONFIG: &str = "/etc/containerd/config.toml";
/// Names the bug that is planted in the programs under test.
pub const PLANTED: &str = "MIRRORLET_PLANTED";
/// How long a change may take to be in effect; a restart settles for a moment.
const PATIENCE: Duration = Duration::from_secs(60);
/// A planted bug keeps it from ever being in effect: that is known sooner.
const IMPATIENCE: Duration = Duration::from_secs(20);
/// What one whole pull of [`app`] looks like in an access log.
pub const WHOLE_PULL: Served = Served { tags: 1, manifests: 1, blobs: 3 };

/// Lab, upstream for `up.lab gcr.io`, and one mirror; both have the image `lib/app:1`.
pub struct Stand {
    pub upstream: Registry,
    pub mirror: Registry,
    pub lab: Lab,
}

impl Stand {
    pub fn new() -> Self {
        Self::with_mirror(|_, options| options)
    }

    pub fn with_mirror(options: impl FnOnce(&Lab, RegistryOptions) -> RegistryOptions) -> Self {
        let lab = Lab::create();
        let upstream = lab.upstream(UPSTREAM, "up.lab gcr.io");
        let mirror = lab.registry(options(&lab, RegistryOptions::new(MIRROR)));
        let image = app();
        image.put(&upstream.storage());
        image.put(&mirror.storage());
        Self { upstream, mirror, lab }
    }

    /// Another plain mirror with the same image.
    pub fn another_mirror(&self, address: &str) -> Registry {
        let mirror = self.lab.registry(RegistryOptions::new(address).storage(self.mirror.storage()));
        mirror.forget();
        mirror
    }

    /// Boots a node with the agent under its shipped unit, running. It has seen what containerd was started from: what a test changes in
    /// that is known by its bytes, not by the clock.
    pub fn boot(&self, options: NodeOptions) -> Agent {
        let node = self.lab.boot(options);
        install_agent(&node);
        let agent = Agent { node };
        agent.wait_until("seen", |status| status["observed_at"].as_i64() > Some(0));
        agent
    }

    /// Pulls `lib/app:1` by a name of the upstream, and says who served it: (mirror, upstream).
    pub fn pull(&self, agent: &Agent, registry: &str) -> (Served, Served) {
        pull_and_see(agent, &format!("{registry}/lib/app:1"), &self.mirror, &self.upstream)
    }

    /// The mirror serves tag, manifest and blobs of `up.lab/lib/app:1`; the upstream is not asked.
    pub fn mirror_serves(&self, agent: &Agent) {
        let (mirror, upstream) = self.pull(agent, "up.lab");
        assert_eq!(mirror, WHOLE_PULL, "the mirror's log:\n{}", self.mirror.log());
        assert!(upstream.is_nothing(), "the upstream's log:\n{}", self.upstream.log());
    }
}

fn install_agent(node: &Node) {
    let units = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../systemd"));
    node.install(&[
        (Path::new(env!("CARGO_BIN_EXE_mirrorlet")), "/usr/bin/mirrorlet", 0o755),
        (Path::new(env!("CARGO_BIN_EXE_mirrorctl")), "/usr/bin/mirrorctl", 0o755),
        (&units.join("mirrorlet.service"), "/usr/lib/systemd/system/mirrorlet.service", 0o644),
        (&units.join("mirrorlet-recover.service"), "/usr/lib/systemd/system/mirrorlet-recover.service", 0o644),
        (&units.join("mirrorlet.sysusers"), "/usr/lib/sysusers.d/mirrorlet.conf", 0o644),
        (&units.join("mirrorlet.tmpfiles"), "/usr/lib/tmpfiles.d/mirrorlet.conf", 0o644),
    ]);
    if let Ok(bug) = env::var(PLANTED) {
        node.write("/etc/systemd/system/mirrorlet.service.d/planted.conf", format!("[Service]\nEnvironment={PLANTED}={bug}\n"));
    }
    node.run_ok(["systemd-sysusers"]);
    node.run_ok(["systemctl", "daemon-reload"]);
    node.write("/etc/mirrorlet/mirrorlet.toml", "[restart]\nsettle_for = \"500ms\"\nquiet_for = \"50ms\"\nmax_per_hour = 60\n");
    node.run_ok(["systemctl", "enable", "--now", "mirrorlet"]);
}

/// A node with the agent.
pub struct Agent {
    pub node: Node,
}

impl Agent {
    /// `mirrorctl status -o json`.
    pub fn status(&self) -> Value {
        let output = self.node.run(["mirrorctl", "-o", "json", "status"]);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("status is no JSON: {error}\n{output:?}"))
    }

    /// Writes the spec as an editor does.
    pub fn write_spec(&self, text: &str) {
        self.node.write_atomic(SPEC, text);
    }

    /// Waits for a status.
    pub fn wait_until(&self, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut last = Value::Null;
        let patience = if env::var_os(PLANTED).is_some() { IMPATIENCE } else { PATIENCE };
        let reached = holds_within(patience, || {
            last = self.status();
            is_so(&last)
        });
        assert!(reached, "never {what}; last:\n{last:#}\n{}", self.node.journal("mirrorlet"));
        last
    }

    /// Waits for a condition.
    pub fn wait_for(&self, condition: &str) -> Value {
        self.wait_until(condition, |status| status["condition"] == condition)
    }

    /// Writes a spec and waits until another spec than before is in effect.
    pub fn put_in_effect(&self, spec: &str) -> Value {
        let before = self.status()["wanted_spec_digest"].clone();
        self.write_spec(spec);
        self.wait_until("in effect", |status| status["condition"] == "in-effect" && status["wanted_spec_digest"] != before)
    }

    /// Every file and directory below /etc/containerd with mode, owner, link target and digest.
    pub fn containerd_tree(&self) -> String {
        let list = "cd /etc/containerd && find . -printf '%p %y %m %U %G %l\\n' | sort && find . -type f -print0 | sort -z | xargs -0 -r sha256sum";
        // a file may go while it is listed
        self.node.run(["sh", "-c", list]).stdout
    }

    /// `mirrorctl disable`.
    pub fn disable(&self) {
        self.node.run_ok(["mirrorctl", "disable"]);
    }

    /// Removes every image with its content, so that the next pull fetches all of it.
    pub fn forget_images(&self) {
        self.node.run_ok(["sh", "-c", "ctr -n k8s.io images ls -q | xargs -r ctr -n k8s.io images rm --sync"]);
    }

    /// Times containerd was started since boot.
    pub fn starts(&self) -> usize {
        self.node.containerd_starts()
    }
}

/// The image that both registries of a stand have.
pub fn app() -> Image {
    Image::random("lib/app", "1", &[1000, 50_000])
}

/// Pulls a ref of `lib/app` anew, and says who served it: (mirror, upstream).
pub fn pull_and_see(agent: &Agent, reference: &str, mirror: &Registry, upstream: &Registry) -> (Served, Served) {
    let node = &agent.node;
    agent.forget_images();
    mirror.forget();
    upstream.forget();
    node.pull(reference, None).unwrap_or_else(|error| panic!("{reference}: {error}"));
    (mirror.served("lib/app"), upstream.served("lib/app"))
}

/// A docker config.json with one login.
pub fn docker_config(host: &str, user: &str, password: &str) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    format!("{{\"auths\": {{\"{host}\": {{\"auth\": \"{}\"}}}}}}\n", STANDARD.encode(format!("{user}:{password}")))
}

/// Makes three tests of each function that takes a generation.
#[macro_export]
macro_rules! on_each_generation {
    ($($test:ident),* $(,)?) => { $(
        mod $test {
            use $crate::harness::rootfs::Generation;
            #[test]
            fn on_16() {
                super::$test(Generation::V16);
            }
            #[test]
            fn on_17() {
                super::$test(Generation::V17);
            }
            #[test]
            fn on_2() {
                super::$test(Generation::V2);
            }
        }
    )* };
}
