//! The loop that makes the node what the spec says. One task owns the node; everybody else sends it commands and reads its status.

mod alone;
mod carry;
pub mod commands;
mod history;
mod interrupted;
pub mod machine;
mod orders;
mod probes;
mod report;
mod retry;
mod round;
mod watching;
pub mod wish;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout_at},
};

use crate::{
    apply::{recover, state_problem},
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
    observed::{Observed, record::Record},
    plan::{Allowed, Plan, Policy},
    spec::{InputName, names::Digest, problem::Problem},
    status::{Condition, EndpointStatus, Status},
};
use commands::Command;
use retry::Retry;
use wish::Wish;

/// Changes that follow each other this fast are one.
const QUIET: Duration = Duration::from_millis(80);
/// A spec that changes all the time is taken up after this time all the same.
const LONGEST_WAIT: Duration = Duration::from_secs(2);
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
