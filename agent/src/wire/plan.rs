//! Plans.

use super::{problem_views, problems, v1};
use crate::plan::explain::{PlanView, RestartView, StepView};

const KINDS: [(&str, v1::StepKind); 5] = [
    ("put-file", v1::StepKind::PutFile),
    ("remove-file", v1::StepKind::RemoveFile),
    ("place-directory", v1::StepKind::PlaceDirectory),
    ("remove-directory", v1::StepKind::RemoveDirectory),
    ("symlink", v1::StepKind::Symlink),
];

impl From<&StepView> for v1::Step {
    fn from(step: &StepView) -> Self {
        let kind = KINDS.iter().find(|(word, _)| *word == step.kind).map_or(v1::StepKind::Unspecified, |(_, kind)| *kind);
        let StepView { kind: _, path, reason, before_digest, after_digest, mode, diff } = step.clone();
        Self { kind: kind.into(), path, reason, before_digest, after_digest, mode, diff }
    }
}

impl From<v1::Step> for StepView {
    fn from(step: v1::Step) -> Self {
        let kind = KINDS.iter().find(|(_, kind)| *kind == step.kind()).map_or("", |(word, _)| word);
        let v1::Step { kind: _, path, reason, before_digest, after_digest, mode, diff } = step;
        Self { kind: kind.into(), path, reason, before_digest, after_digest, mode, diff }
    }
}

impl From<&PlanView> for v1::Plan {
    fn from(plan: &PlanView) -> Self {
        Self {
            steps: plan.steps.iter().map(v1::Step::from).collect(),
            restart: plan.restart.clone().map(|restart| v1::Restart {
                cause: restart.cause,
                reason: restart.reason,
                also_effective: restart.also_effective,
            }),
            notices: problems(&plan.notices),
            refusals: problems(&plan.refusals),
            text: plan.text.clone(),
            spec_digest: plan.spec_digest.clone(),
        }
    }
}

impl From<v1::Plan> for PlanView {
    fn from(plan: v1::Plan) -> Self {
        Self {
            steps: plan.steps.into_iter().map(StepView::from).collect(),
            restart: plan.restart.map(|restart| RestartView {
                cause: restart.cause,
                reason: restart.reason,
                also_effective: restart.also_effective,
            }),
            notices: problem_views(plan.notices),
            refusals: problem_views(plan.refusals),
            text: plan.text,
            spec_digest: plan.spec_digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::problem::ProblemView;

    #[test]
    fn a_plan_comes_back_as_it_was() {
        for (word, _) in KINDS {
            let step = StepView {
                kind: word.into(),
                path: "/etc/x".into(),
                reason: "r".into(),
                before_digest: "sha256:a".into(),
                after_digest: "sha256:b".into(),
                mode: 0o644,
                diff: "+x\n".into(),
            };
            let restart = RestartView { cause: "c".into(), reason: "r".into(), also_effective: vec!["a".into()] };
            let plan = PlanView {
                steps: vec![step],
                restart: Some(restart),
                notices: vec![ProblemView { code: "n".into(), ..ProblemView::default() }],
                refusals: vec![ProblemView { code: "r".into(), ..ProblemView::default() }],
                text: "text".into(),
                spec_digest: "sha256:c".into(),
            };
            assert_eq!(PlanView::from(v1::Plan::from(&plan)), plan);
        }
    }
}
