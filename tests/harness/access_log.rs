//! docker-registry writes an Apache line for each request, and before it a JSON line when it accepted a login. The Apache line
//! is the record; who was logged in stands nowhere.

use std::collections::HashSet;

use serde_json::Value;

/// What a request asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `/v2/`: is this a registry, and does it want a login.
    Ping,
    /// A manifest by its tag: the name is resolved here.
    Tag,
    /// A manifest by its digest.
    Manifest,
    /// A config or a layer.
    Blob,
    /// Anything else.
    Other,
}

/// One request a registry answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// HEAD, GET, …
    pub method: String,
    /// The path, without the query.
    pub path: String,
    /// `ns=`, decoded: the registry the client believes to speak to.
    pub ns: Option<String>,
    /// Status of the answer.
    pub status: u16,
    /// Whether the registry asked for a login and accepted the one it got.
    pub logged_in: bool,
    /// User-Agent.
    pub agent: String,
}

impl Request {
    /// What it asked for.
    pub fn part(&self) -> Part {
        if self.path == "/v2/" {
            Part::Ping
        } else if self.path.contains("/blobs/sha256:") {
            Part::Blob
        } else if self.path.contains("/manifests/sha256:") {
            Part::Manifest
        } else if self.path.contains("/manifests/") {
            Part::Tag
        } else {
            Part::Other
        }
    }

    /// Whether the registry gave what was asked for.
    pub fn is_served(&self) -> bool {
        self.status < 400
    }

    /// The repository's name, as the registry knows it.
    pub fn repository(&self) -> Option<&str> {
        let path = self.path.strip_prefix("/v2/")?;
        ["/manifests/", "/blobs/"].iter().find_map(|word| path.split_once(word)).map(|(name, _)| name)
    }
}

/// How many of each kind a registry served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Served {
    /// Manifests by tag.
    pub tags: usize,
    /// Manifests by digest.
    pub manifests: usize,
    /// Configs and layers.
    pub blobs: usize,
}

impl Served {
    /// Counts what was served of a repository.
    pub fn count(requests: &[Request], repository: &str) -> Self {
        let count = |part| {
            let wanted = |request: &&Request| request.is_served() && request.part() == part && request.repository() == Some(repository);
            requests.iter().filter(wanted).count()
        };
        Self { tags: count(Part::Tag), manifests: count(Part::Manifest), blobs: count(Part::Blob) }
    }

    /// Whether nothing was.
    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Reads a registry's log.
pub fn parse(log: &str) -> Vec<Request> {
    let mut logged_in = HashSet::new();
    let mut requests = Vec::new();
    for line in log.lines() {
        if line.starts_with('{') {
            logged_in.extend(accepted(line));
        } else if let Some((target, request)) = apache(line) {
            let is_accepted = request.status != 401 && logged_in.remove(&format!("{} {target}", request.method));
            requests.push(Request { logged_in: is_accepted, ..request });
        }
    }
    requests
}

/// Method and target of a request whose login was accepted.
fn accepted(line: &str) -> Option<String> {
    let entry: Value = serde_json::from_str(line).ok()?;
    let word = |name: &str| entry.get(name)?.as_str();
    (word("msg")? == "authorized request").then_some(format!("{} {}", word("http.request.method")?, word("http.request.uri")?))
}

/// `192.0.2.1 - - [date] "HEAD /v2/bb/manifests/1?ns=up.lab HTTP/1.1" 200 419 "" "containerd/1.6.20"`
fn apache(line: &str) -> Option<(&str, Request)> {
    let quoted: Vec<_> = line.split('"').collect();
    let mut words = quoted.get(1)?.split(' ');
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let status = quoted.get(2)?.split_whitespace().next()?.parse().ok()?;
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let ns = query.split('&').find_map(|pair| pair.strip_prefix("ns=")).map(|ns| ns.replace("%3A", ":"));
    let agent = quoted.get(5).copied().unwrap_or_default().to_owned();
    Some((target, Request { method, path: path.to_owned(), ns, status, logged_in: false, agent }))
}
