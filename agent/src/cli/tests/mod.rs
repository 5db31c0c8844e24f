//! The command line against the real service on a real socket, with a reconciler that only answers.
#![expect(clippy::disallowed_methods, reason = "specs and what was rendered are real files")]

mod arguments;
mod offline;

use std::path::PathBuf;

use clap::Parser;
use nix::unistd::geteuid;
use tokio::{
    sync::{mpsc, watch},
    task::AbortHandle,
};

use super::{
    arguments::{Cli, Form},
    output::captured::{self, Captured},
    run_verb,
};
use crate::{
    apply::journal::Phase,
    exit,
    host::socket,
    plan::{
        conflict::TakeOver,
        explain::{PlanView, StepView},
    },
    reconcile::commands::{ApplyEvent, ApplyOrder, Command, CommandError, Commands, Ended},
    service::{Api, listen},
    spec::problem::{Location, Problem},
    status::{Condition, GenerationView, OutcomeView, Status, sample},
};

const SPEC: &str = "registryMirrors:\n  - endpoint: https://mirror.example:5000\n    hosts: [docker.io]\n    caCertPath: CA\n";

/// A daemon whose reconciler answers by the book; orders it got can be looked at.
struct Daemon {
    directory: tempfile::TempDir,
    status: watch::Sender<Status>,
    orders: mpsc::UnboundedReceiver<ApplyOrder>,
    tasks: Vec<AbortHandle>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

struct Run {
    code: u8,
    out: String,
    err: String,
}

impl Daemon {
    fn start() -> Self {
        Self::start_for(geteuid().as_raw())
    }

    /// Takes that user for root.
    fn start_for(root: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (commands, inbox) = mpsc::channel(8);
        let (status, published) = watch::channel(sample::status());
        let (taken, orders) = mpsc::unbounded_channel();
        let listener = socket::bind(&directory.path().join("m.sock"), "no-such-group").unwrap().listener;
        let serving = listen::serve(Api::new(commands, published).for_root(root), listener, std::future::pending());
        let tasks = vec![tokio::spawn(reconcile(inbox, taken)).abort_handle(), tokio::spawn(serving).abort_handle()];
        Self { directory, status, orders, tasks }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A spec whose only input is beside it.
    fn spec(&self) -> String {
        let ca = rcgen::generate_simple_self_signed(["mirror.example".to_owned()]).unwrap().cert.pem();
        std::fs::write(self.path("ca.crt"), ca).unwrap();
        std::fs::write(self.path("m.yaml"), SPEC.replace("CA", &self.path("ca.crt").display().to_string())).unwrap();
        self.path("m.yaml").display().to_string()
    }

    async fn run(&self, line: &str) -> Run {
        run(&format!("--address unix:{} {line}", self.path("m.sock").display())).await
    }
}

async fn run(line: &str) -> Run {
    let cli = Cli::try_parse_from(["mirrorctl"].into_iter().chain(line.split_whitespace())).unwrap();
    let (mut output, out, err): (_, Captured, Captured) = captured::output(if line.contains("json") { Form::Json } else { Form::Text });
    let code = run_verb(cli, &mut output).await;
    Run { code, out: out.text(), err: err.text() }
}

/// Answers every command; what the take_over list or the etag say decides how.
async fn reconcile(mut inbox: mpsc::Receiver<Command>, taken: mpsc::UnboundedSender<ApplyOrder>) {
    while let Some(command) = inbox.recv().await {
        match command {
            Command::Plan { allowed, reply, .. } => drop(reply.send(Ok((plan(&allowed.take_over), "e1".into())))),
            Command::Apply { order, events, reply } => drop(reply.send(applied(*order, &events, &taken))),
            Command::Resume { reply, .. } => {
                drop(reply.send(Err(CommandError::Precondition(Problem::new("hold.none", "nothing is held", "")))))
            }
            Command::Revert { order, reply } => drop(reply.send(match order.generation {
                Some(9) => Err(CommandError::Precondition(Problem::new("generation.unknown", "generation 9 is not remembered", ""))),
                _ => Ok((outcome("changed"), "e2".into())),
            })),
            Command::Confirm { reply, .. } => drop(reply.send(Ok(sample::status()))),
            Command::History { reply } => drop(reply.send(Ok((1..=120).rev().map(past).collect()))),
            Command::Show { generation, reply } => drop(reply.send(Ok(past(generation)))),
            Command::Restore { order, reply } => {
                let kind = if order.validate_only { "unchanged" } else { "changed" };
                drop(reply.send(Ok((outcome(kind), plan(&TakeOver::new()), "e2".into()))));
            }
        }
    }
}

fn applied(order: ApplyOrder, events: &mpsc::UnboundedSender<ApplyEvent>, taken: &mpsc::UnboundedSender<ApplyOrder>) -> Ended {
    let kind = order.allowed.take_over.first().cloned().unwrap_or_else(|| "changed".into());
    let etag = order.etag.clone();
    taken.send(order).unwrap();
    match etag.as_str() {
        "stale" => return Err(CommandError::Stale { etag: "e9".into() }),
        "invalid" => {
            let at = Location { file: "m.yaml".into(), line: 2, column: 5 };
            let problem = Problem::new("spec.x", "it is wrong", "mend it").at(at, "registryMirrors[0]");
            return Err(CommandError::Invalid(vec![problem.clone(), problem]));
        }
        _ => {}
    }
    events.send(ApplyEvent::Planned(Box::new(plan(&TakeOver::new())))).unwrap();
    events.send(ApplyEvent::Entered(Phase::Writing, "files are written".into())).unwrap();
    events.send(ApplyEvent::Ended(outcome(&kind))).unwrap();
    Ok((outcome(&kind), "e2".into()))
}

fn past(generation: u64) -> GenerationView {
    GenerationView { generation, who: "drift".into(), outcome: outcome("changed"), diff: "+new\n".into(), ..GenerationView::default() }
}

fn outcome(kind: &str) -> OutcomeView {
    OutcomeView { kind: kind.into(), generation: 4, ..OutcomeView::default() }
}

fn plan(take_over: &TakeOver) -> PlanView {
    let step = StepView { kind: "put-file".into(), path: "/etc/x".into(), ..StepView::default() };
    let refusals = take_over.iter().map(|host| (&Problem::new("take-over.unknown", host.clone(), "")).into()).collect();
    PlanView { steps: vec![step], text: "  1. write /etc/x\n+secret-free\nrestart: no\n".into(), refusals, ..PlanView::default() }
}

#[tokio::test]
async fn status_is_shown_as_the_daemon_has_it() {
    let daemon = Daemon::start();
    let text = daemon.run("status").await;
    assert_eq!((text.code, text.err.as_str()), (exit::DONE, ""));
    assert!(text.out.starts_with("condition   in-effect\n"), "{}", text.out);
    let json = daemon.run("status -o json").await;
    assert_eq!(serde_json::from_str::<Status>(&json.out).unwrap(), sample::status());
    daemon.status.send_modify(|status| status.condition = Condition::RolledBack);
    assert_eq!(daemon.run("status").await.code, exit::DIFFERS);
}

#[tokio::test]
async fn watching_shows_the_snapshot_then_each_change() {
    let daemon = Daemon::start();
    let address = format!("--address unix:{} status --watch -o json", daemon.path("m.sock").display());
    let cli = Cli::try_parse_from(["mirrorctl"].into_iter().chain(address.split_whitespace())).unwrap();
    let (mut output, out, _) = captured::output(Form::Json);
    let watching = run_verb(cli, &mut output);
    let changing = async {
        while out.text().lines().count() < 1 {
            tokio::task::yield_now().await;
        }
        daemon.status.send_modify(|status| status.effective_generation = 9);
        while out.text().lines().count() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        code = watching => panic!("watching ended with {code}"),
        () = changing => {}
    }
    let last: Status = serde_json::from_str(out.text().lines().last().unwrap()).unwrap();
    assert_eq!(last.effective_generation, 9);
}

#[tokio::test]
async fn who_is_not_root_may_look_and_change_nothing() {
    let daemon = Daemon::start_for(geteuid().as_raw() + 1);
    assert_eq!(daemon.run("status").await.code, exit::DONE);
    assert_eq!(daemon.run("plan").await.code, exit::DIFFERS);
    let apply = format!("apply {}", daemon.spec());
    for verb in [apply.as_str(), "resume", "disable", "disable --dry-run", "pull busybox", "revert", "confirm 3"] {
        let run = daemon.run(verb).await;
        assert_eq!((run.code, run.out.as_str()), (exit::DENIED, ""), "{verb}");
        assert!(run.err.starts_with("mirrorctl: only root may call "), "{}", run.err);
    }
}

#[tokio::test]
async fn a_plan_is_printed_and_its_exit_code_says_what_it_is() {
    let daemon = Daemon::start();
    let run = daemon.run("plan").await;
    assert_eq!((run.code, run.out.as_str()), (exit::DIFFERS, "  1. write /etc/x\n+secret-free\nrestart: no\n"));
    assert_eq!(daemon.run("plan --take-over docker.io").await.code, exit::REFUSED);
    let json: serde_json::Value = serde_json::from_str(&daemon.run("plan -o json").await.out).unwrap();
    assert_eq!((json["etag"].as_str(), json["plan"]["steps"][0]["path"].as_str()), (Some("e1"), Some("/etc/x")));
}

#[tokio::test]
async fn apply_sends_the_inputs_and_tells_the_phases() {
    let mut daemon = Daemon::start();
    let run = daemon.run(&format!("apply {} --request-id r1", daemon.spec())).await;
    assert_eq!((run.code, run.out.as_str()), (exit::DONE, "changed: generation 4 is in effect\n"), "{}", run.err);
    assert_eq!(run.err, "planned      1 step\nwriting      files are written\n");
    let order = daemon.orders.recv().await.unwrap();
    assert_eq!(order.request_id, "r1");
    assert!(order.who.ends_with("(mirrorctl apply)") && order.body.starts_with("sha256:"), "{order:?}");
    let inputs = order.spec.unwrap().inputs;
    assert_eq!(inputs.keys().collect::<Vec<_>>(), [&daemon.path("ca.crt").display().to_string()]);
}

#[tokio::test]
async fn past_changes_are_listed_shown_and_gone_back_to() {
    let daemon = Daemon::start();
    let listed = daemon.run("history --most 70 -o json").await;
    let listed: Vec<GenerationView> = serde_json::from_str(&listed.out).unwrap();
    assert_eq!((listed.len(), listed[0].generation, listed[69].generation), (70, 120, 51));
    assert_eq!(daemon.run("history").await.out.lines().count(), 21);
    assert!(daemon.run("show 7").await.out.ends_with("+new\n"));
    let back = daemon.run("revert").await;
    assert!(back.code == exit::DONE && back.out.contains("generation 4") && back.out.contains("mirrorctl resume"), "{}", back.out);
    assert_eq!(daemon.run("revert 9").await.code, exit::REFUSED);
    assert_eq!(daemon.run("confirm 3").await.code, exit::DONE);
    let pending = daemon.run(&format!("apply {} --confirm-within 2m", daemon.spec())).await;
    assert!(pending.err.ends_with("It is gone back from in 2m unless you say: mirrorctl confirm 4\n"), "{}", pending.err);
}

#[tokio::test]
async fn every_end_of_an_apply_has_its_exit_code() {
    let daemon = Daemon::start();
    let spec = daemon.spec();
    for (options, code) in [
        ("", exit::DONE),
        ("--take-over rolled-back", exit::ROLLED_BACK),
        ("--take-over refused", exit::REFUSED),
        ("--etag stale", exit::STALE),
        ("--etag invalid", exit::USAGE),
        ("--confirm-within 2m", exit::DONE),
        ("--confirm-within 10ms", exit::USAGE),
    ] {
        let run = daemon.run(&format!("apply {spec} {options}")).await;
        assert_eq!(run.code, code, "{options}: {}", run.err);
    }
    let run = daemon.run(&format!("apply {spec} --etag invalid")).await;
    assert!(run.err.starts_with("m.yaml:2:5: error: registryMirrors[0]: it is wrong; mend it [spec.x]\n"), "{}", run.err);
}

#[tokio::test]
async fn a_spec_with_problems_is_not_sent() {
    let daemon = Daemon::start();
    std::fs::write(daemon.path("bad.yaml"), "registryMirrors:\n  - endpoint: ftp://x\n").unwrap();
    let run = run(&format!("--address unix:/nowhere apply {}", daemon.path("bad.yaml").display())).await;
    assert_eq!((run.code, run.out.as_str()), (exit::USAGE, ""));
    assert!(run.err.contains("bad.yaml:2:") && run.err.contains("nothing was done"), "{}", run.err);
}

#[tokio::test]
async fn disable_and_resume_are_answered() {
    let daemon = Daemon::start();
    assert_eq!(daemon.run("disable --dry-run").await.code, exit::DIFFERS);
    let run = daemon.run("disable").await;
    assert!(run.code == exit::DONE && run.out.contains("mirrorctl resume"), "{}", run.out);
    let run = daemon.run("resume").await;
    assert_eq!((run.code, run.err.as_str()), (exit::REFUSED, "mirrorctl: nothing is held [hold.none]\n"));
}

#[tokio::test]
async fn no_daemon_is_one_sentence() {
    let run = run("--address unix:/nowhere/m.sock status").await;
    assert_eq!(run.code, exit::UNREACHABLE);
    assert!(run.err.contains("systemctl start mirrorlet") && run.err.lines().count() == 1, "{}", run.err);
    let json = self::run("--address unix:/nowhere/m.sock status -o json").await;
    let error: serde_json::Value = serde_json::from_str(&json.err).unwrap();
    assert_eq!(error["error"]["reason"], "daemon.unreachable");
    assert_eq!(self::run("--address https://node:9797 status").await.code, exit::USAGE);
}

#[tokio::test]
async fn a_daemon_that_does_not_answer_is_late() {
    let directory = tempfile::tempdir().unwrap();
    let (commands, _inbox): (Commands, _) = mpsc::channel(8);
    let (_status, published) = watch::channel(Status::default());
    let path = directory.path().join("m.sock");
    let listener = socket::bind(&path, "").unwrap().listener;
    tokio::spawn(listen::serve(Api::new(commands, published), listener, std::future::pending()));
    let run = run(&format!("--address unix:{} --timeout 200ms plan", path.display())).await;
    assert_eq!(run.code, exit::LATE, "{}", run.err);
}
