//! Ordered steps from observed to desired, with final bytes, the state each step expects, and whether (and why) containerd is restarted.
//!
//! Pure: a plan is a value. Nothing is touched before all of it is known.

pub mod candidate;
mod carried;
pub mod conflict;
mod directories;
pub mod explain;
pub mod restart;
mod restore;
pub mod step;

use std::collections::{BTreeMap, BTreeSet};

use carried::Finder;
use conflict::TakeOver;
use directories::Directories;
use restart::{Question, Restart};
pub use restore::restore;
use step::{Change, NewFile, Step};

use crate::{
    observed::{
        Fact, Observed,
        effective::{self, ConfigText, Effective, Registry},
        entry::{Attributes, Content, Entry, FileState},
        record::{Carried, Record},
        version::Version,
    },
    render::{
        config_toml::{self, Goal},
        host_directory::{self, Reader, Rendered},
    },
    spec::{desired::Desired, names::Digest, problem::Problem},
};

/// What the operator's settings say about plans.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The directory of host directories.
    pub hosts_dir: String,
    /// Hosts whose foreign files may be replaced.
    pub take_over: TakeOver,
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
    /// Originals that no file holds any more, to be kept before the first write.
    pub kept: Vec<Content>,
    /// Registry settings a containerd started now would have.
    pub settings: Option<Digest>,
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
    /// Whether containerd is to read our directory afterwards; that is what is proven.
    pub wants_hosts_dir: bool,
    /// Things to know that stop nothing.
    pub notices: Vec<Problem>,
    /// Problems for which it may not be applied.
    pub refusals: Vec<Problem>,
    /// Digest of spec and inputs it leads to; absent for a restore.
    pub spec_digest: Option<Digest>,
    /// What the record becomes.
    pub after: After,
}

impl Plan {
    /// Nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.restart.is_none()
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
    let effective = match effective::effective(&observed.config, version, &policy.hosts_dir) {
        Ok(effective) => effective,
        Err(refusals) => return Plan::refused(refusals),
    };
    if let Some(refusal) = unwritable_config(observed) {
        return Plan::refused(vec![refusal]);
    }
    if let Some(refusal) = dump_problem(observed, &effective) {
        return Plan::refused(vec![refusal]);
    }
    let mut notices = Vec::new();
    let finder = Finder { observed, registry: &effective.registry, version, hosts_dir: &policy.hosts_dir, desired };
    let carried = finder.find(&mut notices);
    notices.extend(conflict::wakes_up(observed, &effective.registry, &policy.hosts_dir));
    let record = &observed.record;
    let reader = Reader {
        version,
        asks: &record.asks,
        config_logins: &record.config_logins,
        keeps_config_logins: record.applied.as_ref().is_some_and(|applied| applied.digest == desired.digest),
        named_files: &observed.named_files,
    };
    let mut rendered = match host_directory::render(desired, &carried, &reader) {
        Ok(rendered) => rendered,
        Err(refusals) => return Plan::refused(refusals),
    };
    notices.append(&mut rendered.notices);
    let has_default = rendered.directories.contains_key(host_directory::DEFAULT_DIRECTORY);
    notices.extend(conflict::shadows_default(observed, &policy.hosts_dir, has_default));
    let refusals: Vec<_> = rendered
        .directories
        .keys()
        .filter_map(|name| conflict::host_problem(observed, &policy.hosts_dir, name, &policy.take_over))
        .collect();
    if !refusals.is_empty() {
        return Plan { refusals, notices, ..Plan::default() };
    }
    let mut directories = Directories::new(observed, &policy.hosts_dir);
    directories.make_parents();
    directories.reach(&rendered.directories, &carried.links);
    let (mut steps, mut after) = directories.finish();
    match config_step(observed, &effective, &rendered, version, policy) {
        Ok(Some(step)) => steps.push(step),
        Ok(None) => {}
        Err(refusal) => return Plan::refused(vec![refusal]),
    }
    after.carried = carried;
    after.config_logins = rendered.config_logins.keys().cloned().collect();
    notices.extend(config_login_notice(&after.config_logins, version));
    if let Err(refusal) = own_config(observed, &steps, &mut after) {
        return Plan::refused(vec![refusal]);
    }
    finish(observed, policy, steps, after, notices, true)
}

/// What containerd itself makes of the files is not what the merge rules say.
fn dump_problem(observed: &Observed, effective: &Effective) -> Option<Problem> {
    let path = &observed.config.root.path;
    let modelled = effective.registry.config_path.as_deref().unwrap_or_default();
    match observed.config.dumped_config_path.as_ref()? {
        Fact::Unknown(reason) => Some(Problem::new(
            "config.broken",
            format!("containerd cannot read {path} as it is now: {reason}; a restart would leave it down"),
            format!("mend it until \"containerd --config {path} config dump\" succeeds"),
        )),
        Fact::Known(dumped) if !modelled.is_empty() && dumped != modelled => Some(Problem::new(
            "config.dump-differs",
            format!("{path} says config_path = \"{modelled}\", but containerd reads \"{dumped}\" out of its config files"),
            "find the drop-in that sets it (imports), and take it out there",
        )),
        Fact::Known(_) => None,
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
    wants_hosts_dir: bool,
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
    let wanted = settings.digest(&after.config_logins);
    after.settings = Some(wanted);
    let question = Question { after: wanted, on_disk: on_disk.digest(&observed.record.config_logins), wants_hosts_dir };
    let is_nothing_of_ours = steps.is_empty() && !wants_hosts_dir && observed.record.owned.is_empty();
    let needed = restart::decide(observed, &question).filter(|_| !is_nothing_of_ours);
    let mut plan = Plan { steps, wants_hosts_dir, after, ..Plan::default() };
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
            restart.also_effective.extend(waking.map(|notice| notice.message.clone()));
            if !policy.is_undo {
                plan.refusals = restart::refusals(observed, policy.by_systemd, policy.max_per_hour);
            }
            plan.restart = Some(restart);
        }
        None => {}
    }
    plan.notices = notices;
    plan
}

fn config_login_notice(logins: &BTreeSet<String>, version: &Version) -> Option<Problem> {
    if logins.is_empty() {
        return None;
    }
    let hosts = logins.iter().cloned().collect::<Vec<_>>().join(", ");
    Some(Problem::new(
        "login.in-config",
        format!(
            "containerd {version} can learn the login at {hosts}, which asks by token, only from config.toml: a change of it costs a restart"
        ),
        "containerd 2.1 and later take it from hosts.toml",
    ))
}

fn config_step(
    observed: &Observed,
    effective: &Effective,
    rendered: &Rendered<'_>,
    version: &Version,
    policy: &Policy,
) -> Result<Option<Step>, Problem> {
    let record = &observed.record;
    let path = &observed.config.root.path;
    let goal = Goal {
        config_path: &policy.hosts_dir,
        logins: rendered.config_logins.iter().map(|(host, login)| (host.as_str(), *login)).collect(),
        former_logins: record.config_logins.iter().map(String::as_str).collect(),
        without_tls: version.has_configs_tls(),
    };
    let text = observed.config.root.text.as_ref().and_then(Content::text);
    let original = observed.originals.get(path).and_then(Content::text);
    let edited = config_toml::edit(path, text, original, &goal)?;
    let attributes = config_attributes(observed, record, !goal.logins.is_empty());
    if text == Some(edited.as_str()) && observed.config.entry.attributes() == Some(&attributes) {
        return Ok(None);
    }
    let mut reason = vec![format!("config_path = \"{}\"", policy.hosts_dir)];
    if !effective.registry.mirrors.is_empty() {
        reason.push("mirrors move to hosts.toml (containerd runs without CRI when both are set)".into());
    }
    if version.has_configs_tls() && !effective.registry.tls.is_empty() {
        reason.push("TLS settings move to hosts.toml".into());
    }
    if !goal.logins.is_empty() {
        reason.push("holds a login, so only its owner may read it".into());
    }
    Ok(Some(Step {
        path: path.clone(),
        before: observed.config.entry.clone(),
        before_content: observed.config.root.text.clone(),
        change: Change::PutFile(NewFile { content: edited.into(), attributes }),
        reason: reason.join("; "),
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

fn own_config(observed: &Observed, steps: &[Step], after: &mut After) -> Result<(), Problem> {
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
        rebase_original(observed, after)?;
    }
    Ok(())
}

/// Somebody edited the config since we did: what we would give back has to hold that edit too.
fn rebase_original(observed: &Observed, after: &mut After) -> Result<(), Problem> {
    let path = &observed.config.root.path;
    let Some(text) = observed.config.root.text.as_ref().and_then(Content::text) else { return Ok(()) };
    let original = observed.originals.get(path).and_then(Content::text);
    let text = config_toml::give_back(path, text, original, &observed.record.config_logins, &after.carried)?;
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
