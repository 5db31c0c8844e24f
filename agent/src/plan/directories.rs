//! Steps for host directories: whole ones are placed and taken away whole, inside one the support files come first and hosts.toml last.

use std::collections::BTreeMap;

use super::{
    After, conflict,
    step::{Change, NewFile, Step},
};
use crate::{
    observed::{
        HostEntry, Observed,
        effective::ConfigText,
        entry::{Attributes, Content, Entry, FileState},
    },
    render::{
        host_directory::{HOSTS_TOML, HostDirectory},
        legacy::SUPPORT_DIRECTORY,
    },
};

/// Steps in the making, and what the record becomes by them.
pub struct Directories<'a> {
    observed: &'a Observed,
    hosts_dir: &'a str,
    steps: Vec<Step>,
    sweeps: Vec<Step>,
    swept: Vec<Kept>,
    after: After,
}

/// A directory that the sweeps take away, as the record knows it until then.
struct Kept {
    path: String,
    owned: Entry,
    originals: BTreeMap<String, Entry>,
}

impl<'a> Directories<'a> {
    /// From what is there.
    pub fn new(observed: &'a Observed, hosts_dir: &'a str) -> Self {
        let after = After { originals: observed.record.originals.clone(), ..After::default() };
        Self { observed, hosts_dir, steps: Vec::new(), sweeps: Vec::new(), swept: Vec::new(), after }
    }

    /// Steps and record. Sweeping alone is no reason for an apply: what is superseded goes one apply later.
    pub fn finish(mut self, has_more_steps: bool) -> (Vec<Step>, After) {
        if has_more_steps || !self.steps.is_empty() {
            self.steps.append(&mut self.sweeps);
        } else {
            for kept in std::mem::take(&mut self.swept) {
                self.after.originals.extend(kept.originals);
                self.after.owned.insert(kept.path, kept.owned);
            }
        }
        (self.steps, self.after)
    }

    /// The config's directory and those above it, and, where anything is to be in it, the hosts directory.
    pub fn make_parents(&mut self, wants_hosts_dir: bool) {
        let missing = (wants_hosts_dir && self.observed.hosts_dir.is_none()).then(|| self.hosts_dir.to_owned());
        let config = &self.observed.containerd.place.config;
        let is_wanted = |path: &&String| *path != self.hosts_dir && (wants_hosts_dir || config.starts_with(&format!("{path}/")));
        for path in self.observed.missing_parents.iter().filter(is_wanted).cloned().chain(missing).collect::<Vec<_>>() {
            let attributes = Attributes::root(0o755);
            self.after.originals.entry(path.clone()).or_insert(Entry::Absent);
            self.steps.push(Step {
                path,
                before: Entry::Absent,
                before_content: None,
                change: Change::PlaceDirectory { attributes, files: BTreeMap::new() },
                reason: if wants_hosts_dir { "host directories go here" } else { "config.toml goes here" }.into(),
            });
        }
        for (path, original) in &self.after.originals {
            if *original == Entry::Absent && self.hosts_dir.starts_with(path.as_str()) {
                let files = BTreeMap::new();
                self.after.owned.insert(path.clone(), Entry::Directory { attributes: Attributes::root(0o755), files, others: Vec::new() });
            }
        }
    }

    /// Makes the hosts directory hold these directories and links, and no others of ours. With `is_read_on` the running containerd reads
    /// the others until somebody restarts it.
    pub fn reach(&mut self, wanted: &BTreeMap<String, HostDirectory>, links: &BTreeMap<String, String>, is_read_on: bool) {
        for (name, directory) in wanted {
            self.place(name, directory);
        }
        for (name, target) in links.iter().filter(|(name, _)| !wanted.contains_key(*name)) {
            self.link(name, target);
        }
        let gone: Vec<String> = self.owned_names().filter(|name| !wanted.contains_key(name) && !links.contains_key(name)).collect();
        for name in gone {
            if name == SUPPORT_DIRECTORY || is_read_on { self.let_go(&name) } else { self.give_back(&name) }
        }
    }

    /// Nothing will read it any more, but the running containerd may still: it goes one apply later.
    fn let_go(&mut self, name: &str) {
        let path = self.path(name);
        let Some(owned) = self.observed.record.owned.get(&path).cloned() else { return };
        if self.is_behind_config() || self.is_named(name) {
            self.after.owned.insert(path, owned);
            return;
        }
        let is_of_it = |known: &String| *known == path || known.starts_with(&format!("{path}/"));
        let originals = self.after.originals.iter().filter(|(known, _)| is_of_it(known));
        let kept = Kept { originals: originals.map(|(path, entry)| (path.clone(), entry.clone())).collect(), path: path.clone(), owned };
        let begun = self.steps.len();
        self.give_back(name);
        self.sweeps.extend(self.steps.split_off(begun));
        self.swept.push(kept);
    }

    /// The config that is there names what is in it.
    fn is_named(&self, name: &str) -> bool {
        let config = &self.observed.config.root;
        let Some(text) = config.text.as_ref().and_then(Content::text) else { return false };
        match name {
            SUPPORT_DIRECTORY => text.contains(&self.path(name)),
            _ => ConfigText::parse(&config.path, Some(text))
                .is_ok_and(|parsed| parsed.registry().config_path.as_deref() == Some(self.hosts_dir)),
        }
    }

    /// The running containerd was started with another config than the one that is there.
    fn is_behind_config(&self) -> bool {
        let Observed { containerd, config, .. } = self.observed;
        containerd.process.known().is_some() && containerd.started_ms <= config.changed_ms()
    }

    /// Takes every directory and link of ours away, but for this one.
    pub fn give_back_all(&mut self, but: Option<&str>) {
        for name in self.owned_names().filter(|name| Some(name.as_str()) != but).collect::<Vec<_>>() {
            self.give_back(&name);
        }
    }

    fn owned_names(&self) -> impl Iterator<Item = String> + use<'a> {
        let prefix = format!("{}/", self.hosts_dir);
        self.observed
            .record
            .owned
            .keys()
            .filter_map(move |path| path.strip_prefix(&prefix))
            .filter(|name| !name.contains('/'))
            .map(str::to_owned)
    }

    fn path(&self, name: &str) -> String {
        format!("{}/{name}", self.hosts_dir)
    }

    fn there(&self, name: &str) -> Option<&'a HostEntry> {
        self.observed.hosts_dir.as_ref()?.get(name)
    }

    fn place(&mut self, name: &str, wanted: &HostDirectory) {
        let path = self.path(name);
        let files: BTreeMap<String, NewFile> = wanted
            .files
            .iter()
            .map(|(name, (content, mode))| (name.clone(), NewFile { content: content.clone(), attributes: Attributes::root(*mode) }))
            .collect();
        let owned = Entry::Directory {
            attributes: Attributes::root(0o755),
            files: files.iter().map(|(name, file)| (name.clone(), file.state())).collect(),
            others: Vec::new(),
        };
        let there = self.there(name);
        let is_ours = self.observed.record.owned.contains_key(&path);
        if !is_ours {
            self.remember_original(&path, there);
        }
        match there {
            Some(HostEntry { entry: Entry::Directory { files: found, .. }, hosts_toml, links }) => {
                for (name, target) in links.iter().filter(|(name, _)| files.contains_key(*name)) {
                    let before = Entry::Symlink { target: target.clone() };
                    self.push(
                        &format!("{path}/{name}"),
                        before,
                        None,
                        Change::RemoveFile,
                        "a link stands where a file of ours belongs".into(),
                    );
                }
                let config = self.observed.config.root.text.as_ref();
                let named_in = if name == SUPPORT_DIRECTORY { config } else { hosts_toml.as_ref() };
                self.change_inside(&path, &files, found, named_in)
            }
            other => {
                if let Some(other) = other {
                    self.push(
                        &path,
                        other.entry.clone(),
                        None,
                        Change::RemoveFile,
                        format!("{} stands where {name} belongs", other.entry.noun()),
                    );
                }
                let change = Change::PlaceDirectory { attributes: Attributes::root(0o755), files };
                self.push(&path, Entry::Absent, None, change, wanted.reason.clone());
            }
        }
        self.after.owned.insert(path, owned);
    }

    fn remember_original(&mut self, path: &str, there: Option<&HostEntry>) {
        let Some(there) = there else {
            self.after.originals.entry(path.to_owned()).or_insert(Entry::Absent);
            return;
        };
        self.after.originals.entry(path.to_owned()).or_insert_with(|| there.entry.clone());
        if let Entry::Directory { files, .. } = &there.entry
            && let Some(state) = files.get(HOSTS_TOML)
        {
            self.after.originals.entry(format!("{path}/{HOSTS_TOML}")).or_insert_with(|| Entry::File(state.clone()));
        }
    }

    fn change_inside(
        &mut self,
        path: &str,
        wanted: &BTreeMap<String, NewFile>,
        found: &BTreeMap<String, FileState>,
        text: Option<&Content>,
    ) {
        let (last, first): (Vec<_>, Vec<_>) = wanted.iter().partition(|(name, _)| *name == HOSTS_TOML);
        for (name, file) in first.into_iter().chain(last) {
            let there = found.get(name);
            if there != Some(&file.state()) {
                let before = there.map_or(Entry::Absent, |state| Entry::File(state.clone()));
                let content = text.filter(|_| name == HOSTS_TOML).cloned();
                let reason = match name.as_str() {
                    HOSTS_TOML => "what containerd reads at the next pull",
                    _ if wanted.contains_key(HOSTS_TOML) => "hosts.toml names it",
                    _ => "config.toml names it",
                };
                self.push(&format!("{path}/{name}"), before, content, Change::PutFile(file.clone()), reason.into());
            }
        }
        let may_be_read = !wanted.contains_key(HOSTS_TOML) && self.is_behind_config();
        let is_named = |name: &str| text.and_then(Content::text).is_some_and(|text| text.contains(name));
        let in_use = |name: &str| may_be_read || wanted.contains_key(name) || is_named(name);
        for (name, state) in found.iter().filter(|(name, _)| conflict::is_support_name(name) && !in_use(name)) {
            self.sweeps.push(Step {
                path: format!("{path}/{name}"),
                before: Entry::File(state.clone()),
                before_content: None,
                change: Change::RemoveFile,
                reason: "superseded by an earlier change".into(),
            });
        }
    }

    fn link(&mut self, name: &str, target: &str) {
        let path = self.path(name);
        let wanted = Entry::Symlink { target: target.to_owned() };
        let there = self.there(name).map(|there| there.entry.clone());
        let is_ours = self.observed.record.owned.contains_key(&path);
        match there {
            Some(there) if there == wanted => {}
            Some(_) if !is_ours => return,
            other => {
                if let Some(other) = other {
                    self.push(&path, other, None, Change::RemoveFile, "it stands where a link of ours belongs".into());
                }
                self.push(
                    &path,
                    Entry::Absent,
                    None,
                    Change::Symlink { target: target.to_owned() },
                    "config_path was a list; this one stays readable".into(),
                );
            }
        }
        self.after.originals.entry(path.clone()).or_insert(Entry::Absent);
        self.after.owned.insert(path, wanted);
    }

    /// Gives a name back: what was there before us, or nothing. Files that somebody else put into a directory of ours stay.
    fn give_back(&mut self, name: &str) {
        let path = self.path(name);
        let original = self.after.originals.remove(&path).unwrap_or(Entry::Absent);
        let original_text = self.after.originals.remove(&format!("{path}/{HOSTS_TOML}"));
        let Some(there) = self.there(name) else { return };
        match (&there.entry, original) {
            (Entry::Directory { files, others, .. }, Entry::Absent)
                if others.is_empty() && files.keys().all(|name| self.is_ours_inside(&path, name)) =>
            {
                self.push(&path, there.entry.clone(), None, Change::RemoveDirectory, "no longer mirrored".into());
            }
            (Entry::Directory { files, .. }, _) => self.give_back_inside(&path, files, there.hosts_toml.as_ref(), original_text),
            (Entry::Symlink { .. }, Entry::Absent) => {
                self.push(&path, there.entry.clone(), None, Change::RemoveFile, "the link is ours".into())
            }
            _ => {}
        }
    }

    fn is_ours_inside(&self, path: &str, name: &str) -> bool {
        let owned = self.observed.record.owned.get(path);
        let named = matches!(owned, Some(Entry::Directory { files, .. }) if files.contains_key(name));
        named || conflict::is_support_name(name)
    }

    fn give_back_inside(&mut self, path: &str, files: &BTreeMap<String, FileState>, text: Option<&Content>, original: Option<Entry>) {
        let hosts_toml = format!("{path}/{HOSTS_TOML}");
        let before = files.get(HOSTS_TOML).map_or(Entry::Absent, |state| Entry::File(state.clone()));
        match (original, self.observed.originals.get(&hosts_toml)) {
            (Some(Entry::File(state)), Some(content)) => {
                let file = NewFile { content: content.clone(), attributes: state.attributes };
                self.push(&hosts_toml, before, text.cloned(), Change::PutFile(file), "as it was found".into());
            }
            _ if before != Entry::Absent => {
                self.push(&hosts_toml, before, text.cloned(), Change::RemoveFile, "was not there before".into())
            }
            _ => {}
        }
        for (name, state) in files.iter().filter(|(name, _)| *name != HOSTS_TOML && self.is_ours_inside(path, name)).collect::<Vec<_>>() {
            self.push(&format!("{path}/{name}"), Entry::File(state.clone()), None, Change::RemoveFile, "was not there before".into());
        }
    }

    fn push(&mut self, path: &str, before: Entry, before_content: Option<Content>, change: Change, reason: String) {
        self.steps.push(Step { path: path.to_owned(), before, before_content, change, reason });
    }
}
