//! The loop that makes the node what the spec says. One task owns the node; everybody else sends it commands and reads its status.

mod alone;
pub mod commands;
mod history;
mod interrupted;
pub mod machine;
mod orders;
mod probes;
mod report;
mod retry;
mod watching;
pub mod wish;

use std::{
    cell::RefCell,
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at},
};

use crate::{
    apply::{Apply, DRIFT, Effort, Ledger, Order, Outcome, is_contested, is_cri_dead, journal::Phase, recover, state_problem},
    config::{ContainerdSettings, ForeignChange, RestartDriver, Settings},
    host::{
        blame::Blame,
        clock, facts, notify,
        observe::Host,
        planted, staging,
        state::Lock,
        trial,
        watch::{Changes, Watch},
    },
    observed::{
        Observed,
        record::{Hold, HoldCause, Loaded, Proof, Record},
    },
    plan::{
        self, Allowed, Plan, Policy,
        restart::{self, Restart},
    },
    spec::{InputName, names::Digest, problem::Problem},
    status::{Condition, EndpointStatus, Status},
};
use commands::Command;
use machine::{Cause, Decision, Situation};
use retry::Retry;
use wish::{Wanted, Wish};

/// Changes that follow each other this fast are one.
const QUIET: Duration = Duration::from_millis(80);
/// A spec that changes all the time is taken up after this time all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A spec whose inputs are others each time it is read is taken as it is.
const MOST_READS: usize = 4;
/// So many repairs are remembered.
const MOST_NOTED_REPAIRS: usize = 32;
/// The one timer.
const TICK: Duration = Duration::from_secs(30);
/// The node is looked at every so many ticks; at each one while the watch is not complete.
const FULL_LOOK: u32 = 20;

/// The task that owns the node.
#[derive(Debug)]
pub struct Reconciler {
    host: Host,
    lock: Lock,
    record: Record,
    watch: Watch,
    changes: Arc<Changes>,
    status: watch::Sender<Status>,
    watched_inputs: Vec<InputName>,
    endpoints: Vec<EndpointStatus>,
    probed: Option<Digest>,
    repairs: VecDeque<i64>,
    retry: Retry,
    /// The directory of containerd's files, as it was at the start.
    view: Option<facts::View>,
    /// Directories of the files that containerd's config imports.
    import_directories: BTreeSet<String>,
}

/// A look at the node: what is wanted, what is there, and the way.
struct Look {
    wish: Wish,
    observed: Observed,
    plan: Plan,
}

/// What the settings say about plans, and what the caller allows on top.
#[must_use]
pub fn policy(settings: &Settings, by_caller: &Allowed, can_restart: bool, is_undo: bool) -> Policy {
    let allowed = Allowed {
        take_over: settings.policy.take_over.iter().chain(&by_caller.take_over).cloned().collect(),
        accept: settings.restart.accept.iter().chain(&by_caller.accept).copied().collect(),
    };
    let allowed = if planted::has("others-not-asked") { Allowed { accept: ForeignChange::ALL.into(), ..allowed } } else { allowed };
    let by_systemd = settings.restart.driver == RestartDriver::Systemd;
    let max_per_hour = settings.restart.max_per_hour;
    let ContainerdSettings { layout, hosts_dir, .. } = &settings.containerd;
    Policy { layout: *layout, hosts_dir: hosts_dir.clone(), allowed, can_restart, by_systemd, max_per_hour, is_undo }
}

impl Reconciler {
    /// Takes the node over: locks it and finishes or undoes what was left open.
    ///
    /// # Errors
    /// When another process has it, or its state cannot be used.
    pub fn start(host: Host) -> Result<(Self, watch::Receiver<Status>), Problem> {
        let lock = host.state().lock().map_err(|error| state_problem(&error))?;
        Self::with_lock(host, lock)
    }

    fn with_lock(host: Host, lock: Lock) -> Result<(Self, watch::Receiver<Status>), Problem> {
        let (recovery, record) = recover::recover(&host, &lock)?;
        let changes = Arc::new(Changes::default());
        let (status, receiver) = watch::channel(Status::default());
        let watch = Watch::new(changes.clone());
        interrupted::tell(&recovery);
        let (directory, _) = host.settings.containerd.hosts_dir.rsplit_once('/').unwrap_or_default();
        let view = facts::View::of(&host.files.seen(directory));
        let reconciler = Self {
            host,
            lock,
            record,
            watch,
            changes,
            status,
            watched_inputs: Vec::new(),
            endpoints: Vec::new(),
            probed: None,
            repairs: VecDeque::new(),
            retry: Retry::default(),
            view,
            import_directories: BTreeSet::new(),
        };
        Ok((reconciler, receiver))
    }

    fn keep_record(&self) {
        if let Err(error) = self.host.state().keep_record(&self.record) {
            tracing::error!("{error}");
        }
    }

    /// Serves commands and events until `stop` ends. What is under way is carried to its end.
    ///
    /// # Errors
    /// When this process cannot do its work any more, and a new one could.
    pub async fn run(mut self, commands: mpsc::Receiver<Command>, stop: impl Future<Output = ()>) -> Result<(), Problem> {
        self.host.blame = Blame::begin();
        let ticks = Arc::new(Notify::new());
        tokio::select! {
            never = beat(TICK, ticks.clone()) => match never {},
            ended = self.serve_until(stop, commands, ticks) => ended,
        }
    }

    async fn serve_until(
        mut self,
        stop: impl Future<Output = ()>,
        mut commands: mpsc::Receiver<Command>,
        tick: Arc<Notify>,
    ) -> Result<(), Problem> {
        tokio::pin!(stop);
        let mut ticks = 0_u32;
        trial::clear(&self.host.files).await;
        staging::clear(&self.host.files);
        self.disarm_what_is_over().await;
        self.pay_owed_restart().await;
        self.go_round().await;
        let changes = self.changes.clone();
        loop {
            let (left, retry) = (self.until_expiry(), self.retry.not_before());
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = sleep(left.unwrap_or_default()), if left.is_some() => self.expire().await,
                () = sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => {
                    self.retry.begin();
                    self.go_round().await;
                }
                command = commands.recv() => match command {
                    Some(command) => {
                        self.check_view()?;
                        self.serve(command).await;
                    }
                    None => return Ok(()),
                },
                () = changes.spec.notified() => self.attend().await?,
                () = changes.node.notified() => self.attend().await?,
                () = tick.notified() => {
                    ticks = ticks.wrapping_add(1);
                    self.check_view()?;
                    self.pay_owed_restart().await;
                    let is_open = self.host.state().has_journal();
                    if is_open || !self.watch.is_complete() || ticks.is_multiple_of(FULL_LOOK) || self.containerd_is_another() {
                        self.go_round().await;
                    }
                }
            }
        }
    }

    /// The unit opens directories for writing by mounts of their own, made when it starts; a directory that is replaced later has none.
    fn check_view(&self) -> Result<(), Problem> {
        let (directory, _) = self.host.settings.containerd.hosts_dir.rsplit_once('/').unwrap_or_default();
        let now = facts::View::of(&self.host.files.seen(directory));
        if self.view.is_none_or(|view| !view.is_lost(now)) {
            return Ok(());
        }
        let message = format!("{directory} was replaced, and the unit opened the old one for writing");
        Err(Problem::new("host.stranded", message, "it ends here, and is started anew with the new one"))
    }

    async fn attend(&mut self) -> Result<(), Problem> {
        self.wait_for_quiet().await;
        self.check_view()?;
        self.go_round().await;
        Ok(())
    }

    async fn go_round(&mut self) {
        self.look_and_act(Cause::Event).await;
        if self.look_behind().await {
            self.look_and_act(Cause::Event).await;
        }
    }

    async fn wait_for_quiet(&self) {
        let latest = Instant::now() + LONGEST_WAIT;
        loop {
            let quiet = sleep(QUIET);
            let event = async {
                tokio::select! {
                    () = self.changes.spec.notified() => {}
                    () = self.changes.node.notified() => {}
                }
            };
            tokio::select! {
                () = quiet => return,
                late = timeout_at(latest, event) => if late.is_err() { return },
            }
        }
    }

    /// The process that was seen last is gone, or is another one under the same number.
    fn containerd_is_another(&self) -> bool {
        let pid = self.status.borrow().containerd.pid;
        let known = self.record.proof.as_ref().map(|proof| &proof.process).filter(|process| process.pid == pid);
        match known {
            Some(process) => clock::start_ticks(pid) != Some(process.start_ticks),
            None => pid != 0 && clock::start_ticks(pid).is_none(),
        }
    }

    /// One round: observe, plan, decide, apply, and look again.
    async fn look_and_act(&mut self, cause: Cause) -> Option<Outcome> {
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
    fn kept_wish(&self) -> Option<Result<Wish, Vec<Problem>>> {
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
                if who == DRIFT && cause != Cause::Operator {
                    look.plan = machine::mendable(&look.plan, &self.record, &self.host.settings.policy);
                }
                let hold = if cause == Cause::Kept { self.record.hold.clone() } else { None };
                let order = own_order(who, &look.wish, hold);
                let outcome = self.carry_out(&look, &order, &|_, _| {}).await;
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
        look.plan = machine::mendable(&look.plan, &self.record, &self.host.settings.policy);
        let order = own_order(DRIFT, &look.wish, self.record.hold.clone());
        // When the wanted one is tried again is not for this one to say.
        let retry = std::mem::take(&mut self.retry);
        self.carry_out(&look, &order, &|_, _| {}).await;
        self.retry = retry;
        self.watch_anew();
        true
    }

    /// Success is what a second look says.
    async fn look_again(&mut self, wish: Wish, cause: Cause, outcome: &Outcome) {
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

    async fn look(&self, wish: Wish, by_caller: &Allowed) -> Result<Look, Problem> {
        self.look_with(wish, &policy(&self.host.settings, by_caller, self.host.can_restart(), false)).await
    }

    async fn look_with(&self, wish: Wish, policy: &Policy) -> Result<Look, Problem> {
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

    async fn carry_out(&mut self, look: &Look, order: &Order, progress: &dyn Fn(Phase, &str)) -> Outcome {
        self.carry_on(look, order, progress, &RefCell::default()).await
    }

    async fn carry_on(&mut self, look: &Look, order: &Order, progress: &dyn Fn(Phase, &str), ledger: &RefCell<Ledger>) -> Outcome {
        self.keep_start(&look.observed);
        if !look.plan.is_empty() {
            self.publish(look, Condition::Applying);
            tracing::info!(who = %order.who, steps = look.plan.steps.len(), restart = look.plan.restart.is_some(), "applying for {}", order.who);
        }
        let apply = Apply { host: &self.host, lock: &self.lock, newer: &self.changes.spec, ledger };
        let (outcome, record) = apply.carry_out(&look.plan, &look.observed, order, progress).await;
        self.record = record;
        self.note_repair(order, &outcome);
        if order.sent_along.is_none() && !order.is_undo() {
            self.retry.note(look.wish.desired.digest, &outcome, Instant::now());
        }
        tell(&outcome);
        match &outcome {
            Outcome::RolledBack(_, problems) if is_cri_dead(problems) && order.restores != Some(0) => {
                Box::pin(self.rescue(outcome, ledger)).await
            }
            _ => outcome,
        }
    }

    /// The last rung: neither the change nor the generation before brings the CRI back, so the node gets what it had before us. When that
    /// does not help either, the node is at fault; nothing further is tried.
    async fn rescue(&mut self, failed: Outcome, ledger: &RefCell<Ledger>) -> Outcome {
        if self.record.owned.is_empty() {
            return failed;
        }
        let Ok(mut look) = self.look_back().await else { return failed };
        look.plan.restart = self.host.can_restart().then(|| Restart { cause: restart::Cause::CriDead, also_effective: Vec::new() });
        let order = Order {
            who: "rescue".into(),
            reason: restart::Cause::CriDead.sentence().into(),
            hold: Some(self.hold(HoldCause::Rescue)),
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

    /// Before anything is written: an apply that is killed leaves the same files with other times.
    fn keep_start(&mut self, observed: &Observed) {
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

    fn publish(&self, look: &Look, condition: Condition) {
        self.send(report::of_look(self, look, condition));
    }

    async fn publish_without_wish(&mut self, problems: Vec<Problem>) {
        let observed = self.host.observe(self.record.clone()).await;
        if let Ok(observed) = &observed {
            self.keep_start(observed);
        }
        self.send(report::without_wish(self, observed.as_ref().ok(), &problems));
    }

    async fn publish_sick(&self, problem: Problem) {
        tracing::error!("{problem}");
        self.send(report::sick(self, &problem));
    }

    fn send(&self, status: Status) {
        notify::status(&status.line());
        self.status.send_if_modified(|there| {
            let is_same = Status { observed_at: there.observed_at, ..status.clone() } == *there;
            *there = status;
            !is_same
        });
    }
}

/// The one timer: it goes on while an apply waits for containerd.
async fn beat(period: Duration, ticks: Arc<Notify>) -> std::convert::Infallible {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval.tick().await;
    loop {
        interval.tick().await;
        notify::watchdog();
        ticks.notify_one();
    }
}

/// What the loop asks for by itself.
fn own_order(who: &str, wish: &Wish, hold: Option<Hold>) -> Order {
    let (applied, kept) = (Some(wish.applied()), wish.bytes());
    Order { who: who.to_owned(), reason: reason(who).to_owned(), applied, kept, hold, ..Order::default() }
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
