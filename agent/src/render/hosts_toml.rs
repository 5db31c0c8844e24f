//! One hosts.toml, in the one form that every containerd from 1.5 on reads.
//!
//! Facts behind the form (CONTAINERD.md 3.2, LAB.md 2): `server` before the first `[host]` or it is taken for a key of that host; a file
//! without any `[host]` is refused before 1.7.32; 2.x scans for `[host."…"]` headers and ignores inline tables; a `.header` table has to follow
//! its host; header names are used verbatim; TLS keys on an http URL make containerd try https first; an unknown capability, or anything that
//! does not parse, makes containerd ignore the file and ask the upstream without a word.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use toml_edit::{Array, DocumentMut, Item, Table, value};

use crate::spec::{names::Capability, problem::Problem};

/// First line of every hosts.toml of ours.
pub const FIRST_LINE: &str = "# Written by mirrorlet from the mirror spec; changes made here do not last.";

/// One `[host]`, or the keys of `server`.
#[derive(Debug, Clone)]
pub struct HostTable {
    /// Scheme, host, port and path.
    pub url: String,
    /// The path is used as it is, without `/v2` after it.
    pub override_path: bool,
    /// What it may be asked for.
    pub capabilities: Vec<Capability>,
    /// CA file: a name in the same directory, or an absolute path.
    pub ca: Option<String>,
    /// File with client certificate and key, or one file for each.
    pub client: Vec<String>,
    /// Certificates are not checked.
    pub skip_verify: bool,
    /// Connection timeout, where this containerd knows the key.
    pub dial_timeout: Option<Duration>,
    /// Value of the `Authorization` header.
    pub authorization: Option<SecretString>,
}

/// A whole file.
#[derive(Debug, Clone, Default)]
pub struct HostsToml {
    /// Asked last; left out only for `_default`, where every registry is its own.
    pub server: Option<HostTable>,
    /// Asked first, in this order; at least one.
    pub hosts: Vec<HostTable>,
}

impl HostsToml {
    /// Whether the text holds a secret, so that the file is for its owner only.
    #[must_use]
    pub fn has_secret(&self) -> bool {
        self.hosts.iter().chain(&self.server).any(|host| host.authorization.is_some())
    }

    /// The text.
    ///
    /// # Errors
    /// When the text, parsed again, is not what was asked for.
    pub fn render(&self) -> Result<String, Problem> {
        let mut document = DocumentMut::new();
        let root = document.as_table_mut();
        if let Some(server) = &self.server {
            root.insert("server", value(server.url.clone()));
            if server.is_more_than_a_url() {
                server.fill(root);
            }
        }
        let mut hosts = Table::new();
        hosts.set_implicit(true);
        for host in &self.hosts {
            let mut table = Table::new();
            host.fill(&mut table);
            hosts.insert(&host.url, Item::Table(table));
        }
        root.insert("host", Item::Table(hosts));
        let text = format!("{FIRST_LINE}\n{document}");
        self.check(&text)?;
        Ok(text)
    }

    /// Parses the text again: same URLs in the same order, nothing more.
    fn check(&self, text: &str) -> Result<(), Problem> {
        let wrong = |what: &str| {
            Problem::new("render.hosts-toml", format!("the hosts.toml made for this spec {what}"), "please report this with the spec")
        };
        let document: DocumentMut = text.parse().map_err(|_| wrong("does not parse"))?;
        let server = document.get("server").and_then(Item::as_str);
        let hosts = document.get("host").and_then(Item::as_table).ok_or_else(|| wrong("names no host"))?;
        let urls: Vec<&str> = hosts.iter().map(|(url, _)| url).collect();
        let expected: Vec<&str> = self.hosts.iter().map(|host| host.url.as_str()).collect();
        if server != self.server.as_ref().map(|server| server.url.as_str()) || urls != expected || urls.is_empty() {
            return Err(wrong("names other hosts than the spec"));
        }
        Ok(())
    }
}

/// A time as Go reads it.
fn go_duration(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

impl HostTable {
    /// A registry without settings of its own.
    #[must_use]
    pub fn plain(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            override_path: false,
            capabilities: vec![Capability::Pull, Capability::Resolve],
            ca: None,
            client: Vec::new(),
            skip_verify: false,
            dial_timeout: None,
            authorization: None,
        }
    }

    fn is_more_than_a_url(&self) -> bool {
        let has_plain_capabilities = self.capabilities == Self::plain("").capabilities;
        let has_tls = self.ca.is_some() || !self.client.is_empty() || self.skip_verify;
        !has_plain_capabilities || has_tls || self.override_path || self.authorization.is_some()
    }

    fn fill(&self, table: &mut Table) {
        table.insert("capabilities", value(self.capabilities.iter().map(|capability| capability.as_str()).collect::<Array>()));
        if let Some(ca) = &self.ca {
            table.insert("ca", value(ca.clone()));
        }
        match self.client.as_slice() {
            [] => {}
            [both] => {
                table.insert("client", value(both.clone()));
            }
            pair => {
                let pair: Array = pair.iter().map(String::as_str).collect();
                table.insert("client", value([pair].into_iter().collect::<Array>()));
            }
        }
        if self.skip_verify {
            table.insert("skip_verify", value(true));
        }
        if self.override_path {
            table.insert("override_path", value(true));
        }
        if let Some(timeout) = self.dial_timeout {
            table.insert("dial_timeout", value(go_duration(timeout)));
        }
        if let Some(authorization) = &self.authorization {
            let mut header = Table::new();
            header.insert("Authorization", value([authorization.expose_secret()].into_iter().collect::<Array>()));
            table.insert("header", Item::Table(header));
        }
    }
}
