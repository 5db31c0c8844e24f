//! Whether containerd has to be restarted. The table: host directories never (containerd reads them at every pull); config.toml only when the
//! registry settings in effect differ from those the running process was started with.

use std::collections::BTreeSet;

use crate::{
    config::ForeignChange,
    observed::{Fact, Observed, record::RestartNote},
    spec::{names::Digest, problem::Problem},
};

/// In seconds.
const HOUR: i64 = 60 * 60;

/// Why containerd is restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// The registry settings in config.toml change.
    SettingsChange,
    /// They are on disk, but the running containerd was started before them.
    NotLoaded,
    /// The CRI came back neither with the change nor with the files before it.
    CriDead,
}

impl Cause {
    /// The stable word.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::SettingsChange => "registry-settings-change",
            Self::NotLoaded => "not-loaded",
            Self::CriDead => "cri-dead",
        }
    }

    /// The sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::SettingsChange => "containerd reads the registry settings of its config file only when it starts",
            Self::NotLoaded => "the running containerd was started before its config file had these registry settings",
            Self::CriDead => "its CRI came back neither with the change nor with the files before it",
        }
    }
}

/// A restart, its reason and what else it would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restart {
    /// Why.
    pub cause: Cause,
    /// What of others becomes effective with it, a sentence each.
    pub also_effective: Vec<(ForeignChange, String)>,
}

/// What is known of the running process and what it is to have.
#[derive(Debug, Clone)]
pub struct Question {
    /// Digest of the registry settings after the steps.
    pub after: Digest,
    /// Digest of those on disk now.
    pub on_disk: Digest,
    /// Whether the steps change any of these settings; with the same settings on disk there may be more or fewer that are ours.
    pub changes: bool,
    /// Whether mirrors of ours are to be in effect afterwards.
    pub wants_mirrors: bool,
}

/// Decides.
#[must_use]
pub fn decide(observed: &Observed, question: &Question) -> Option<Restart> {
    let process = observed.containerd.process.known()?;
    let loaded = observed.record.loaded.as_ref().filter(|loaded| loaded.process == *process).map(|loaded| &loaded.settings);
    let started_after_edit = observed.config.changed_ms() < observed.containerd.started_ms;
    let loaded = loaded.or_else(|| started_after_edit.then_some(&question.on_disk));
    let cause = match loaded {
        Some(loaded) if *loaded == question.after => return None,
        Some(loaded) if *loaded == question.on_disk && !question.changes => return None,
        Some(_) if question.after == question.on_disk => Cause::NotLoaded,
        Some(_) => Cause::SettingsChange,
        None if question.after != question.on_disk => Cause::SettingsChange,
        None if question.wants_mirrors && observed.proven.known() == Some(&true) => return None,
        None => Cause::NotLoaded,
    };
    Some(Restart { cause, also_effective: also_effective(observed) })
}

fn also_effective(observed: &Observed) -> Vec<(ForeignChange, String)> {
    let containerd = &observed.containerd;
    let mut sentences = Vec::new();
    if let (Some(running), Some(installed)) = (containerd.running.known(), containerd.installed.known())
        && running.as_str().trim_start_matches('v') != installed.as_str().trim_start_matches('v')
    {
        let sentence = format!("containerd {installed} is installed, {running} is running: the restart starts {installed}");
        sentences.push((ForeignChange::Upgrade, sentence));
    }
    let changed = observed.changed_since_start();
    let sentence = |path: String| format!("{path} was changed after containerd was started");
    sentences.extend(changed.config.into_iter().map(|path| (ForeignChange::Config, sentence(path))));
    sentences.extend(changed.unit.into_iter().map(|path| (ForeignChange::Unit, sentence(path))));
    if containerd.unit.known().is_some_and(|unit| unit.needs_daemon_reload) {
        let sentence =
            "the unit's files changed since systemd read them; without \"systemctl daemon-reload\" the restart uses the old ones";
        sentences.push((ForeignChange::Unit, sentence.into()));
    }
    sentences
}

/// Changes of others that nobody tried yet: whoever made them says when they become effective, or that they may.
#[must_use]
pub fn foreign_refusal(observed: &Observed, restart: &Restart, accepted: &BTreeSet<ForeignChange>) -> Option<Problem> {
    let others: Vec<&(ForeignChange, String)> = restart.also_effective.iter().filter(|(kind, _)| !accepted.contains(kind)).collect();
    let kinds: BTreeSet<&str> = others.iter().map(|(kind, _)| kind.word()).collect();
    let unit = observed.containerd.unit.known().map_or("containerd", |unit| &unit.name);
    (!others.is_empty()).then(|| {
        let sentences: Vec<&str> = others.iter().map(|(_, sentence)| sentence.as_str()).collect();
        let flags: Vec<String> = kinds.iter().map(|kind| format!("--accept {kind}")).collect();
        // Only our own restart makes these effective.
        let is_ours_alone = kinds.iter().all(|kind| *kind == ForeignChange::HostDirectories.word());
        let reload =
            if observed.containerd.unit.known().is_some_and(|unit| unit.needs_daemon_reload) { "systemctl daemon-reload; " } else { "" };
        let by_hand =
            if is_ours_alone { String::new() } else { format!("\"{reload}systemctl restart {unit}\" at a moment of your choosing, or ") };
        Problem::new(
            "restart.also-effective",
            format!("a restart of containerd would also make effective what others changed: {}", sentences.join("; ")),
            format!("when that is meant, {by_hand}apply with {} (or [restart] accept)", flags.join(" ")),
        )
    })
}

/// Why a restart may not be done now. An undo is never refused.
#[must_use]
pub fn refusals(observed: &Observed, by_systemd: bool, max_per_hour: usize) -> Vec<Problem> {
    let mut problems: Vec<Problem> = budget_refusal(observed, max_per_hour).into_iter().collect();
    match &observed.containerd.unit {
        _ if !by_systemd => {}
        Fact::Known(unit) => problems.extend(unit_refusal(unit)),
        Fact::Unknown(reason) => problems.push(Problem::new(
            "restart.unit-unknown",
            format!("containerd has to be restarted, but its unit cannot be asked: {reason}"),
            "name the unit in [containerd] unit, or set [restart] driver = \"command\"",
        )),
    }
    if let Some(reason) = observed.restart.as_ref().and_then(|facts| facts.inotify_head_room.unknown_because()) {
        problems.push(Problem::new(
            "restart.inotify",
            format!("inotify instances are nearly used up ({reason}); containerd would come back without its CRI"),
            "raise it with \"sysctl fs.inotify.max_user_instances=1024\", then apply again",
        ));
    }
    problems
}

fn budget_refusal(observed: &Observed, max_per_hour: usize) -> Option<Problem> {
    let restarts = &observed.record.restarts;
    let recent: Vec<&RestartNote> = restarts.iter().filter(|restart| (0..HOUR).contains(&(observed.now - restart.time))).collect();
    let oldest = recent.get(recent.len().checked_sub(max_per_hour)?)?;
    let minutes = (HOUR - (observed.now - oldest.time)) / 60 + 1;
    Some(Problem::new(
        "restart.budget",
        format!("containerd was restarted {} times within an hour, for generation {} last", recent.len(), recent.last()?.generation),
        format!("find out why (mirrorctl history); the next restart is allowed in {minutes} min, or raise [restart] max_per_hour"),
    ))
}

fn unit_refusal(unit: &crate::observed::Unit) -> Option<Problem> {
    if unit.load_state != "loaded" {
        return Some(Problem::new(
            "restart.unit-unknown",
            format!("systemd knows no unit {} ({})", unit.name, unit.load_state),
            "name containerd's unit in [containerd] unit, or set [restart] driver",
        ));
    }
    if unit.kill_mode != "process" {
        return Some(Problem::new(
            "restart.kill-mode",
            format!("{} has KillMode={}: a restart would kill every container of the node", unit.name, unit.kill_mode),
            format!("set KillMode=process with \"systemctl edit {}\", then apply again", unit.name),
        ));
    }
    None
}
