//! A node with the agent on it, a mirror and an upstream beside it: what most tests begin with.

use std::path::Path;

use crate::harness::{
    access_log::Served,
    images::Image,
    lab::Lab,
    node::{Node, NodeOptions},
    registry::{Registry, RegistryOptions},
};

/// Where the mirror of a stand listens.
pub const MIRROR: &str = "192.0.2.10:5000";

pub fn agent_files() -> Vec<(&'static Path, &'static str, u32)> {
    vec![
        (Path::new(env!("CARGO_BIN_EXE_mirrorlet")), "/usr/bin/mirrorlet", 0o755),
        (Path::new(env!("CARGO_BIN_EXE_mirrorctl")), "/usr/bin/mirrorctl", 0o755),
    ]
}

/// Lab, upstream for `up.lab gcr.io`, and one plain mirror; both have the image `lib/app:1`.
pub struct Stand {
    pub lab: Lab,
    pub upstream: Registry,
    pub mirror: Registry,
}

impl Stand {
    pub fn new() -> Self {
        Self::with_mirror(|_, options| options)
    }

    pub fn with_mirror(options: impl FnOnce(&Lab, RegistryOptions) -> RegistryOptions) -> Self {
        let lab = Lab::create();
        let upstream = lab.upstream("192.0.2.20", "up.lab gcr.io");
        let mirror = lab.registry(options(&lab, RegistryOptions::new(MIRROR)));
        let stand = Self { lab, upstream, mirror };
        stand.put(&app(), true);
        stand
    }

    /// Puts an image into the upstream, and into the mirror too.
    pub fn put(&self, image: &Image, mirrored: bool) {
        image.put(&self.upstream.storage());
        if mirrored {
            image.put(&self.mirror.storage());
        }
    }

    /// Boots a node and installs the agent, not started.
    pub fn boot(&self, options: NodeOptions) -> Node {
        let node = self.lab.boot(options);
        node.install(&agent_files());
        node
    }
}

pub fn app() -> Image {
    Image::random("lib/app", "1", &[1000, 50_000])
}

/// What one whole pull of [`app`] looks like in an access log.
pub const WHOLE_PULL: Served = Served { tags: 1, manifests: 1, blobs: 3 };

/// Pulls, and says who served it: (mirror, upstream).
pub fn pull_and_see(node: &Node, reference: &str, repository: &str, mirror: &Registry, upstream: &Registry) -> (Served, Served) {
    node.remove_image(reference);
    mirror.forget();
    upstream.forget();
    node.pull(reference, None).unwrap_or_else(|error| panic!("{reference}: {error}"));
    (mirror.served(repository), upstream.served(repository))
}
