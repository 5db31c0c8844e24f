//! Who else wrote what we would write: refusals that name the file, show it, and say how to go on.

use std::collections::{BTreeMap, BTreeSet};

use super::step::Step;
use crate::{
    observed::{HostEntry, Observed, effective::Registry, entry::Entry},
    render::host_directory::{DEFAULT_DIRECTORY, HOSTS_TOML},
    spec::{names::Digest, problem::Problem},
};

/// Hosts whose foreign files the operator allows to be replaced.
pub type TakeOver = BTreeSet<String>;

/// Whether what is at this path is what we left there, or was left by us and edited since.
#[must_use]
pub fn is_ours(observed: &Observed, path: &str) -> bool {
    observed.record.owned.contains_key(path)
}

/// What stands in the way of a host directory of ours.
#[must_use]
pub fn host_problem(observed: &Observed, hosts_dir: &str, name: &str, take_over: &TakeOver) -> Option<Problem> {
    let path = format!("{hosts_dir}/{name}");
    let here = observed.hosts_dir.as_ref().and_then(|entries| entries.get(name));
    if let Some(shadow) = shadowing_name(observed, name) {
        return Some(Problem::new(
            "conflict.shadowed",
            format!("{hosts_dir}/{shadow} is somebody else's, and containerd looks there before {path}"),
            format!("move {hosts_dir}/{shadow} away, or take {name} out of the spec"),
        ));
    }
    if take_over.contains(name) {
        return here.filter(|_| !is_ours(observed, &path)).and_then(|here| not_replaceable(&path, here));
    }
    if let Some(target) =
        observed.record.carried.links.get(name).filter(|_| matches!(here, Some(HostEntry { entry: Entry::Symlink { .. }, .. })))
    {
        return Some(Problem::new(
            "conflict.foreign-host",
            format!("{target}, which {path} leads to, was written by somebody else"),
            format!("allow leaving it aside with --take-over {name} (or [policy] take_over), or take {name} out of the spec"),
        ));
    }
    let foreign = here.filter(|_| !is_ours(observed, &path)).map(|here| (path.clone(), here));
    let elsewhere = || {
        observed
            .other_roots
            .iter()
            .find_map(|(root, entries)| Some((format!("{root}/{name}"), entries.get(name)?)))
            .filter(|_| here.is_none())
    };
    let (path, entry) = foreign.or_else(elsewhere)?;
    Some(Problem::new(
        "conflict.foreign-host",
        format!("{path} was written by somebody else:\n{}\n", shown(entry)),
        format!(
            "allow replacing it with --take-over {name} (or [policy] take_over), or take {name} out of the spec; it is kept for disable"
        ),
    ))
}

/// containerd looks for `host_port_` before `host:port` (CONTAINERD.md 3.1).
fn shadowing_name<'a>(observed: &'a Observed, name: &str) -> Option<&'a str> {
    let (host, port) = name.rsplit_once(':')?;
    let shadow = format!("{host}_{port}_");
    observed.hosts_dir.as_ref()?.get_key_value(&shadow).map(|(name, _)| name.as_str())
}

fn not_replaceable(path: &str, here: &HostEntry) -> Option<Problem> {
    match &here.entry {
        Entry::Directory { .. } => None,
        other => Some(Problem::new("conflict.not-a-directory", format!("{path} is {}", other.noun()), "remove it, then apply again")),
    }
}

fn shown(entry: &HostEntry) -> String {
    match (&entry.hosts_toml, &entry.entry) {
        (Some(text), _) => super::explain::masked(text).lines().map(|line| format!("    {line}")).collect::<Vec<_>>().join("\n"),
        (None, Entry::Symlink { target }) => format!("    a symbolic link to {target}"),
        (None, Entry::Directory { files, .. }) => {
            format!(
                "    a directory without {HOSTS_TOML}, with {}",
                if files.is_empty() { "no file".into() } else { files.keys().cloned().collect::<Vec<_>>().join(", ") }
            )
        }
        (None, other) => format!("    {}", other.noun()),
    }
}

/// Foreign directories without a hosts.toml: containerd takes them for "ask the registry itself" and never looks at `_default`.
#[must_use]
pub fn shadows_default(observed: &Observed, hosts_dir: &str, has_default: bool) -> Vec<Problem> {
    let entries = observed.hosts_dir.iter().flatten();
    let bare = entries.filter(|(name, entry)| {
        name.as_str() != DEFAULT_DIRECTORY
            && !name.starts_with('.')
            && matches!(entry.entry, Entry::Directory { .. })
            && entry.hosts_toml.is_none()
    });
    bare.filter(|(name, _)| has_default && !is_ours(observed, &format!("{hosts_dir}/{name}")))
        .map(|(name, _)| {
            Problem::new(
                "conflict.shadows-default",
                format!("{hosts_dir}/{name} has no {HOSTS_TOML}: containerd asks {name} itself and does not look at {DEFAULT_DIRECTORY}"),
                "remove the directory if that is not meant",
            )
        })
        .collect()
}

/// Host directories of others that containerd does not read now, and will as soon as `config_path` names their directory; those that are
/// replaced then are not.
#[must_use]
pub fn wakes_up(observed: &Observed, registry: &Registry, hosts_dir: &str, is_replaced: impl Fn(&str) -> bool) -> Option<Problem> {
    if registry.config_path.iter().any(|path| path.split(':').any(|root| root.trim_end_matches('/') == hosts_dir)) {
        return None;
    }
    let foreign = observed.hosts_dir.iter().flatten().filter(|(name, _)| !is_ours(observed, &format!("{hosts_dir}/{name}")));
    let names: Vec<&str> = foreign
        .filter(|(_, entry)| matches!(entry.entry, Entry::Directory { .. } | Entry::Symlink { .. }))
        .map(|(name, _)| name.as_str())
        .filter(|name| !is_replaced(name))
        .collect();
    if names.is_empty() {
        return None;
    }
    Some(Problem::new(
        "restart.wakes-up",
        format!("{hosts_dir} holds host directories of others that containerd does not read yet and will then: {}", names.join(", ")),
        "look through them; one that names a missing CA fails every pull of its registry",
    ))
}

/// Files of ours that steps write over or take away, and that are not as we left them.
#[must_use]
pub fn written_over(observed: &Observed, steps: &[Step]) -> BTreeMap<String, Digest> {
    let record = &observed.record;
    let left = |path: &str| {
        let (directory, name) = path.rsplit_once('/').unwrap_or_default();
        match (record.owned.get(path), record.owned.get(directory)) {
            (Some(entry), _) => entry.digest().copied(),
            (None, Some(Entry::Directory { files, .. })) => files.get(name).map(|file| file.digest),
            _ => None,
        }
    };
    let there = steps.iter().flat_map(|step| match &step.before {
        Entry::File(file) => vec![(step.path.clone(), file.digest)],
        Entry::Directory { files, .. } => files.iter().map(|(name, file)| (format!("{}/{name}", step.path), file.digest)).collect(),
        _ => Vec::new(),
    });
    there.filter(|(path, digest)| left(path).is_some_and(|left| left != *digest)).collect()
}

/// Whether a file in one of our directories is a support file of ours by its name.
#[must_use]
pub fn is_support_name(name: &str) -> bool {
    name.strip_suffix(".pem").and_then(|name| name.split_once('-')).is_some_and(|(what, digest)| {
        (what == "ca" || what == "client") && digest.len() == 12 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
    })
}
