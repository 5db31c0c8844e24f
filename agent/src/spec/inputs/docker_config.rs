//! docker's config.json, of which only the logins count.

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::{
    super::{codes, names::RegistryHost, problem::Problem, quote::quoted},
    Login, parse_json,
};

/// docker writes padding, other tools leave it out.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&alphabet::STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// The keys docker itself uses for Docker Hub.
const DOCKER_HUB: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The logins of a config.json.
#[derive(Debug, Clone)]
pub struct DockerConfig {
    entries: Vec<(String, Entry)>,
    /// The program that keeps all other logins.
    store: Option<String>,
    /// Registries whose login a program of their own keeps.
    helpers: Vec<(String, String)>,
}

/// One value of `auths`.
#[derive(Debug, Clone)]
struct Entry {
    auth: Option<SecretString>,
    username: Option<String>,
    password: Option<SecretString>,
    has_token: bool,
}

impl DockerConfig {
    /// Reads a config.json. What it says beside logins is left alone.
    pub fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        let Value::Object(config) = parse_json(bytes)? else { return Err(shape("it must be an object".to_owned())) };
        let auths = object(&config, "auths")?;
        let entries = auths.iter().flat_map(|auths| auths.iter()).map(|(host, entry)| Ok((host.clone(), Entry::parse(host, entry)?)));
        let helpers = object(&config, "credHelpers")?.into_iter().flatten();
        let helpers = helpers.map(|(host, helper)| {
            Ok((host.clone(), helper.as_str().ok_or_else(|| shape("a value of credHelpers is no text".to_owned()))?.to_owned()))
        });
        let config = Self {
            entries: entries.collect::<Result<_, Problem>>()?,
            store: text(&config, "credsStore")?,
            helpers: helpers.collect::<Result<_, Problem>>()?,
        };
        if config.entries.is_empty() && config.store.is_none() && config.helpers.is_empty() {
            return Err(shape("there are no auths in it".to_owned()));
        }
        Ok(config)
    }

    /// The login at a registry; `None` when the file has none for it.
    pub fn login_for(&self, host: &RegistryHost) -> Result<Option<Login>, Problem> {
        if let Some((_, helper)) = self.helpers.iter().find(|(key, _)| is_key_of(key, host)) {
            return Err(kept_by("credHelpers", helper, host));
        }
        let matching = || self.entries.iter().filter(|(key, _)| is_key_of(key, host)).map(|(_, entry)| entry);
        match (matching().find(|entry| !entry.is_empty()), &self.store) {
            (Some(entry), _) => entry.login(host).map(Some),
            (None, Some(store)) => Err(kept_by("credsStore", store, host)),
            (None, None) => Ok(None),
        }
    }
}

impl Entry {
    fn parse(host: &str, value: &Value) -> Result<Self, Problem> {
        let Value::Object(entry) = value else { return Err(shape(format!("the entry {} is no object", shown_key(host)))) };
        let has = |key| text(entry, key).map(|found| found.is_some());
        Ok(Self {
            auth: text(entry, "auth")?.map(Into::into),
            username: text(entry, "username")?,
            password: text(entry, "password")?.map(Into::into),
            has_token: has("identitytoken")? || has("registrytoken")?,
        })
    }

    /// docker leaves an empty entry behind where a helper keeps the login.
    fn is_empty(&self) -> bool {
        self.auth.is_none() && self.username.is_none() && !self.has_token
    }

    /// As in docker: a token before anything else, then `auth`, then user and password.
    fn login(&self, host: &RegistryHost) -> Result<Login, Problem> {
        if self.has_token {
            let message = format!("the login at {host} is a token, which containerd cannot be given for a mirror");
            return Err(Problem::new(
                codes::DOCKER_TOKEN,
                message,
                "log in with a user name and a password, for example of a robot account",
            ));
        }
        match (&self.auth, &self.username) {
            (Some(auth), _) => login_of_auth(auth.expose_secret(), host),
            (None, username) => {
                let password = self.password.as_ref().map_or("", |password| password.expose_secret());
                Login::new(username.as_deref().unwrap_or_default(), password)
            }
        }
    }
}

/// `auth` is base64 of `USER:PASSWORD`; docker itself leaves zero bytes at its end.
fn login_of_auth(auth: &str, host: &RegistryHost) -> Result<Login, Problem> {
    let wrong = || {
        let message = format!("auth of {host} is not base64 of USER:PASSWORD");
        Problem::new(codes::DOCKER_AUTH, message, format!("log in again: docker login {host}"))
    };
    let pair = BASE64.decode(auth.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(wrong)?;
    let (username, password) = pair.split_once(':').ok_or_else(wrong)?;
    Login::new(username, password.trim_end_matches('\0'))
}

/// Whether a key of `auths` means that registry: with or without a scheme, an API version and the port that is the default anyway.
fn is_key_of(key: &str, host: &RegistryHost) -> bool {
    let (default_port, rest) = match key.split_once("://") {
        Some(("http", rest)) => (80, rest),
        Some((_, rest)) => (443, rest),
        None => (443, key),
    };
    let rest = rest.trim_end_matches('/');
    let rest = rest.strip_suffix("/v1").or_else(|| rest.strip_suffix("/v2")).unwrap_or(rest);
    let Ok(named) = RegistryHost::parse(rest) else { return false };
    let is_hub = |host: &RegistryHost| DOCKER_HUB.contains(&host.domain());
    let is_same_domain = named.domain() == host.domain() || (is_hub(&named) && is_hub(host));
    let port = |host: &RegistryHost| host.port().unwrap_or(default_port);
    is_same_domain && port(&named) == port(host)
}

fn kept_by(key: &str, helper: &str, host: &RegistryHost) -> Problem {
    let message = format!(
        "{key} leaves the login at {host} to the program docker-credential-{}, which a node cannot ask",
        super::super::quote::plain(helper)
    );
    let remedy = format!("write a config.json with the login in it: without {key}, docker --config DIR login {host}");
    Problem::new(codes::DOCKER_HELPER, message, remedy)
}

fn shape(message: String) -> Problem {
    Problem::new(
        codes::DOCKER_SHAPE,
        format!("this is not a docker config.json: {message}"),
        "write {\"auths\": {\"HOST:PORT\": {\"auth\": \"…\"}}}",
    )
}

/// A key may be a URL with a login in it, then it is not repeated.
fn shown_key(key: &str) -> String {
    if key.contains('@') { "with an @ in its key".to_owned() } else { quoted(key) }
}

/// An object that may be left out.
fn object<'a>(parent: &'a Map<String, Value>, key: &str) -> Result<Option<&'a Map<String, Value>>, Problem> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(found)) => Ok(Some(found)),
        Some(_) => Err(shape(format!("{key} is no object"))),
    }
}

/// A text that may be left out or empty.
fn text(parent: &Map<String, Value>, key: &str) -> Result<Option<String>, Problem> {
    match parent.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(found)) => Ok(Some(found.clone()).filter(|found| !found.is_empty())),
        Some(_) => Err(shape(format!("{key} is no text"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_mean_registries_in_all_spellings() {
        let table = [
            ("192.0.2.20:5000", "192.0.2.20:5000", true),
            ("https://192.0.2.20:5000", "192.0.2.20:5000", true),
            ("https://192.0.2.20:5000/v1/", "192.0.2.20:5000", true),
            ("https://192.0.2.20:5000/v2/", "192.0.2.20:5000", true),
            ("http://192.0.2.20:5000/", "192.0.2.20:5000", true),
            ("MIRROR.example", "mirror.example", true),
            ("mirror.example", "mirror.example:443", true),
            ("http://mirror.example", "mirror.example:80", true),
            ("mirror.example:5000", "mirror.example", false),
            ("mirror.example/project", "mirror.example", false),
            ("https://index.docker.io/v1/", "docker.io", true),
            ("docker.io", "registry-1.docker.io", true),
            ("user:pass@mirror.example", "mirror.example", false),
            ("", "mirror.example", false),
        ];
        for (key, host, expected) in table {
            assert_eq!(is_key_of(key, &RegistryHost::parse(host).unwrap()), expected, "{key} {host}");
        }
    }
}
