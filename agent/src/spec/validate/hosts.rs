//! Which registries an entry mirrors.

use std::collections::HashMap;

use super::{
    super::{
        codes,
        document::{Mark, Node},
        names::{Endpoint, RegistryHost},
        problem::Problem,
        quote::quoted,
    },
    fields::{self, Fields},
    report::{Field, Report},
};

/// Names under which Docker Hub is reached, none of which an image name can be given.
const DOCKER_HUB: [&str; 4] = ["index.docker.io", "registry-1.docker.io", "registry.hub.docker.com", "hub.docker.com"];

/// The hosts of an entry, and for each its place and its index in the text.
#[derive(Default)]
pub(super) struct Hosts {
    pub(super) hosts: Vec<RegistryHost>,
    pub(super) places: Vec<(Mark, usize)>,
}

/// Reads `hosts`. Without it an entry mirrors gcr.io alone.
pub(super) fn read(fields: &Fields<'_>, endpoint: Option<&Endpoint>, report: &mut Report<'_>) -> Option<Hosts> {
    let Some(node) = fields.get("hosts") else { return Some(Hosts::default()) };
    let field = fields.field.key("hosts");
    let mut hosts = Hosts::default();
    let mut seen = HashMap::new();
    for (index, item) in fields::list(node, &field, report)?.iter().enumerate() {
        let field = field.item(index);
        let Some(host) = read_host(item, endpoint, &field, report) else { continue };
        if let Some(line) = seen.insert(host.clone(), item.at.line) {
            let message = format!("{host} is listed twice, first in line {line}");
            report.problem(item.at, &field, Problem::new(codes::HOST_TWICE, message, "keep one of them"));
            continue;
        }
        hosts.hosts.push(host);
        hosts.places.push((item.at, index));
    }
    Some(hosts)
}

fn read_host(node: &Node, endpoint: Option<&Endpoint>, field: &Field<'_>, report: &mut Report<'_>) -> Option<RegistryHost> {
    let text = fields::text(node, field, report)?;
    match parse(text).and_then(|host| apart(host, endpoint)) {
        Ok(host) => Some(host),
        Err(problem) => {
            report.problem(node.at, field, problem);
            None
        }
    }
}

/// A host as it must be written to match image names.
fn parse(text: &str) -> Result<RegistryHost, Problem> {
    if text.contains('/') {
        return Err(url(text));
    }
    if text == "_default" || text.contains('*') {
        let message =
            format!("{} is a pattern; mirrors are for hosts by name, so that a host that is not listed is not touched", quoted(text));
        return Err(Problem::new(codes::HOST_PATTERN, message, "list each host"));
    }
    let host =
        RegistryHost::parse(text).map_err(|fault| Problem::new(codes::HOST_NAME, fault, "write HOST or HOST:PORT as image names begin"))?;
    if DOCKER_HUB.contains(&host.domain()) {
        return Err(Problem::new(codes::HOST_DOCKER, format!("image names say docker.io where {host} is asked"), "write docker.io"));
    }
    if !host.begins_a_reference() {
        let message = format!("no image name has {host} as its registry: {host}/image means docker.io/{host}/image");
        return Err(Problem::new(codes::HOST_BARE, message, format!("write the full name, for example {host}.io, or {host}:PORT")));
    }
    Ok(host)
}

/// A URL may hold a password, so only its host is repeated.
fn url(text: &str) -> Problem {
    let (message, rest) = match text.split_once("://") {
        Some((_, rest)) => ("a host is written without a scheme", rest),
        None => ("a host is written without a path: a whole registry is mirrored, not a part of it", text),
    };
    let host = rest.split('/').next().unwrap_or_default();
    let remedy = RegistryHost::parse(host).map_or_else(|_| "write HOST or HOST:PORT".to_owned(), |host| format!("write {host}"));
    Problem::new(codes::HOST_URL, message, remedy)
}

/// A pull by the endpoint's own name goes there anyway.
fn apart(host: RegistryHost, endpoint: Option<&Endpoint>) -> Result<RegistryHost, Problem> {
    match endpoint {
        Some(endpoint) if endpoint.host.domain() == host.domain() => {
            let message = format!("{host} is the endpoint itself; hosts and endpoint must not overlap, such pulls go there anyway");
            Err(Problem::new(codes::HOST_OVERLAP, message, "leave it out"))
        }
        _ => Ok(host),
    }
}
