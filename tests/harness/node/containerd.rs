//! The containerd of a node: its CRI, images and containers.

use std::path::PathBuf;
use std::time::Duration;

use super::{Node, tail};
use crate::harness::cri::{self, Login};
use crate::harness::process::eventually;

const CONTAINERD: &str = "containerd.service";
const PULL_TIMEOUT: Duration = Duration::from_secs(60);

impl Node {
    /// containerd's socket as the host reaches it.
    pub fn containerd_socket(&self) -> PathBuf {
        self.path("/run/containerd/containerd.sock")
    }

    /// Whether the CRI answers now.
    pub fn cri_answers(&self) -> bool {
        cri::answers(&self.containerd_socket())
    }

    /// Waits until the CRI answers; panics with the journal when it does not.
    pub fn wait_cri(&self, timeout: Duration) {
        eventually("the CRI answers", timeout, || self.cri_answers());
    }

    /// Pulls through the CRI, as a kubelet does; the error is what containerd's journal said last.
    pub fn pull(&self, image: &str, login: Option<&Login>) -> Result<String, String> {
        let pulled = cri::pull(&self.containerd_socket(), image, login, PULL_TIMEOUT).map_err(|error| error.to_string())?;
        pulled.ok_or_else(|| tail(&self.journal(CONTAINERD), 8))
    }

    /// Removes an image through the CRI, so that the next pull asks the registries again.
    pub fn remove_image(&self, image: &str) {
        let removed = cri::remove(&self.containerd_socket(), image);
        assert!(matches!(removed, Ok(true)), "cannot remove {image}: {removed:?}");
    }

    /// Starts a container of an image the node has (or pulls it first); returns its process as the node sees it.
    pub fn run_container(&self, image: &str, name: &str) -> u32 {
        // without limits: the host may have no cgroup2 controllers
        self.run_ok(["ctr", "-n", "k8s.io", "run", "-d", "--net-host", "--cpu-shares", "0", image, name]);
        self.container_pid(name).unwrap_or_else(|| panic!("container {name} has no process"))
    }

    /// The process of a running container, as containerd knows it.
    pub fn container_pid(&self, name: &str) -> Option<u32> {
        let tasks = self.run_ok(["ctr", "-n", "k8s.io", "task", "ls"]);
        let mut words = tasks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        words.find(|words| words.first() == Some(&name) && words.get(2) == Some(&"RUNNING"))?.get(1)?.parse().ok()
    }

    /// containerd's process as the node sees it.
    pub fn containerd_pid(&self) -> Option<u32> {
        self.main_pid(CONTAINERD)
    }

    /// How often systemd has begun to start containerd since boot, the first start included.
    pub fn containerd_starts(&self) -> usize {
        self.starts(CONTAINERD)
    }
}
