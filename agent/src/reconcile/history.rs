//! Past changes: showing them, keeping the one that waits, and going back.

use std::time::Duration;

use super::{
    Look, Reconciler,
    commands::{CommandError, Ended, RevertOrder},
    orders::check_not_overtaken,
    policy, report, wish,
};
use crate::{
    apply::{Effort, Order, Outcome, state_problem},
    host::{clock, planted, timer},
    observed::{
        generation::Generation,
        record::{Applied, HoldCause},
    },
    plan::Allowed,
    spec::problem::Problem,
    status::{GenerationView, Status},
};

/// Going back that failed is tried again after this time, in milliseconds.
const ONCE_MORE: u64 = 60_000;

/// Something that was in effect, and can be again.
struct Earlier {
    /// 0: the node as it was found.
    number: u64,
    /// Its spec; `None`: the node as it was found.
    applied: Option<Applied>,
}

impl Reconciler {
    pub(super) fn history(&self) -> Result<Vec<GenerationView>, CommandError> {
        let state = self.host.state();
        let past = self.numbers()?.into_iter().rev().filter_map(|number| state.generation(number).ok().flatten());
        Ok(past.map(|generation| GenerationView { diff: String::new(), ..report::generation_view(&generation, &self.host) }).collect())
    }

    pub(super) fn show(&self, number: u64) -> Result<GenerationView, CommandError> {
        self.past(number).map(|generation| report::generation_view(&generation, &self.host))
    }

    fn numbers(&self) -> Result<Vec<u64>, CommandError> {
        self.host.state().generations().map_err(|error| CommandError::Precondition(state_problem(&error.into())))
    }

    fn past(&self, number: u64) -> Result<Generation, CommandError> {
        let found = self.host.state().generation(number);
        let found =
            found.map_err(|reason| CommandError::Precondition(Problem::new("generation.unreadable", reason, "take another one")))?;
        found.ok_or_else(|| {
            let kept = self.numbers().unwrap_or_default();
            let remedy = match (kept.first(), kept.last()) {
                (Some(first), Some(last)) => format!("{first} to {last} are remembered; see \"mirrorctl history\""),
                _ => "nothing was changed yet".into(),
            };
            CommandError::Precondition(Problem::new("generation.unknown", format!("generation {number} is not remembered"), remedy))
        })
    }

    /// While a generation waits for its confirmation, nothing else is applied.
    pub(super) fn check_pending(&self) -> Result<(), CommandError> {
        let Some(pending) = &self.record.pending else { return Ok(()) };
        let number = pending.generation;
        let remedy = format!("mirrorctl confirm {number}, or mirrorctl revert");
        Err(CommandError::Precondition(Problem::new("confirm.pending", format!("generation {number} waits for its confirmation"), remedy)))
    }

    pub(super) async fn confirm(&mut self, number: u64, who: &str) -> Result<Status, CommandError> {
        match &self.record.pending {
            Some(pending) if pending.generation == number || planted::has("any-number-confirms") => {}
            Some(pending) => {
                let remedy = format!("mirrorctl confirm {}", pending.generation);
                let message = format!("it is generation {} that waits for its confirmation, not {number}", pending.generation);
                return Err(CommandError::Precondition(Problem::new("confirm.other", message, remedy)));
            }
            None => {
                let remedy = "nothing has to be confirmed; see \"mirrorctl status\"";
                let message = "no generation waits for its confirmation";
                return Err(CommandError::Precondition(Problem::new("confirm.none", message, remedy)));
            }
        }
        let waiting = self.record.pending.take();
        if let Err(error) = self.host.state().keep_record(&self.record) {
            self.record.pending = waiting;
            return Err(CommandError::Precondition(state_problem(&error)));
        }
        // After the record: a timer that fires in between finds nothing to go back from.
        timer::disarm(number).await;
        tracing::info!(generation = number, who, "generation {number} is confirmed");
        self.look_again_at_node(&Outcome::Unchanged).await;
        // An edit of the spec may have waited for this.
        self.changes.spec.notify_one();
        Ok(self.status.borrow().clone())
    }

    pub(super) async fn revert(&mut self, order: &RevertOrder) -> Ended {
        let body = format!("revert {:?}", order.generation);
        if let Some(answer) = self.answered(&order.request_id, &body)? {
            return Ok((answer, self.etag()));
        }
        self.check_etag(&order.etag).await?;
        let earlier = match order.generation {
            Some(number) => self.earlier(number)?,
            None => self.before_the_present_one()?,
        };
        let outcome = self.go_back_to(earlier, HoldCause::Revert, &order.who, &order.request_id).await?;
        check_not_overtaken(&outcome)?;
        let view = report::outcome_view(&outcome);
        self.remember(&order.request_id, &body, &view);
        Ok((view, self.etag()))
    }

    fn earlier(&self, number: u64) -> Result<Earlier, CommandError> {
        if number == 0 {
            return Ok(Earlier { number, applied: None });
        }
        let past = self.past(number)?;
        if !past.was_in_effect() {
            let remedy = "take one that says \"changed\" in \"mirrorctl history\"";
            let message = format!("generation {number} was undone, it was never in effect");
            return Err(CommandError::Precondition(Problem::new("generation.undone", message, remedy)));
        }
        Ok(Earlier { number, applied: past.applied })
    }

    /// The newest change that left something else than what is in effect now; before the first one, the node as it was found.
    fn before_the_present_one(&self) -> Result<Earlier, CommandError> {
        let present = self.record.applied.as_ref().map(|applied| applied.digest);
        if let Some(pending) = &self.record.pending {
            return Ok(self.numbered(pending.back_to.clone()));
        }
        let numbers = self.numbers()?;
        for number in numbers.iter().copied().rev() {
            let past = self.past(number)?;
            if past.was_in_effect() && past.applied.as_ref().map(|applied| applied.digest) != present {
                return Ok(Earlier { number: if past.applied.is_none() { 0 } else { number }, applied: past.applied });
            }
        }
        let is_first_known = numbers.first().is_none_or(|first| *first == 1);
        if present.is_some() && is_first_known {
            return Ok(Earlier { number: 0, applied: None });
        }
        if present.is_some() {
            let remedy = "mirrorctl revert 0 gives the node back as it was found; [state] keep_generations remembers more";
            let message = "what was in effect before the present spec is no longer remembered";
            return Err(CommandError::Precondition(Problem::new("generation.unknown", message, remedy)));
        }
        let remedy = "mirrorctl resume applies the spec of the node";
        Err(CommandError::Precondition(Problem::new("generation.none", "the node is as it was found, and was nothing else before", remedy)))
    }

    /// The newest generation that had this spec in effect. Where they cannot be listed going back does not wait for its number.
    fn numbered(&self, applied: Option<Applied>) -> Earlier {
        let state = self.host.state();
        let digest = applied.as_ref().map(|applied| applied.digest);
        let has_it = |past: &Generation| past.was_in_effect() && past.applied.as_ref().map(|applied| applied.digest) == digest;
        let numbers = self.numbers().unwrap_or_default();
        let past = numbers.into_iter().rev().filter_map(|number| state.generation(number).ok().flatten()).find(has_it);
        let number = past.filter(|_| applied.is_some()).map_or(0, |past| past.change.generation);
        Earlier { number, applied }
    }

    async fn go_back_to(&mut self, earlier: Earlier, cause: HoldCause, who: &str, request_id: &str) -> Result<Outcome, CommandError> {
        let Earlier { number, applied } = earlier;
        let look = match &applied {
            None => self.look_back().await?,
            Some(applied) => {
                let wish = wish::of_applied(&self.host, applied).map_err(CommandError::Invalid)?;
                let policy = policy(&self.host.settings, &Allowed::default(), self.host.can_restart(), true);
                self.look_with(wish, &policy).await.map_err(CommandError::Precondition)?
            }
        };
        let reason = match cause {
            HoldCause::Expiry => "nobody confirmed it in time",
            HoldCause::Revert | HoldCause::Disable | HoldCause::Rescue => "somebody went back",
        };
        let order = Order {
            who: who.to_owned(),
            request_id: request_id.to_owned(),
            reason: reason.into(),
            kept: look.wish.bytes(),
            applied,
            hold: Some(self.hold(cause)).filter(|_| !planted::has("no-hold-after-expiry")),
            restores: Some(number),
            ..Order::default()
        };
        Ok(self.go_back(look, &order).await)
    }

    /// Carries a way back out. What waited for its confirmation does not any more.
    pub(super) async fn go_back(&mut self, look: Look, order: &Order) -> Outcome {
        let pending = self.record.pending.clone();
        let outcome = self.carry_out(&look, order, &|_, _| {}).await;
        if let (Some(pending), None) = (pending, &self.record.pending)
            && !self.host.is_offline
        {
            timer::disarm(pending.generation).await;
        }
        self.look_again_at_node(&outcome).await;
        outcome
    }

    /// Time until the generation that waits is gone back from; `None` when none waits.
    pub(super) fn until_expiry(&self) -> Option<Duration> {
        let pending = self.record.pending.as_ref()?;
        let is_of_this_boot = pending.boot_id == clock::boot_id();
        let left = if is_of_this_boot { pending.deadline_ms.saturating_sub(clock::boot_millis()) } else { 0 };
        Some(Duration::from_millis(left))
    }

    /// Nobody confirmed in time, or the node was booted in between.
    pub(super) async fn expire(&mut self) {
        let Some(pending) = self.record.pending.clone() else { return };
        tracing::warn!(generation = pending.generation, "generation {} was not confirmed; going back", pending.generation);
        let earlier = match pending.failures {
            0 => self.numbered(pending.back_to.clone()),
            // What was in effect before does not come up any more.
            _ => Earlier { number: 0, applied: None },
        };
        let ended = self.go_back_to(earlier, HoldCause::Expiry, "expiry", "").await;
        if let Err(error) = &ended {
            tracing::error!("{}", error.problem());
        }
        let hold = self.hold(HoldCause::Expiry);
        let Some(pending) = &mut self.record.pending else { return };
        // It failed, and the log says why. The node stays as it is until the next try.
        pending.boot_id = clock::boot_id();
        pending.deadline_ms = clock::boot_millis() + ONCE_MORE;
        pending.failures += u32::from(matches!(ended, Ok(Outcome::RolledBack(Effort { restarts: 1.., .. }, _))));
        if pending.failures > 1 {
            let message = "containerd comes up neither with what was in effect before nor with the node as it was found";
            tracing::error!(generation = pending.generation, "{message}; generation {} stays", pending.generation);
            self.record.pending = None;
            self.record.hold = Some(hold);
        }
        self.keep_record();
    }
}
