//! Test pulls.

use secrecy::{ExposeSecret, SecretString};

use super::v1;
use crate::{
    diagnose::test_pull::{PullCredentials, PullEvent, PullOrder, PullPhase, PullResult},
    spec::problem::{Problem, ProblemView},
};

const PHASES: [(PullPhase, v1::PullPhase); 5] = [
    (PullPhase::Resolving, v1::PullPhase::Resolving),
    (PullPhase::Fetching, v1::PullPhase::Fetching),
    (PullPhase::Unpacking, v1::PullPhase::Unpacking),
    (PullPhase::Cleaning, v1::PullPhase::Cleaning),
    (PullPhase::Done, v1::PullPhase::Done),
];

/// The pull that a request asks for; what is not specified is the cautious choice.
#[must_use]
pub fn pull_order(request: v1::TestPullRequest) -> PullOrder {
    let keeps = request.retention() == v1::PullRetention::Keep;
    let any = request.scope() == v1::PullScope::Any;
    let credentials = request.credentials.map(|credentials| PullCredentials {
        username: credentials.username,
        password: SecretString::from(credentials.password),
        host: credentials.host,
    });
    PullOrder { reference: request.reference, credentials, keeps, any, expect_host: request.expect_host }
}

/// A pull as it is asked for.
#[must_use]
pub fn pull_request(order: PullOrder) -> v1::TestPullRequest {
    let retention = if order.keeps { v1::PullRetention::Keep } else { v1::PullRetention::Remove };
    let scope = if order.any { v1::PullScope::Any } else { v1::PullScope::SpecHosts };
    let credentials = order.credentials.map(|credentials| v1::PullCredentials {
        username: credentials.username,
        password: credentials.password.expose_secret().to_owned(),
        host: credentials.host,
    });
    v1::TestPullRequest {
        reference: order.reference,
        credentials,
        retention: retention.into(),
        scope: scope.into(),
        expect_host: order.expect_host,
    }
}

/// An event as it is sent.
#[must_use]
pub fn pull_response(event: &PullEvent) -> v1::TestPullResponse {
    let done = v1::TestPullResponse { phase: v1::PullPhase::Done.into(), ..v1::TestPullResponse::default() };
    match event {
        PullEvent::At(phase, fetched_bytes, total_bytes) => {
            let phase = PHASES.iter().find(|(ours, _)| ours == phase).map_or(v1::PullPhase::Unspecified, |(_, theirs)| *theirs);
            let progress = Some(v1::PullProgress { fetched_bytes: *fetched_bytes, total_bytes: *total_bytes });
            v1::TestPullResponse { phase: phase.into(), progress, ..v1::TestPullResponse::default() }
        }
        PullEvent::Pulled(result) => v1::TestPullResponse { result: Some(v1::PullResult::from(&**result)), ..done },
        PullEvent::Failed(problem) => v1::TestPullResponse { problem: Some(v1::Problem::from(&ProblemView::from(problem))), ..done },
    }
}

/// A received message as an event; `None` when it is of a kind that is not known.
#[must_use]
pub fn pull_event(response: v1::TestPullResponse) -> Option<PullEvent> {
    let phase = response.phase();
    match (response.result, response.problem) {
        (Some(result), _) => Some(PullEvent::Pulled(Box::new(result.into()))),
        (None, Some(problem)) => Some(PullEvent::Failed(Problem::from(&ProblemView::from(problem)))),
        (None, None) => {
            let (phase, _) = PHASES.iter().find(|(_, theirs)| *theirs == phase)?;
            let progress = response.progress.unwrap_or_default();
            Some(PullEvent::At(*phase, progress.fetched_bytes, progress.total_bytes))
        }
    }
}

impl From<&PullResult> for v1::PullResult {
    fn from(result: &PullResult) -> Self {
        let PullResult { reference, image_id, repo_digest, size, elapsed_ms, removed_names, asked_in_order } = result.clone();
        Self { reference, image_id, repo_digest, size_bytes: size, elapsed_ms, removed_names, provenance: None, asked_in_order }
    }
}

impl From<v1::PullResult> for PullResult {
    fn from(result: v1::PullResult) -> Self {
        let v1::PullResult { reference, image_id, repo_digest, size_bytes, elapsed_ms, removed_names, provenance: _, asked_in_order } =
            result;
        Self { reference, image_id, repo_digest, size: size_bytes, elapsed_ms, removed_names, asked_in_order }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_comes_back_as_it_was() {
        let result = PullResult {
            reference: "docker.io/library/busybox:1".into(),
            image_id: "sha256:a".into(),
            repo_digest: "docker.io/library/busybox@sha256:b".into(),
            size: 4,
            elapsed_ms: 5,
            removed_names: vec!["n".into()],
            asked_in_order: vec!["m".into()],
        };
        let ends = [PullEvent::Pulled(Box::new(result)), PullEvent::Failed(Problem::new("pull.failed", "m", "r"))];
        for event in PHASES.iter().map(|(phase, _)| PullEvent::At(*phase, 1, 2)).chain(ends) {
            assert_eq!(pull_event(pull_response(&event)), Some(event));
        }
    }

    #[test]
    fn an_order_comes_back_as_it_was() {
        let credentials = PullCredentials { username: "u".into(), password: SecretString::from("p"), host: "h".into() };
        let order = PullOrder { reference: "r".into(), credentials: Some(credentials), keeps: true, any: true, expect_host: "e".into() };
        let back = pull_order(pull_request(order.clone()));
        assert_eq!(format!("{back:?}"), format!("{order:?}"));
        assert_eq!(back.credentials.unwrap().password.expose_secret(), "p");
    }

    #[test]
    fn what_is_not_said_is_the_cautious_choice() {
        let order = pull_order(v1::TestPullRequest::default());
        assert!(!order.keeps && !order.any && order.credentials.is_none());
    }
}
