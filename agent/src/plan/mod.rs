//! Ordered steps from observed to desired, with final bytes, the state each step expects, and whether (and why) containerd is restarted.
//!
//! Pure: a plan is a value. Nothing is touched before all of it is known.

pub mod candidate;
mod carried;
pub mod conflict;
mod directories;
pub mod explain;
mod hosts;
mod layout;
mod legacy;
pub mod restart;
mod restore;
pub mod staged;
pub mod step;

use std::collections::{BTreeMap, BTreeSet};

use conflict::TakeOver;
use directories::Directories;
use layout::{Laid, View};
use restart::{Question, Restart};
pub use restore::restore;
use step::{Change, NewFile, Step};

use crate::{
    config::{ForeignChange, Layout},
    observed::{
        Fact, Observed,
        effective::{self, ConfigText, Effective, Registry},
        entry::{Attributes, Content, Entry, FileState},
        record::{Carried, LegacyKeys, OwnKeys, Record},
        version::Version,
    },
    render::config_toml,
    spec::{desired::Desired, names::Digest, problem::Problem},
};

/// What settings or a caller allow to be done to what is others'.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    /// Hosts whose foreign files may be replaced.
    pub take_over: TakeOver,
    /// What of others a restart may make effective.
    pub accept: BTreeSet<ForeignChange>,
}

/// What the operator's settings say about plans.
#[derive(Debug, Clone)]
pub struct Policy {
    /// How mirrors are written down.
    pub layout: Layout,
    /// The directory of host directories.
    pub hosts_dir: String,
    /// What may be done to what is others'.
    pub allowed: Allowed,
    /// Whether somebody can be asked to restart containerd.
    pub can_restart: bool,
    /// That somebody is systemd.
    pub by_systemd: bool,
    /// So many restarts are allowed in an hour.
    pub max_per_hour: usize,
    /// It goes back to something that was in effect: its restart is not refused.
    pub is_undo: bool,
}

/// What the record says once the plan is carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct After {
    /// What is ours at each path.
    pub owned: BTreeMap<String, Entry>,
    /// What was there before us.
    pub originals: BTreeMap<String, Entry>,
    /// Mirrors of the node's own.
    pub carried: Carried,
    /// Hosts whose login is in config.toml by us.
    pub config_logins: BTreeSet<String>,
    /// What of the legacy tables is ours; absent in the other layout.
    pub legacy: Option<LegacyKeys>,
    /// Originals that no file holds any more, to be kept before the first write.
    pub kept: Vec<Content>,
    /// Registry settings a containerd started now would have.
    pub settings: Option<Digest>,
}

impl After {
    fn own_keys(&self) -> OwnKeys<'_> {
        OwnKeys { logins: &self.config_logins, legacy: self.legacy.as_ref() }
    }
}

/// Ordered steps from observed to desired.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Absent when containerd is not restarted.
    pub restart: Option<Restart>,
    /// A restart is needed, and the settings leave it to containerd's owner.
    pub awaits_restart: bool,
    /// Whether containerd is to use mirrors of ours afterwards; that is what is proven.
    pub wants_mirrors: bool,
    /// Things to know that stop nothing.
    pub notices: Vec<Problem>,
    /// Problems for which it may not be applied.
    pub refusals: Vec<Problem>,
    /// Digest of spec and inputs it leads to; absent for a restore.
    pub spec_digest: Option<Digest>,
    /// What the record becomes.
    pub after: After,
    /// What somebody else wrote since where the steps write, by path: it is kept.
    pub written_over: BTreeMap<String, Digest>,
}

impl Plan {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.restart.is_none()
    }

    /// The same without the steps of some paths. Where config.toml is among them, containerd is neither restarted nor asked for a proof.
    #[must_use]
    pub fn without(&self, record: &Record, is_left: impl Fn(&str) -> bool) -> Self {
        let mut plan = self.clone();
        plan.steps.retain(|step| !is_left(&step.path));
        plan.written_over.retain(|path, _| !is_left(path));
        let config = record.place.as_ref().map_or("", |place| place.config.as_str());
        let is_of_config = self.restart.is_some() || self.awaits_restart || self.steps.iter().any(|step| step.path == config);
        if !(is_of_config && is_left(config)) {
            return plan;
        }
        let as_remembered = |after: &mut BTreeMap<String, Entry>, before: &BTreeMap<String, Entry>| match before.get(config) {
            Some(entry) => drop(after.insert(config.to_owned(), entry.clone())),
            None => drop(after.remove(config)),
        };
        as_remembered(&mut plan.after.owned, &record.owned);
        as_remembered(&mut plan.after.originals, &record.originals);
        plan.after.settings = None;
        Self { restart: None, awaits_restart: false, wants_mirrors: false, refusals: Vec::new(), ..plan }
    }

    fn refused(refusals: Vec<Problem>) -> Self {
        Self { refusals, ..Self::default() }
    }
}

/// Plans the way to `desired`.
#[must_use]
pub fn plan(observed: &Observed, desired: &Desired, policy: &Policy) -> Plan {
    let mut plan = if desired.is_off() { restore(observed, policy) } else { forward(observed, desired, policy) };
    plan.spec_digest = Some(desired.digest);
    plan
}

fn forward(observed: &Observed, desired: &Desired, policy: &Policy) -> Plan {
    let for_version = |after_restart| match observed.containerd.version_to_be(after_restart) {
        Some(version) => forward_for(observed, desired, policy, version),
        None => Plan::refused(vec![no_version(observed)]),
    };
    let plan = for_version(false);
    if plan.restart.is_some() && observed.containerd.version_to_be(true) != observed.containerd.version_to_be(false) {
        return for_version(true);
    }
    plan
}

fn no_version(observed: &Observed) -> Problem {
    let reason = observed.containerd.installed.unknown_because().unwrap_or("no reason given");
    Problem::new(
        "containerd.unknown",
        format!("neither the running nor the installed containerd says its version: {reason}"),
        format!("install containerd, or name its binary in [containerd] binary (looked for {})", observed.containerd.place.binary),
    )
}

fn forward_for(observed: &Observed, desired: &Desired, policy: &Policy, version: &Version) -> Plan {
    let effective = match effective::effective(&observed.config, version, layout::config_path(policy)) {
        Ok(effective) => effective,
        Err(refusals) => return Plan::refused(refusals),
    };
    if let Some(refusal) = unwritable_config(observed).or_else(|| dump_problem(observed, &effective)) {
        return Plan::refused(vec![refusal]);
    }
    let found = layout::found(observed, &effective.registry);
    let others = effective.registry.without(observed.record.legacy.as_ref(), &found);
    let view = View { observed, desired, policy, version, effective: &effective, others: &others, found: &found };
    let laid = match policy.layout {
        Layout::Hosts => hosts::lay(&view),
        Layout::Legacy => legacy::lay(&view),
    };
    match laid {
        Ok(laid) if laid.refusals.is_empty() => reach(&view, laid).unwrap_or_else(|refusal| Plan::refused(vec![refusal])),
        Ok(Laid { refusals, notices, .. }) => Plan { refusals, notices, ..Plan::default() },
        Err(refusals) => Plan::refused(refusals),
    }
}

/// The steps from what is there to what is laid out.
fn reach(view: &View<'_>, laid: Laid<'_>) -> Result<Plan, Problem> {
    let View { observed, policy, .. } = *view;
    let mut directories = Directories::new(observed, &policy.hosts_dir);
    directories.make_parents(policy.layout == Layout::Hosts || !laid.directories.is_empty());
    let is_read_on = laid.legacy.is_some() && observed.containerd.process.known().is_some() && !policy.can_restart;
    directories.reach(&laid.directories, &laid.links, is_read_on);
    let config = config_step(observed, &laid)?;
    let (mut steps, mut after) = directories.finish(config.is_some());
    steps.extend(config);
    after.carried = laid.remembered();
    after.config_logins = laid.logins();
    own_config(observed, &steps, &mut after, &laid.carried)?;
    after.legacy = laid.legacy;
    Ok(finish(observed, policy, steps, after, laid.notices, true))
}

/// What containerd itself makes of the files is not what the merge rules say.
fn dump_problem(observed: &Observed, effective: &Effective) -> Option<Problem> {
    let path = &observed.config.root.path;
    let modelled = effective.registry.config_path.as_deref().unwrap_or_default();
    match observed.config.dumped.as_ref()? {
        Fact::Unknown(reason) => Some(Problem::new(
            "config.broken",
            format!("containerd cannot read {path} as it is now: {reason}; a restart would leave it down"),
            format!("mend it until \"containerd --config {path} config dump\" succeeds"),
        )),
        Fact::Known(dumped) => {
            let dumped = dumped.config_path.as_deref().unwrap_or_default();
            (!modelled.is_empty() && dumped != modelled).then(|| {
                Problem::new(
                    "config.dump-differs",
                    format!("{path} says config_path = \"{modelled}\", but containerd reads \"{dumped}\" out of its config files"),
                    "find the drop-in that sets it (imports), and take it out there",
                )
            })
        }
    }
}

/// A config file that could not be written, or not given back.
fn unwritable_config(observed: &Observed) -> Option<Problem> {
    let path = &observed.config.root.path;
    match &observed.config.entry {
        Entry::Absent => None,
        Entry::File(file) if (file.attributes.uid, file.attributes.gid) == (0, 0) || observed.can_change_owner => None,
        Entry::File(file) => Some(Problem::new(
            "config.owner",
            format!("{path} belongs to {}:{}, and mirrorlet may not give files to other owners", file.attributes.uid, file.attributes.gid),
            "give the unit CAP_CHOWN, or the file to root",
        )),
        Entry::Symlink { target } => Some(Problem::new(
            "config.link",
            format!("{path} is a symbolic link to {target}, so somebody else looks after it"),
            "let containerd's unit name the file itself with --config, or put the file there",
        )),
        other => Some(Problem::new("config.not-a-file", format!("{path} is {}", other.noun()), "put a file there")),
    }
}

/// Adds the restart and its refusals.
fn finish(
    observed: &Observed,
    policy: &Policy,
    steps: Vec<Step>,
    mut after: After,
    mut notices: Vec<Problem>,
    wants_mirrors: bool,
) -> Plan {
    let config = &observed.containerd.place.config;
    let registry = |content: Option<&Content>| {
        let text = content.map_or(Some(""), Content::text);
        ConfigText::parse(config, text).map(|parsed| parsed.registry()).unwrap_or_default()
    };
    let on_disk = registry(observed.config.root.text.as_ref());
    let settings = steps.iter().find(|step| step.path == *config).map_or_else(
        || on_disk.clone(),
        |step| match &step.change {
            Change::PutFile(file) => registry(Some(&file.content)),
            _ => Registry::default(),
        },
    );
    let wanted = settings.digest(after.own_keys());
    after.settings = Some(wanted);
    let former = observed.record.own_keys();
    let stays = |keys| on_disk.digest(keys) == settings.digest(keys);
    let changes = !stays(former) || !stays(after.own_keys());
    let question = Question { after: wanted, on_disk: on_disk.digest(former), changes, wants_mirrors };
    let is_nothing_of_ours = steps.is_empty() && !wants_mirrors && observed.record.owned.is_empty();
    let needed = restart::decide(observed, &question).filter(|_| !is_nothing_of_ours);
    let written_over = conflict::written_over(observed, &steps);
    let mut plan = Plan { steps, wants_mirrors, after, written_over, ..Plan::default() };
    match needed {
        Some(_) if !policy.can_restart => {
            plan.awaits_restart = true;
            notices.push(Problem::new(
                "restart.awaited",
                "containerd has to be restarted for this, and [restart] driver = \"never\" leaves that to you",
                "restart containerd when it suits; until then it goes on as before",
            ));
        }
        Some(mut restart) => {
            let waking = notices.iter().filter(|notice| notice.code == "restart.wakes-up");
            restart.also_effective.extend(waking.map(|notice| (ForeignChange::HostDirectories, notice.message.clone())));
            if !policy.is_undo {
                plan.refusals = restart::refusals(observed, policy.by_systemd, policy.max_per_hour);
                plan.refusals.extend(restart::foreign_refusal(observed, &restart, &policy.allowed.accept));
            }
            plan.restart = Some(restart);
        }
        None => {}
    }
    plan.notices = notices;
    plan
}

fn config_step(observed: &Observed, laid: &Laid<'_>) -> Result<Option<Step>, Problem> {
    let path = &observed.config.root.path;
    let text = observed.config.root.text.as_ref().and_then(Content::text);
    let original = observed.originals.get(path).and_then(Content::text);
    let edited = config_toml::edit(path, text, original, &laid.goal)?;
    let attributes = config_attributes(observed, &observed.record, !laid.goal.logins.is_empty());
    if text == Some(edited.as_str()) && observed.config.entry.attributes() == Some(&attributes) {
        return Ok(None);
    }
    Ok(Some(Step {
        path: path.clone(),
        before: observed.config.entry.clone(),
        before_content: observed.config.root.text.clone(),
        change: Change::PutFile(NewFile { content: edited.into(), attributes }),
        reason: laid.reasons.join("; "),
    }))
}

/// A config with a login of ours is its owner's only; without one it has the mode it was found with.
fn config_attributes(observed: &Observed, record: &Record, has_login: bool) -> Attributes {
    let now = observed.config.entry.attributes().cloned().unwrap_or_else(|| Attributes::root(0o644));
    let original = record.originals.get(&observed.config.root.path).and_then(Entry::attributes);
    let mode = match original {
        _ if has_login => now.mode & 0o700,
        Some(original) if !record.config_logins.is_empty() => original.mode,
        _ => now.mode,
    };
    Attributes { mode, ..now }
}

fn own_config(observed: &Observed, steps: &[Step], after: &mut After, carried: &Carried) -> Result<(), Problem> {
    let path = &observed.config.root.path;
    let record = &observed.record;
    let step = steps.iter().find(|step| step.path == *path);
    let current = &observed.config.entry;
    let Some(owned) = record.owned.get(path) else {
        if let Some(step) = step {
            after.owned.insert(path.clone(), step.after());
            after.originals.entry(path.clone()).or_insert_with(|| current.clone());
        }
        return Ok(());
    };
    after.owned.insert(path.clone(), step.map_or_else(|| current.clone(), Step::after));
    if current.digest() != owned.digest() {
        rebase_original(observed, after, carried)?;
    }
    Ok(())
}

/// Somebody edited the config since we did: what we would give back has to hold that edit too.
fn rebase_original(observed: &Observed, after: &mut After, carried: &Carried) -> Result<(), Problem> {
    let path = &observed.config.root.path;
    let Some(text) = observed.config.root.text.as_ref().and_then(Content::text) else { return Ok(()) };
    let original = observed.originals.get(path).and_then(Content::text);
    let text = config_toml::give_back(path, text, original, observed.record.own_keys(), carried, |_| false)?;
    let content = Content::from(text);
    let attributes = given_back_attributes(observed);
    after.originals.insert(path.clone(), Entry::File(FileState { digest: content.digest(), attributes }));
    after.kept.push(content);
    Ok(())
}

/// Owner and labels as they are now; the mode as it was found, when it is ours that it is another.
fn given_back_attributes(observed: &Observed) -> Attributes {
    let record = &observed.record;
    let now = observed.config.entry.attributes().cloned().unwrap_or_else(|| Attributes::root(0o644));
    let original = record.originals.get(&observed.config.root.path).and_then(Entry::attributes);
    let mode = original.filter(|_| !record.config_logins.is_empty()).map_or(now.mode, |original| original.mode);
    Attributes { mode, ..now }
}
