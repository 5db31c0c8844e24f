//! What the operator wants: YAML text to a [`Spec`] that cannot be wrong any more, or all its problems at once.
//!
//! Pure: texts and bytes come in as arguments, nothing is read here.

#![allow(clippy::result_large_err, reason = "a Problem ends the reading of a text; it is never on a hot path")]

pub mod codes;
pub mod desired;
pub mod document;
pub mod inputs;
pub mod names;
pub mod problem;
pub mod quote;
pub mod validate;

use std::{fmt, time::Duration};

use names::{Capability, Endpoint, RegistryHost};
use problem::{Location, Problem};
pub use validate::read;

/// The mirrors of a node, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// In the order in which they are tried; empty means explicitly switched off.
    pub mirrors: Vec<Mirror>,
    /// `gcrKeyPath`: the service-account key used when gcr.io itself is asked.
    pub upstream_key: Option<Located<InputName>>,
}

/// One entry of `registryMirrors`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    /// Where the mirror is.
    pub endpoint: Endpoint,
    /// Which registries it mirrors, in order; gcr.io is among them unless the endpoint is gcr.io itself or the same endpoint of
    /// another entry has it already.
    pub hosts: Vec<RegistryHost>,
    /// The private CA; without one the system roots count.
    pub ca: Option<Located<InputName>>,
    /// The docker config.json that holds the login.
    pub login: Option<Located<InputName>>,
    /// Client certificate and its key.
    pub client: Option<(Located<InputName>, Located<InputName>)>,
    /// What containerd may ask this mirror: pull, or pull and resolve.
    pub capabilities: Vec<Capability>,
    /// The mirror's certificate is not checked.
    pub skip_verify: bool,
    /// How long a connection may take.
    pub dial_timeout: Option<Duration>,
    /// Whether the public registry is asked after this mirror; `None` leaves it to the node's policy.
    pub fallback: Option<Fallback>,
    /// Where the entry begins.
    pub at: Location,
}

/// What happens when a mirror has not what is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fallback {
    /// The public registry is asked.
    Upstream,
    /// The pull fails.
    None,
}

/// The name of an input: something whose content the spec needs and does not hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum InputName {
    /// An absolute path, without `..` and control characters.
    Path(String),
    /// One key of a Kubernetes Secret; all three parts are safe as names of files.
    Secret {
        /// The Secret's namespace.
        namespace: String,
        /// The Secret's name.
        name: String,
        /// The key in it, e.g. `ca.crt`.
        key: String,
    },
}

impl fmt::Display for InputName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => f.write_str(path),
            Self::Secret { namespace, name, key } => write!(f, "{namespace}/{name}/{key}"),
        }
    }
}

/// A value that remembers where it was written, so that what is wrong with the thing it names can be said there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub at: Location,
    /// Its field path, e.g. `registryMirrors[0].caCertPath`.
    pub field: String,
}

/// One file of a spec.
#[derive(Debug, Clone, Copy)]
pub struct SpecFile<'a> {
    /// The name shown in messages.
    pub name: &'a str,
    /// Its text.
    pub text: &'a str,
}

/// What was read when nothing was wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// What is wanted.
    pub spec: Spec,
    /// What is worth knowing about the text.
    pub notices: Vec<Problem>,
}

impl Spec {
    /// Every input the spec names, in order, each once.
    #[must_use]
    pub fn input_names(&self) -> Vec<&InputName> {
        let mut seen = std::collections::HashSet::new();
        let of_mirrors = self.mirrors.iter().flat_map(Mirror::input_names);
        of_mirrors.chain(self.upstream_key.iter().map(|key| &key.value)).filter(|name| seen.insert(*name)).collect()
    }

    /// Whether mirroring is switched off: `registryMirrors: []` was written.
    #[must_use]
    pub fn is_switched_off(&self) -> bool {
        self.mirrors.is_empty()
    }
}

impl Mirror {
    /// The inputs of this entry, in order.
    fn input_names(&self) -> impl Iterator<Item = &InputName> {
        let client = self.client.iter().flat_map(|(certificate, key)| [certificate, key]);
        self.ca.iter().chain(&self.login).chain(client).map(|input| &input.value)
    }
}
