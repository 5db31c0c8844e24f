//! Outcomes, and the phases on the way to one.

use super::{problem_views, problems, v1};
use crate::{apply::journal::Phase, plan::explain::PlanView, reconcile::commands::ApplyEvent, status::OutcomeView};

const KINDS: [(&str, v1::OutcomeKind); 4] = [
    ("changed", v1::OutcomeKind::Changed),
    ("unchanged", v1::OutcomeKind::Unchanged),
    ("rolled-back", v1::OutcomeKind::RolledBack),
    ("refused", v1::OutcomeKind::Refused),
];

const PHASES: [(Phase, v1::Phase); 9] = [
    (Phase::Checking, v1::Phase::Checking),
    (Phase::Waiting, v1::Phase::Waiting),
    (Phase::Prepared, v1::Phase::Prepared),
    (Phase::Writing, v1::Phase::Writing),
    (Phase::Activating, v1::Phase::Activating),
    (Phase::Proving, v1::Phase::Proving),
    (Phase::Settling, v1::Phase::Settling),
    (Phase::Undoing, v1::Phase::Undoing),
    (Phase::Closed, v1::Phase::Closed),
];

impl From<&OutcomeView> for v1::Outcome {
    fn from(outcome: &OutcomeView) -> Self {
        let kind = KINDS.iter().find(|(word, _)| *word == outcome.kind).map_or(v1::OutcomeKind::Unspecified, |(_, kind)| *kind);
        Self {
            kind: kind.into(),
            generation: outcome.generation,
            restarts: outcome.restarts,
            cri_gap_ms: outcome.cri_gap_ms,
            problems: problems(&outcome.problems),
            notices: problems(&outcome.notices),
        }
    }
}

impl From<v1::Outcome> for OutcomeView {
    fn from(outcome: v1::Outcome) -> Self {
        let kind = KINDS.iter().find(|(_, kind)| *kind == outcome.kind()).map_or("", |(word, _)| word);
        Self {
            kind: kind.into(),
            generation: outcome.generation,
            restarts: outcome.restarts,
            cri_gap_ms: outcome.cri_gap_ms,
            problems: problem_views(outcome.problems),
            notices: problem_views(outcome.notices),
        }
    }
}

/// An event as it is sent; `None` for the end, which is sent by [`ended_response`] with the etag.
#[must_use]
pub fn apply_response(event: &ApplyEvent) -> Option<v1::ApplySpecResponse> {
    let response = v1::ApplySpecResponse::default();
    match event {
        ApplyEvent::Planned(plan) => {
            let message = "it is known what to do".to_owned();
            Some(v1::ApplySpecResponse { phase: v1::Phase::Planned.into(), message, plan: Some(v1::Plan::from(&**plan)), ..response })
        }
        ApplyEvent::Entered(phase, message) => {
            let phase = PHASES.iter().find(|(ours, _)| ours == phase).map_or(v1::Phase::Unspecified, |(_, phase)| *phase);
            Some(v1::ApplySpecResponse { phase: phase.into(), message: message.clone(), ..response })
        }
        ApplyEvent::Ended(_) => None,
    }
}

/// The last message of an apply.
#[must_use]
pub fn ended_response(outcome: &OutcomeView, etag: String) -> v1::ApplySpecResponse {
    let outcome = Some(v1::Outcome::from(outcome));
    v1::ApplySpecResponse { phase: v1::Phase::Closed.into(), outcome, etag, ..v1::ApplySpecResponse::default() }
}

/// A received message as an event, and the etag that came with it; `None` when it is of a kind that is not known.
#[must_use]
pub fn apply_event(response: v1::ApplySpecResponse) -> Option<(ApplyEvent, String)> {
    let phase = response.phase();
    let event = match (response.outcome, response.plan) {
        (Some(outcome), _) => ApplyEvent::Ended(outcome.into()),
        (None, Some(plan)) => ApplyEvent::Planned(Box::new(PlanView::from(plan))),
        (None, None) => {
            let (phase, _) = PHASES.iter().find(|(_, theirs)| *theirs == phase)?;
            ApplyEvent::Entered(*phase, response.message)
        }
    };
    Some((event, response.etag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::problem::{Problem, ProblemView};

    #[test]
    fn an_outcome_comes_back_as_it_was() {
        for (word, _) in KINDS {
            let notices = vec![ProblemView::from(&Problem::new("restart.task-ended", "it ended", ""))];
            let outcome = OutcomeView { kind: word.into(), generation: 3, restarts: 1, cri_gap_ms: 900, problems: Vec::new(), notices };
            assert_eq!(OutcomeView::from(v1::Outcome::from(&outcome)), outcome);
        }
    }

    #[test]
    fn every_phase_comes_back_as_it_was() {
        for (phase, _) in PHASES {
            let sent = apply_response(&ApplyEvent::Entered(phase, "why".into())).unwrap();
            let Some((ApplyEvent::Entered(back, message), _)) = apply_event(sent) else { panic!("{phase:?}") };
            assert_eq!((back, message.as_str()), (phase, "why"));
        }
    }

    #[test]
    fn the_end_carries_outcome_and_etag() {
        let outcome = OutcomeView { kind: "changed".into(), ..OutcomeView::default() };
        let Some((ApplyEvent::Ended(back), etag)) = apply_event(ended_response(&outcome, "e1".into())) else { panic!() };
        assert_eq!((back, etag.as_str()), (outcome, "e1"));
    }
}
