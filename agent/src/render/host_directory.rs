//! Desired state to host directories: one for each mirrored registry, and one for each mirror's own name.

use std::{collections::BTreeMap, sync::Arc};

use secrecy::ExposeSecret;

use super::hosts_toml::{HostTable, HostsToml};
use crate::{
    observed::{Asks, Fact, entry::Content, record::Carried, record::ConfigsTls, version::Version},
    spec::{
        Fallback,
        desired::{Desired, GCR, Target},
        inputs::Login,
        names::{Endpoint, RegistryHost, Scheme},
        problem::Problem,
    },
};

/// The directory containerd takes for every registry that has none of its own.
pub const DEFAULT_DIRECTORY: &str = "_default";
/// The file in a host directory that containerd reads.
pub const HOSTS_TOML: &str = "hosts.toml";

/// What decides the form beside the desired state.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    /// The containerd that will read it.
    pub version: &'a Version,
    /// How mirrors ask for a login, by HOST:PORT.
    pub asks: &'a BTreeMap<String, Asks>,
    /// Hosts whose login is in config.toml now.
    pub config_logins: &'a std::collections::BTreeSet<String>,
    /// Whether logins that are in config.toml stay there, because moving one costs a restart nobody asked for.
    pub keeps_config_logins: bool,
    /// Files that carried settings name.
    pub named_files: &'a BTreeMap<String, Fact<()>>,
}

/// Where containerd learns a login from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginPlace {
    /// An `Authorization` header in hosts.toml.
    Header,
    /// `registry.configs."HOST".auth` in config.toml.
    ConfigToml,
}

impl Reader<'_> {
    /// A header reaches the token server from 2.1 on; before, the login of a token mirror can only be in config.toml (CONTAINERD.md 4).
    #[must_use]
    pub fn login_place(&self, authority: &str) -> LoginPlace {
        let stays = self.keeps_config_logins && self.config_logins.contains(authority);
        let needs_config = self.asks.get(authority) == Some(&Asks::Token) && !self.version.sends_headers_to_token_server();
        if stays || needs_config { LoginPlace::ConfigToml } else { LoginPlace::Header }
    }
}

/// One directory below the hosts directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostDirectory {
    /// Why it is there, a phrase.
    pub reason: String,
    /// Content and permission bits by file name; [`HOSTS_TOML`] among them.
    pub files: BTreeMap<String, (Content, u32)>,
}

/// All that is to be below the hosts directory, and the logins that have to go to config.toml.
#[derive(Debug, Default)]
pub struct Rendered<'a> {
    /// Directories by name.
    pub directories: BTreeMap<String, HostDirectory>,
    /// Logins by host.
    pub config_logins: BTreeMap<String, &'a Login>,
    /// What is worth knowing.
    pub notices: Vec<Problem>,
}

/// Renders every host directory.
///
/// # Errors
/// What cannot be expressed in a hosts.toml.
pub fn render<'a>(desired: &'a Desired, carried: &Carried, reader: &Reader<'_>) -> Result<Rendered<'a>, Vec<Problem>> {
    let mut rendered = Rendered::default();
    let mut problems = Vec::new();
    let hosts = desired.by_host();
    let authorities = desired.by_authority();
    let mut names: Vec<String> = hosts.keys().map(|host| host.as_str().to_owned()).collect();
    names.extend(authorities.keys().cloned());
    names.extend(carried.mirrors.keys().filter_map(|namespace| directory_of(namespace)).map(str::to_owned));
    names.extend(carried.tls.keys().filter_map(|host| directory_of(host)).map(str::to_owned));
    names.sort();
    names.dedup();
    for name in names {
        let mut directory = Directory { reader, carried, files: BTreeMap::new(), notices: Vec::new() };
        let targets = hosts.iter().find(|(host, _)| host.as_str() == name).map(|(_, targets)| targets.as_slice()).unwrap_or_default();
        let own = authorities.get(&name).map(Vec::as_slice).unwrap_or_default();
        match directory.render(&name, targets, own, desired) {
            Ok(()) => {
                directory.notices.retain(|notice| !rendered.notices.contains(notice));
                rendered.notices.append(&mut directory.notices);
                let reason = reason(&name, targets, own);
                rendered.directories.insert(name, HostDirectory { reason, files: directory.files });
            }
            Err(problem) => problems.push(problem),
        }
    }
    rendered.config_logins = config_logins(desired, reader);
    if problems.is_empty() { Ok(rendered) } else { Err(problems) }
}

fn reason(name: &str, targets: &[&Arc<Target>], own: &[&Arc<Target>]) -> String {
    match (targets, own) {
        ([], []) => format!("the node had settings for {name} before"),
        ([], _) => format!("{name} is a mirror"),
        _ => format!("{name} is mirrored"),
    }
}

fn config_logins<'a>(desired: &'a Desired, reader: &Reader<'_>) -> BTreeMap<String, &'a Login> {
    let targets = desired.targets.iter().filter_map(|target| Some((target.endpoint.authority().to_owned(), target.login.as_ref()?)));
    let upstream = desired.upstream_login.iter().map(|login| (GCR.to_owned(), login));
    targets.chain(upstream).filter(|(authority, _)| reader.login_place(authority) == LoginPlace::ConfigToml).collect()
}

/// The directory for a key of the legacy tables; `None` for a key that is no registry's name, which containerd never looks up.
#[must_use]
pub fn directory_of(namespace: &str) -> Option<&str> {
    match namespace {
        "*" => Some(DEFAULT_DIRECTORY),
        name => RegistryHost::parse(name).is_ok_and(|host| host.as_str() == name).then_some(name),
    }
}

/// A URL without user and password, which containerd does not use (LAB.md 2: it takes scheme, host and path).
#[must_use]
pub fn without_login(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let separator = if scheme.is_empty() { "" } else { "://" };
    let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    format!("{scheme}{separator}{host}{path}")
}

/// The URL containerd asks for a registry it has no settings for (`docker.io` is the one that answers under another name).
#[must_use]
pub fn upstream_url(host: &str) -> String {
    if host == "docker.io" { "https://registry-1.docker.io".into() } else { format!("https://{host}") }
}

/// A directory in the making.
struct Directory<'a> {
    reader: &'a Reader<'a>,
    carried: &'a Carried,
    files: BTreeMap<String, (Content, u32)>,
    notices: Vec<Problem>,
}

impl Directory<'_> {
    fn render(&mut self, name: &str, targets: &[&Arc<Target>], own: &[&Arc<Target>], desired: &Desired) -> Result<(), Problem> {
        let mut hosts: Vec<HostTable> = targets.iter().map(|target| self.mirror(target)).collect();
        let is_closed = !targets.is_empty() && targets.iter().all(|target| target.fallback == Fallback::None);
        let carried = self.carried_mirrors(name, !targets.is_empty());
        hosts.extend(carried.into_iter().filter(|_| !is_closed));
        let server = if is_closed { hosts.last().cloned() } else { self.server(name, own, desired) };
        if hosts.is_empty() {
            hosts = self.own_tables(name, own)?;
        }
        if hosts.is_empty() {
            hosts.extend(server.clone());
        }
        drop_repeated(&mut hosts);
        let toml = HostsToml { server, hosts };
        let mode = if toml.has_secret() { 0o600 } else { 0o644 };
        self.files.insert(HOSTS_TOML.into(), (toml.render()?.into(), mode));
        Ok(())
    }

    /// The registry itself, asked last. `_default` stands for every registry, so it has none.
    fn server(&mut self, name: &str, own: &[&Arc<Target>], desired: &Desired) -> Option<HostTable> {
        if name == DEFAULT_DIRECTORY {
            return None;
        }
        if let Some(target) = own.first() {
            return Some(self.own_name(target));
        }
        let mut server = HostTable::plain(upstream_url(name));
        let host = server.url.trim_start_matches("https://").to_owned();
        if let Some(tls) = self.carried.tls.get(&host) {
            self.use_carried_tls(&mut server, tls);
        }
        if name == GCR {
            server.authorization = desired.upstream_login.as_ref().and_then(|login| self.header(GCR, login));
        }
        Some(server)
    }

    /// A mirror asked for another registry's images.
    fn mirror(&mut self, target: &Target) -> HostTable {
        let mut table = self.table(target, target.endpoint.url());
        table.override_path = target.endpoint.namespace.is_some();
        table
    }

    /// A mirror asked by its own name: the pull names the namespace, so the URL must not.
    fn own_name(&mut self, target: &Target) -> HostTable {
        let mut table = self.table(target, root_url(&target.endpoint));
        table.capabilities = HostTable::plain("").capabilities;
        table
    }

    /// One table for each distinct CA and login at a mirror's own name. containerd refuses the same URL twice, so each further one is written
    /// another way that leads to the same requests.
    fn own_tables(&mut self, name: &str, own: &[&Arc<Target>]) -> Result<Vec<HostTable>, Problem> {
        let mut tables: Vec<HostTable> = Vec::new();
        let mut keys = Vec::new();
        for target in own {
            let table = self.own_name(target);
            let key = (
                table.url.clone(),
                table.ca.clone(),
                table.client.clone(),
                target.login.as_ref().map(|login| login.basic_header().expose_secret().to_owned()),
                table.skip_verify,
            );
            if !keys.contains(&key) {
                keys.push(key);
                tables.push(table);
            }
        }
        let spellings = ["", "/v2", "/v2/"];
        let mut used: BTreeMap<String, usize> = BTreeMap::new();
        for table in &mut tables {
            let count = used.entry(table.url.clone()).or_default();
            let spelling = spellings.get(*count).ok_or_else(|| {
                Problem::new(
                    "render.too-many-logins",
                    format!("more than {} entries name the mirror {name} with different CAs or logins", spellings.len()),
                    "give entries of the same mirror the same CA and login",
                )
            })?;
            *count += 1;
            table.url.push_str(spelling);
        }
        Ok(tables)
    }

    fn table(&mut self, target: &Target, url: String) -> HostTable {
        let is_tls = target.endpoint.scheme == Scheme::Https;
        HostTable {
            url,
            override_path: false,
            capabilities: target.capabilities.clone(),
            ca: target.ca.as_ref().filter(|_| is_tls).map(|ca| self.support_file("ca", ca.pem().as_bytes(), 0o644)),
            client: target.client.iter().filter(|_| is_tls).map(|client| self.support_file("client", &client.pem(), 0o600)).collect(),
            skip_verify: target.skip_verify && is_tls,
            dial_timeout: Some(target.dial_timeout).filter(|_| self.reader.version.has_dial_timeout()),
            authorization: target.login.as_ref().and_then(|login| self.header(target.endpoint.authority(), login)),
        }
    }

    fn header(&self, authority: &str, login: &Login) -> Option<secrecy::SecretString> {
        (self.reader.login_place(authority) == LoginPlace::Header).then(|| login.basic_header())
    }

    /// A file beside hosts.toml under a name that changes with its content, so that no reader ever sees half of it.
    fn support_file(&mut self, what: &str, bytes: &[u8], mode: u32) -> String {
        let content = Content::from(bytes.to_vec());
        let name = format!("{what}-{}.pem", content.digest().short());
        self.files.insert(name.clone(), (content, mode));
        name
    }

    /// Endpoints of the legacy table: a path is used as it is, none means `/v2` (CONTAINERD.md 2.1). Those of `*` served every registry
    /// without endpoints of its own, so a registry that gets a directory now keeps them.
    fn carried_mirrors(&mut self, name: &str, is_mirrored: bool) -> Vec<HostTable> {
        let mirrors = &self.carried.mirrors;
        let of_all = || mirrors.get("*").filter(|_| is_mirrored || name == DEFAULT_DIRECTORY);
        let endpoints = mirrors.get(name).or_else(of_all).cloned().unwrap_or_default();
        endpoints.iter().map(|endpoint| self.carried_mirror(endpoint)).collect()
    }

    fn carried_mirror(&mut self, endpoint: &str) -> HostTable {
        let endpoint = without_login(endpoint);
        let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", &endpoint));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let mut table =
            HostTable::plain(if path.is_empty() { format!("{scheme}://{authority}") } else { format!("{scheme}://{authority}/{path}") });
        table.override_path = !path.is_empty();
        if let Some(tls) = self.carried.tls.get(authority).filter(|_| scheme == "https") {
            self.use_carried_tls(&mut table, tls);
        }
        table
    }

    /// Files stay where their owner has them. One that is missing would kill every pull of the registry, so it is left out and reported.
    fn use_carried_tls(&mut self, table: &mut HostTable, tls: &ConfigsTls) {
        let client = [&tls.cert_file, &tls.key_file];
        table.skip_verify = tls.insecure_skip_verify;
        if !tls.ca_file.is_empty() && self.is_usable(&tls.ca_file) {
            table.ca = Some(tls.ca_file.clone());
        }
        if client.iter().all(|file| !file.is_empty() && self.is_usable(file)) {
            table.client = client.into_iter().cloned().collect();
        }
    }

    fn is_usable(&mut self, path: &str) -> bool {
        match self.reader.named_files.get(path) {
            Some(Fact::Known(())) => true,
            other => {
                let reason = other.and_then(Fact::unknown_because).unwrap_or("it was not looked at");
                let notice = Problem::new(
                    "carried.file",
                    format!("{path}, which registry.configs in config.toml named, cannot be used: {reason}"),
                    "it is left out of hosts.toml, where it would fail every pull; put it back and apply again",
                );
                if !self.notices.contains(&notice) {
                    self.notices.push(notice);
                }
                false
            }
        }
    }
}

/// A mirror by its own name: the pull names the namespace, so the URL must not.
#[must_use]
pub fn root_url(endpoint: &Endpoint) -> String {
    format!("{}://{}", endpoint.scheme, endpoint.authority())
}

/// The same URL twice is refused by containerd; the first one counts.
fn drop_repeated(hosts: &mut Vec<HostTable>) {
    let mut seen = Vec::new();
    hosts.retain(|host| {
        let is_new = !seen.contains(&host.url);
        seen.push(host.url.clone());
        is_new
    });
}
