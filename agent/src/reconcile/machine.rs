//! The decision: apply, or stay and why. Pure; the same situation always gets the same answer.

use crate::{
    apply::DRIFT,
    config::PolicySettings,
    observed::{Fact, record::Record},
    plan::Plan,
    spec::desired::Desired,
    status::Condition,
};

/// Why the node is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The daemon was started, the spec changed, containerd changed, time passed.
    Event,
    /// An operator asked for it: holds and parked specs do not count.
    Operator,
    /// The spec on the node is held, waits for a confirmation, or cannot be used: what is in effect is looked after.
    Kept,
}

/// What is known when it is decided.
#[derive(Debug, Clone, Copy)]
pub struct Situation<'a> {
    /// Why the node is looked at.
    pub cause: Cause,
    /// What is wanted.
    pub desired: &'a Desired,
    /// The way there.
    pub plan: &'a Plan,
    /// What is remembered.
    pub record: &'a Record,
    /// What is done about drift.
    pub policy: &'a PolicySettings,
    /// Whether containerd is known to use what is ours.
    pub proven: &'a Fact<bool>,
    /// Whether the CRI answers.
    pub cri: &'a Fact<()>,
    /// Repairs of the last minutes.
    pub repairs: usize,
    /// Nothing is tried for now, because the last time it failed for no fault of the spec; where the node stands meanwhile.
    pub put_off: Option<Condition>,
    /// Seconds of Unix time.
    pub now: i64,
}

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Carry the plan out; the word for who asked.
    Apply(&'static str),
    /// Leave the node as it is.
    Stay(Condition),
}

/// Who asks when the settings say another layout than the last time.
pub const SETTINGS: &str = "settings";

/// A repair that restarts containerd is not done again within this time, in seconds: whoever undoes it would win anyway.
pub const REPAIR_PAUSE: i64 = 600;
/// So many repairs within that time mean that somebody else writes these files too; they are told of, and no more fought.
const MOST_REPAIRS: usize = 8;

/// Decides.
#[must_use]
pub fn decide(situation: &Situation<'_>) -> Decision {
    let Situation { cause, desired, plan, record, .. } = *situation;
    if cause == Cause::Kept {
        return look_after(situation);
    }
    let asked = cause == Cause::Operator;
    if !asked && record.hold.as_ref().is_some_and(|hold| hold.text_digest == Some(desired.text_digest)) {
        return Decision::Stay(Condition::Held);
    }
    if !asked && record.parked.as_ref().is_some_and(|parked| parked.digest == desired.digest) {
        return Decision::Stay(Condition::RolledBack);
    }
    let is_new = record.applied.as_ref().is_none_or(|applied| applied.digest != desired.digest) || record.hold.is_some();
    if is_refused(situation, !is_new && !asked && !changes_layout(situation)) {
        return Decision::Stay(Condition::Refused);
    }
    if let (Some(condition), false, false) = (situation.put_off, asked, plan.is_empty()) {
        return Decision::Stay(condition);
    }
    let is_contested = situation.repairs >= MOST_REPAIRS;
    if !asked && is_contested && !plan.is_empty() {
        return Decision::Stay(Condition::Drifted);
    }
    match (plan.is_empty(), is_new) {
        (true, false) => Decision::Stay(when_in_place(situation)),
        (_, true) => Decision::Apply(if asked { "operator" } else { "spec" }),
        (false, false) if changes_layout(situation) => Decision::Apply(SETTINGS),
        (false, false) => repair(situation, asked),
    }
}

/// What is in effect is not what the spec on the node says, and is to stay so.
fn look_after(situation: &Situation<'_>) -> Decision {
    let stays = if situation.record.pending.is_some() { Condition::PendingConfirm } else { Condition::Held };
    match (situation.plan.is_empty(), when_in_place(situation)) {
        // While a generation is pending, its number is the one that is confirmed: no other is taken.
        _ if situation.record.pending.is_some() => Decision::Stay(stays),
        _ if is_refused(situation, !changes_layout(situation)) => Decision::Stay(Condition::Refused),
        (true, Condition::InEffect | Condition::SwitchedOff) => Decision::Stay(stays),
        (true, condition) => Decision::Stay(condition),
        (false, _) if situation.put_off.is_some() => Decision::Stay(situation.put_off.unwrap_or(stays)),
        (false, _) if changes_layout(situation) => Decision::Apply(SETTINGS),
        (false, _) if situation.repairs >= MOST_REPAIRS => Decision::Stay(Condition::Drifted),
        (false, _) => repair(situation, false),
    }
}

/// What is ours was written down in the other layout: the settings changed, nobody drifted.
fn changes_layout(situation: &Situation<'_>) -> bool {
    let Situation { plan, record, .. } = *situation;
    plan.wants_mirrors && plan.after.legacy.is_some() != record.legacy.is_some()
}

/// The part of a repair that the policy does not leave to others.
#[must_use]
pub fn mendable(plan: &Plan, record: &Record, policy: &PolicySettings) -> Plan {
    plan.without(record, |path| policy.leaves_drift(path))
}

/// It is refused, and not only for what is left to others anyway.
fn is_refused(situation: &Situation<'_>, is_drift: bool) -> bool {
    let Situation { plan, record, policy, .. } = *situation;
    if plan.refusals.is_empty() {
        return false;
    }
    let mended = mendable(plan, record, policy);
    !(is_drift && mended.refusals.is_empty() && !mended.is_empty())
}

/// Somebody else changed what is ours.
fn repair(situation: &Situation<'_>, asked: bool) -> Decision {
    let was_just_repaired = situation
        .record
        .last_change
        .as_ref()
        .is_some_and(|change| change.who == DRIFT && change.restarts > 0 && situation.now - change.time < REPAIR_PAUSE);
    let would_restart_again = was_just_repaired && situation.plan.restart.is_some();
    if !asked && (mendable(situation.plan, situation.record, situation.policy).is_empty() || would_restart_again) {
        return Decision::Stay(Condition::Drifted);
    }
    Decision::Apply(DRIFT)
}

/// Every file is as it should be. Whether it is in effect is another question.
#[must_use]
pub fn when_in_place(situation: &Situation<'_>) -> Condition {
    if situation.plan.awaits_restart {
        return Condition::AwaitingRestart;
    }
    match (situation.desired.is_off(), situation.proven, situation.cri) {
        (true, ..) => Condition::SwitchedOff,
        (false, Fact::Known(true), Fact::Known(())) => Condition::InEffect,
        (false, ..) => Condition::ContainerdSick,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::DriftPolicy,
        observed::record::{Applied, Change, Ending, Hold, HoldCause, LegacyKeys, Parked, Pending},
        plan::{
            self,
            restart::{Cause as RestartCause, Restart},
            step,
        },
        spec::{names::Digest, problem::Problem},
    };

    fn desired() -> Desired {
        Desired { targets: Vec::new(), upstream_login: None, digest: Digest::of(b"spec and inputs"), text_digest: Digest::of(b"spec") }
    }

    fn applied() -> Record {
        let desired = desired();
        Record {
            applied: Some(Applied {
                digest: desired.digest,
                text_digest: desired.text_digest,
                hosts: Vec::new(),
                texts: Vec::new(),
                inputs: Default::default(),
            }),
            ..Record::default()
        }
    }

    fn steps() -> Plan {
        let step = step::Step {
            path: "/x".into(),
            before: crate::observed::entry::Entry::Absent,
            before_content: None,
            change: step::Change::RemoveFile,
            reason: String::new(),
        };
        Plan { steps: vec![step], ..Plan::default() }
    }

    fn answer(record: &Record, plan: &Plan, cause: Cause, drift: DriftPolicy) -> Decision {
        let (desired, policy) = (desired(), PolicySettings { drift, ..PolicySettings::default() });
        decide(&Situation {
            cause,
            desired: &desired,
            plan,
            record,
            policy: &policy,
            proven: &Fact::Known(true),
            cri: &Fact::Known(()),
            repairs: 0,
            put_off: None,
            now: 1_000,
        })
    }

    #[test]
    fn a_held_spec_is_not_applied_until_it_changes_or_somebody_asks() {
        let hold = |text_digest| Some(Hold { cause: HoldCause::Disable, since: 0, text_digest });
        let held = Record { hold: hold(Some(desired().text_digest)), ..Record::default() };
        assert_eq!(answer(&held, &steps(), Cause::Event, DriftPolicy::Repair), Decision::Stay(Condition::Held));
        assert_eq!(answer(&held, &steps(), Cause::Operator, DriftPolicy::Repair), Decision::Apply("operator"));
        let other = Record { hold: hold(Some(Digest::of(b"another"))), ..Record::default() };
        assert_eq!(answer(&other, &steps(), Cause::Event, DriftPolicy::Repair), Decision::Apply("spec"));
        let none = Record { hold: hold(None), ..Record::default() };
        assert_eq!(answer(&none, &steps(), Cause::Event, DriftPolicy::Repair), Decision::Apply("spec"));
    }

    #[test]
    fn what_is_held_or_pending_is_looked_after() {
        let held = Record { hold: Some(Hold { cause: HoldCause::Revert, since: 0, text_digest: None }), ..applied() };
        assert_eq!(answer(&held, &Plan::default(), Cause::Kept, DriftPolicy::Repair), Decision::Stay(Condition::Held));
        assert_eq!(answer(&held, &steps(), Cause::Kept, DriftPolicy::Repair), Decision::Apply("drift"));
        assert_eq!(answer(&held, &steps(), Cause::Kept, DriftPolicy::Report), Decision::Stay(Condition::Drifted));
        let pending = Pending { generation: 1, back_to: None, boot_id: String::new(), deadline_ms: 0, deadline: 0, failures: 0 };
        let pending = Record { pending: Some(pending), ..applied() };
        for plan in [Plan::default(), steps()] {
            assert_eq!(answer(&pending, &plan, Cause::Kept, DriftPolicy::Repair), Decision::Stay(Condition::PendingConfirm));
        }
    }

    #[test]
    fn a_switch_of_the_layout_is_no_drift() {
        let after = plan::After { legacy: Some(LegacyKeys::default()), ..plan::After::default() };
        let switch = Plan { wants_mirrors: true, after, ..steps() };
        for policy in [DriftPolicy::Repair, DriftPolicy::Report] {
            assert_eq!(answer(&applied(), &switch, Cause::Event, policy), Decision::Apply(SETTINGS));
            assert_eq!(answer(&applied(), &switch, Cause::Kept, policy), Decision::Apply(SETTINGS));
        }
        let legacy = Record { legacy: Some(LegacyKeys::default()), ..applied() };
        assert_eq!(answer(&legacy, &switch, Cause::Event, DriftPolicy::Report), Decision::Stay(Condition::Drifted));
    }

    #[test]
    fn a_parked_spec_is_never_applied_by_itself() {
        let parked = Record { parked: Some(Parked { digest: desired().digest, since: 0, problems: Vec::new() }), ..Record::default() };
        for plan in [Plan::default(), steps()] {
            assert_eq!(answer(&parked, &plan, Cause::Event, DriftPolicy::Repair), Decision::Stay(Condition::RolledBack));
        }
        assert_eq!(answer(&parked, &steps(), Cause::Operator, DriftPolicy::Repair), Decision::Apply("operator"));
    }

    #[test]
    fn drift_is_repaired_or_reported_by_policy() {
        assert_eq!(answer(&applied(), &steps(), Cause::Event, DriftPolicy::Repair), Decision::Apply("drift"));
        assert_eq!(answer(&applied(), &steps(), Cause::Event, DriftPolicy::Report), Decision::Stay(Condition::Drifted));
        assert_eq!(answer(&applied(), &Plan::default(), Cause::Event, DriftPolicy::Report), Decision::Stay(Condition::SwitchedOff));
    }

    #[test]
    fn a_repair_that_restarts_is_not_repeated_at_once() {
        let change =
            |ending| Change { generation: 1, time: 900, who: "drift".into(), ending, restarts: 1, cri_gap_ms: 0, problems: Vec::new() };
        for record in [Ending::Changed, Ending::RolledBack].map(|ending| Record { last_change: Some(change(ending)), ..applied() }) {
            let restart = Plan { restart: Some(Restart { cause: RestartCause::NotLoaded, also_effective: Vec::new() }), ..steps() };
            assert_eq!(answer(&record, &restart, Cause::Event, DriftPolicy::Repair), Decision::Stay(Condition::Drifted));
            assert_eq!(answer(&record, &steps(), Cause::Event, DriftPolicy::Repair), Decision::Apply("drift"));
        }
    }

    /// The restart that is refused is for a file that is left to others anyway.
    #[test]
    fn what_is_refused_for_a_file_of_others_hinders_no_other_repair() {
        let place = crate::observed::Place { config: "/c".into(), binary: String::new(), address: String::new() };
        let record = Record { place: Some(place), ..applied() };
        let mut plan = Plan { refusals: vec![Problem::new("x", "y", "")], ..steps() };
        plan.restart = Some(Restart { cause: RestartCause::NotLoaded, also_effective: Vec::new() });
        plan.steps.push(step::Step { path: "/c".into(), ..plan.steps[0].clone() });
        let desired = desired();
        let decided = |policy: &PolicySettings, cause| {
            let (proven, cri) = (&Fact::Known(true), &Fact::Known(()));
            let (desired, plan, record) = (&desired, &plan, &record);
            decide(&Situation { cause, desired, plan, record, policy, proven, cri, repairs: 0, put_off: None, now: 1_000 })
        };
        let left = PolicySettings { drift_at: [("/c".to_owned(), DriftPolicy::Report)].into(), ..PolicySettings::default() };
        for cause in [Cause::Event, Cause::Kept] {
            assert_eq!(decided(&left, cause), Decision::Apply("drift"));
            assert_eq!(decided(&PolicySettings::default(), cause), Decision::Stay(Condition::Refused));
        }
        assert_eq!(decided(&left, Cause::Operator), Decision::Stay(Condition::Refused));
    }

    #[test]
    fn a_fight_over_files_ends() {
        let (desired, record, plan, policy) = (desired(), applied(), steps(), PolicySettings::default());
        let situation = |repairs, put_off| Situation {
            cause: Cause::Event,
            desired: &desired,
            plan: &plan,
            record: &record,
            policy: &policy,
            proven: &Fact::Known(true),
            cri: &Fact::Known(()),
            repairs,
            put_off,
            now: 1_000,
        };
        assert_eq!(decide(&situation(7, None)), Decision::Apply("drift"));
        assert_eq!(decide(&situation(8, None)), Decision::Stay(Condition::Drifted));
        assert_eq!(decide(&situation(0, Some(Condition::ContainerdSick))), Decision::Stay(Condition::ContainerdSick));
    }

    #[test]
    fn a_refused_plan_is_not_applied_even_when_asked_for() {
        let refused = Plan { refusals: vec![Problem::new("x", "y", "")], ..steps() };
        assert_eq!(answer(&Record::default(), &refused, Cause::Operator, DriftPolicy::Repair), Decision::Stay(Condition::Refused));
    }
}
