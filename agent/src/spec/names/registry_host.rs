//! The name of a registry as it stands at the beginning of an image reference.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use super::super::quote::quoted;

/// A DNS name, an IPv4 address or an IPv6 address in brackets, with or without a port; always in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistryHost {
    text: String,
    /// Where the domain ends and the port's colon stands.
    domain_end: usize,
    port: Option<u16>,
}

impl RegistryHost {
    /// Reads `HOST` or `HOST:PORT`; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (domain, port) = split_port(text)?;
        let domain = parse_domain(domain)?;
        let port = port.map(parse_port).transpose()?;
        Ok(Self::from_parts(&domain, port))
    }

    /// gcr.io, which every entry mirrors without being told to.
    #[must_use]
    pub fn gcr() -> Self {
        Self::from_parts("gcr.io", None)
    }

    fn from_parts(domain: &str, port: Option<u16>) -> Self {
        let text = port.map_or_else(|| domain.to_owned(), |port| format!("{domain}:{port}"));
        Self { text, domain_end: domain.len(), port }
    }

    /// `HOST` or `HOST:PORT`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name or address, without port and brackets.
    #[must_use]
    pub fn domain(&self) -> &str {
        self.text[..self.domain_end].trim_start_matches('[').trim_end_matches(']')
    }

    /// The port, when one is written.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether a reference that begins so is read as naming a registry: `ubuntu/x` is an image of Docker Hub, `ubuntu.example/x` is not.
    #[must_use]
    pub fn begins_a_reference(&self) -> bool {
        self.port.is_some() || self.text.contains(['.', ':']) || self.text == "localhost"
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for RegistryHost {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
}

/// The part before the port, and the port's text.
fn split_port(text: &str) -> Result<(&str, Option<&str>), String> {
    let name_end = text.rfind(']').map_or(0, |bracket| bracket + 1);
    let (name, rest) = text.split_at(name_end);
    if !name.is_empty() && !rest.is_empty() && !rest.starts_with(':') {
        return Err(format!("{} has something other than a port after its bracket", quoted(text)));
    }
    match rest.split_once(':') {
        Some((before, port)) if !port.contains(':') => Ok((if name.is_empty() { before } else { name }, Some(port))),
        Some(_) => Err(format!("{} has more than one colon; an IPv6 address must be written in brackets", quoted(text))),
        None => Ok((text, None)),
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    let is_canonical = text.bytes().all(|b| b.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| is_canonical).ok_or_else(|| format!("{} is not a port: a number from 1 to 65535", quoted(text)))
}

fn parse_domain(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("the host name is missing".to_owned());
    }
    if let Some(address) = text.strip_prefix('[') {
        return parse_ipv6(address.strip_suffix(']').unwrap_or(address));
    }
    let name = text.to_ascii_lowercase();
    let is_numeric = name.bytes().all(|b| b.is_ascii_digit() || b == b'.') && name.starts_with(|c: char| c.is_ascii_digit());
    if is_numeric { parse_ipv4(&name) } else { parse_dns_name(name) }
}

fn parse_ipv6(text: &str) -> Result<String, String> {
    let address: Ipv6Addr = text.parse().map_err(|_| format!("{} is not an IPv6 address", quoted(text)))?;
    Ok(format!("[{address}]"))
}

/// A name of digits and dots cannot be a DNS name: resolvers take it for an address.
fn parse_ipv4(text: &str) -> Result<String, String> {
    let parts = text.split('.').count();
    match text.parse::<Ipv4Addr>() {
        Ok(address) => Ok(address.to_string()),
        Err(_) if parts < 4 => Err(format!("{} is an IPv4 address with {} missing", quoted(text), missing_parts(4 - parts))),
        Err(_) => Err(format!("{} is not an IPv4 address", quoted(text))),
    }
}

fn missing_parts(count: usize) -> String {
    if count == 1 { "a part".to_owned() } else { format!("{count} parts") }
}

fn parse_dns_name(name: String) -> Result<String, String> {
    if name.len() > 253 {
        return Err(format!("a host name has at most 253 characters, this one has {}", name.len()));
    }
    if !name.is_ascii() {
        return Err(format!("{} is not ASCII; write an international name in its xn-- form", quoted(&name)));
    }
    match name.split('.').find(|label| !is_label(label)) {
        None => Ok(name),
        Some("") if name.ends_with('.') => Err(format!("{} ends in a dot", quoted(&name))),
        Some("") => Err(format!("{} has two dots in a row or begins with one", quoted(&name))),
        Some(label) => Err(format!("{} is not a host name: {}", quoted(&name), label_fault(label))),
    }
}

/// A DNS-1123 label, in lower case.
pub(in crate::spec) fn is_label(label: &str) -> bool {
    let is_alphanumeric = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    let ends_well = [bytes.first(), bytes.last()].iter().all(|end| end.is_some_and(is_alphanumeric));
    ends_well && label.len() <= 63 && bytes.iter().all(|b| is_alphanumeric(b) || *b == b'-')
}

fn label_fault(label: &str) -> String {
    if label.len() > 63 {
        return format!("a part of it has {} characters, at most 63 are allowed", label.len());
    }
    match label.chars().find(|c| !c.is_ascii_alphanumeric() && *c != '-') {
        Some(wrong) => format!("the character {} cannot be in one", quoted(&wrong.to_string())),
        None => "a part of it begins or ends with a hyphen".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_come_out_in_their_one_spelling() {
        let table = [
            ("GCR.io", "gcr.io", "gcr.io", None),
            ("192.0.2.1:5000", "192.0.2.1:5000", "192.0.2.1", Some(5000)),
            ("[2001:DB8:0::1]", "[2001:db8::1]", "2001:db8::1", None),
            ("[::1]:443", "[::1]:443", "::1", Some(443)),
            ("localhost", "localhost", "localhost", None),
            ("a-b.c:1", "a-b.c:1", "a-b.c", Some(1)),
        ];
        for (text, shown, domain, port) in table {
            let host = RegistryHost::parse(text).unwrap();
            assert_eq!((host.as_str(), host.domain(), host.port()), (shown, domain, port));
        }
    }

    #[test]
    fn everything_else_is_refused_with_a_reason() {
        let table = [
            ("", "the host name is missing"),
            (":5000", "the host name is missing"),
            ("198.51.20:5000", r#""198.51.20" is an IPv4 address with a part missing"#),
            ("10", r#""10" is an IPv4 address with 3 parts missing"#),
            ("192.0.2.256", r#""192.0.2.256" is not an IPv4 address"#),
            ("192.0.2.1.1", r#""192.0.2.1.1" is not an IPv4 address"#),
            ("::1", r#""::1" has more than one colon; an IPv6 address must be written in brackets"#),
            ("[::1", r#""[::1" has more than one colon; an IPv6 address must be written in brackets"#),
            ("[zz]", r#""zz" is not an IPv6 address"#),
            ("[::1]x", r#""[::1]x" has something other than a port after its bracket"#),
            ("a:0", r#""0" is not a port: a number from 1 to 65535"#),
            ("a:65536", r#""65536" is not a port: a number from 1 to 65535"#),
            ("a:", r#""" is not a port: a number from 1 to 65535"#),
            ("a:+1", r#""+1" is not a port: a number from 1 to 65535"#),
            ("a.", r#""a." ends in a dot"#),
            ("a..b", r#""a..b" has two dots in a row or begins with one"#),
            ("-a", r#""-a" is not a host name: a part of it begins or ends with a hyphen"#),
            ("a/b", r#""a/b" is not a host name: the character "/" cannot be in one"#),
            ("a\nb", r#""a\nb" is not a host name: the character "\n" cannot be in one"#),
            ("é.io", r#""é.io" is not ASCII; write an international name in its xn-- form"#),
        ];
        for (text, reason) in table {
            assert_eq!(RegistryHost::parse(text), Err(reason.to_owned()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(domain in "[a-zA-Z0-9]([a-zA-Z0-9-]{0,8}[a-zA-Z0-9])?(\\.[a-z][a-z0-9]{0,8}){1,3}", port in proptest::option::of(1u16..)) {
            let text = port.map_or_else(|| domain.clone(), |port| format!("{domain}:{port}"));
            let host = RegistryHost::parse(&text).unwrap();
            prop_assert_eq!(host.port(), port);
            prop_assert_eq!(RegistryHost::parse(host.as_str()), Ok(host));
        }

        #[test]
        fn nothing_dangerous_comes_through(text in "\\PC{0,20}|[\\x00-\\x7f]{0,20}") {
            if let Ok(host) = RegistryHost::parse(&text) {
                prop_assert!(host.as_str().bytes().all(|b| b.is_ascii_alphanumeric() || b"-.:[]".contains(&b)));
                prop_assert!(!host.as_str().contains(".."));
                prop_assert_eq!(RegistryHost::parse(host.as_str()), Ok(host));
            }
        }
    }
}
