//! Puts the status together.

use std::collections::BTreeSet;

use super::{Look, Reconciler};
use crate::{
    apply::{Effort, Outcome},
    config::Layout,
    host::{clock, observe::Host},
    observed::{
        Containerd, Observed,
        entry::Content,
        generation::{Generation, Touch},
        record::{Change, Ending, HoldCause, Mirrored, Record},
        version::Version,
    },
    plan::{Plan, explain},
    spec::{
        names::Digest,
        problem::{Problem, ProblemView},
    },
    status::{
        Condition, ContainerdStatus, GenerationView, HoldStatus, LastChange, LoginState, MirroredHost, OutcomeView, PendingStatus,
        ReplacedFile, Status, moment,
    },
};

/// With a spec that could be planned for.
pub fn of_look(reconciler: &Reconciler, look: &Look, condition: Condition) -> Status {
    let mut status = base(reconciler, Some(&look.observed.containerd), Some(&look.observed));
    status.condition = condition;
    status.wanted_spec_digest = look.wish.desired.digest.to_string();
    status.endpoints.clone_from(&reconciler.endpoints);
    status.proof = proof(reconciler, look, condition);
    status.notices = look.wish.notices.iter().chain(&look.plan.notices).map(ProblemView::from).collect();
    status.notices.extend(login_notices(&status));
    status.problems = problems(reconciler, look, condition);
    (status.summary, status.next_step) = words(reconciler, look, condition, &status);
    status.etag = etag(reconciler, &status.wanted_spec_digest, Some(&look.plan));
    status
}

/// Without one: nothing there, or nothing that can be used.
pub fn without_wish(reconciler: &Reconciler, observed: Option<&Observed>, problems: &[Problem]) -> Status {
    let mut status = base(reconciler, observed.map(|observed| &observed.containerd), observed);
    let record = &reconciler.record;
    status.problems = problems.iter().map(ProblemView::from).collect();
    let path = &status.spec_path;
    (status.condition, status.summary, status.next_step) = if !problems.is_empty() {
        let count = problems.len();
        let summary = format!("the spec has {count} problem{}; the node stays as it is", if count == 1 { "" } else { "s" });
        (Condition::SpecInvalid, summary, format!("mend {path}; it is taken up as soon as it is saved"))
    } else if record.hold.is_some() && record.applied.is_none() {
        (Condition::Held, "the node is as it was found, and the spec is held".into(), "mirrorctl resume, or write another spec".into())
    } else if record.owned.is_empty() {
        (
            Condition::NoSpec,
            format!("there is no spec at {path}; containerd is not touched"),
            format!("write {path}, or mirrorctl apply FILE"),
        )
    } else {
        let summary = format!("the spec at {path} is gone; what is in effect stays as it is");
        (Condition::SpecInvalid, summary, "put it back, or write \"registryMirrors: []\" to switch mirroring off".into())
    };
    status.etag = etag(reconciler, &text_digest(reconciler), None);
    status
}

/// Digest of a spec that cannot be planned for; empty when there is none.
pub fn text_digest(reconciler: &Reconciler) -> String {
    reconciler.host.spec_digest().map(|digest| digest.to_string()).unwrap_or_default()
}

/// The node could not be looked at.
pub fn sick(reconciler: &Reconciler, problem: &Problem) -> Status {
    let mut status = base(reconciler, None, None);
    status.condition = Condition::ContainerdSick;
    status.summary.clone_from(&problem.message);
    status.next_step.clone_from(&problem.remedy);
    status.problems = vec![problem.into()];
    status.etag = etag(reconciler, "", None);
    status
}

fn base(reconciler: &Reconciler, containerd: Option<&Containerd>, observed: Option<&Observed>) -> Status {
    let record = &reconciler.record;
    Status {
        effective_generation: record.effective_generation,
        containerd: containerd.map(|containerd| containerd_status(reconciler, containerd, observed)).unwrap_or_default(),
        hold: record.hold.as_ref().map(|hold| HoldStatus {
            cause: hold_word(hold.cause).into(),
            since: hold.since,
            spec_digest: hold.text_digest.map(|digest| digest.to_string()).unwrap_or_default(),
        }),
        pending: record.pending.as_ref().map(|pending| PendingStatus { generation: pending.generation, deadline: pending.deadline }),
        hosts: hosts(record),
        last_change: record.last_change.as_ref().map(last_change),
        agent_version: env!("CARGO_PKG_VERSION").into(),
        watch: if reconciler.watch.is_complete() { "inotify" } else { "polling" }.into(),
        spec_path: reconciler.host.settings.spec.path.clone(),
        observed_at: clock::unix_seconds(),
        ..Status::default()
    }
}

fn containerd_status(reconciler: &Reconciler, containerd: &Containerd, observed: Option<&Observed>) -> ContainerdStatus {
    let root = observed.and_then(|observed| {
        let text = observed.config.root.text.as_ref().and_then(Content::text)?;
        Some(text.parse::<toml_edit::DocumentMut>().ok()?.get("root")?.as_str()?.to_owned())
    });
    ContainerdStatus {
        running_version: containerd.running.known().map(ToString::to_string).unwrap_or_default(),
        installed_version: containerd.installed.known().map(ToString::to_string).unwrap_or_default(),
        pid: containerd.process.known().map_or(0, |process| process.pid),
        cri_is_ready: containerd.cri.known().is_some(),
        config_path: containerd.place.config.clone(),
        address: containerd.place.address.clone(),
        unit: reconciler.host.settings.containerd.unit.clone(),
        content_dir: root.unwrap_or_else(|| "/var/lib/containerd".into()),
    }
}

const fn hold_word(cause: HoldCause) -> &'static str {
    match cause {
        HoldCause::Disable => "disable",
        HoldCause::Revert => "revert",
        HoldCause::Expiry => "expiry",
        HoldCause::Rescue => "rescue",
    }
}

fn last_change(change: &Change) -> LastChange {
    LastChange { generation: change.generation, time: change.time, who: change.who.clone(), outcome: past_outcome(change) }
}

fn past_outcome(change: &Change) -> OutcomeView {
    let notes: Vec<ProblemView> = change.problems.iter().map(|note| ProblemView::from(&Problem::from(note))).collect();
    OutcomeView {
        kind: match change.ending {
            Ending::Changed => "changed",
            Ending::RolledBack => "rolled-back",
        }
        .into(),
        generation: change.generation,
        restarts: change.restarts,
        cri_gap_ms: change.cri_gap_ms,
        problems: if change.ending == Ending::Changed { Vec::new() } else { notes.clone() },
        notices: if change.ending == Ending::Changed { notes } else { Vec::new() },
    }
}

/// A past change as it is shown.
#[must_use]
pub fn generation_view(generation: &Generation, host: &Host) -> GenerationView {
    let kept = |digest: &Digest| host.state().object_path(digest);
    let change = &generation.change;
    let paths: BTreeSet<&String> = generation.replaced.keys().chain(generation.touched.keys()).collect();
    let replaced = paths.into_iter().map(|path| {
        let touch = generation.touched.get(path).cloned().unwrap_or_default();
        let kept_at = generation.replaced.get(path).map(kept).unwrap_or_default();
        ReplacedFile { path: path.clone(), kept_at, changed_at: touch.time, changed_by: touch.by }
    });
    GenerationView {
        generation: change.generation,
        time: change.time,
        who: change.who.clone(),
        reason: generation.reason.clone(),
        outcome: past_outcome(change),
        restores: generation.restores,
        diff: generation.diff.clone(),
        replaced: replaced.collect(),
    }
}

/// An outcome as it is shown.
#[must_use]
pub fn outcome_view(outcome: &Outcome) -> OutcomeView {
    let views = |problems: &[Problem]| problems.iter().map(ProblemView::from).collect();
    let of_effort = |kind: &str, effort: &Effort| OutcomeView {
        kind: kind.into(),
        generation: effort.generation,
        restarts: effort.restarts,
        cri_gap_ms: effort.cri_gap_ms,
        ..OutcomeView::default()
    };
    match outcome {
        Outcome::Changed(effort, notices) => OutcomeView { notices: views(notices), ..of_effort("changed", effort) },
        Outcome::Unchanged => of_effort("unchanged", &Effort::default()),
        Outcome::RolledBack(effort, problems) => OutcomeView { problems: views(problems), ..of_effort("rolled-back", effort) },
        Outcome::Refused(problems) => OutcomeView { problems: views(problems), ..of_effort("refused", &Effort::default()) },
    }
}

/// URLs as they may be shown: those the node had before may hold a login.
fn shown(urls: &[String]) -> Vec<String> {
    urls.iter().map(|url| explain::without_login(url)).collect()
}

/// Endpoints that others have for a mirrored registry.
fn of_others(record: &Record, mirrored: &Mirrored) -> Vec<String> {
    let merged = record.legacy.iter().filter_map(|legacy| legacy.mirrors.get(&mirrored.host)).flatten();
    let carried = record.carried.mirrors.get(&mirrored.host).into_iter().flatten();
    merged.filter(|endpoint| !mirrored.endpoints.contains(endpoint)).chain(carried).cloned().collect()
}

/// Registries that containerd looks for at mirrors now, whatever the spec wants by now.
fn hosts(record: &Record) -> Vec<MirroredHost> {
    let carried = &record.carried.mirrors;
    let mirrored = record.applied.iter().flat_map(|applied| &applied.hosts).map(|mirrored| MirroredHost {
        host: mirrored.host.clone(),
        endpoints: mirrored.endpoints.clone(),
        carried_endpoints: shown(&of_others(record, mirrored)),
        falls_back: mirrored.falls_back,
    });
    let mut hosts: Vec<MirroredHost> = mirrored.collect();
    for (host, endpoints) in carried {
        if !hosts.iter().any(|there| there.host == *host) {
            hosts.push(MirroredHost { host: host.clone(), endpoints: Vec::new(), carried_endpoints: shown(endpoints), falls_back: true });
        }
    }
    hosts
}

fn proof(reconciler: &Reconciler, look: &Look, condition: Condition) -> String {
    match &reconciler.record.proof {
        Some(proof) if condition == Condition::InEffect && look.observed.containerd.process.known() == Some(&proof.process) => {
            format!("containerd (process {}) {}", proof.process.pid, evidence(reconciler, look))
        }
        _ => String::new(),
    }
}

/// What the proof of this layout rests on.
fn evidence(reconciler: &Reconciler, look: &Look) -> String {
    let settings = &reconciler.host.settings.containerd;
    let config = &look.observed.config.root.path;
    match settings.layout {
        Layout::Hosts => format!("read a test name from {}", settings.hosts_dir),
        Layout::Legacy if shows_registry(look) => format!("shows the mirrors of {config} among the settings it runs with"),
        Layout::Legacy => {
            format!("was started with {config}, reads these mirrors out of it, and has a CRI; this release does not show what it runs with")
        }
    }
}

fn shows_registry(look: &Look) -> bool {
    look.observed.containerd.running.known().is_some_and(Version::shows_registry)
}

fn login_notices(status: &Status) -> Vec<ProblemView> {
    let refused = status.endpoints.iter().filter(|endpoint| endpoint.login == LoginState::Refused).map(|endpoint| {
        Problem::new(
            "login.refused",
            format!("{} refuses the login of the spec", endpoint.endpoint),
            "pulls go past it until the login is mended, and pods' own pull secrets are sent to it",
        )
    });
    let unproven = status.endpoints.iter().filter(|endpoint| endpoint.login == LoginState::Unproven && endpoint.asks_for == "unknown");
    let unproven =
        unproven.map(|endpoint| Problem::new("login.unproven", format!("{}: login unproven: {}", endpoint.endpoint, endpoint.error), ""));
    let anonymous = status
        .endpoints
        .iter()
        .filter(|endpoint| endpoint.login == LoginState::None && matches!(endpoint.asks_for.as_str(), "basic" | "token"));
    let anonymous = anonymous.map(|endpoint| {
        Problem::new(
            "login.missing",
            format!("{} asks for a login and the spec gives none", endpoint.endpoint),
            "containerd sends it the pods' own pull secrets; give the entry a pullCredentialConfigPath",
        )
    });
    let silent = status.endpoints.iter().filter(|endpoint| endpoint.login == LoginState::None && endpoint.asks_for == "unknown");
    let silent =
        silent.map(|endpoint| Problem::new("mirror.silent", format!("{} gave no answer: {}", endpoint.endpoint, endpoint.error), ""));
    refused.chain(unproven).chain(anonymous).chain(silent).map(|problem| ProblemView::from(&problem)).collect()
}

fn problems(reconciler: &Reconciler, look: &Look, condition: Condition) -> Vec<ProblemView> {
    match condition {
        Condition::Refused => look.plan.refusals.iter().map(ProblemView::from).collect(),
        Condition::RolledBack if reconciler.retry.condition(look.wish.desired.digest).is_some() => {
            reconciler.retry.problems.iter().map(ProblemView::from).collect()
        }
        Condition::RolledBack | Condition::Held => {
            let notes = reconciler.record.parked.iter().flat_map(|parked| &parked.problems);
            notes.map(|note| ProblemView::from(&Problem::from(note))).collect()
        }
        Condition::ContainerdSick if !look.plan.is_empty() => reconciler.retry.problems.iter().map(ProblemView::from).collect(),
        Condition::ContainerdSick => {
            let containerd = &look.observed.containerd;
            let reason = containerd
                .cri
                .unknown_because()
                .or_else(|| containerd.process.unknown_because())
                .or_else(|| look.observed.proven.unknown_because());
            let reason = reason.unwrap_or("it does not use what is ours");
            vec![(&Problem::new("containerd.sick", reason, "see \"journalctl -u containerd\"")).into()]
        }
        Condition::Drifted => {
            let Host { blame, files, .. } = &reconciler.host;
            let touched = look.plan.steps.iter().map(|step| drifted(&step.path, &blame.touch(files, &step.path)));
            touched.map(|problem| ProblemView::from(&problem)).collect()
        }
        _ => Vec::new(),
    }
}

fn drifted(path: &str, touch: &Touch) -> Problem {
    let by = if touch.by.is_empty() { "somebody else" } else { &touch.by };
    Problem::new("drift", format!("{path} was changed by {by}, {}", moment(touch.time)), "")
}

fn words(reconciler: &Reconciler, look: &Look, condition: Condition, status: &Status) -> (String, String) {
    let count = status.hosts.len();
    let registries = if count == 1 { "1 registry is".into() } else { format!("{count} registries are") };
    let is_retried = reconciler.retry.condition(look.wish.desired.digest).is_some();
    let parked = reconciler.record.parked.as_ref().filter(|_| !is_retried).and_then(|parked| parked.problems.first());
    let parked = parked.map(|note| note.message.clone());
    let retried = reconciler.retry.problems.first().map(|problem| problem.message.clone()).unwrap_or_default();
    match condition {
        Condition::InEffect if reconciler.host.settings.containerd.layout == Layout::Legacy && !shows_registry(look) => {
            (format!("{registries} pulled through mirrors, as far as this containerd lets it be seen"), String::new())
        }
        Condition::InEffect => (format!("{registries} pulled through mirrors, and that is proven"), String::new()),
        Condition::SwitchedOff => ("the spec mirrors nothing; the node is as it was found".into(), String::new()),
        Condition::Applying => (format!("{} steps are carried out", look.plan.steps.len()), String::new()),
        Condition::Held => {
            let next = "mirrorctl resume, or change the spec".to_owned();
            match status.effective_generation {
                0 => ("the node is as it was found, and the spec is held".into(), next),
                number => (format!("generation {number} is in effect and stays so; the spec of the node is held"), next),
            }
        }
        Condition::PendingConfirm => {
            let number = status.pending.as_ref().map_or(0, |pending| pending.generation);
            (
                format!("generation {number} is in effect, and is gone back from unless somebody confirms it"),
                format!("mirrorctl confirm {number}, or mirrorctl revert"),
            )
        }
        Condition::Refused => {
            let first = look.plan.refusals.first();
            let summary = first
                .map_or_else(|| "the plan was refused".to_owned(), |problem| problem.message.lines().next().unwrap_or_default().to_owned());
            (format!("not applied: {summary}"), first.map(|problem| problem.remedy.clone()).unwrap_or_default())
        }
        Condition::RolledBack => match parked {
            Some(reason) => {
                (format!("undone, the node is as before: {reason}"), "mend the cause, then mirrorctl resume; or change the spec".into())
            }
            None => (format!("undone, the node is as before: {retried}"), "mend the cause; it is tried again by itself".into()),
        },
        Condition::Drifted => (
            "files of ours were changed by somebody else and are left so".into(),
            "mirrorctl plan shows them, mirrorctl resume repairs them".into(),
        ),
        Condition::ContainerdSick if !look.plan.is_empty() => (
            "containerd was busy or gave no answer, so nothing was changed; it is tried again by itself".into(),
            "nothing, or mirrorctl resume".into(),
        ),
        Condition::ContainerdSick => {
            ("every file is in place, but containerd does not show that it reads them".into(), "see \"journalctl -u containerd\"".into())
        }
        Condition::AwaitingRestart => (
            "every file is in place; containerd has to be restarted by its owner".into(),
            format!("systemctl restart {}", status.containerd.unit),
        ),
        Condition::NoSpec | Condition::SpecInvalid => (String::new(), String::new()),
    }
}

/// Changes with anything an apply depends on.
pub fn etag(reconciler: &Reconciler, wanted: &str, plan: Option<&Plan>) -> String {
    let record = &reconciler.record;
    let owned = serde_json::to_string(&record.owned).unwrap_or_default();
    let drift = plan
        .map(|plan| explain::view(plan).steps.into_iter().map(|step| step.path + &step.before_digest).collect::<String>())
        .unwrap_or_default();
    let all = format!("{wanted}\0{}\0{:?}\0{:?}\0{owned}\0{drift}", record.generation, record.pending, record.hold);
    Digest::of(all.as_bytes()).short()
}
