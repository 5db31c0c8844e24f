//! Carrying a plan out, whole or not at all: what is asked for, what is looked at before the first write, and how it ends. The way between is
//! in `run`.

pub mod activate;
mod candidate;
pub mod journal;
mod problems;
pub mod prove;
mod quiet;
pub mod recover;
mod remember;
mod run;
mod staged;
mod undo;

use std::{
    cell::RefCell,
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    host::{
        clock,
        containerd::{Containerd, TaskName},
        observe::Host,
        planted,
        state::Lock,
    },
    observed::{
        Observed,
        entry::{Content, Entry},
        generation::Touch,
        record::{Applied, Hold, Record},
    },
    plan::Plan,
    spec::{names::Digest, problem::Problem},
};
use journal::{Header, Journal, Phase};
use problems::CHANGED_UNDERNEATH;
pub use problems::{file_problem, is_contested, is_cri_dead, is_transient, is_write_failure, state_problem};
use remember::{remembered, with_proof};
use run::Run;

/// Who asks for a repair.
pub const DRIFT: &str = "drift";

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
    /// What restarts have to bring back.
    pub ledger: &'a RefCell<Ledger>,
}

/// What was there before the first restart, for a change, its undo and what is tried after that.
#[derive(Debug, Default)]
pub struct Ledger {
    tasks: BTreeMap<TaskName, u32>,
    without_cri_since: Option<Instant>,
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
        let mut record = remembered(plan, observed, order);
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

/// Directories are compared by what a step says of them; files inside have steps of their own.
fn is_expected(found: &Entry, expected: &Entry) -> bool {
    match (found, expected) {
        (Entry::Directory { .. }, Entry::Directory { files, .. }) if files.is_empty() => true,
        _ => found == expected,
    }
}
