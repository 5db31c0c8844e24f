//! The layout of today: `config_path`, and one host directory a registry.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    carried::Finder,
    conflict,
    layout::{Laid, View},
};
use crate::{
    observed::version::Version,
    render::{
        config_toml::Goal,
        host_directory::{self, Reader, Rendered},
    },
    spec::problem::Problem,
};

/// Lays the desired state out in host directories.
///
/// # Errors
/// What cannot be expressed in a hosts.toml.
pub fn lay<'a>(view: &View<'a>) -> Result<Laid<'a>, Vec<Problem>> {
    let View { observed, desired, policy, version, others, .. } = *view;
    let hosts_dir = &policy.hosts_dir;
    let mut notices = Vec::new();
    let carried = Finder { observed, registry: others, version, hosts_dir, desired }.find(&mut notices);
    let record = &observed.record;
    let reader = Reader {
        version,
        asks: &record.asks,
        config_logins: &record.config_logins,
        // In the legacy layout every login is in config.toml, whatever it costs.
        keeps_config_logins: record.legacy.is_none() && record.applied.as_ref().is_some_and(|applied| applied.digest == desired.digest),
        named_files: &observed.named_files,
    };
    let mut rendered = host_directory::render(desired, &carried, &reader)?;
    notices.extend(conflict::wakes_up(observed, &view.effective.registry, hosts_dir, |name| rendered.directories.contains_key(name)));
    notices.append(&mut rendered.notices);
    let has_default = rendered.directories.contains_key(host_directory::DEFAULT_DIRECTORY);
    notices.extend(conflict::shadows_default(observed, hosts_dir, has_default));
    let names = rendered.directories.keys();
    let refusals = names.filter_map(|name| conflict::host_problem(observed, hosts_dir, name, &policy.allowed.take_over)).collect();
    let goal = goal(view, &rendered);
    notices.extend(config_login_notice(&rendered, version));
    let links = carried.links.clone();
    Ok(Laid { directories: rendered.directories, links, reasons: reasons(view, &goal), goal, carried, legacy: None, notices, refusals })
}

fn goal<'a>(view: &View<'a>, rendered: &Rendered<'a>) -> Goal<'a> {
    let record = &view.observed.record;
    // 1.x refuses them beside `config_path`; later ones ignore them, so that only ours go.
    let tls = match view.version.has_configs_tls() {
        true => Some(BTreeMap::new()),
        false => record.legacy.as_ref().map(|_| view.others.tls.clone()),
    };
    Goal {
        config_path: Some(&view.policy.hosts_dir),
        mirrors: BTreeMap::new(),
        tls,
        logins: rendered.config_logins.iter().map(|(host, login)| (host.clone(), *login)).collect(),
        former_logins: record.config_logins.iter().map(String::as_str).collect(),
    }
}

fn reasons(view: &View<'_>, goal: &Goal<'_>) -> Vec<String> {
    let mut reasons = vec![format!("config_path = \"{}\"", view.policy.hosts_dir)];
    if !view.effective.registry.mirrors.is_empty() {
        reasons.push("mirrors move to hosts.toml (containerd runs without CRI when both are set)".into());
    }
    if view.version.has_configs_tls() && !view.effective.registry.tls.is_empty() {
        reasons.push("TLS settings move to hosts.toml".into());
    }
    if !goal.logins.is_empty() {
        reasons.push("holds a login, so only its owner may read it".into());
    }
    reasons
}

fn config_login_notice(rendered: &Rendered<'_>, version: &Version) -> Option<Problem> {
    let logins: BTreeSet<&str> = rendered.config_logins.keys().map(String::as_str).collect();
    if logins.is_empty() {
        return None;
    }
    let hosts = logins.into_iter().collect::<Vec<_>>().join(", ");
    Some(Problem::new(
        "login.in-config",
        format!(
            "containerd {version} can learn the login at {hosts}, which asks by token, only from config.toml: a change of it costs a restart"
        ),
        "containerd 2.1 and later take it from hosts.toml",
    ))
}
