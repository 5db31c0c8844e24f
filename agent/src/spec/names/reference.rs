//! Image references, read the way containerd's CRI reads them.
//!
//! The grammar and the defaults are those of `github.com/distribution/reference` (`ParseNormalizedNamed`, `TagNameOnly`), with one
//! difference: tag and digest are both kept, because people should see what they wrote. containerd itself drops the tag then.

use std::{fmt, str::FromStr};

use super::{super::quote::quoted, Digest, namespace::is_path_component, registry_host::is_label};

const DEFAULT_DOMAIN: &str = "docker.io";
const OLD_DEFAULT_DOMAIN: &str = "index.docker.io";
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
const LONGEST_PATH: usize = 255;
const LONGEST_TAG: usize = 128;

/// A full image name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// The registry, with its port.
    pub domain: String,
    /// The repository in that registry.
    pub path: String,
    /// The tag; `latest` when neither tag nor digest was written.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<Digest>,
}

impl Reference {
    /// Reads a reference as a person writes it; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("the image name is empty".to_owned());
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err("64 hex digits are an image ID, not an image name".to_owned());
        }
        let (domain, remainder) = split_domain(text);
        check_domain(domain)?;
        let (remainder, digest) = split_digest(remainder)?;
        let (path, tag) = split_tag(remainder)?;
        let is_official = domain == DEFAULT_DOMAIN && !path.contains('/');
        let path = if is_official { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        check_path(&path)?;
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| DEFAULT_TAG.to_owned()));
        Ok(Self { domain: domain.to_owned(), path, tag, digest })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.domain, self.path)?;
        self.tag.iter().try_for_each(|tag| write!(f, ":{tag}"))?;
        self.digest.iter().try_for_each(|digest| write!(f, "@{digest}"))
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

/// The first component is a registry only when it looks like one: a dot, a colon, a capital letter, or `localhost`.
fn split_domain(text: &str) -> (&str, &str) {
    let looks_like_one = |first: &str| first.contains(['.', ':']) || first == "localhost" || first.chars().any(char::is_uppercase);
    match text.split_once('/') {
        Some((OLD_DEFAULT_DOMAIN, rest)) => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if looks_like_one(first) => (first, rest),
        _ => (DEFAULT_DOMAIN, text),
    }
}

/// The domain of a reference is laxer than a registry host: capitals, any number as a port.
fn check_domain(domain: &str) -> Result<(), String> {
    let (name, port) = match domain.rfind(':').filter(|colon| domain.rfind(']').is_none_or(|bracket| bracket < *colon)) {
        Some(colon) => (&domain[..colon], Some(&domain[colon + 1..])),
        None => (domain, None),
    };
    let port_is_number = port.is_none_or(|port| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()));
    if port_is_number && is_domain_name(name) { Ok(()) } else { Err(format!("{} is not a registry host", quoted(domain))) }
}

fn is_domain_name(name: &str) -> bool {
    if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return !address.is_empty() && address.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
    }
    name.to_ascii_lowercase().split('.').all(is_label)
}

/// What stands before the digest, and the digest.
fn split_digest(remainder: &str) -> Result<(&str, Option<Digest>), String> {
    match remainder.split_once('@') {
        Some((name, digest)) => Ok((name, Some(Digest::parse(digest)?))),
        None => Ok((remainder, None)),
    }
}

/// The repository and its tag.
fn split_tag(remainder: &str) -> Result<(&str, Option<&str>), String> {
    let Some((path, tag)) = remainder.split_once(':') else { return Ok((remainder, None)) };
    let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let begins_well = tag.bytes().next().is_some_and(is_word);
    let is_tag = begins_well && tag.len() <= LONGEST_TAG && tag.bytes().all(|b| is_word(b) || b == b'.' || b == b'-');
    if is_tag { Ok((path, Some(tag))) } else { Err(format!("{} is not a tag", quoted(tag))) }
}

fn check_path(path: &str) -> Result<(), String> {
    if path.len() > LONGEST_PATH {
        return Err(format!("a repository name has at most {LONGEST_PATH} characters, this one has {}", path.len()));
    }
    if path.chars().any(char::is_uppercase) {
        return Err(format!("the repository name {} must be in lower case", quoted(path)));
    }
    match path.split('/').find(|component| !is_path_component(component)) {
        Some("") => Err("a repository name must not have an empty part".to_owned()),
        Some(wrong) => Err(format!("{} cannot be part of a repository name", quoted(wrong))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_read_like_containerds() {
        let digest = format!("sha256:{HEX}");
        let table = [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("user/app", "docker.io/user/app:latest".to_owned()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("index.docker.io/user/app:v1", "docker.io/user/app:v1".to_owned()),
            ("registry-1.docker.io/library/nginx", "registry-1.docker.io/library/nginx:latest".to_owned()),
            ("gcr.io/p/app", "gcr.io/p/app:latest".to_owned()),
            ("gcr.io/app", "gcr.io/app:latest".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("localhost:5000/app:v1", "localhost:5000/app:v1".to_owned()),
            ("172.18.0.20:5000/ns/etcd:v3.4.30-0-gke.1", "172.18.0.20:5000/ns/etcd:v3.4.30-0-gke.1".to_owned()),
            ("[2001:db8::1]:5000/app", "[2001:db8::1]:5000/app:latest".to_owned()),
            ("[::1]/app", "[::1]/app:latest".to_owned()),
            ("Foo/bar", "Foo/bar:latest".to_owned()),
            ("foo:5000", "docker.io/library/foo:5000".to_owned()),
            ("a.b", "docker.io/library/a.b:latest".to_owned()),
            ("quay.io/a/b/c/d:x", "quay.io/a/b/c/d:x".to_owned()),
            ("a__b/c-d--e", "docker.io/a__b/c-d--e:latest".to_owned()),
        ];
        for (text, full) in table {
            assert_eq!(Reference::parse(text).unwrap().to_string(), full, "{text}");
        }
        assert_eq!(Reference::parse(&format!("nginx@{digest}")).unwrap().to_string(), format!("docker.io/library/nginx@{digest}"));
        assert_eq!(Reference::parse(&format!("gcr.io/p/a:v1@{digest}")).unwrap().to_string(), format!("gcr.io/p/a:v1@{digest}"));
    }

    #[test]
    fn everything_else_is_refused() {
        let longest_path = format!("gcr.io/{}", "a".repeat(256));
        let longest_tag = format!("a:{}", "t".repeat(129));
        let bad = [
            "",
            HEX,
            ":tag",
            "a:",
            "a:-x",
            "a@",
            "a@sha256:12",
            "a@md5:12",
            "nginx:1.27\n",
            " nginx",
            "A",
            "gcr.io/A/b",
            "gcr.io//a",
            "/a",
            "a/",
            "gcr.io/",
            "a..b",
            "-a.io/x",
            "gcr.io:/x",
            "gcr.io:5x/x",
            "https://gcr.io/a",
            "a:b:c",
            "a@b@c",
            "gcr.io/../x",
            "gcr.io/a?x",
            "[::1/x",
            "é/x",
            longest_path.as_str(),
            longest_tag.as_str(),
        ];
        for text in bad {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn full_names_round_trip(
            domain in "[a-z0-9]{1,5}(\\.[a-z]{1,5}){1,2}(:[1-9][0-9]{0,3})?", path in "[a-z0-9]{1,5}([._-][a-z0-9]{1,4})?(/[a-z0-9]{1,5}){0,3}",
            tag in proptest::option::of("[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}"), content in proptest::option::of(any::<[u8; 4]>()),
        ) {
            let digest = content.map(|bytes| Digest::of(&bytes));
            let tag = tag.or_else(|| digest.is_none().then(|| "latest".to_owned()));
            let reference = Reference { domain, path, tag, digest };
            prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
        }

        #[test]
        fn whatever_is_taken_reads_back(text in "[a-zA-Z0-9:/@._\\[\\]-]{0,30}|\\PC{0,20}") {
            if let Ok(reference) = Reference::parse(&text) {
                prop_assert_eq!(Reference::parse(&reference.to_string()), Ok(reference));
            }
        }
    }
}
