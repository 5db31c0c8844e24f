//! How mirrors are written down: what each layout makes of the desired state, in the same terms, so that everything after it is the same for
//! both, and a switch between them is a plan like any other.

use std::collections::{BTreeMap, BTreeSet};

use super::Policy;
use crate::{
    config::Layout,
    observed::{
        Observed,
        effective::{ConfigText, Effective, Registry},
        entry::Content,
        record::{Carried, LegacyKeys},
        version::Version,
    },
    render::{config_toml::Goal, host_directory::HostDirectory},
    spec::{desired::Desired, problem::Problem},
};

/// What a layout decides from.
#[derive(Debug, Clone, Copy)]
pub struct View<'a> {
    /// What is on the node.
    pub observed: &'a Observed,
    /// What it is to be.
    pub desired: &'a Desired,
    /// What the settings say.
    pub policy: &'a Policy,
    /// The containerd that will read what is written.
    pub version: &'a Version,
    /// Its config as it is.
    pub effective: &'a Effective,
    /// The registry settings that others wrote.
    pub others: &'a Registry,
    /// The registry settings before us; those of now where the config is not ours yet.
    pub found: &'a Registry,
}

/// What is to be below the hosts directory and in config.toml.
#[derive(Debug, Default)]
pub struct Laid<'a> {
    /// Directories by name.
    pub directories: BTreeMap<String, HostDirectory>,
    /// Links by name, with their targets.
    pub links: BTreeMap<String, String>,
    /// The owned keys of config.toml.
    pub goal: Goal<'a>,
    /// Why, as phrases.
    pub reasons: Vec<String>,
    /// Mirrors of the node's own, as they were found now or before.
    pub carried: Carried,
    /// What of the legacy tables is ours.
    pub legacy: Option<LegacyKeys>,
    /// Things to know that stop nothing.
    pub notices: Vec<Problem>,
    /// What stands in the way.
    pub refusals: Vec<Problem>,
}

impl Laid<'_> {
    /// Hosts whose login is in config.toml by us.
    #[must_use]
    pub fn logins(&self) -> BTreeSet<String> {
        self.goal.logins.keys().map(|host| (*host).to_owned()).collect()
    }

    /// Mirrors that only the record holds from now on.
    #[must_use]
    pub fn remembered(&self) -> Carried {
        if self.legacy.is_some() { Carried::default() } else { self.carried.clone() }
    }
}

/// What `config_path` is to be beside this layout's mirrors; empty: nothing.
#[must_use]
pub fn config_path(policy: &Policy) -> &str {
    match policy.layout {
        Layout::Hosts => &policy.hosts_dir,
        Layout::Legacy => "",
    }
}

/// The registry settings before us; those of now where the config is not ours yet.
#[must_use]
pub fn found(observed: &Observed, now: &Registry) -> Registry {
    let path = &observed.config.root.path;
    if !observed.record.owned.contains_key(path) {
        return now.clone();
    }
    let original = observed.originals.get(path).map_or(Some(""), Content::text);
    ConfigText::parse(path, original).map(|original| original.registry()).unwrap_or_default()
}
