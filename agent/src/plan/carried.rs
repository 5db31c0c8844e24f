//! Mirrors of the node's own: what it had before the agent keeps working.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    observed::{HostEntry, Observed, effective::Registry, entry::Entry, record::Carried, version::Version},
    render::host_directory,
    spec::{desired::Desired, problem::Problem},
};

/// What decides which of them there are.
#[derive(Debug, Clone, Copy)]
pub struct Finder<'a> {
    /// What is on the node.
    pub observed: &'a Observed,
    /// Its registry settings.
    pub registry: &'a Registry,
    /// The containerd that will read what is written.
    pub version: &'a Version,
    /// The directory of host directories.
    pub hosts_dir: &'a str,
    /// What is wanted beside them.
    pub desired: &'a Desired,
}

impl Finder<'_> {
    /// Those remembered, and those found now.
    pub fn find(&self, notices: &mut Vec<Problem>) -> Carried {
        let remembered = &self.observed.record.carried;
        let mut carried = remembered.clone();
        carried.mirrors.extend(self.registry.mirrors.clone());
        if self.version.has_configs_tls() {
            carried.tls.extend(self.registry.tls.clone());
        } else if !self.registry.tls.is_empty() {
            notices.push(Problem::new(
                "carried.tls-ignored",
                format!("registry.configs.*.tls in {} has no effect since containerd 2.0 and is left alone", self.config_path()),
                "give the CA to the entry of the spec that needs it",
            ));
        }
        let new = self.registry.mirrors.iter().filter(|(namespace, _)| !remembered.mirrors.contains_key(*namespace));
        notices.extend(new.map(|(namespace, endpoints)| self.mirror_notice(namespace, endpoints)));
        carried.links.extend(self.new_links(notices));
        carried
    }

    fn config_path(&self) -> &str {
        &self.observed.config.root.path
    }

    fn mirror_notice(&self, namespace: &str, endpoints: &[String]) -> Problem {
        let config = self.config_path();
        if host_directory::directory_of(namespace).is_none() {
            return Problem::new(
                "carried.dead-name",
                format!("registry.mirrors in {config} has \"{namespace}\", which is no registry's name, so that containerd never used it"),
                "it is put back by disable, and has no effect until then either",
            );
        }
        let is_mirrored = self.desired.by_host().keys().any(|host| host.as_str() == namespace);
        let place = if is_mirrored { "after the endpoints of the spec" } else { "as before" };
        let endpoints: Vec<String> = endpoints.iter().map(|endpoint| host_directory::without_login(endpoint)).collect();
        Problem::new(
            "carried.mirror",
            format!("the mirror {} of {namespace} in {config} is carried over to hosts.toml and asked {place}", endpoints.join(", ")),
            "",
        )
    }

    /// Host directories of the other roots of a `config_path` list.
    fn new_links(&self, notices: &mut Vec<Problem>) -> BTreeMap<String, String> {
        let (hosts, authorities) = (self.desired.by_host(), self.desired.by_authority());
        let wanted: BTreeSet<&str> = hosts.keys().map(|host| host.as_str()).chain(authorities.keys().map(String::as_str)).collect();
        let mut links = BTreeMap::new();
        for (root, entries) in &self.observed.other_roots {
            let usable = entries.iter().filter(|(name, entry)| is_host_directory(name, entry) && !wanted.contains(name.as_str()));
            for (name, _) in usable {
                if self.observed.hosts_dir.as_ref().is_some_and(|here| here.contains_key(name)) {
                    let message = format!("{name} is in {root} and in {}; the latter counts", self.hosts_dir);
                    notices.push(Problem::new("carried.two-roots", message, ""));
                } else {
                    links.entry(name.clone()).or_insert_with(|| format!("{root}/{name}"));
                }
            }
        }
        notices.extend(self.links_notice(&links));
        links
    }

    fn links_notice(&self, links: &BTreeMap<String, String>) -> Option<Problem> {
        let names = links.keys().cloned().collect::<Vec<_>>().join(", ");
        let is_one_directory = self.registry.config_path.as_deref().is_some_and(|path| !path.is_empty() && !path.contains(':'));
        let message = match (links.is_empty(), self.version.searches_config_path_list() || is_one_directory) {
            (true, _) => return None,
            (false, true) => format!("host directories of other roots are linked into {}: {names}", self.hosts_dir),
            (false, false) => format!(
                "containerd {} did not read these host directories, because config_path was a list; linked into {} they wake up: {names}",
                self.version, self.hosts_dir
            ),
        };
        Some(Problem::new("carried.links", message, ""))
    }
}

fn is_host_directory(name: &str, entry: &HostEntry) -> bool {
    !name.starts_with('.') && matches!(entry.entry, Entry::Directory { .. } | Entry::Symlink { .. })
}
