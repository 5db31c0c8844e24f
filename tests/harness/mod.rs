//! The test house: real nodes, real registries, no containers and no internet.
//!
//! A [`lab::Lab`] is one network namespace with a certificate authority. Every address of 192.0.2.0/24 (and 2001:db8::/64) is
//! local in it, so a registry may listen on any of them and a port without a listener refuses; 198.51.100.0/24 swallows packets.
//! A [`node::Node`] is a systemd of its own in namespaces, with the containerd of a Debian release ([`rootfs::Generation`]): a
//! shared root file system below, a folder of its own above, and the network of its lab. The folder outlives a reboot.
//! A [`registry::Registry`] is Debian's `docker-registry` in that network: mirror or upstream, with TLS, Basic or token login
//! ([`token_server::TokenServer`]). What it served is read from its own access log. An image ([`images::Image`]) is built in
//! memory and laid straight into a registry's storage, or pushed by skopeo.
//!
//! Names become addresses through the node's /etc/hosts; the lab's authority is in each node's system trust.
//!
//! Nothing outlives the test: children die with the thread that started them (one that never ends), mounts lie in the namespaces
//! of the node, and what remains on disk of a killed test is swept by the next one. All work lies in /var/tmp/mirrorlet-house.
//! The root file systems are built once by debootstrap into `$MIRRORLET_CACHE` (default /var/cache/mirrorlet-house).
//!
//! The host needs root, cgroup2, the tools of [`rootfs::prerequisites`], and about nine inotify instances a node (the kernel's
//! default of 128 holds fourteen nodes at once).
#![allow(dead_code, reason = "each test uses its part of the house")]
#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "the house is all effects")]

/// What a registry logged.
pub mod access_log;
/// Certificates the nodes trust.
pub mod ca;
/// The few CRI calls the house makes itself.
pub mod cri;
/// Small images.
pub mod images;
/// One network with its nodes and registries.
pub mod lab;
/// The network namespace of a lab.
pub mod netns;
/// A booted node.
pub mod node;
/// Children that cannot outlive the test.
pub mod process;
/// Debian's registry as a child.
pub mod registry;
/// Root file systems, one for each generation of containerd.
pub mod rootfs;
/// The issuer of registry tokens.
pub mod token_server;
/// Folders on disk and cgroups, and what is left of them.
pub mod workdir;
