//! Carrying a plan out, whole or not at all: journal, steps, restart, proof, read back, settle, close. Anything else is undone from the
//! journal, restarted if a restart had happened, and checked again.

pub mod activate;
mod candidate;
pub mod journal;
mod problems;
pub mod prove;
mod quiet;
pub mod recover;
mod staged;
mod undo;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tokio::{sync::Notify, time::timeout};

use crate::{
    host::{
        clock,
        containerd::{Containerd, TaskName},
        files::Transaction,
        observe::Host,
        planted,
        state::Lock,
        timer,
    },
    observed::{
        Observed, Place, Process,
        entry::{Content, Entry},
        generation::{self, Generation, Touch},
        record::{Applied, Change, Ending, Hold, HoldCause, Loaded, Note, Parked, Pending, Proof, Record, RestartNote},
        start::Start,
    },
    plan::{Plan, explain, step::Step},
    spec::{names::Digest, problem::Problem},
};
use journal::{Header, Journal, Phase};
use problems::{CHANGED_UNDERNEATH, READ_BACK, not_armed};
pub use problems::{file_problem, is_contested, is_cri_dead, is_transient, is_write_failure, state_problem};

/// Who asks for a repair.
pub const DRIFT: &str = "drift";

/// So many restarts are remembered; more in an hour are never allowed.
const MOST_RESTARTS: usize = 64;
/// The diff of a change is remembered up to this size.
const MOST_DIFF_BYTES: usize = 256 << 10;

/// How an apply ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It is in effect, and that was seen; with what is worth knowing of it.
    Changed(Effort, Vec<Problem>),
    /// There was nothing to do.
    Unchanged,
    /// It failed and was undone.
    RolledBack(Effort, Vec<Problem>),
    /// It was not begun.
    Refused(Vec<Problem>),
}

impl Outcome {
    /// Why nothing of it stays, when all that hindered it was somebody else who wrote the same paths at that moment.
    #[must_use]
    pub fn overtaken_by(&self) -> Option<&Problem> {
        let (Self::Refused(problems) | Self::RolledBack(Effort { restarts: 0, .. }, problems)) = self else { return None };
        problems.first().filter(|_| is_contested(problems))
    }
}

/// What an apply cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Its number.
    pub generation: u64,
    /// Restarts of containerd, undo included.
    pub restarts: u32,
    /// Longest time without a CRI, in milliseconds.
    pub cri_gap_ms: u64,
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Order {
    /// Who asks, for record and log.
    pub who: String,
    /// The caller's id for this request.
    pub request_id: String,
    /// Why, a phrase.
    pub reason: String,
    /// What is in effect afterwards; `None` after a restore.
    pub applied: Option<Applied>,
    /// Bytes that `applied` names, to be kept.
    pub kept: Vec<Content>,
    /// Inputs that a caller sent along, and the spec text they belong to; `None`: as before.
    pub sent_along: Option<(BTreeMap<String, Digest>, Digest)>,
    /// The hold it leaves.
    pub hold: Option<Hold>,
    /// The generation it goes back to; 0: the node as it was found.
    pub restores: Option<u64>,
    /// It is gone back from by itself unless somebody confirms it within this time.
    pub confirm_within: Option<Duration>,
}

impl Order {
    /// It mends what somebody else changed.
    #[must_use]
    pub fn is_repair(&self) -> bool {
        self.who == DRIFT
    }

    /// It goes back to something that was in effect before: that is neither put off nor refused.
    #[must_use]
    pub const fn is_undo(&self) -> bool {
        self.restores.is_some()
    }
}

/// Where the phases of an apply go, as a word and a sentence.
pub type Progress<'a> = &'a dyn Fn(Phase, &str);

/// Carries plans out on one node. Holding the lock is what makes it the only one.
#[derive(Debug, Clone, Copy)]
pub struct Apply<'a> {
    /// The node.
    pub host: &'a Host,
    /// Proof that no other process is at it.
    pub lock: &'a Lock,
    /// Ends the settling early: a newer spec is waiting.
    pub newer: &'a Notify,
    /// What restarts have to bring back.
    pub ledger: &'a RefCell<Ledger>,
}

/// What was there before the first restart, for a change, its undo and what is tried after that.
#[derive(Debug, Default)]
pub struct Ledger {
    tasks: BTreeMap<TaskName, u32>,
    without_cri_since: Option<Instant>,
}

/// One apply under way.
struct Run<'a> {
    apply: Apply<'a>,
    plan: &'a Plan,
    order: &'a Order,
    client: Containerd,
    place: Place,
    journal: Journal<'a>,
    effort: Effort,
    begun: usize,
    process: Option<Process>,
    notices: Vec<Problem>,
    touched: BTreeMap<String, Touch>,
    restarts: Vec<RestartNote>,
    pending: Option<Pending>,
}

impl<'a> Apply<'a> {
    /// Carries a plan out. The record that comes back is on disk already.
    pub async fn carry_out(self, plan: &'a Plan, observed: &'a Observed, order: &'a Order, progress: Progress<'_>) -> (Outcome, Record) {
        let record = observed.record.clone();
        if !plan.refusals.is_empty() {
            return (Outcome::Refused(plan.refusals.clone()), record);
        }
        if let Err(problem) = self.keep(&order.kept) {
            return (Outcome::Refused(vec![problem]), record);
        }
        if plan.is_empty() {
            return self.adopt(plan, observed, order);
        }
        match self.begin(plan, observed, order, progress).await {
            Err(problem) => (Outcome::Refused(vec![problem]), record),
            Ok(run) => run.carry_to_its_end(observed, progress).await,
        }
    }

    fn keep(self, contents: &[Content]) -> Result<(), Problem> {
        contents.iter().try_for_each(|content| self.host.state().keep_object(content).map(drop)).map_err(|error| state_problem(&error))
    }

    /// Nothing to change on disk; what is remembered may change all the same.
    fn adopt(self, plan: &Plan, observed: &Observed, order: &Order) -> (Outcome, Record) {
        let before = &observed.record;
        let mut record = self.remembered(plan, observed, order);
        if plan.wants_mirrors && observed.proven.known() == Some(&true) {
            record = with_proof(record, observed.containerd.process.known(), before.proof.as_ref());
        }
        if record != *before
            && let Err(error) = self.host.state().keep_record(&record)
        {
            return (Outcome::Refused(vec![state_problem(&error)]), before.clone());
        }
        (Outcome::Unchanged, record)
    }

    fn remembered(self, plan: &Plan, observed: &Observed, order: &Order) -> Record {
        let after = &plan.after;
        let mut record = observed.record.clone();
        record.owned = after.owned.clone();
        if record.owned.is_empty() {
            record.effective_generation = 0;
        }
        record.originals = after.originals.clone();
        record.carried = after.carried.clone();
        record.config_logins = after.config_logins.clone();
        record.legacy = after.legacy.clone();
        record.applied = order.applied.clone();
        record.hold = order.hold.clone().filter(|_| !planted::has("no-hold"));
        if let Some((inputs, text_digest)) = &order.sent_along {
            record.inline_inputs.clone_from(inputs);
            record.inline_inputs_for = Some(*text_digest);
        }
        if !order.is_repair() && order.hold.as_ref().is_none_or(|hold| hold.cause != HoldCause::Rescue) {
            record.parked = None;
        }
        record.pending = None;
        record.start = record.start.map(|start| with_steps(start, &plan.steps, &observed.config.root.path));
        if observed.containerd.unit.known().is_some() {
            record.place = Some(observed.containerd.place.clone());
        }
        if let (Some(process), Some(settings)) = (observed.containerd.process.known(), &after.settings)
            && !plan.awaits_restart
        {
            record.loaded = Some(Loaded { process: process.clone(), settings: *settings });
        }
        record
    }

    /// Nothing may have changed since it was observed.
    fn check_before(self, plan: &Plan) -> Result<(), Problem> {
        let mut expected: BTreeMap<&str, Entry> = BTreeMap::new();
        for step in &plan.steps {
            let known = match expected.get(step.path.as_str()) {
                Some(entry) => entry.clone(),
                None => self.host.files.entry(&step.path).map_err(|error| file_problem(&error))?,
            };
            if !is_expected(&known, &step.before) {
                return Err(Problem::new(
                    CHANGED_UNDERNEATH,
                    format!("{} was changed by somebody else while this was planned", step.path),
                    "nothing was touched; plan again",
                ));
            }
            expected.insert(&step.path, step.after());
        }
        Ok(())
    }

    /// What was tried is what containerd is restarted with.
    fn check_config(self, observed: &Observed) -> Result<(), Problem> {
        if self.host.is_still(&observed.config).map_err(|error| file_problem(&error))? || planted::has("edit-during-trial") {
            return Ok(());
        }
        let message = format!("{} or a file it imports was changed by somebody else meanwhile", observed.config.root.path);
        Err(Problem::new(CHANGED_UNDERNEATH, message, "nothing was touched; plan again"))
    }

    async fn begin(self, plan: &'a Plan, observed: &Observed, order: &'a Order, progress: Progress<'_>) -> Result<Run<'a>, Problem> {
        if self.host.state().has_journal() {
            let remedy = "mend the disk; it is finished by itself, or by \"mirrorlet recover\"";
            return Err(Problem::new(undo::INCOMPLETE, "an earlier change is not undone yet", remedy));
        }
        let client = self.host.client(&observed.containerd.place)?;
        let mut notices = if order.is_undo() { plan.notices.clone() } else { Vec::new() };
        if !order.is_undo() {
            notices.extend(staged::check(self.host, plan, observed, &client, progress).await?);
        }
        if plan.restart.is_some() && !order.is_undo() {
            notices.extend(candidate::check(self.host, plan, observed, progress).await?);
            quiet::wait(self.host, &client, progress).await?;
            self.check_config(observed)?;
        }
        self.check_before(plan)?;
        self.keep_originals(plan, observed)?;
        let generation = observed.record.generation + 1;
        self.note_tasks(&client, plan, order).await?;
        let journal =
            Journal::open(self.host, Header::new(generation, order, plan, clock::boot_id())).map_err(|error| state_problem(&error))?;
        Ok(Run {
            apply: self,
            plan,
            order,
            client,
            place: observed.containerd.place.clone(),
            journal,
            effort: Effort { generation, ..Effort::default() },
            begun: 0,
            process: observed.containerd.process.known().cloned(),
            notices,
            touched: self.touched(plan, order),
            restarts: Vec::new(),
            pending: None,
        })
    }

    /// A rescue goes on with what the change it follows had found.
    async fn note_tasks(self, client: &Containerd, plan: &Plan, order: &Order) -> Result<(), Problem> {
        if plan.restart.is_none() || !self.ledger.borrow().tasks.is_empty() {
            return Ok(());
        }
        let tasks = match client.tasks().await {
            Ok(tasks) => tasks,
            // What is dead already has no tasks to lose track of.
            Err(_) if order.is_undo() => BTreeMap::new(),
            Err(error) => return Err(prove::tasks_unknown(&error)),
        };
        self.ledger.borrow_mut().tasks = tasks;
        Ok(())
    }

    /// Every path that a repair mends was changed by somebody; of another plan, those that are not as we left them.
    fn touched(self, plan: &Plan, order: &Order) -> BTreeMap<String, Touch> {
        let mended = plan.steps.iter().map(|step| &step.path).filter(|_| order.is_repair());
        mended.chain(plan.written_over.keys()).map(|path| (path.clone(), self.host.blame.touch(&self.host.files, path))).collect()
    }

    /// Files we replace for the first time, and what somebody else made of ours, are kept by digest before the first write.
    fn keep_originals(self, plan: &Plan, observed: &Observed) -> Result<(), Problem> {
        let state = self.host.state();
        self.keep(&plan.after.kept)?;
        let first = plan.after.originals.iter().filter(|(path, _)| !observed.record.originals.contains_key(*path));
        let originals = first.filter_map(|(path, entry)| Some((path, entry.digest()?)));
        for (path, digest) in originals.chain(&plan.written_over) {
            let found = self.host.files.read(path).map_err(|error| file_problem(&error))?;
            let found = found.filter(|found| found.state.digest == *digest);
            let found = found
                .ok_or_else(|| Problem::new(CHANGED_UNDERNEATH, format!("{path} was changed while this was planned"), "plan again"))?;
            state.keep_object(&found.content).map_err(|error| state_problem(&error))?;
        }
        Ok(())
    }
}

impl Run<'_> {
    fn transaction(&self) -> Transaction<'_> {
        Transaction { files: &self.apply.host.files, id: self.journal.transaction() }
    }

    async fn carry_to_its_end(mut self, observed: &Observed, progress: Progress<'_>) -> (Outcome, Record) {
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

    async fn settle(&self) -> Result<(), Problem> {
        let settings = &self.apply.host.settings.restart;
        let mut is_told = false;
        let newer = async {
            while !is_told || self.is_spec_our_own() {
                self.apply.newer.notified().await;
                is_told = true;
            }
        };
        let _ = timeout(settings.settle_for, newer).await;
        if is_told {
            // Whatever it was, it is looked at afterwards.
            self.apply.newer.notify_one();
        }
        let Some(process) = &self.process else { return Ok(()) };
        activate::check(&self.client, process).await?;
        self.prove().await
    }

    /// The spec is still the one that this change wrote: nothing newer is waiting.
    fn is_spec_our_own(&self) -> bool {
        let host = self.apply.host;
        let written = self.plan.steps.iter().rfind(|step| step.path == host.settings.spec.path);
        written.is_some_and(|step| host.files.entry(&step.path).is_ok_and(|found| found == step.after()))
    }

    async fn close(self, observed: &Observed, progress: Progress<'_>) -> (Outcome, Record) {
        let mut record = self.apply.remembered(self.plan, observed, self.order);
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

/// Directories are compared by what a step says of them; files inside have steps of their own.
fn is_expected(found: &Entry, expected: &Entry) -> bool {
    match (found, expected) {
        (Entry::Directory { .. }, Entry::Directory { files, .. }) if files.is_empty() => true,
        _ => found == expected,
    }
}

/// What the running process was started from, once steps that need no restart are taken.
fn with_steps(mut start: Start, steps: &[Step], config: &str) -> Start {
    for step in steps.iter().filter(|step| step.path == config) {
        start.moved_on(&step.path, step.before.digest().copied(), step.after().digest().copied());
    }
    start
}

fn with_loaded(mut record: Record, plan: &Plan, process: Option<&Process>) -> Record {
    if let (Some(process), Some(settings), false) = (process, plan.after.settings, plan.awaits_restart) {
        record.loaded = Some(Loaded { process: process.clone(), settings });
    }
    record
}

fn with_proof(mut record: Record, process: Option<&Process>, earlier: Option<&Proof>) -> Record {
    let Some(process) = process else { return record };
    if earlier.is_none_or(|proof| proof.process != *process) {
        record.proof = Some(Proof { process: process.clone(), time: clock::unix_seconds() });
    }
    record
}
