//! How entries get on with each other: the same endpoint twice for one host, and gcr.io, which everybody mirrors.

use std::collections::HashMap;

use super::{
    super::{
        Mirror, codes,
        document::Mark,
        names::{Endpoint, RegistryHost},
        problem::Problem,
    },
    entry::Draft,
    report::{Field, Report},
};

/// The mirrors of the drafts, gcr.io added.
pub(super) fn settle(drafts: Vec<Draft>, report: &mut Report<'_>) -> Vec<Mirror> {
    refuse_twice(&drafts, report);
    let mut mirrors: Vec<(usize, Mark, String, Mirror)> = Vec::with_capacity(drafts.len());
    let listing: Vec<Endpoint> = drafts.iter().filter(|draft| lists_gcr(draft)).map(|draft| draft.mirror.endpoint.clone()).collect();
    let mut having = listing;
    for Draft { mut mirror, file, at, field, .. } in drafts {
        let is_gcr = mirror.endpoint.host.domain() == RegistryHost::gcr().domain();
        if !is_gcr && !having.iter().any(|endpoint| endpoint.is_same_place(&mirror.endpoint)) {
            having.push(mirror.endpoint.clone());
            mirror.hosts.push(RegistryHost::gcr());
        }
        mirrors.push((file, at, field, mirror));
    }
    mirrors.into_iter().map(|(file, at, field, mirror)| named_if_idle(file, at, &field, mirror, report)).collect()
}

fn lists_gcr(draft: &Draft) -> bool {
    draft.mirror.hosts.contains(&RegistryHost::gcr())
}

/// An entry that mirrors nothing still gives direct pulls their CA and login; that is worth saying.
fn named_if_idle(file: usize, at: Mark, field: &str, mirror: Mirror, report: &mut Report<'_>) -> Mirror {
    if mirror.hosts.is_empty() {
        report.turn_to(file);
        let notice = Problem::new(codes::HOST_NONE, "this entry mirrors no host; it only counts for pulls by the endpoint's own name", "");
        report.notice(at, &Field::Root.key(field), notice);
    }
    mirror
}

/// For one host containerd would ask the same place twice, and hosts.toml cannot say so.
fn refuse_twice(drafts: &[Draft], report: &mut Report<'_>) {
    let mut seen = HashMap::new();
    for draft in drafts {
        report.turn_to(draft.file);
        let place = draft.mirror.endpoint.place();
        for (host, (at, index)) in draft.mirror.hosts.iter().zip(&draft.host_places) {
            let Some(first) = seen.insert((place, host), &draft.mirror.at) else { continue };
            let field = Field::Root.key(&draft.field);
            let message = format!("{} mirrors {host} already, in the entry at {first}", draft.mirror.endpoint);
            report.problem(*at, &field.key("hosts").item(*index), Problem::new(codes::ENDPOINT_TWICE, message, "keep one of them"));
        }
    }
}
