//! Desired state to the legacy tables of config.toml: `registry.mirrors`, and CA and login in `registry.configs`.
//!
//! Facts behind it (CONTAINERD.md 2.1, LAB.md 2): an endpoint's path is used as it is, none means `/v2`; the registry itself is always asked
//! last, unless an endpoint is at that very host; what holds for `*` does not hold for a registry with endpoints of its own; `configs` is by
//! HOST:PORT, so that two entries there share CA and login; `configs.*.tls` has no effect since 2.0.

use std::{collections::BTreeMap, sync::Arc};

use secrecy::ExposeSecret;

use super::host_directory::{HostDirectory, root_url};
use crate::{
    observed::{entry::Content, record::ConfigsTls, version::Version},
    spec::{
        Fallback,
        desired::{Desired, GCR, Target},
        inputs::Login,
        names::{Capability, Scheme},
        problem::Problem,
    },
};

/// The directory of CA and client files below the hosts directory. No registry has such a name, so that no containerd ever reads it as the
/// host directory of one.
pub const SUPPORT_DIRECTORY: &str = "_mirrorlet";
/// The other way to write mirrors down.
const OTHER_LAYOUT: &str = "set [containerd] layout = \"hosts\"";

/// What decides the tables beside the desired state.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The containerd that will read them.
    pub version: &'a Version,
    /// The version that its config file has.
    pub config_version: i64,
    /// `registry.mirrors` of others.
    pub others: &'a BTreeMap<String, Vec<String>>,
    /// The directory of host directories.
    pub hosts_dir: &'a str,
}

/// All that is ours in the legacy tables, and the files they name.
#[derive(Debug, Default)]
pub struct Tables<'a> {
    /// Endpoints by registry, those of others after ours.
    pub mirrors: BTreeMap<String, Vec<String>>,
    /// TLS settings by HOST:PORT.
    pub tls: BTreeMap<String, ConfigsTls>,
    /// Logins by HOST:PORT.
    pub logins: BTreeMap<String, &'a Login>,
    /// The directory of CA and client files; absent when there are none.
    pub support: Option<HostDirectory>,
}

/// Renders the tables.
///
/// # Errors
/// What the tables cannot express, and what this containerd would ignore in them or break on.
pub fn render<'a>(desired: &'a Desired, reader: &Reader<'_>) -> Result<Tables<'a>, Vec<Problem>> {
    let problems = problems(desired, reader);
    if !problems.is_empty() {
        return Err(problems);
    }
    let mut files = BTreeMap::new();
    let tls = desired.targets.iter().filter(|target| has_tls(target));
    let tls = tls.map(|target| (target.endpoint.authority().to_owned(), tls_of(target, reader.hosts_dir, &mut files))).collect();
    let logins = desired.targets.iter().filter_map(|target| Some((target.endpoint.authority().to_owned(), target.login.as_ref()?)));
    let upstream = desired.upstream_login.iter().map(|login| (GCR.to_owned(), login));
    let support = (!files.is_empty()).then(|| HostDirectory { reason: "config.toml names these files".into(), files });
    Ok(Tables { mirrors: mirrors(desired, reader.others), tls, logins: logins.chain(upstream).collect(), support })
}

fn mirrors(desired: &Desired, others: &BTreeMap<String, Vec<String>>) -> BTreeMap<String, Vec<String>> {
    let authorities = desired.by_authority();
    let own = |name: &str| authorities.get(name).into_iter().flatten().map(|target| root_url(&target.endpoint));
    let mut mirrors: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (host, targets) in desired.by_host() {
        let name = host.as_str();
        let of_others = others.get(name).or_else(|| others.get("*")).into_iter().flatten().cloned();
        let endpoints = targets.iter().map(|target| target.endpoint.url());
        mirrors.insert(name.to_owned(), distinct(endpoints.chain(of_others).chain(own(name))));
    }
    for name in authorities.keys() {
        let of_others = others.get(name).into_iter().flatten().cloned();
        mirrors.entry(name.clone()).or_insert_with(|| distinct(own(name).chain(of_others)));
    }
    mirrors
}

fn distinct(endpoints: impl Iterator<Item = String>) -> Vec<String> {
    let mut list = Vec::new();
    for endpoint in endpoints {
        if !list.contains(&endpoint) {
            list.push(endpoint);
        }
    }
    list
}

fn has_tls(target: &Target) -> bool {
    target.endpoint.scheme == Scheme::Https && (target.ca.is_some() || target.client.is_some() || target.skip_verify)
}

/// Files have names that change with their content, so that the running containerd goes on with the old ones until it is restarted.
fn tls_of(target: &Target, hosts_dir: &str, files: &mut BTreeMap<String, (Content, u32)>) -> ConfigsTls {
    let mut file = |what: &str, bytes: Vec<u8>, mode: u32| {
        let content = Content::from(bytes);
        let name = format!("{what}-{}.pem", content.digest().short());
        let path = format!("{hosts_dir}/{SUPPORT_DIRECTORY}/{name}");
        files.insert(name, (content, mode));
        path
    };
    let ca_file = target.ca.as_ref().map(|ca| file("ca", ca.pem().as_bytes().to_vec(), 0o644)).unwrap_or_default();
    let client = target.client.as_ref().map(|client| file("client", client.pem(), 0o600)).unwrap_or_default();
    ConfigsTls { ca_file, cert_file: client.clone(), key_file: client, insecure_skip_verify: target.skip_verify }
}

fn problems(desired: &Desired, reader: &Reader<'_>) -> Vec<Problem> {
    let mut problems: Vec<Problem> = kills_cri(reader).into_iter().collect();
    problems.extend(desired.targets.iter().flat_map(|target| inexpressible(target, reader.version)));
    for (host, targets) in desired.by_host() {
        if targets.iter().all(|target| target.fallback == Fallback::None) {
            problems.push(refused(
                "legacy.fallback",
                format!("with registry.mirrors containerd always asks {host} itself last, so \"fallback: none\" cannot be kept"),
                "fallback (or [policy] fallback)",
            ));
        }
    }
    for (authority, targets) in desired.by_authority() {
        problems.extend(disagreement(&authority, &targets));
    }
    problems
}

fn kills_cri(reader: &Reader<'_>) -> Option<Problem> {
    (reader.version.forces_config_path() && reader.config_version < 3).then(|| {
        Problem::new(
            "legacy.kills-cri",
            format!(
                "containerd {} sets config_path by itself for a config file of version {}, and runs without CRI when mirrors are set as well",
                reader.version, reader.config_version
            ),
            format!("upgrade containerd to 2.2.2 or later, or {OTHER_LAYOUT}"),
        )
    })
}

fn inexpressible(target: &Target, version: &Version) -> Vec<Problem> {
    let endpoint = &target.endpoint;
    let mut problems = Vec::new();
    if ![Capability::Pull, Capability::Resolve].iter().all(|capability| target.capabilities.contains(capability)) {
        let message = format!("a mirror of registry.mirrors is asked for everything, so the capabilities of {endpoint} cannot be kept");
        problems.push(refused("legacy.capabilities", message, "capabilities"));
    }
    if target.has_own_dial_timeout {
        let message = format!("registry.mirrors knows no connection timeout, so the dialTimeout of {endpoint} cannot be kept");
        problems.push(refused("legacy.dial-timeout", message, "dialTimeout"));
    }
    if has_tls(target) && !version.has_configs_tls() {
        problems.push(Problem::new(
            "legacy.tls-ignored",
            format!(
                "containerd {version} ignores registry.configs.*.tls (since 2.0), so it would not know {} of {endpoint}",
                tls_noun(target)
            ),
            format!("{OTHER_LAYOUT}; a CA may also go to the system's own, and out of the entry"),
        ));
    }
    problems
}

const fn tls_noun(target: &Target) -> &'static str {
    match (target.ca.is_some(), target.client.is_some()) {
        (true, _) => "the CA",
        (false, true) => "the client certificate",
        (false, false) => "skipVerify",
    }
}

/// `registry.configs` has one CA and one login for each HOST:PORT.
fn disagreement(authority: &str, targets: &[&Arc<Target>]) -> Option<Problem> {
    let login = |target: &Target| target.login.as_ref().map(|login| login.basic_header().expose_secret().to_owned());
    let ca = |target: &Target| target.ca.as_ref().map(|ca| ca.pem().to_owned());
    let client = |target: &Target| target.client.as_ref().map(|client| client.pem());
    let tls = |target: &Target| (ca(target), client(target), target.skip_verify);
    let is_tls = |target: &&&Arc<Target>| target.endpoint.scheme == Scheme::Https;
    let one_login = targets.windows(2).all(|pair| login(pair[0]) == login(pair[1]));
    let secure: Vec<_> = targets.iter().filter(is_tls).collect();
    let one_tls = secure.windows(2).all(|pair| tls(pair[0]) == tls(pair[1]));
    (!one_login || !one_tls).then(|| {
        Problem::new(
            "legacy.two-settings",
            format!("entries name the mirror {authority} with different CAs or logins, and registry.configs has one of each for HOST:PORT"),
            format!("give the entries of {authority} the same CA and login, or {OTHER_LAYOUT}"),
        )
    })
}

fn refused(code: &'static str, message: String, key: &str) -> Problem {
    Problem::new(code, message, format!("take out {key}, or {OTHER_LAYOUT}"))
}
