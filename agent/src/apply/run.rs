//! One apply under way: steps, restart, proof, read back, settle, close. Anything else is undone from the journal, restarted if a restart had
//! happened, and checked again.

use std::collections::BTreeMap;

use tokio::time::sleep;

use super::{
    Apply, Effort, Order, Outcome, Progress, activate, is_contested, is_expected, is_transient,
    journal::{self, Journal, Phase},
    problems::{READ_BACK, file_problem, not_armed, state_problem},
    prove,
    remember::{remembered, with_loaded, with_proof, with_steps},
    undo,
};
use crate::{
    host::{clock, containerd::Containerd, files::Transaction, planted, timer},
    observed::{
        Observed, Place, Process,
        generation::{self, Generation, Touch},
        record::{Applied, Change, Ending, Note, Parked, Pending, Record, RestartNote},
        start::Start,
    },
    plan::{Plan, explain, step::Step},
    spec::problem::Problem,
};

/// So many restarts are remembered; more in an hour are never allowed.
const MOST_RESTARTS: usize = 64;
/// The diff of a change is remembered up to this size.
const MOST_DIFF_BYTES: usize = 256 << 10;

/// One apply under way.
pub struct Run<'a> {
    pub(super) apply: Apply<'a>,
    pub(super) plan: &'a Plan,
    pub(super) order: &'a Order,
    pub(super) client: Containerd,
    pub(super) place: Place,
    pub(super) journal: Journal<'a>,
    pub(super) effort: Effort,
    pub(super) begun: usize,
    pub(super) process: Option<Process>,
    pub(super) notices: Vec<Problem>,
    pub(super) touched: BTreeMap<String, Touch>,
    pub(super) restarts: Vec<RestartNote>,
    pub(super) pending: Option<Pending>,
}

impl Run<'_> {
    fn transaction(&self) -> Transaction<'_> {
        Transaction { files: &self.apply.host.files, id: self.journal.transaction() }
    }

    /// Forward, or back. The record that comes back is on disk already.
    pub async fn carry_to_its_end(mut self, observed: &Observed, progress: Progress<'_>) -> (Outcome, Record) {
        match self.forward(observed, progress).await {
            Ok(()) => self.close(observed, progress).await,
            Err(problem) => self.back(observed, problem, progress).await,
        }
    }

    async fn forward(&mut self, observed: &Observed, progress: Progress<'_>) -> Result<(), Problem> {
        self.guard().await?;
        self.enter(Phase::Writing, progress, &format!("writing {} paths", self.plan.steps.len()))?;
        for (index, step) in self.plan.steps.iter().enumerate() {
            self.begun = index + 1;
            self.transaction().carry_out(index, step).map_err(|error| file_problem(&error))?;
            tracing::info!(path = %step.path, reason = %step.reason, "{} {}", step.verb(), step.path);
        }
        if self.plan.restart.is_none() && planted::has("needless-restart") {
            self.restart().await?;
        }
        if let Some(restart) = &self.plan.restart {
            self.enter(Phase::Activating, progress, &format!("restarting containerd, because {}", restart.cause.sentence()))?;
            self.restart().await?;
        }
        self.enter(Phase::Proving, progress, "asking containerd to show that it uses the new files")?;
        self.prove().await?;
        self.read_back()?;
        if self.plan.restart.is_some() {
            self.enter(Phase::Settling, progress, "watching whether it stays so")?;
            self.settle().await?;
        }
        self.arm(observed.record.applied.clone()).await
    }

    /// This process may be dead before there is anything to confirm.
    async fn guard(&self) -> Result<(), Problem> {
        let Some(within) = self.order.confirm_within else { return Ok(()) };
        timer::guard(&self.apply.host.settings, self.effort.generation, within).await.map_err(|error| not_armed(&error))
    }

    /// What goes back by itself is held by systemd, not by this process: it may be dead by then.
    async fn arm(&mut self, back_to: Option<Applied>) -> Result<(), Problem> {
        let Some(within) = self.order.confirm_within else { return Ok(()) };
        let generation = self.effort.generation;
        // Before the timer's own time begins: when it fires, this one is over.
        let (deadline_ms, deadline) = (clock::boot_millis() + within.as_millis() as u64, clock::unix_seconds() + within.as_secs() as i64);
        timer::arm(&self.apply.host.settings, generation, within).await.map_err(|error| not_armed(&error))?;
        self.pending = Some(Pending { generation, back_to, boot_id: clock::boot_id(), deadline_ms, deadline, failures: 0 });
        Ok(())
    }

    fn enter(&self, phase: Phase, progress: Progress<'_>, sentence: &str) -> Result<(), Problem> {
        progress(phase, sentence);
        tracing::info!(generation = self.effort.generation, "{sentence}");
        self.journal.mark(phase).map_err(|error| state_problem(&error))
    }

    fn note_restart(&mut self, reason: &str) {
        self.effort.restarts += 1;
        self.restarts.push(RestartNote { time: clock::unix_seconds(), generation: self.effort.generation, reason: reason.to_owned() });
    }

    async fn restart(&mut self) -> Result<(), Problem> {
        self.note_restart(self.plan.restart.as_ref().map_or("", |restart| restart.cause.sentence()));
        self.activate().await?;
        self.notices.extend(self.check_tasks().await?);
        Ok(())
    }

    async fn check_tasks(&self) -> Result<Vec<Problem>, Problem> {
        let before = self.apply.ledger.borrow().tasks.clone();
        prove::tasks(&self.client, &before).await
    }

    /// Restarts containerd. While it does not come back, the time without a CRI goes on.
    async fn activate(&mut self) -> Result<(), Problem> {
        let old = self.process.as_ref().map(|process| process.pid);
        let since = *self.apply.ledger.borrow_mut().without_cri_since.get_or_insert_with(clock::monotonic);
        self.process = Some(activate::restart(self.apply.host, &self.client, old).await?);
        self.apply.ledger.borrow_mut().without_cri_since = None;
        self.effort.cri_gap_ms = self.effort.cri_gap_ms.max(since.elapsed().as_millis() as u64);
        Ok(())
    }

    /// Without a running containerd there is nobody to ask; it reads the files when it starts.
    async fn prove(&self) -> Result<(), Problem> {
        match &self.process {
            Some(process) if self.plan.wants_mirrors && !self.plan.awaits_restart => {
                prove::in_use(self.apply.host, &self.client, &self.place, process).await
            }
            _ => Ok(()),
        }
    }

    /// Success is a second look.
    fn read_back(&self) -> Result<(), Problem> {
        let last: BTreeMap<&str, &Step> = self.plan.steps.iter().map(|step| (step.path.as_str(), step)).collect();
        for (path, step) in last {
            let found = self.apply.host.files.entry(path).map_err(|error| file_problem(&error))?;
            if !is_expected(&found, &step.after()) {
                return Err(Problem::new(
                    READ_BACK,
                    format!("{path} is not what was just written; somebody else writes it too"),
                    "find out who, and let one of the two go",
                ));
            }
        }
        Ok(())
    }

    /// A change is good when it went on working for a while. A newer spec waits that long.
    async fn settle(&self) -> Result<(), Problem> {
        let Some(process) = self.process.as_ref().filter(|_| !planted::has("not-watched")) else { return Ok(()) };
        sleep(self.apply.host.settings.restart.settle_for).await;
        activate::check(&self.client, process).await?;
        self.prove().await
    }

    async fn close(self, observed: &Observed, progress: Progress<'_>) -> (Outcome, Record) {
        let mut record = remembered(self.plan, observed, self.order);
        record.generation = self.effort.generation;
        if !record.owned.is_empty() {
            record.effective_generation = self.effort.generation;
        }
        record = with_loaded(record, self.plan, self.process.as_ref());
        if self.effort.restarts > 0 {
            record.owed_restart = None;
            record.start = self.started(observed, &self.plan.steps);
        }
        if self.plan.wants_mirrors && !self.plan.awaits_restart {
            record = with_proof(record, self.process.as_ref(), None);
        }
        record.pending.clone_from(&self.pending);
        let past = self.past(&mut record, Ending::Changed, &self.notices);
        // As long as the journal does not say that the end is decided, whoever finds it undoes the change.
        if let Err(error) = self.journal.decide(&record, &past) {
            return self.back(observed, state_problem(&error), progress).await;
        }
        self.tidy(&record, &past);
        let generation = self.effort.generation;
        let sentence =
            if self.process.is_some() { "is in effect" } else { "is written, and containerd, which does not run, will start with it" };
        progress(Phase::Closed, &format!("generation {generation} {sentence}"));
        (Outcome::Changed(self.effort, self.notices), record)
    }

    async fn back(mut self, observed: &Observed, cause: Problem, progress: Progress<'_>) -> (Outcome, Record) {
        progress(Phase::Undoing, &cause.message);
        tracing::error!(generation = self.effort.generation, code = %cause.code, "{}; undoing", cause.message);
        if self.order.confirm_within.is_some() {
            timer::disarm(self.effort.generation).await;
        }
        let mut problems = vec![cause];
        let _ = self.journal.mark_undoing(self.effort.restarts > 0);
        let mut undone = undo::steps(&self.transaction(), self.journal.header(), self.begun);
        problems.extend(std::mem::take(&mut undone.problems));
        if self.effort.restarts > 0 && !planted::has("undone-without-restart") {
            self.note_restart("the change was undone");
            match self.activate().await {
                Ok(()) => problems.extend(self.check_tasks().await.unwrap_or_else(|lost| vec![lost])),
                Err(problem) => problems.push(undo::node_at_fault(&problem)),
            }
        }
        let mut record = undo::with_edited(observed.record.clone(), &undone.edited, &self.journal.header().claims);
        record.generation = self.effort.generation;
        record.start = if self.effort.restarts > 0 { self.started(observed, &[]) } else { record.start };
        // What cost a restart is not tried again by itself, whatever the reason.
        let may_be_retried =
            self.effort.restarts == 0 && (is_transient(&problems) || is_contested(&problems)) || planted::has("failed-spec-not-parked");
        let is_of_the_node = self.order.sent_along.is_none() && !self.order.is_undo();
        let hides_another = self.order.is_repair() && record.parked.is_some();
        if let (Some(applied), true, false) = (&self.order.applied, is_of_the_node && !hides_another, may_be_retried) {
            let problems = problems.iter().map(Note::from).collect();
            record.parked = Some(Parked { digest: applied.digest, since: clock::unix_seconds(), problems });
        }
        let past = self.past(&mut record, Ending::RolledBack, &problems);
        if undone.is_incomplete {
            // The journal stays open, and with it the way back. What it cost is remembered all the same.
            let kept = self.apply.host.state().keep_record(&record);
            problems.extend(kept.err().map(|error| state_problem(&error)));
            return (Outcome::RolledBack(self.effort, problems), record);
        }
        match self.journal.decide(&record, &past) {
            Ok(()) => self.tidy(&record, &past),
            Err(error) => problems.push(state_problem(&error)),
        }
        (Outcome::RolledBack(self.effort, problems), record)
    }

    /// What is left to do once the end is decided. What fails of it is done at the next start.
    fn tidy(&self, record: &Record, past: &Generation) {
        let header = self.journal.header();
        if let Err(error) = journal::finish(self.apply.host, header, record, Some(past), &self.transaction()) {
            tracing::warn!("closing the journal: {error}");
        }
    }

    /// What the process that runs now was started from.
    fn started(&self, observed: &Observed, steps: &[Step]) -> Option<Start> {
        self.process.as_ref().map(|process| with_steps(observed.start_of(process), steps, &self.place.config))
    }

    /// The change as a past one; the record learns of it.
    fn past(&self, record: &mut Record, ending: Ending, problems: &[Problem]) -> Generation {
        let change = Change {
            generation: self.effort.generation,
            time: clock::unix_seconds(),
            who: self.order.who.clone(),
            ending: if planted::has("good-before-proof") { Ending::Changed } else { ending },
            restarts: self.effort.restarts,
            cri_gap_ms: self.effort.cri_gap_ms,
            problems: problems.iter().map(Note::from).collect(),
        };
        record.last_change = Some(change.clone());
        record.restarts.extend(self.restarts.iter().cloned());
        record.restarts.drain(..record.restarts.len().saturating_sub(MOST_RESTARTS));
        Generation {
            version: generation::FORMAT,
            change,
            reason: self.order.reason.clone(),
            restores: self.order.restores,
            applied: self.order.applied.clone(),
            diff: explain::diff_of(self.plan, MOST_DIFF_BYTES),
            replaced: self.plan.written_over.clone(),
            touched: self.touched.clone(),
        }
    }
}
