//! The layout of before: `registry.mirrors` and `registry.configs` in config.toml, beside those that others have there.

use std::collections::BTreeMap;

use super::{
    conflict,
    layout::{Laid, View},
};
use crate::{
    observed::{
        HostEntry, Observed,
        effective::Registry,
        entry::Entry,
        record::{Carried, LegacyKeys},
    },
    render::{
        config_toml::Goal,
        host_directory::without_login,
        legacy::{self, Reader, SUPPORT_DIRECTORY, Tables},
    },
    spec::problem::Problem,
};

/// Lays the desired state out in the legacy tables.
///
/// # Errors
/// What the tables cannot express, and what this containerd would ignore in them or break on.
pub fn lay<'a>(view: &View<'a>) -> Result<Laid<'a>, Vec<Problem>> {
    let carried = found(view);
    let reader = Reader {
        version: view.version,
        config_version: view.effective.root.version.unwrap_or(2),
        others: &carried.mirrors,
        hosts_dir: &view.policy.hosts_dir,
    };
    let tables = legacy::render(view.desired, &reader)?;
    let refusals = refusals(view, &tables, &carried);
    let notices = notices(view, &tables, &carried);
    let keys = LegacyKeys { mirrors: tables.mirrors.clone(), tls: tables.tls.keys().cloned().collect() };
    let directories = tables.support.clone().map(|support| (SUPPORT_DIRECTORY.to_owned(), support)).into_iter().collect();
    let goal = goal(view, tables, &carried);
    let reasons = reasons(view, &goal);
    Ok(Laid { directories, links: BTreeMap::new(), goal, reasons, carried, legacy: Some(keys), notices, refusals })
}

/// What others have: in the file, and what went out of it when host directories took its place.
fn found(view: &View<'_>) -> Carried {
    let remembered = &view.observed.record.carried;
    let mut found = Carried { mirrors: remembered.mirrors.clone(), tls: remembered.tls.clone(), links: BTreeMap::new() };
    found.mirrors.extend(view.others.mirrors.clone());
    found.tls.extend(view.others.tls.clone());
    found
}

fn goal<'a>(view: &View<'a>, tables: Tables<'a>, carried: &Carried) -> Goal<'a> {
    let mut mirrors = carried.mirrors.clone();
    mirrors.extend(tables.mirrors);
    let mut tls = carried.tls.clone();
    tls.extend(tables.tls);
    Goal {
        config_path: config_path(view),
        mirrors,
        tls: Some(tls),
        logins: tables.logins,
        former_logins: view.observed.record.config_logins.iter().map(String::as_str).collect(),
    }
}

/// Beside mirrors it has to be empty. A key that was there stays, so that its line does.
fn config_path(view: &View<'_>) -> Option<&'static str> {
    (view.found.config_path.is_some() || view.version.forces_config_path()).then_some("")
}

fn reasons(view: &View<'_>, goal: &Goal<'_>) -> Vec<String> {
    let mut reasons = vec!["registry.mirrors".to_owned()];
    if view.effective.registry.config_path.as_deref().is_some_and(|path| !path.is_empty()) {
        reasons.push("config_path goes (containerd runs without CRI when both are set)".into());
    }
    if !goal.logins.is_empty() {
        reasons.push("holds a login, so only its owner may read it".into());
    }
    reasons
}

fn refusals(view: &View<'_>, tables: &Tables<'_>, carried: &Carried) -> Vec<Problem> {
    let mut refusals: Vec<Problem> = dark_directories(view).into_iter().collect();
    refusals.extend(tables.support.as_ref().and_then(|_| support_conflict(view.observed, &view.policy.hosts_dir)));
    let record = &view.observed.record;
    let is_allowed = |host: &str| view.policy.allowed.take_over.contains(host);
    let is_ours = |host: &str| record.legacy.as_ref().is_some_and(|legacy| legacy.tls.contains(host));
    let tls = tables.tls.iter().filter(|(host, tls)| carried.tls.get(*host).is_some_and(|there| there != *tls) && !is_ours(host));
    refusals.extend(tls.filter(|(host, _)| !is_allowed(host)).map(|(host, _)| config_conflict(view, host, "tls")));
    let logins = tables.logins.iter().filter(|(host, login)| view.effective.registry.has_other_login(host, login));
    let logins = logins.filter(|(host, _)| !record.config_logins.contains(*host) && !is_allowed(host));
    refusals.extend(logins.map(|(host, _)| config_conflict(view, host, "auth")));
    refusals
}

/// Host directories of others that containerd reads now and would not beside mirrors.
fn dark_directories(view: &View<'_>) -> Option<Problem> {
    let roots = view.found.config_path.as_deref().filter(|path| !path.is_empty())?;
    let observed = view.observed;
    let hosts_dir = &view.policy.hosts_dir;
    let here = observed.hosts_dir.iter().flatten().filter(|_| roots.split(':').any(|root| root.trim_end_matches('/') == hosts_dir));
    let here = here.filter(|(name, _)| !conflict::is_ours(observed, &format!("{hosts_dir}/{name}"))).map(|(name, _)| name);
    let elsewhere = observed.other_roots.iter().flat_map(|(_, entries)| entries.keys()).chain(observed.record.carried.links.keys());
    let replaced = observed.record.originals.iter().filter(|(_, entry)| **entry != Entry::Absent);
    let replaced = replaced.filter_map(|(path, _)| path.strip_prefix(&format!("{hosts_dir}/"))).filter(|name| !name.contains('/'));
    let names: Vec<&str> = here.chain(elsewhere).map(String::as_str).chain(replaced).collect();
    if names.is_empty() {
        return None;
    }
    let config = &observed.config.root.path;
    Some(Problem::new(
        "legacy.config-path",
        format!(
            "{config} says config_path = \"{roots}\", with host directories of others in it ({}); containerd would not read them beside mirrors",
            names.join(", ")
        ),
        "set [containerd] layout = \"hosts\", or take config_path out of the config",
    ))
}

fn support_conflict(observed: &Observed, hosts_dir: &str) -> Option<Problem> {
    let path = format!("{hosts_dir}/{SUPPORT_DIRECTORY}");
    let HostEntry { entry, .. } = observed.hosts_dir.as_ref()?.get(SUPPORT_DIRECTORY).filter(|_| !conflict::is_ours(observed, &path))?;
    let message = format!("{path}, where the CA and client files of mirrors go, is {} of somebody else", entry.noun());
    Some(Problem::new("conflict.support-directory", message, "move it away, then apply again"))
}

fn config_conflict(view: &View<'_>, host: &str, key: &str) -> Problem {
    let config = &view.observed.config.root.path;
    Problem::new(
        "conflict.foreign-config",
        format!("registry.configs.\"{host}\".{key} in {config} was written by somebody else, and says another thing than the spec"),
        format!(
            "allow replacing it with --take-over {host} (or [policy] take_over), or take that part out of the entry; it is kept for disable"
        ),
    )
}

fn notices(view: &View<'_>, tables: &Tables<'_>, carried: &Carried) -> Vec<Problem> {
    let mut notices = Vec::new();
    let known = view.observed.record.legacy.as_ref();
    let new = tables.mirrors.iter().filter(|(namespace, _)| known.is_none_or(|known| !known.mirrors.contains_key(*namespace)));
    notices.extend(new.filter_map(|(namespace, endpoints)| merged(view, namespace, endpoints, &carried.mirrors)));
    notices.extend(unasked(view, tables, carried));
    if view.version.has_transfer_service() {
        let message = format!("containerd {} pulls by its older code while registry.mirrors is set, and calls it deprecated", view.version);
        notices.push(Problem::new("legacy.deprecated", message, "layout = \"hosts\" is what later releases read"));
    }
    notices
}

/// A registry that others have endpoints for, too.
fn merged(view: &View<'_>, namespace: &str, endpoints: &[String], of_others: &BTreeMap<String, Vec<String>>) -> Option<Problem> {
    let is_mirrored = view.desired.by_host().keys().any(|host| host.as_str() == namespace);
    let theirs = of_others.get(namespace).or_else(|| of_others.get("*").filter(|_| is_mirrored))?;
    let theirs: Vec<String> = theirs.iter().map(|endpoint| without_login(endpoint)).collect();
    (!theirs.is_empty() && endpoints.len() > 1).then(|| {
        let config = &view.observed.config.root.path;
        let message = format!("the mirror {} of {namespace} in {config} is asked after the endpoints of the spec", theirs.join(", "));
        Problem::new("legacy.merged", message, "")
    })
}

/// Settings of others at a mirror for which the spec says nothing: they go on to count.
fn unasked(view: &View<'_>, tables: &Tables<'_>, carried: &Carried) -> Option<Problem> {
    let Registry { logins, .. } = view.others;
    let ours = &view.observed.record.config_logins;
    let has_login = |host: &str| logins.contains(host) && !ours.contains(host) && !tables.logins.contains_key(host);
    let has_tls = |host: &str| carried.tls.contains_key(host) && !tables.tls.contains_key(host) && view.version.has_configs_tls();
    let authorities = view.desired.by_authority();
    let hosts: Vec<&str> = authorities.keys().map(String::as_str).filter(|host| has_login(host) || has_tls(host)).collect();
    (!hosts.is_empty()).then(|| {
        let config = &view.observed.config.root.path;
        let message =
            format!("registry.configs in {config} has settings of somebody else's for {}, which go on to count", hosts.join(", "));
        Problem::new("legacy.settings-of-others", message, "")
    })
}
