//! Spec and inputs, checked together: what the node is to be, with nothing left that could be wrong.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use super::{
    Fallback, InputName, Located, Mirror, Spec,
    inputs::{CaBundle, ClientPair, DockerConfig, Login, ServiceAccountKey},
    names::{Capability, Digest, Endpoint, RegistryHost},
    problem::Problem,
};

/// The registry every entry mirrors without being told.
pub const GCR: &str = "gcr.io";

/// What holds where an entry is silent.
#[derive(Debug, Clone, Copy)]
pub struct Defaults {
    /// Connection timeout of a mirror.
    pub dial_timeout: Duration,
    /// What is asked when no mirror has an image.
    pub fallback: Fallback,
    /// Seconds of Unix time, for certificates that have expired.
    pub now: i64,
}

/// One entry of the spec with the content of what it names.
#[derive(Debug, Clone)]
pub struct Target {
    /// Where.
    pub endpoint: Endpoint,
    /// Registries it mirrors.
    pub hosts: Vec<RegistryHost>,
    /// Private CA.
    pub ca: Option<Arc<CaBundle>>,
    /// Client certificate and key.
    pub client: Option<Arc<ClientPair>>,
    /// Login at the endpoint.
    pub login: Option<Login>,
    /// Certificates are not checked.
    pub skip_verify: bool,
    /// Connection timeout.
    pub dial_timeout: Duration,
    /// The entry says it, not the settings.
    pub has_own_dial_timeout: bool,
    /// What it may be asked for.
    pub capabilities: Vec<Capability>,
    /// What is asked when no mirror has an image.
    pub fallback: Fallback,
}

/// Spec and inputs.
#[derive(Debug, Clone)]
pub struct Desired {
    /// The entries in the order of the spec; none: mirroring is switched off.
    pub targets: Vec<Arc<Target>>,
    /// Login at gcr.io itself.
    pub upstream_login: Option<Login>,
    /// Digest of spec text and inputs.
    pub digest: Digest,
    /// Digest of the spec text alone.
    pub text_digest: Digest,
}

impl Desired {
    /// Whether the spec says that nothing is mirrored.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.targets.is_empty()
    }

    /// The mirrored registries, each with its targets in order.
    #[must_use]
    pub fn by_host(&self) -> BTreeMap<&RegistryHost, Vec<&Arc<Target>>> {
        let mut hosts: BTreeMap<&RegistryHost, Vec<&Arc<Target>>> = BTreeMap::new();
        for target in &self.targets {
            for host in &target.hosts {
                hosts.entry(host).or_default().push(target);
            }
        }
        hosts
    }

    /// The mirrors' own names, each with the targets that are there.
    #[must_use]
    pub fn by_authority(&self) -> BTreeMap<String, Vec<&Arc<Target>>> {
        let mut authorities: BTreeMap<String, Vec<&Arc<Target>>> = BTreeMap::new();
        for target in &self.targets {
            authorities.entry(target.endpoint.authority().to_owned()).or_default().push(target);
        }
        authorities
    }
}

/// Content of inputs by name; what could not be read comes with the reason.
pub type Inputs = BTreeMap<InputName, Result<Vec<u8>, String>>;

/// Puts a spec and its inputs together.
///
/// # Errors
/// All problems of the inputs at once.
pub fn resolve(spec: &Spec, text_digest: Digest, inputs: &Inputs, defaults: Defaults) -> Result<(Desired, Vec<Problem>), Vec<Problem>> {
    let mut reader = Reader { inputs, defaults, problems: Vec::new(), notices: Vec::new() };
    let targets: Vec<_> = spec.mirrors.iter().map(|mirror| Arc::new(reader.target(mirror))).collect();
    let upstream_login = spec
        .upstream_key
        .as_ref()
        .and_then(|name| reader.parse(name, |bytes| ServiceAccountKey::parse(bytes).map(ServiceAccountKey::into_login)));
    let Reader { mut problems, mut notices, .. } = reader;
    if problems.is_empty() {
        let mut seen = BTreeSet::new();
        notices.retain(|notice| seen.insert(notice.to_string()));
        let digest = digest_of(&text_digest, inputs);
        Ok((Desired { targets, upstream_login, digest, text_digest }, notices))
    } else {
        let mut seen = BTreeSet::new();
        problems.retain(|problem| seen.insert(problem.to_string()));
        Err(problems)
    }
}

/// One digest for spec text and inputs, so that a rotated CA is another wish.
#[must_use]
pub fn digest_of(text_digest: &Digest, inputs: &Inputs) -> Digest {
    let mut all = text_digest.to_string();
    for (name, content) in inputs {
        let content = content.as_ref().map_or_else(|_| "unreadable".to_owned(), |bytes| Digest::of(bytes).to_string());
        all.push_str(&format!("\n{name} {content}"));
    }
    Digest::of(all.as_bytes())
}

struct Reader<'a> {
    inputs: &'a Inputs,
    defaults: Defaults,
    problems: Vec<Problem>,
    notices: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn target(&mut self, mirror: &Mirror) -> Target {
        Target {
            endpoint: mirror.endpoint.clone(),
            hosts: mirror.hosts.clone(),
            ca: mirror.ca.as_ref().and_then(|name| self.ca(name)),
            client: mirror.client.as_ref().and_then(|(cert, key)| self.client(cert, key)),
            login: mirror.login.as_ref().and_then(|name| self.login(name, &mirror.endpoint)),
            skip_verify: mirror.skip_verify,
            dial_timeout: mirror.dial_timeout.unwrap_or(self.defaults.dial_timeout),
            has_own_dial_timeout: mirror.dial_timeout.is_some(),
            capabilities: mirror.capabilities.clone(),
            fallback: mirror.fallback.unwrap_or(self.defaults.fallback),
        }
    }

    fn ca(&mut self, name: &Located<InputName>) -> Option<Arc<CaBundle>> {
        let now = self.defaults.now;
        let (bundle, notices) = self.parse(name, |bytes| CaBundle::parse(bytes, now))?;
        self.notices.extend(notices.into_iter().map(|notice| placed(notice, name)));
        Some(Arc::new(bundle))
    }

    fn client(&mut self, cert: &Located<InputName>, key: &Located<InputName>) -> Option<Arc<ClientPair>> {
        let cert_bytes = self.content(cert);
        let key_bytes = self.content(key);
        let pair = ClientPair::parse(cert_bytes?, key_bytes?);
        pair.map(Arc::new).map_err(|problem| self.problems.push(placed(problem, cert))).ok()
    }

    fn login(&mut self, name: &Located<InputName>, endpoint: &Endpoint) -> Option<Login> {
        let found = self.parse(name, |bytes| DockerConfig::parse(bytes)?.login_for(&endpoint.host))?;
        if found.is_none() {
            let message = format!("{} holds no login for {}", name.value, endpoint.authority());
            let remedy = format!(
                "run \"docker login {}\" and hand over the config.json it writes, or take the key out of the spec",
                endpoint.authority()
            );
            self.problems.push(placed(Problem::new("input.no-login", message, remedy), name));
        }
        found
    }

    fn parse<T>(&mut self, name: &Located<InputName>, parse: impl FnOnce(&[u8]) -> Result<T, Problem>) -> Option<T> {
        let bytes = self.content(name)?;
        parse(bytes).map_err(|problem| self.problems.push(placed(named(problem, name), name))).ok()
    }

    fn content(&mut self, name: &Located<InputName>) -> Option<&'a [u8]> {
        let inputs = self.inputs;
        match inputs.get(&name.value) {
            Some(Ok(bytes)) => Some(bytes),
            missing => {
                let reason = match missing {
                    Some(Err(reason)) => reason.clone(),
                    _ => "it was not handed over".into(),
                };
                let problem = Problem::new(
                    "input.unreadable",
                    format!("{} cannot be read: {reason}", name.value),
                    "put it there, or take the key out of the spec",
                );
                self.problems.push(placed(problem, name));
                None
            }
        }
    }
}

fn named(problem: Problem, name: &Located<InputName>) -> Problem {
    Problem { message: format!("{}: {}", name.value, problem.message), ..problem }
}

fn placed(problem: Problem, name: &Located<InputName>) -> Problem {
    problem.at(name.at.clone(), name.field.clone())
}
