//! One thing at a time, where no daemon runs: `mirrorlet once`, `disable`, `revert`, `recover`.

use std::time::Duration;

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use super::{
    Reconciler,
    commands::{RestoreOrder, RevertOrder},
    machine::Cause,
};
use crate::{
    apply::state_problem,
    host::{clock, observe::Host, state::StateError},
    spec::problem::Problem,
    status::{OutcomeView, Status},
};

/// Somebody else's apply is over after this time.
const LONGEST_LOCKED: Duration = Duration::from_secs(150);
/// It is looked at this often whether the lock is free.
const LOCK_PAUSE: Duration = Duration::from_millis(100);
impl Reconciler {
    /// One round, and where the node stands then.
    pub async fn once(&mut self) -> Status {
        self.pay_owed_restart().await;
        self.look_and_act(Cause::Event).await;
        self.status.borrow().clone()
    }

    /// Gives the node back as it was found, and says where it stands then.
    ///
    /// # Errors
    /// When it cannot be looked at, or the way back is refused or fails.
    pub async fn disable(&mut self) -> Result<Status, Problem> {
        self.pay_owed_restart().await;
        let order = RestoreOrder { who: "mirrorlet disable".into(), ..RestoreOrder::default() };
        let (outcome, ..) = self.restore(&order).await.map_err(|error| error.problem())?;
        self.after_going_back(&outcome)
    }

    /// Goes back to an earlier generation, and says where the node stands then.
    ///
    /// # Errors
    /// When it cannot be looked at, or the way back is refused or fails.
    pub async fn revert_to(&mut self, generation: Option<u64>) -> Result<Status, Problem> {
        self.pay_owed_restart().await;
        let order = RevertOrder { generation, who: "mirrorlet revert".into(), ..RevertOrder::default() };
        let (outcome, _) = self.revert(&order).await.map_err(|error| error.problem())?;
        self.after_going_back(&outcome)
    }

    /// Takes the node over to go back from a generation that nobody confirmed; `None` when it does not wait any more. A daemon that lives
    /// does it itself, and is waited for.
    ///
    /// # Errors
    /// When another process has the node for too long, or its state cannot be used.
    pub async fn start_for_pending(host: Host, number: u64) -> Result<Option<(Self, watch::Receiver<Status>)>, Problem> {
        let deadline = Instant::now() + LONGEST_LOCKED;
        loop {
            let record = host.state().record().map_err(|error| Problem::new("state.failed", error.to_string(), ""))?;
            let is_waiting = record.pending.is_some_and(|pending| pending.generation == number);
            // With a journal that nobody looks after it never came to wait.
            if !is_waiting && !host.state().has_journal() {
                return Ok(None);
            }
            match host.state().lock() {
                Err(StateError::Locked { .. }) if Instant::now() < deadline => sleep(LOCK_PAUSE).await,
                Err(error) => return Err(state_problem(&error)),
                Ok(lock) => return Self::with_lock(host, lock).map(Some),
            }
        }
    }

    /// Goes back from the generation that waits, as soon as its time is over, and until that worked.
    pub async fn revert_pending(&mut self) -> Status {
        self.pay_owed_restart().await;
        while let Some(left) = self.until_expiry() {
            sleep(left).await;
            self.expire().await;
        }
        self.status.borrow().clone()
    }

    /// Whether no apply is open.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        !self.host.state().has_journal()
    }

    /// Before containerd starts: a generation that was not confirmed before the node went down is gone back from.
    pub async fn revert_pending_of_another_boot(&mut self) {
        if self.record.pending.as_ref().is_some_and(|pending| pending.boot_id != clock::boot_id()) {
            self.expire().await;
        }
    }

    fn after_going_back(&self, outcome: &OutcomeView) -> Result<Status, Problem> {
        match outcome.problems.first() {
            Some(problem) => Err(problem.into()),
            None => Ok(self.status.borrow().clone()),
        }
    }
}
