//! How entries get on with each other: the same endpoint twice for one host, and gcr.io, which everybody mirrors.

use std::collections::{HashMap, HashSet};

use super::{
    super::{
        Mirror, codes,
        names::{Endpoint, Namespace, RegistryHost, Scheme},
        problem::Problem,
    },
    entry::Draft,
    report::{Field, Report},
};

/// The mirrors of the drafts, gcr.io added.
pub(super) fn settle(drafts: Vec<Draft>, report: &mut Report<'_>) -> Vec<Mirror> {
    refuse_twice(&drafts, report);
    let mut having: HashSet<Place> = drafts.iter().filter(|draft| lists_gcr(draft)).map(|draft| place(&draft.mirror.endpoint)).collect();
    let mut mirrors = Vec::with_capacity(drafts.len());
    for mut draft in drafts {
        let is_gcr = draft.mirror.endpoint.host.domain() == RegistryHost::gcr().domain();
        if !is_gcr && having.insert(place(&draft.mirror.endpoint)) {
            draft.mirror.hosts.push(RegistryHost::gcr());
        }
        notice_idle(&draft, report);
        mirrors.push(draft.mirror);
    }
    mirrors
}

/// What makes two spellings of an endpoint the same place.
type Place = (Scheme, String, u16, Option<Namespace>);

fn place(endpoint: &Endpoint) -> Place {
    (endpoint.scheme, endpoint.host.domain().to_owned(), endpoint.effective_port(), endpoint.namespace.clone())
}

fn lists_gcr(draft: &Draft) -> bool {
    draft.mirror.hosts.contains(&RegistryHost::gcr())
}

/// An entry that mirrors nothing still gives direct pulls their CA and login; that is worth saying.
fn notice_idle(draft: &Draft, report: &mut Report<'_>) {
    if draft.mirror.hosts.is_empty() {
        report.turn_to(draft.file);
        let notice = Problem::new(codes::HOST_NONE, "this entry mirrors no host; it only counts for pulls by the endpoint's own name", "");
        report.notice(draft.at, &Field::Root.key(&draft.field), notice);
    }
}

/// For one host containerd would ask the same place twice, and hosts.toml cannot say so.
fn refuse_twice(drafts: &[Draft], report: &mut Report<'_>) {
    let mut seen = HashMap::new();
    for draft in drafts {
        report.turn_to(draft.file);
        let place = place(&draft.mirror.endpoint);
        for (host, (at, index)) in draft.mirror.hosts.iter().zip(&draft.host_places) {
            let Some(first) = seen.insert((place.clone(), host), &draft.mirror.at) else { continue };
            let field = Field::Root.key(&draft.field);
            let message = format!("{} mirrors {host} already, in the entry at {first}", draft.mirror.endpoint);
            report.problem(*at, &field.key("hosts").item(*index), Problem::new(codes::ENDPOINT_TWICE, message, "keep one of them"));
        }
    }
}
