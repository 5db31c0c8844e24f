//! What callers ask for, and how much of it at once.

use std::{collections::BTreeMap, time::Duration};

use prost::Message;

use super::v1;
use crate::{
    config::ForeignChange,
    host::facts::{Disk, NodeFacts},
    plan::Allowed,
    reconcile::commands::{ApplyOrder, RestoreOrder, SpecSource},
    spec::{
        names::Digest,
        problem::Problem,
        quote::{plain, quoted},
    },
};

/// A spec text is never larger; one line an endpoint, this is tens of thousands of mirrors.
const MOST_SPEC_BYTES: usize = 1 << 20;
/// An input is never larger; the CA bundle of a whole distribution has 250 kB.
const MOST_INPUT_BYTES: usize = 4 << 20;
/// A time to confirm in is never shorter …
const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
/// … nor longer.
const LONGEST_WINDOW: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// A spec never names more.
const MOST_INPUTS: usize = 1_000;

/// The spec of a request; `None` is the node's own.
///
/// # Errors
/// When it is larger than a spec can be, or its inputs do not go with it.
pub fn spec_source(source: Option<v1::SpecSource>) -> Result<Option<SpecSource>, Problem> {
    let Some(source) = source else { return Ok(None) };
    if source.text.is_empty() {
        return if source.inputs.is_empty() { Ok(None) } else { Err(inputs_alone()) };
    }
    if source.text.len() > MOST_SPEC_BYTES {
        return Err(too_large("spec.text", "the spec", source.text.len(), MOST_SPEC_BYTES));
    }
    if source.inputs.len() > MOST_INPUTS {
        let message = format!("{} inputs come with the spec, at most {MOST_INPUTS} may", source.inputs.len());
        return Err(request_problem("request.inputs", "spec.inputs", message, "send those the spec names, each once"));
    }
    let name = if source.name.is_empty() { "spec".into() } else { plain(&source.name) };
    Ok(Some(SpecSource { text: source.text, name, inputs: inputs(source.inputs)? }))
}

fn inputs(given: Vec<v1::Input>) -> Result<BTreeMap<String, Vec<u8>>, Problem> {
    let mut inputs = BTreeMap::new();
    for v1::Input { name, content } in given {
        if content.len() > MOST_INPUT_BYTES {
            return Err(too_large("spec.inputs", &plain(&name), content.len(), MOST_INPUT_BYTES));
        }
        if inputs.contains_key(&name) {
            let message = format!("the input {} comes twice", quoted(&name));
            return Err(request_problem("request.inputs", "spec.inputs", message, "send each input once"));
        }
        inputs.insert(name, content);
    }
    Ok(inputs)
}

fn inputs_alone() -> Problem {
    request_problem("request.inputs", "spec.inputs", "inputs come without a spec".into(), "send the spec that names them, too")
}

fn too_large(field: &str, what: &str, size: usize, most: usize) -> Problem {
    request_problem("request.too-large", field, format!("{what} has {size} bytes, at most {most} are taken"), "send a smaller one")
}

fn request_problem(code: &'static str, field: &str, message: String, remedy: &str) -> Problem {
    let mut problem = Problem::new(code, message, remedy);
    problem.field = field.into();
    problem
}

/// A spec as it is sent; the node's own for `None`.
#[must_use]
pub fn spec_message(source: Option<SpecSource>) -> v1::SpecSource {
    let Some(source) = source else { return v1::SpecSource::default() };
    let inputs = source.inputs.into_iter().map(|(name, content)| v1::Input { name, content }).collect();
    v1::SpecSource { text: source.text, name: source.name, inputs }
}

/// The digest of a request without its id: same id and same digest means the same request.
#[must_use]
pub fn body_digest(request: &v1::ApplySpecRequest) -> String {
    let body = v1::ApplySpecRequest { request_id: String::new(), ..request.clone() };
    Digest::of(&body.encode_to_vec()).to_string()
}

/// The apply that a request asks for.
///
/// # Errors
/// When it cannot be meant.
pub fn apply_order(request: v1::ApplySpecRequest, who: String) -> Result<ApplyOrder, Problem> {
    let body = body_digest(&request);
    let validate_only = request.validate_only() == v1::ApplyMode::ValidateOnly;
    let allowed = allowed(&request.take_over, request.accept());
    let v1::ApplySpecRequest { spec, etag, request_id, confirm_within, .. } = request;
    let confirm_within = confirm_within.map(window).transpose()?;
    Ok(ApplyOrder { spec: spec_source(spec)?, allowed, etag, request_id, body, validate_only, confirm_within, who })
}

/// What the caller allows; a kind of change that this release does not know is not one it would make.
fn allowed(take_over: &[String], accept: impl Iterator<Item = v1::ForeignChange>) -> Allowed {
    let known = |wanted| ForeignChange::ALL.into_iter().find(|kind| accepted(*kind) == wanted);
    Allowed { take_over: take_over.iter().cloned().collect(), accept: accept.filter_map(known).collect() }
}

const fn accepted(kind: ForeignChange) -> v1::ForeignChange {
    match kind {
        ForeignChange::Upgrade => v1::ForeignChange::Upgrade,
        ForeignChange::Config => v1::ForeignChange::Config,
        ForeignChange::Unit => v1::ForeignChange::Unit,
        ForeignChange::HostDirectories => v1::ForeignChange::HostDirectories,
    }
}

/// A plan as it is asked for.
#[must_use]
pub fn plan_request(spec: Option<SpecSource>, allowed: Allowed) -> v1::PlanSpecRequest {
    v1::PlanSpecRequest {
        spec: Some(spec_message(spec)),
        take_over: allowed.take_over.into_iter().collect(),
        accept: allowed.accept.into_iter().map(|kind| accepted(kind).into()).collect(),
    }
}

/// The spec that a plan is asked for, and what may be done for it.
///
/// # Errors
/// When it cannot be meant.
pub fn plan_order(request: v1::PlanSpecRequest) -> Result<(Option<SpecSource>, Allowed), Problem> {
    let allowed = allowed(&request.take_over, request.accept());
    Ok((spec_source(request.spec)?, allowed))
}

/// The time there is to confirm: long enough to do it, and no longer than somebody remembers it.
fn window(duration: prost_types::Duration) -> Result<Duration, Problem> {
    let given = Duration::try_from(duration).unwrap_or_default();
    if (SHORTEST_WINDOW..=LONGEST_WINDOW).contains(&given) {
        return Ok(given);
    }
    let message = format!("{} s is no time to confirm in", given.as_secs());
    Err(request_problem("request.confirm-within", "confirm_within", message, "name a time between 1s and 7 days"))
}

/// An apply as it is asked for.
#[must_use]
pub fn apply_request(order: ApplyOrder) -> v1::ApplySpecRequest {
    v1::ApplySpecRequest {
        spec: Some(spec_message(order.spec)),
        take_over: order.allowed.take_over.into_iter().collect(),
        accept: order.allowed.accept.into_iter().map(|kind| accepted(kind).into()).collect(),
        etag: order.etag,
        request_id: order.request_id,
        validate_only: mode(order.validate_only),
        confirm_within: order.confirm_within.and_then(|within| prost_types::Duration::try_from(within).ok()),
        client: order.who,
    }
}

/// The restore that a request asks for.
#[must_use]
pub fn restore_order(request: v1::RestoreOriginalRequest, who: String) -> RestoreOrder {
    let validate_only = request.validate_only() == v1::ApplyMode::ValidateOnly;
    RestoreOrder { etag: request.etag, request_id: request.request_id, validate_only, who }
}

/// A restore as it is asked for.
#[must_use]
pub fn restore_request(order: RestoreOrder) -> v1::RestoreOriginalRequest {
    v1::RestoreOriginalRequest { etag: order.etag, request_id: order.request_id, validate_only: mode(order.validate_only) }
}

fn mode(validate_only: bool) -> i32 {
    if validate_only { v1::ApplyMode::ValidateOnly.into() } else { v1::ApplyMode::Apply.into() }
}

/// The node's facts as they are sent.
#[must_use]
pub fn facts_response(facts: NodeFacts, content_dir: String, disk: Option<Disk>) -> v1::GetNodeFactsResponse {
    v1::GetNodeFactsResponse {
        hostname: facts.hostname,
        kernel_version: facts.kernel_version,
        os_name: facts.os_name,
        cpus: facts.cpus,
        load: facts.load.to_vec(),
        memory_total_bytes: facts.memory_total,
        memory_available_bytes: facts.memory_available,
        content_dir,
        content_disk_total_bytes: disk.map_or(0, |disk| disk.total),
        content_disk_available_bytes: disk.map_or(0, |disk| disk.available),
        uptime_seconds: facts.uptime,
        agent_resident_bytes: facts.agent_resident,
        inotify_instances_max: facts.inotify_instances_max,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order() -> ApplyOrder {
        let inputs = BTreeMap::from([("/ca.crt".to_owned(), b"pem".to_vec())]);
        ApplyOrder {
            spec: Some(SpecSource { text: "registryMirrors: []\n".into(), name: "m.yaml".into(), inputs }),
            allowed: Allowed { take_over: ["docker.io".to_owned()].into(), accept: [ForeignChange::Unit].into() },
            etag: "e".into(),
            request_id: "r".into(),
            body: String::new(),
            validate_only: true,
            confirm_within: Some(Duration::from_secs(120)),
            who: "mirrorctl apply".into(),
        }
    }

    #[test]
    fn an_order_comes_back_as_it_was() {
        let request = apply_request(order());
        let body = body_digest(&request);
        let back = apply_order(request, "mirrorctl apply".into()).unwrap();
        assert_eq!(format!("{back:?}"), format!("{:?}", ApplyOrder { body, ..order() }));
        assert_eq!(back.spec.unwrap().inputs, order().spec.unwrap().inputs);
    }

    #[test]
    fn the_body_is_everything_but_the_id() {
        let request = apply_request(order());
        let other_id = v1::ApplySpecRequest { request_id: "other".into(), ..request.clone() };
        let other_body = v1::ApplySpecRequest { etag: "other".into(), ..request.clone() };
        assert_eq!(body_digest(&request), body_digest(&other_id));
        assert_ne!(body_digest(&request), body_digest(&other_body));
    }

    #[test]
    fn no_text_is_the_nodes_own_spec() {
        assert!(spec_source(None).unwrap().is_none());
        assert!(spec_source(Some(spec_message(None))).unwrap().is_none());
    }

    #[test]
    fn what_is_too_much_is_refused_with_a_sentence() {
        let input = |size: usize| v1::Input { name: "/ca".into(), content: vec![0; size] };
        let source = |text: usize, inputs: Vec<v1::Input>| v1::SpecSource { text: "x".repeat(text), name: String::new(), inputs };
        let refused = [
            source(MOST_SPEC_BYTES + 1, vec![]),
            source(1, vec![input(MOST_INPUT_BYTES + 1)]),
            source(1, vec![input(1), input(1)]),
            source(0, vec![input(1)]),
            source(1, vec![input(0); MOST_INPUTS + 1]),
        ];
        for source in refused {
            assert!(!spec_source(Some(source)).unwrap_err().message.is_empty());
        }
        assert!(spec_source(Some(source(MOST_SPEC_BYTES, vec![input(MOST_INPUT_BYTES)]))).is_ok());
    }
}
