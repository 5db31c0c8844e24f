//! Where a mirror is.

use std::fmt;

use super::{
    super::{codes, problem::Problem, quote::quoted},
    Namespace, RegistryHost,
};

/// How a mirror is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Scheme {
    /// Plain text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// The word before `://`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that counts when none is written.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Scheme, host, port and, when the mirror keeps its images below one, a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// How it is spoken to.
    pub scheme: Scheme,
    /// Where it listens.
    pub host: RegistryHost,
    /// What stands between `/v2/` and the path of an image.
    pub namespace: Option<Namespace>,
}

impl Endpoint {
    /// Reads `https://HOST:PORT` or `https://HOST:PORT/v2/NAMESPACE`. One slash at the end is dropped: the second value says so.
    pub fn parse(text: &str) -> Result<(Self, bool), Problem> {
        let (scheme, rest) = split_scheme(text)?;
        refuse_url_extras(scheme, rest)?;
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = RegistryHost::parse(authority).map_err(|fault| wrong_host(scheme, &fault))?;
        let (path, had_slash) = path.strip_suffix('/').map_or((path, false), |shorter| (shorter, true));
        let namespace = parse_path(scheme, &host, path)?;
        Ok((Self { scheme, host, namespace }, had_slash))
    }

    /// `https://HOST:PORT` or `https://HOST:PORT/v2/NAMESPACE`.
    #[must_use]
    pub fn url(&self) -> String {
        self.to_string()
    }

    /// `HOST:PORT`, as written.
    #[must_use]
    pub fn authority(&self) -> &str {
        self.host.as_str()
    }

    /// The port that is asked, written or not.
    #[must_use]
    pub fn effective_port(&self) -> u16 {
        self.host.port().unwrap_or(self.scheme.default_port())
    }

    /// Whether both are the same place, however the default port is written.
    #[must_use]
    pub fn is_same_place(&self, other: &Self) -> bool {
        let place = |endpoint: &Self| (endpoint.scheme, endpoint.effective_port(), endpoint.namespace.clone());
        self.host.domain() == other.host.domain() && place(self) == place(other)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.host)?;
        self.namespace.iter().try_for_each(|namespace| write!(f, "/v2/{namespace}"))
    }
}

/// The text may hold a password until [`refuse_url_extras`] has seen it, so it is not repeated before.
fn split_scheme(text: &str) -> Result<(Scheme, &str), Problem> {
    let Some((word, rest)) = text.split_once("://") else {
        return Err(Problem::new(codes::ENDPOINT_SCHEME, "an endpoint must begin with https:// or http://", without_scheme(text)));
    };
    match word.to_ascii_lowercase().as_str() {
        "http" => Ok((Scheme::Http, rest)),
        "https" => Ok((Scheme::Https, rest)),
        scheme => {
            let shown = if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) { quoted(scheme) } else { "this".to_owned() };
            Err(Problem::new(
                codes::ENDPOINT_SCHEME,
                format!("{shown} is not a scheme containerd can pull with"),
                "write https:// or http://",
            ))
        }
    }
}

fn without_scheme(text: &str) -> String {
    let host = text.split('/').next().unwrap_or_default();
    match RegistryHost::parse(host) {
        Ok(host) => format!("write https://{host}, or http://{host} when the mirror has no TLS"),
        Err(_) => "write https://HOST:PORT".to_owned(),
    }
}

/// userinfo, query and fragment: none may be in an endpoint, and each may hold a secret, so none is repeated.
fn refuse_url_extras(scheme: Scheme, rest: &str) -> Result<(), Problem> {
    if rest.contains('@') {
        let remedy = format!("write {scheme}://HOST:PORT and put the login into the docker config.json of pullCredentialConfigPath");
        return Err(Problem::new(codes::ENDPOINT_USERINFO, "an endpoint must not hold a user name or a password", remedy));
    }
    if rest.contains('?') {
        return Err(Problem::new(codes::ENDPOINT_QUERY, "an endpoint must not have a query (the part from ? on)", "leave it out"));
    }
    if rest.contains('#') {
        return Err(Problem::new(codes::ENDPOINT_QUERY, "an endpoint must not have a fragment (the part from # on)", "leave it out"));
    }
    Ok(())
}

fn wrong_host(scheme: Scheme, fault: &str) -> Problem {
    Problem::new(codes::ENDPOINT_HOST, fault, format!("write {scheme}://HOST:PORT with a DNS name, an IPv4 address or an [IPv6] address"))
}

/// The namespace of `/v2/NAMESPACE`; no path is no namespace.
fn parse_path(scheme: Scheme, host: &RegistryHost, path: &str) -> Result<Option<Namespace>, Problem> {
    if path.is_empty() {
        return Ok(None);
    }
    if path == "/v2" {
        let message = "without a namespace an endpoint has no path, found \"/v2\"";
        return Err(Problem::new(codes::ENDPOINT_V2, message, format!("write {scheme}://{host}, or {scheme}://{host}/v2/NAMESPACE")));
    }
    let Some(text) = path.strip_prefix("/v2/") else {
        let message = format!("a namespace must be written as /v2/NAMESPACE, found path {}", quoted(path));
        return Err(Problem::new(codes::ENDPOINT_PATH, message, path_remedy(scheme, host, path)));
    };
    let remedy = "a namespace is made of lower-case letters and digits, joined by . _ or -, and its parts by /";
    Namespace::parse(text).map(Some).map_err(|fault| Problem::new(codes::ENDPOINT_NAMESPACE, fault, remedy))
}

/// The endpoint that was probably meant.
fn path_remedy(scheme: Scheme, host: &RegistryHost, path: &str) -> String {
    let trimmed = path.trim_matches('/');
    let namespace = trimmed.strip_prefix("v2/").or_else(|| trimmed.strip_suffix("/v2")).unwrap_or(trimmed);
    match Namespace::parse(namespace) {
        Ok(namespace) => format!("write {scheme}://{host}/v2/{namespace}"),
        Err(_) => format!("write {scheme}://{host}, or {scheme}://{host}/v2/NAMESPACE"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn endpoints_read_and_show() {
        let table = [
            ("https://192.0.2.20:5000", "https://192.0.2.20:5000", false),
            ("HTTP://Mirror.example/", "http://mirror.example", true),
            ("https://[::1]:5000/v2/a/b/", "https://[::1]:5000/v2/a/b", true),
        ];
        for (text, url, had_slash) in table {
            let (endpoint, dropped) = Endpoint::parse(text).unwrap();
            assert_eq!((endpoint.url().as_str(), dropped), (url, had_slash));
        }
    }

    #[test]
    fn a_default_port_is_no_difference() {
        let parse = |text| Endpoint::parse(text).unwrap().0;
        assert!(parse("https://a.example").is_same_place(&parse("https://a.example:443")));
        assert!(!parse("http://a.example").is_same_place(&parse("https://a.example:80")));
    }

    #[test]
    fn no_message_repeats_a_password() {
        for text in
            ["https://user:hunter2@a.example", "user:hunter2@a.example", "user:hunter2@a.example://x", "https://a.example?token=hunter2"]
        {
            let shown = Endpoint::parse(text).unwrap_err().to_string();
            assert!(!shown.contains("hunter2"), "{shown}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_reads_back(text in "https?://[a-z0-9.:\\[\\]-]{1,20}(/[a-zA-Z0-9/._-]{0,20})?|\\PC{0,30}") {
            if let Ok((endpoint, _)) = Endpoint::parse(&text) {
                prop_assert_eq!(Endpoint::parse(&endpoint.url()).unwrap(), (endpoint, false));
            }
        }
    }
}
