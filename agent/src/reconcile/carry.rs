//! Carrying out what a look says, with the last rung where neither a change nor the way back from it brings the CRI back.

use std::cell::RefCell;

use tokio::time::Instant;

use super::{Look, Reconciler};
use crate::{
    apply::{Apply, Effort, Ledger, Order, Outcome, is_contested, is_cri_dead, journal::Phase},
    host::clock,
    observed::record::{Hold, HoldCause},
    plan::restart::{self, Restart},
    spec::names::Digest,
    status::Condition,
};

/// So many repairs are remembered.
const MOST_NOTED_REPAIRS: usize = 32;

impl Reconciler {
    pub(super) async fn carry_out(&mut self, look: &Look, order: &Order, progress: &dyn Fn(Phase, &str)) -> Outcome {
        self.carry_on(look, order, progress, &RefCell::default()).await
    }

    async fn carry_on(&mut self, look: &Look, order: &Order, progress: &dyn Fn(Phase, &str), ledger: &RefCell<Ledger>) -> Outcome {
        self.keep_start(&look.observed);
        if !look.plan.is_empty() {
            self.publish(look, Condition::Applying);
            tracing::info!(who = %order.who, steps = look.plan.steps.len(), restart = look.plan.restart.is_some(), "applying for {}", order.who);
        }
        let spec = self.text_before(look, order);
        let apply = Apply { host: &self.host, lock: &self.lock, ledger };
        let (outcome, record) = apply.carry_out(&look.plan, &look.observed, order, progress).await;
        self.record = record;
        self.note_repair(order, &outcome);
        if order.sent_along.is_none() && !order.is_undo() {
            self.retry.note(look.wish.desired.digest, &outcome, Instant::now());
        }
        tell(&outcome);
        match &outcome {
            Outcome::RolledBack(_, problems) if is_cri_dead(problems) && order.restores != Some(0) => {
                Box::pin(self.rescue(outcome, spec, ledger)).await
            }
            _ => outcome,
        }
    }

    /// The text of the node's spec that this goes by. One that is written meanwhile is another one, whatever becomes of this.
    fn text_before(&self, look: &Look, order: &Order) -> Option<Digest> {
        let is_of_the_node = order.sent_along.is_none() && order.hold.is_none() && !order.is_undo() && !order.is_repair();
        if is_of_the_node { Some(look.wish.desired.text_digest) } else { self.host.spec_digest() }
    }

    /// The last rung: neither the change nor the generation before brings the CRI back, so the node gets what it had before us. When that
    /// does not help either, the node is at fault; nothing further is tried.
    async fn rescue(&mut self, failed: Outcome, spec: Option<Digest>, ledger: &RefCell<Ledger>) -> Outcome {
        if self.record.owned.is_empty() {
            return failed;
        }
        let Ok(mut look) = self.look_back().await else { return failed };
        look.plan.restart = self.host.can_restart().then(|| Restart { cause: restart::Cause::CriDead, also_effective: Vec::new() });
        let order = Order {
            who: "rescue".into(),
            reason: restart::Cause::CriDead.sentence().into(),
            hold: Some(Hold { text_digest: spec, ..self.hold(HoldCause::Rescue) }),
            restores: Some(0),
            ..Order::default()
        };
        let rescue = self.carry_on(&look, &order, &|_, _| {}, ledger).await;
        match (failed, rescue) {
            (Outcome::RolledBack(effort, mut problems), Outcome::Changed(further, more) | Outcome::RolledBack(further, more)) => {
                problems.extend(more);
                let (restarts, cri_gap_ms) = (effort.restarts + further.restarts, effort.cri_gap_ms.max(further.cri_gap_ms));
                Outcome::RolledBack(Effort { restarts, cri_gap_ms, ..effort }, problems)
            }
            (failed, _) => failed,
        }
    }

    /// Repairs are counted, so that a fight with somebody else ends.
    fn note_repair(&mut self, order: &Order, outcome: &Outcome) {
        match outcome {
            Outcome::RolledBack(_, problems) if is_contested(problems) => self.push_repair(),
            Outcome::Changed(..) | Outcome::RolledBack(..) if order.is_repair() => self.push_repair(),
            Outcome::Changed(..) => self.repairs.clear(),
            _ => {}
        }
    }

    fn push_repair(&mut self) {
        self.repairs.push_back(clock::unix_seconds());
        self.repairs.drain(..self.repairs.len().saturating_sub(MOST_NOTED_REPAIRS));
    }
}

fn tell(outcome: &Outcome) {
    match outcome {
        Outcome::Changed(effort, notices) => {
            notices.iter().for_each(|notice| tracing::warn!("{notice}"));
            let Effort { generation, restarts, cri_gap_ms } = *effort;
            tracing::info!(
                generation,
                restarts,
                cri_gap_ms,
                "generation {generation} is in effect; restarts {restarts}, CRI gap {cri_gap_ms} ms"
            );
        }
        Outcome::Unchanged => tracing::debug!("nothing to change"),
        Outcome::RolledBack(effort, problems) => {
            tracing::error!(generation = effort.generation, restarts = effort.restarts, "rolled back");
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
        }
        Outcome::Refused(problems) => problems.iter().for_each(|problem| tracing::error!("refused: {problem}")),
    }
}
