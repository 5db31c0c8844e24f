//! One round: observe, plan, decide, apply, and look again.

use super::{
    Look, Reconciler,
    machine::{self, Cause, Decision, Situation},
    policy,
    wish::{self, Wanted, Wish},
};
use crate::{
    apply::{DRIFT, Order, Outcome},
    host::clock,
    observed::{
        Observed,
        record::{Loaded, Proof},
    },
    plan::{self, Allowed, Policy},
    spec::problem::Problem,
    status::Condition,
};

/// A spec whose inputs are others each time it is read is taken as it is.
const MOST_READS: usize = 4;

impl Reconciler {
    pub(super) async fn go_round(&mut self) {
        self.look_and_act(Cause::Event).await;
        if self.look_behind().await {
            self.look_and_act(Cause::Event).await;
        }
    }

    /// One round: observe, plan, decide, apply, and look again.
    pub(super) async fn look_and_act(&mut self, cause: Cause) -> Option<Outcome> {
        self.go_on_undoing();
        let wanted = self.read_and_watch();
        let kept = if cause == Cause::Event { self.kept_wish() } else { None };
        match (kept, wanted) {
            (Some(Ok(wish)), _) => self.look_at(wish, Cause::Kept).await,
            (Some(Err(problems)), _) => {
                self.publish_without_wish(problems).await;
                None
            }
            (None, wanted) => self.look_at_wanted(wanted, cause).await,
        }
    }

    /// What changes between reading and watching would never be told: it is read again, as long as that finds something new to watch.
    fn read_and_watch(&mut self) -> Wanted {
        let mut wanted = wish::of_node(&self.host, &self.record);
        for _ in 0..MOST_READS {
            if !self.watch_for(wanted.inputs()) {
                break;
            }
            wanted = wish::of_node(&self.host, &self.record);
        }
        wanted
    }

    /// What is in effect, where the spec on the node is held or waits for a confirmation.
    pub(super) fn kept_wish(&self) -> Option<Result<Wish, Vec<Problem>>> {
        let applied = self.record.applied.as_ref()?;
        let is_held = self.record.hold.as_ref().is_some_and(|hold| hold.text_digest == self.host.spec_digest());
        (is_held || self.record.pending.is_some()).then(|| wish::of_applied(&self.host, applied))
    }

    async fn look_at_wanted(&mut self, wanted: Wanted, cause: Cause) -> Option<Outcome> {
        match wanted {
            Wanted::Spec(wish) => self.look_at(*wish, cause).await,
            Wanted::Missing => {
                self.publish_without_wish(Vec::new()).await;
                None
            }
            Wanted::Invalid { problems, .. } => {
                problems.iter().for_each(|problem| tracing::error!("{problem}"));
                self.publish_without_wish(problems).await;
                None
            }
        }
    }

    async fn look_at(&mut self, wish: Wish, cause: Cause) -> Option<Outcome> {
        self.probe(&wish.desired, cause).await;
        let mut look = match self.look(wish, &Allowed::default()).await {
            Ok(look) => look,
            Err(problem) => {
                self.publish_sick(problem).await;
                return None;
            }
        };
        self.watch_imports(&look);
        match self.decide(&look, cause) {
            Decision::Stay(condition) => {
                self.keep_start(&look.observed);
                self.keep_proof(&look);
                self.publish(&look, condition);
                None
            }
            // The loop ends then; nothing of the spec is to blame.
            Decision::Apply(_) if self.check_view().is_err() => {
                self.changes.node.notify_one();
                None
            }
            Decision::Apply(who) => {
                let outcome = self.act(who, &mut look, cause).await;
                self.look_again(look.wish, if cause == Cause::Kept { cause } else { Cause::Event }, &outcome).await;
                Some(outcome)
            }
        }
    }

    /// The spec of the node is gone, broken, refused, put off or parked: what is in effect instead is looked after all the same. Returns whether
    /// something was done.
    async fn look_behind(&mut self) -> bool {
        let (condition, wanted) = {
            let status = self.status.borrow();
            (status.condition, status.wanted_spec_digest.clone())
        };
        let is_stuck = matches!(condition, Condition::RolledBack | Condition::Refused | Condition::ContainerdSick | Condition::SpecInvalid);
        let applied = self.record.applied.as_ref().filter(|applied| is_stuck && applied.digest.to_string() != wanted);
        let Some(Ok(wish)) = applied.map(|applied| wish::of_applied(&self.host, applied)) else { return false };
        let Ok(mut look) = self.look(wish, &Allowed::default()).await else { return false };
        if self.decide(&look, Cause::Kept) != Decision::Apply(DRIFT) || self.check_view().is_err() {
            return false;
        }
        // When the wanted one is tried again is not for this one to say.
        let retry = std::mem::take(&mut self.retry);
        self.act(DRIFT, &mut look, Cause::Kept).await;
        self.retry = retry;
        self.watch_anew();
        true
    }

    /// What the loop does by itself.
    async fn act(&mut self, who: &str, look: &mut Look, cause: Cause) -> Outcome {
        if who == DRIFT && cause != Cause::Operator {
            look.plan = machine::mendable(&look.plan, &self.record, &self.host.settings.policy);
        }
        let order = Order {
            who: who.to_owned(),
            reason: reason(who).to_owned(),
            applied: Some(look.wish.applied()),
            kept: look.wish.bytes(),
            hold: if cause == Cause::Kept { self.record.hold.clone() } else { None },
            ..Order::default()
        };
        self.carry_out(look, &order, &|_, _| {}).await
    }

    /// Success is what a second look says.
    pub(super) async fn look_again(&mut self, wish: Wish, cause: Cause, outcome: &Outcome) {
        // First, so that nothing happens unseen between the look and the watch.
        self.watch_anew();
        match self.look(wish, &Allowed::default()).await {
            Err(problem) => self.publish_sick(problem).await,
            Ok(look) => {
                let mut look = look;
                let condition = match (outcome, self.decide(&look, cause)) {
                    (_, Decision::Stay(condition)) => condition,
                    (Outcome::Refused(problems), Decision::Apply(_)) => {
                        look.plan.refusals.clone_from(problems);
                        Condition::Refused
                    }
                    (_, Decision::Apply(_)) => Condition::Drifted,
                };
                self.keep_proof(&look);
                self.publish(&look, condition);
                if condition == Condition::Drifted && matches!(outcome, Outcome::Changed(..) | Outcome::Unchanged) {
                    // Somebody is at it right now, or something was not seen the first time: once more, as an event of its own.
                    self.changes.node.notify_one();
                }
            }
        }
    }

    pub(super) async fn look(&self, wish: Wish, by_caller: &Allowed) -> Result<Look, Problem> {
        self.look_with(wish, &policy(&self.host.settings, by_caller, self.host.can_restart(), false)).await
    }

    pub(super) async fn look_with(&self, wish: Wish, policy: &Policy) -> Result<Look, Problem> {
        let mut observed = self.host.observe(self.record.clone()).await?;
        let mut plan = plan::plan(&observed, &wish.desired, policy);
        if plan.restart.is_some() {
            observed.restart = Some(self.host.restart_facts());
            plan = plan::plan(&observed, &wish.desired, policy);
        }
        Ok(Look { wish, observed, plan })
    }

    fn decide(&self, look: &Look, cause: Cause) -> Decision {
        machine::decide(&Situation {
            cause,
            desired: &look.wish.desired,
            plan: &look.plan,
            record: &self.record,
            policy: &self.host.settings.policy,
            proven: &look.observed.proven,
            cri: &look.observed.containerd.cri,
            repairs: self.repairs.iter().filter(|time| clock::unix_seconds() - **time < machine::REPAIR_PAUSE).count(),
            put_off: self.retry.condition(look.wish.desired.digest),
            now: clock::unix_seconds(),
        })
    }

    /// Before anything is written: an apply that is killed leaves the same files with other times.
    pub(super) fn keep_start(&mut self, observed: &Observed) {
        if observed.record.start != self.record.start {
            self.record.start.clone_from(&observed.record.start);
            self.keep_record();
        }
    }

    /// A containerd that somebody else restarted has shown that it uses what is ours, and what it was started with; it need not be asked again.
    fn keep_proof(&mut self, look: &Look) {
        let (Some(true), Some(process)) = (look.observed.proven.known(), look.observed.containerd.process.known()) else { return };
        let before = self.record.clone();
        if self.record.proof.as_ref().is_none_or(|proof| proof.process != *process) {
            self.record.proof = Some(Proof { process: process.clone(), time: clock::unix_seconds() });
        }
        let is_loaded = look.plan.is_empty() && look.observed.config.changed_ms() < look.observed.containerd.started_ms;
        if let Some(settings) = look.plan.after.settings.filter(|_| is_loaded) {
            self.record.loaded = Some(Loaded { process: process.clone(), settings });
        }
        if before != self.record {
            self.keep_record();
        }
    }
}

/// Why the loop applies, for the history.
fn reason(who: &str) -> &'static str {
    match who {
        DRIFT => "files of ours were changed by somebody else",
        "operator" => "somebody asked for it",
        machine::SETTINGS => "the layout in the settings changed",
        _ => "the spec on the node changed",
    }
}
