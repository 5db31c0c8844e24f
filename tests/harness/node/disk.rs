//! What a node is born with.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::{Node, random_id};
use crate::harness::rootfs::Generation;
use crate::harness::workdir::create_dir;

/// Units that would touch the host, or only cost time.
const MASKED: [&str; 26] = [
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-hugepages.mount",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty.target",
    "modprobe@.service",
    "remote-fs.target",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-logind.service",
    "systemd-modules-load.service",
    "systemd-networkd.service",
    "systemd-pstore.service",
    "systemd-resolved.service",
    "systemd-sysctl.service",
    "systemd-timesyncd.service",
    "systemd-udevd.service",
    "systemd-update-utmp-runlevel.service",
    "systemd-update-utmp.service",
    "systemd-user-sessions.service",
];

/// A file a node is born with.
#[derive(Debug, Clone)]
pub struct NodeFile {
    /// Absolute path in the node.
    pub path: PathBuf,
    /// What it holds.
    pub bytes: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
}

/// How a node is made; [`NodeOptions::new`] is a plain Debian node.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Which containerd.
    pub generation: Generation,
    /// /etc/containerd/config.toml; `None` leaves Debian's own.
    pub config_toml: Option<Vec<u8>>,
    /// Further files, there before the first boot.
    pub files: Vec<NodeFile>,
    /// /etc/hosts: address and names.
    pub hosts: Vec<(String, String)>,
    /// Certificates (PEM) to add to the system trust.
    pub trusted: Vec<String>,
    /// Whether booting waits for the CRI; false for a node whose containerd is meant to be sick.
    pub cri_expected: bool,
}

impl NodeOptions {
    /// A plain Debian node.
    pub fn new(generation: Generation) -> Self {
        Self { generation, config_toml: None, files: Vec::new(), hosts: Vec::new(), trusted: Vec::new(), cri_expected: true }
    }

    /// Replaces containerd's configuration.
    pub fn config_toml(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.config_toml = Some(text.into());
        self
    }

    /// Adds a file.
    pub fn file(mut self, path: impl Into<PathBuf>, bytes: impl Into<Vec<u8>>, mode: u32) -> Self {
        self.files.push(NodeFile { path: path.into(), bytes: bytes.into(), mode });
        self
    }

    /// Adds a line to /etc/hosts.
    pub fn host(mut self, address: &str, names: &str) -> Self {
        self.hosts.push((address.to_owned(), names.to_owned()));
        self
    }

    /// Boots without waiting for a CRI.
    pub fn without_cri(mut self) -> Self {
        self.cri_expected = false;
        self
    }
}

impl Node {
    /// Everything a node needs on its disk before it is first booted.
    pub(super) fn make_disk(&self, options: &NodeOptions) {
        ["upper", "work", "root", "containerd"].into_iter().for_each(|folder| drop(self.work.folder(folder)));
        self.make_system();
        let mut hosts = String::from("127.0.0.1 localhost\n::1 localhost\n192.0.2.1 node\n");
        options.hosts.iter().for_each(|(address, names)| hosts.push_str(&format!("{address} {names}\n")));
        self.write("/etc/hosts", hosts);
        self.trust(&options.trusted);
        if let Some(config) = &options.config_toml {
            self.write("/etc/containerd/config.toml", config);
        }
        for NodeFile { path, bytes, mode } in &options.files {
            self.write(path, bytes);
            let target = self.path(path);
            fs::set_permissions(&target, fs::Permissions::from_mode(*mode)).unwrap_or_else(|error| panic!("{}: {error}", target.display()));
        }
    }

    fn make_system(&self) {
        create_dir(&self.path("/var/lib/containerd"));
        create_dir(&self.path("/etc/systemd/system"));
        for unit in MASKED {
            let link = self.path("/etc/systemd/system").join(unit);
            symlink("/dev/null", &link).unwrap_or_else(|error| panic!("cannot mask {unit}: {error}"));
        }
        self.write("/etc/hostname", "node\n");
        self.write("/etc/machine-id", random_id().replace('-', ""));
        self.write("/etc/fstab", "");
        self.write("/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
        let journal = "[Journal]\nStorage=volatile\nRuntimeMaxUse=32M\nRateLimitBurst=0\n";
        self.write("/etc/systemd/journald.conf.d/house.conf", journal);
    }

    fn trust(&self, certificates: &[String]) {
        if certificates.is_empty() {
            return;
        }
        let bundle = "etc/ssl/certs/ca-certificates.crt";
        let system = fs::read_to_string(self.generation.rootfs().join(bundle)).unwrap_or_default();
        self.write(Path::new("/").join(bundle), format!("{system}\n{}", certificates.join("\n")));
    }
}
