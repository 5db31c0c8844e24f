//! The config that containerd would start with, made fit for looking at it beforehand: a copy that means the same anywhere, and one that
//! a second containerd can be started with beside the first.

use core::net::IpAddr;
use std::collections::BTreeMap;

use serde_json::Value as Json;
use toml_edit::{Array, DocumentMut, Item, TableLike, value};

use super::{Plan, step::Change};
use crate::{
    observed::{
        Observed,
        effective::{CRI_OF_VERSION_2, ConfigText, IMAGES_OF_VERSION_3, canonical},
        entry::Content,
    },
    spec::problem::Problem,
};

/// Snapshotters that take hold of pools, volumes or mounts outside their own directory.
const REACHES_OUT: [&str; 6] = ["aufs", "blockfile", "btrfs", "devmapper", "erofs", "zfs"];
/// Where containerd looks for NRI plugins that it starts itself.
const NRI_PLUGINS: &str = "/opt/nri/plugins";
/// Whose settings say otherwise.
const NRI: &str = "io.containerd.nri.v1.nri";
/// A snapshotter that needs nothing but a directory.
const PLAIN: &str = "overlayfs";

/// A config for a second containerd, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// Its text; holds secrets.
    pub config: String,
    /// What is in the node's config and not in this one, for the report.
    pub left_out: Vec<String>,
}

/// The text containerd would start with after the plan; empty when there is no file.
#[must_use]
pub fn text(plan: &Plan, observed: &Observed) -> String {
    let path = &observed.containerd.place.config;
    let step = plan.steps.iter().rev().find(|step| step.path == *path);
    let content = match step.map(|step| &step.change) {
        Some(Change::PutFile(file)) => Some(&file.content),
        Some(_) => None,
        None => observed.config.root.text.as_ref(),
    };
    content.and_then(Content::text).unwrap_or_default().to_owned()
}

/// The same text for another directory: relative imports are made absolute.
///
/// # Errors
/// When it is no config file.
pub fn copy(path: &str, text: &str) -> Result<String, Problem> {
    Ok(moved(path, text)?.to_string())
}

fn moved(path: &str, text: &str) -> Result<DocumentMut, Problem> {
    let mut document = ConfigText::parse(path, Some(text))?.document;
    let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
    if let Some(imports) = document.get("imports").and_then(Item::as_array) {
        let absolute = |import: &str| if import.starts_with('/') { import.to_owned() } else { format!("{directory}/{import}") };
        let imports: Array = imports.iter().filter_map(toml_edit::Value::as_str).map(absolute).collect();
        document.insert("imports", value(imports));
    }
    Ok(document)
}

/// The directory of programs that a containerd with this dump of its config starts by itself. `None`: it starts none. Without a dump it is
/// taken to have the newest defaults.
#[must_use]
pub fn nri_plugins(dump: Option<&str>) -> Option<String> {
    let Some(document) = dump.and_then(|dump| dump.parse::<DocumentMut>().ok()) else { return Some(NRI_PLUGINS.to_owned()) };
    let nri = document.get("plugins")?.get(NRI)?;
    let is_off = nri.get("disable").and_then(Item::as_bool).unwrap_or_default();
    (!is_off).then(|| nri.get("plugin_path").and_then(Item::as_str).unwrap_or(NRI_PLUGINS).to_owned())
}

/// A config for a second containerd that touches nothing of the first: no listener but the one it is given, no foreign snapshotter, no
/// cgroup to move to, no address of the node's.
///
/// # Errors
/// When it is no config file.
pub fn trial(path: &str, text: &str) -> Result<Trial, Problem> {
    let mut document = moved(path, text)?;
    let mut left_out = Vec::new();
    let root: &mut dyn TableLike = document.as_table_mut();
    for listener in ["grpc", "ttrpc", "debug", "metrics"] {
        root.remove(listener);
    }
    if let Some(cgroup) = root.remove("cgroup").as_ref().and_then(|cgroup| cgroup.get("path")?.as_str().filter(|path| !path.is_empty())) {
        left_out.push(format!("cgroup {cgroup}"));
    }
    if let Some(proxies) = root.remove("proxy_plugins").as_ref().and_then(Item::as_table_like) {
        left_out.extend(proxies.iter().map(|(name, _)| format!("proxy plugin {name}")));
    }
    let mut disabled: Array = root.get("disabled_plugins").and_then(Item::as_array).cloned().unwrap_or_default();
    for snapshotter in REACHES_OUT {
        disabled.push(format!("io.containerd.snapshotter.v1.{snapshotter}"));
    }
    root.insert("disabled_plugins", value(disabled));
    if let Some(plugins) = root.get_mut("plugins").and_then(Item::as_table_like_mut) {
        for server in ["grpc", "ttrpc", "debug", "metrics"] {
            plugins.remove(&format!("io.containerd.server.v1.{server}"));
        }
        left_out.extend(with_stream_server_at_home(plugins.get_mut(CRI_OF_VERSION_2)));
        let cri = plugins.get_mut(CRI_OF_VERSION_2).and_then(|cri| cri.get_mut("containerd"));
        left_out.extend(with_plain_snapshotter(cri));
        left_out.extend(with_plain_snapshotter(plugins.get_mut(IMAGES_OF_VERSION_3)));
    }
    Ok(Trial { config: document.to_string(), left_out })
}

fn with_plain_snapshotter(table: Option<&mut Item>) -> Option<String> {
    let table = table?.as_table_like_mut()?;
    let name = table.get("snapshotter")?.as_str()?.to_owned();
    // An unknown name stays: containerd's CRI dies of it, and that is what a trial is for.
    if !REACHES_OUT.contains(&name.as_str()) {
        return None;
    }
    table.insert("snapshotter", value(PLAIN));
    Some(format!("snapshotter {name}"))
}

/// A trial has no address of the node's, and containerd ends when its stream server cannot listen.
fn with_stream_server_at_home(table: Option<&mut Item>) -> Option<String> {
    let table = table?.as_table_like_mut()?;
    let address = table.get("stream_server_address")?.as_str()?.to_owned();
    let is_there = |address: IpAddr| address.is_loopback() || address.is_unspecified();
    if address == "localhost" || address.parse().is_ok_and(is_there) {
        return None;
    }
    table.insert("stream_server_address", value("127.0.0.1"));
    Some(format!("stream server at {address}"))
}

/// Keys in which two dumps of containerd's effective config differ, the registry settings left out: those are meant to.
///
/// # Errors
/// When one of them is no TOML; a sentence.
pub fn differences(before: &str, after: &str) -> Result<Vec<String>, String> {
    let (before, after) = (foreign(before)?, foreign(after)?);
    let mut keys: Vec<String> = before.iter().filter(|(key, value)| after.get(*key) != Some(value)).map(|(key, _)| key.clone()).collect();
    keys.extend(after.keys().filter(|key| !before.contains_key(*key)).cloned());
    keys.sort();
    Ok(keys)
}

/// Registries whose mirrors a config names and containerd's own dump of it does not: this release knows the key no more, or reads another
/// file after this one.
///
/// # Errors
/// When one of them is no config file.
pub fn ignored(path: &str, text: &str, dump: &str) -> Result<Vec<String>, Problem> {
    let wanted = ConfigText::parse(path, Some(text))?.registry().mirrors;
    let read = ConfigText::parse("config dump", Some(dump))?.registry().mirrors;
    Ok(wanted.into_iter().filter(|(registry, endpoints)| read.get(registry) != Some(endpoints)).map(|(registry, _)| registry).collect())
}

fn foreign(dump: &str) -> Result<BTreeMap<String, Json>, String> {
    let document: DocumentMut = dump.parse().map_err(|error| format!("the dump cannot be read: {error}"))?;
    let mut leaves = BTreeMap::new();
    collect("", &canonical(document.as_table()), &mut leaves);
    let is_meant = |key: &str| {
        key == "imports" || [CRI_OF_VERSION_2, IMAGES_OF_VERSION_3].iter().any(|id| key.starts_with(&format!("plugins.{id}.registry")))
    };
    leaves.retain(|key, _| !is_meant(key));
    Ok(leaves)
}

fn collect(prefix: &str, value: &Json, leaves: &mut BTreeMap<String, Json>) {
    match value {
        Json::Object(fields) => {
            for (key, value) in fields {
                collect(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, leaves);
            }
        }
        leaf => {
            leaves.insert(prefix.to_owned(), leaf.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"version = 2
root = "/data"
imports = ["conf.d/*.toml", "/etc/x.toml"]
[grpc]
  address = "/run/containerd/containerd.sock"
[cgroup]
  path = "/runtime"
[proxy_plugins.stargz]
  address = "/run/stargz.sock"
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "zfs"
"#;

    #[test]
    fn a_trial_touches_nothing_of_the_node() {
        let trial = trial("/etc/containerd/config.toml", CONFIG).unwrap();
        assert!(!trial.config.contains("containerd.sock") && !trial.config.contains("stargz"), "{}", trial.config);
        assert!(
            trial.config.contains("/etc/containerd/conf.d/*.toml") && trial.config.contains("snapshotter = \"overlayfs\""),
            "{}",
            trial.config
        );
        assert!(!trial.config.contains("/runtime"), "{}", trial.config);
        assert_eq!(trial.left_out, ["cgroup /runtime", "proxy plugin stargz", "snapshotter zfs"]);
    }

    #[test]
    fn a_stream_server_listens_where_a_trial_can() {
        let config = |address: &str| format!("version = 3\n[plugins.\"{CRI_OF_VERSION_2}\"]\nstream_server_address = \"{address}\"\n");
        for stays in ["127.0.0.1", "0.0.0.0", "::", "localhost"] {
            let trial = trial("c", &config(stays)).unwrap();
            assert!(trial.config.contains(stays) && trial.left_out.is_empty(), "{}", trial.config);
        }
        let trial = trial("c", &config("192.0.2.1")).unwrap();
        assert!(trial.config.contains("stream_server_address = \"127.0.0.1\""), "{}", trial.config);
        assert_eq!(trial.left_out, ["stream server at 192.0.2.1"]);
    }

    #[test]
    fn programs_that_containerd_would_start_are_known_by_its_dump() {
        let dump = |lines: &str| nri_plugins(Some(&format!("version = 3\n[plugins.'{NRI}']\n{lines}")));
        assert_eq!(dump("disable = true\nplugin_path = '/opt/nri/plugins'"), None);
        assert_eq!(dump("disable = false\nplugin_path = '/opt/mine'").as_deref(), Some("/opt/mine"));
        assert_eq!((nri_plugins(Some("version = 2\n")), nri_plugins(None).as_deref()), (None, Some(NRI_PLUGINS)));
    }

    #[test]
    fn a_snapshotter_nobody_knows_is_what_a_trial_is_for() {
        let config = "version = 3\n[plugins.\"io.containerd.cri.v1.images\"]\n  snapshotter = \"nope\"\n";
        assert!(trial("c", config).unwrap().config.contains("\"nope\""));
    }

    #[test]
    fn mirrors_that_a_release_knows_no_more_are_found() {
        let mirrors = |endpoint: &str| {
            format!("version = 3\n[plugins.\"io.containerd.cri.v1.images\".registry.mirrors.\"a.io\"]\nendpoint = [\"{endpoint}\"]\n")
        };
        let ignored = |dump: &str| ignored("c", &mirrors("http://m"), dump).unwrap();
        assert!(ignored(&mirrors("http://m")).is_empty());
        assert_eq!((ignored(&mirrors("http://other")), ignored("version = 5\n")), (vec!["a.io".to_owned()], vec!["a.io".to_owned()]));
    }

    #[test]
    fn only_what_is_not_ours_counts_as_a_difference() {
        let dump = |registry: &str, cgroup: &str| {
            format!(
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = '{registry}'\n[plugins.\"io.containerd.grpc.v1.cri\".x]\nSystemdCgroup = {cgroup}\n"
            )
        };
        assert!(differences(&dump("", "true"), &dump("/c", "true")).unwrap().is_empty());
        let lost = differences(&dump("", "true"), &dump("/c", "false")).unwrap();
        assert_eq!(lost, ["plugins.io.containerd.grpc.v1.cri.x.SystemdCgroup"]);
    }
}
