//! The way back: the node as it was found. What somebody else changed since stays.

use std::collections::BTreeMap;

use super::{
    After, Plan, Policy,
    directories::Directories,
    step::{Change, NewFile, Step},
};
use crate::{
    observed::{
        Observed,
        effective::ConfigText,
        entry::{Attributes, Content, Entry},
    },
    render::{config_toml, legacy::SUPPORT_DIRECTORY},
    spec::problem::Problem,
};

/// containerd has no CRI with both.
const MIRRORS_STAY_OUT: &str =
    "; the mirrors and TLS settings that were in it before us stay out, because containerd refuses them beside it";

/// Plans the way to the node as it was found.
#[must_use]
pub fn restore(observed: &Observed, policy: &Policy) -> Plan {
    let mut notices = Vec::new();
    let config = match config_step(observed, &policy.hosts_dir, &mut notices) {
        Ok(step) => step,
        Err(refusal) => return Plan { refusals: vec![refusal], ..Plan::default() },
    };
    let mut steps: Vec<Step> = config.into_iter().collect();
    let mut directories = Directories::new(observed, &policy.hosts_dir);
    let still_read = still_read(observed, policy);
    directories.give_back_all(still_read.as_ref().map(|_| SUPPORT_DIRECTORY));
    notices.extend(still_read);
    let (given_back, _) = directories.finish(true);
    steps.extend(given_back);
    steps.extend(empty_directories(observed, policy, &steps));
    let mut plan = super::finish(observed, policy, steps, After::default(), notices, false);
    let config = &observed.config.root.path;
    plan.notices.extend(plan.written_over.keys().filter(|path| *path != config).map(|path| {
        let message = format!("{path} was edited by somebody else since; it goes, and their version is kept");
        Problem::new("restore.conflict", message, "see \"mirrorctl show\" for where it is")
    }));
    plan
}

/// Nobody restarts containerd now, and without the CA files it names it would fail every pull from their mirrors.
fn still_read(observed: &Observed, policy: &Policy) -> Option<Problem> {
    let path = format!("{}/{SUPPORT_DIRECTORY}", policy.hosts_dir);
    let is_read = observed.containerd.process.known().is_some() && observed.record.owned.contains_key(&path);
    (is_read && !policy.can_restart).then(|| {
        let message = format!("{path} stays, because the running containerd reads CA files there until it is restarted");
        Problem::new("restore.still-read", message, "remove it after the restart")
    })
}

fn config_step(observed: &Observed, hosts_dir: &str, notices: &mut Vec<Problem>) -> Result<Option<Step>, Problem> {
    let path = &observed.config.root.path;
    let record = &observed.record;
    let (Some(owned), Some(original)) = (record.owned.get(path), record.originals.get(path)) else { return Ok(None) };
    if let Some(refusal) = super::unwritable_config(observed) {
        return Err(refusal);
    }
    let current = &observed.config.entry;
    let is_untouched = current.digest() == owned.digest() || *current == Entry::Absent;
    let change = match (original, observed.originals.get(path)) {
        (Entry::File(state), Some(content)) if is_untouched => {
            Change::PutFile(NewFile { content: content.clone(), attributes: state.attributes.clone() })
        }
        (Entry::Absent, _) if *current == Entry::Absent => return Ok(None),
        (Entry::Absent, _) if is_untouched => Change::RemoveFile,
        (Entry::File(_), None) => return Err(lost_original(path)),
        (_, content) => {
            notices.push(Problem::new(
                "restore.edited",
                format!("{path} was edited since; only the registry keys go back, the edit stays"),
                "",
            ));
            notices.extend(their_config_path(observed, hosts_dir).map(|theirs| {
                let carried = &observed.record.carried;
                let out = if carried.mirrors.is_empty() && carried.tls.is_empty() { "" } else { MIRRORS_STAY_OUT };
                let message = format!("config_path = \"{theirs}\" in {path} was set by somebody else since, and stays{out}");
                Problem::new("restore.conflict", message, "take it out by hand when it is not meant")
            }));
            merged(observed, hosts_dir, content)?
        }
    };
    if let Change::PutFile(file) = &change
        && *current == Entry::File(file.state())
    {
        return Ok(None);
    }
    Ok(Some(Step {
        path: path.clone(),
        before: current.clone(),
        before_content: observed.config.root.text.clone(),
        change,
        reason: "as it was found".into(),
    }))
}

fn merged(observed: &Observed, hosts_dir: &str, original: Option<&Content>) -> Result<Change, Problem> {
    let path = &observed.config.root.path;
    let record = &observed.record;
    let text = observed.config.root.text.as_ref().and_then(Content::text).unwrap_or_default();
    let merged = config_toml::give_back(path, text, original.and_then(Content::text), record.own_keys(), &record.carried, |value| {
        is_theirs(observed, hosts_dir, value)
    })?;
    Ok(Change::PutFile(NewFile { content: merged.into(), attributes: super::given_back_attributes(observed) }))
}

/// What `config_path` names since somebody else changed it.
fn their_config_path(observed: &Observed, hosts_dir: &str) -> Option<String> {
    let root = &observed.config.root;
    let named = ConfigText::parse(&root.path, root.text.as_ref().and_then(Content::text)).ok()?.registry().config_path?;
    is_theirs(observed, hosts_dir, &named).then_some(named)
}

/// Neither the directory that our host directories are in, nor what was there before us.
fn is_theirs(observed: &Observed, hosts_dir: &str, config_path: &str) -> bool {
    let root = &observed.config.root;
    let record = &observed.record;
    let directories = record.owned.iter().filter(|(_, entry)| matches!(entry, Entry::Directory { .. } | Entry::Symlink { .. }));
    let mut roots = directories.filter_map(|(path, _)| path.rsplit_once('/')).map(|(root, _)| root);
    // Of an undone change an edit may have kept the config alone.
    let is_ours = record.legacy.is_none() && (config_path == hosts_dir || roots.any(|root| root == config_path));
    let original = observed.originals.get(&root.path).and_then(Content::text);
    let before = ConfigText::parse(&root.path, original).ok().and_then(|original| original.registry().config_path);
    !config_path.is_empty() && !is_ours && before.as_deref() != Some(config_path)
}

fn lost_original(path: &str) -> Problem {
    Problem::new(
        "restore.original-lost",
        format!("the original of {path} is no longer in the state directory"),
        "put it back from a backup, or take the registry keys out of it by hand and remove the state directory",
    )
}

/// Directories we made that hold nothing but what goes now, innermost first.
fn empty_directories(observed: &Observed, policy: &Policy, steps: &[Step]) -> Vec<Step> {
    let originals = &observed.record.originals;
    let mut removed: Vec<String> = steps.iter().filter(|step| step.after() == Entry::Absent).map(|step| step.path.clone()).collect();
    let mut made: Vec<&String> = originals
        .iter()
        .filter(|(path, entry)| **entry == Entry::Absent && is_above(path, &policy.hosts_dir))
        .map(|(path, _)| path)
        .collect();
    made.sort_by_key(|path| std::cmp::Reverse(path.len()));
    let mut result = Vec::new();
    for path in made {
        let Some(names) = observed.made_directories.get(path) else { continue };
        if !names.iter().all(|name| removed.contains(&format!("{path}/{name}"))) {
            continue;
        }
        removed.push(path.clone());
        result.push(Step {
            path: path.clone(),
            before: Entry::Directory { attributes: Attributes::root(0o755), files: BTreeMap::new(), others: Vec::new() },
            before_content: None,
            change: Change::RemoveDirectory,
            reason: "was not there before".into(),
        });
    }
    result
}

/// The hosts directory itself, or one above it.
fn is_above(path: &str, hosts_dir: &str) -> bool {
    hosts_dir == path || hosts_dir.strip_prefix(path).is_some_and(|rest| rest.starts_with('/'))
}
