//! What is watched: the spec and what it names, containerd's files, our directories, containerd's socket.

use std::path::PathBuf;

use super::{Look, Reconciler};
use crate::{
    config,
    host::{inputs::input_path, watch::Interest},
    observed::entry::Entry,
    spec::InputName,
};

impl Reconciler {
    /// Watches for the spec with these inputs, and for the node. Returns whether something of it may have changed unseen.
    pub(super) fn watch_for(&mut self, inputs: &[InputName]) -> bool {
        self.watched_inputs = inputs.to_vec();
        self.watch_anew()
    }

    /// What is ours may have changed; the inputs have not.
    pub(super) fn watch_anew(&mut self) -> bool {
        let (spec, node) = (self.spec_interest(), self.node_interest());
        self.host.blame.follow(node.to_watch());
        self.watch.set(spec, node)
    }

    /// A drop-in that appears, changes or goes may override what is ours.
    pub(super) fn watch_imports(&mut self, look: &Look) {
        let directories = &look.observed.config.import_directories;
        if self.import_directories != *directories {
            self.import_directories.clone_from(directories);
            self.watch_anew();
            // One of them may have changed before it was watched.
            self.changes.node.notify_one();
        }
    }

    fn seen(&self, path: &str) -> PathBuf {
        self.host.files.seen(path)
    }

    fn spec_interest(&self) -> Interest {
        let settings = &self.host.settings.spec;
        let mut interest = Interest::default();
        interest.follow(&self.seen(&settings.path));
        if self.host.files.is_directory(&settings.path) {
            interest.directories.insert(self.seen(&settings.path));
            for name in self.host.files.names(&settings.path).unwrap_or_default() {
                interest.follow(&self.seen(&format!("{}/{name}", settings.path)));
            }
        }
        for name in &self.watched_inputs {
            interest.follow(&self.seen(&input_path(name, &settings.secrets_dir)));
        }
        interest
    }

    fn node_interest(&self) -> Interest {
        let mut interest = Interest::default();
        let status = self.status.borrow();
        let known = |path: &str, default: &str| self.seen(if path.is_empty() { default } else { path });
        interest.follow(&known(&status.containerd.config_path, config::CONTAINERD_CONFIG_PATH));
        interest.follow(&known(&status.containerd.address, config::CONTAINERD_SOCKET_PATH));
        let hosts_dir = self.seen(&self.host.settings.containerd.hosts_dir);
        interest.follow(&hosts_dir);
        interest.directories.insert(hosts_dir);
        let ours = self.record.owned.iter().filter(|(_, entry)| matches!(entry, Entry::Directory { .. }));
        interest.directories.extend(ours.map(|(path, _)| self.seen(path)));
        for directory in &self.import_directories {
            interest.follow(&self.seen(directory));
            interest.directories.insert(self.seen(directory));
        }
        interest
    }
}
