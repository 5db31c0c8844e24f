//! Host directories as the plan leaves them, made fit for asking the running containerd about them before they are live: these very files,
//! but for a listener of ours in front of the mirrors and in place of the registry itself. containerd builds all hosts of a file, with their
//! certificates, before it asks the first one, so that no mirror is asked.

use std::collections::BTreeMap;

use super::{Plan, step::Change};
use crate::{
    observed::{
        HostEntry,
        entry::{Content, Entry},
    },
    render::host_directory::HOSTS_TOML,
};

/// So many different contents are staged. A thousand registries behind the same mirrors have one.
const MOST: usize = 16;

/// What host directories of one content hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// Their names.
    pub names: Vec<String>,
    /// The file containerd reads, with the listener in it.
    pub hosts_toml: Content,
    /// Files beside it; `None` stays as it is on the node.
    pub files: BTreeMap<String, Option<Content>>,
}

/// Each content that the plan gives to host directories. What it gives back to others, or links, is theirs.
#[must_use]
pub fn staged(plan: &Plan, there: Option<&BTreeMap<String, HostEntry>>, hosts_dir: &str, listener: &str) -> Vec<Staged> {
    let mut contents: BTreeMap<String, Staged> = BTreeMap::new();
    for (name, written) in written(plan, hosts_dir) {
        let Some(Entry::Directory { files, .. }) = plan.after.owned.get(&format!("{hosts_dir}/{name}")) else { continue };
        let as_it_is = || there?.get(name)?.hosts_toml.as_ref();
        let hosts_toml = written.get(HOSTS_TOML).copied().or_else(as_it_is).and_then(Content::text);
        let Some(hosts_toml) = hosts_toml.filter(|_| files.contains_key(HOSTS_TOML)) else { continue };
        let hosts_toml = with_listener(hosts_toml, listener);
        let beside = files.keys().filter(|file| *file != HOSTS_TOML);
        let files = || beside.map(|file| (file.clone(), written.get(file.as_str()).copied().cloned())).collect();
        // Support files are named by their content, and the text names them.
        let of_content = contents.entry(hosts_toml);
        let staged = of_content.or_insert_with_key(|text| Staged { names: Vec::new(), hosts_toml: text.as_str().into(), files: files() });
        staged.names.push(name.to_owned());
    }
    contents.into_values().take(MOST).collect()
}

/// What any containerd that reads what is staged can use.
#[must_use]
pub fn plain(listener: &str) -> Staged {
    Staged { names: Vec::new(), hosts_toml: with_listener("", listener).into(), files: BTreeMap::new() }
}

/// Files that the plan writes, by host directory.
fn written<'a>(plan: &'a Plan, hosts_dir: &str) -> BTreeMap<&'a str, BTreeMap<&'a str, &'a Content>> {
    let mut written: BTreeMap<&str, BTreeMap<&str, &Content>> = BTreeMap::new();
    for step in &plan.steps {
        let Some(below) = step.path.strip_prefix(hosts_dir).and_then(|rest| rest.strip_prefix('/')) else { continue };
        match (&step.change, below.split_once('/')) {
            (Change::PlaceDirectory { files, .. }, None) => {
                written.entry(below).or_default().extend(files.iter().map(|(name, file)| (name.as_str(), &file.content)));
            }
            (Change::PutFile(file), Some((name, file_name))) => {
                written.entry(name).or_default().insert(file_name, &file.content);
            }
            _ => {}
        }
    }
    written
}

/// By lines: what a parser makes of the text is what is to be found out.
fn with_listener(hosts_toml: &str, listener: &str) -> String {
    let (root, hosts) = hosts_toml.split_at(hosts_toml.find("\n[host").map_or(hosts_toml.len(), |end| end + 1));
    let root: String = root.lines().filter(|line| !line.starts_with("server = ")).map(|line| format!("{line}\n")).collect();
    format!("server = \"{listener}\"\n{root}\n[host.\"{listener}\"]\ncapabilities = [\"pull\", \"resolve\"]\n\n{hosts}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        observed::entry::{Attributes, FileState},
        plan::step::{NewFile, Step},
        render::hosts_toml::{HostTable, HostsToml},
    };

    const DIR: &str = "/c";
    const LISTENER: &str = "http://127.0.0.1:4000";

    /// A registry's file with one mirror, and what may be beside it.
    fn directory(name: &str, mirror: &str) -> BTreeMap<String, NewFile> {
        let mirror = HostTable { ca: Some("ca-1.pem".into()), authorization: Some("Basic x".into()), ..HostTable::plain(mirror) };
        let server = HostTable { authorization: Some("Basic y".into()), ..HostTable::plain(format!("https://{name}")) };
        let text = HostsToml { server: Some(server), hosts: vec![mirror] }.render().unwrap();
        let file = |content: Content| NewFile { content, attributes: Attributes::root(0o600) };
        [(HOSTS_TOML, text.as_str()), ("ca-1.pem", "CA")].map(|(name, text)| (name.to_owned(), file(text.into()))).into()
    }

    fn step(path: String, change: Change) -> Step {
        Step { path, before: Entry::Absent, before_content: None, change, reason: String::new() }
    }

    fn place(name: &str, mirror: &str) -> Step {
        step(format!("{DIR}/{name}"), Change::PlaceDirectory { attributes: Attributes::root(0o755), files: directory(name, mirror) })
    }

    /// A plan of these steps, after which these directories are ours.
    fn plan(steps: Vec<Step>, ours: &[&str]) -> Plan {
        let files: BTreeMap<String, FileState> = directory("", "http://m").into_iter().map(|(name, file)| (name, file.state())).collect();
        let owned = Entry::Directory { attributes: Attributes::root(0o755), files, others: Vec::new() };
        let mut plan = Plan { steps, ..Plan::default() };
        plan.after.owned = ours.iter().map(|name| (format!("{DIR}/{name}"), owned.clone())).collect();
        plan
    }

    #[test]
    fn each_content_is_staged_once_and_asks_nobody_but_us() {
        let names = ["a.io", "b.io", "c.io"];
        let steps = vec![place("a.io", "http://m"), place("b.io", "http://m"), place("c.io", "http://other")];
        let staged = staged(&plan(steps, &names), None, DIR, LISTENER);
        assert_eq!(staged.iter().map(|one| one.names.as_slice()).collect::<Vec<_>>(), [&["a.io", "b.io"][..], &["c.io"][..]]);
        assert_eq!(staged[0].files, [("ca-1.pem".to_owned(), Some("CA".into()))].into());
        let text = staged[0].hosts_toml.text().unwrap();
        let document: toml_edit::DocumentMut = text.parse().unwrap();
        assert_eq!(document["server"].as_str(), Some(LISTENER));
        assert_eq!(document["header"]["Authorization"][0].as_str(), Some("Basic y"), "{text}");
        let hosts = document["host"].as_table().unwrap();
        assert_eq!(hosts.iter().map(|(url, _)| url).collect::<Vec<_>>(), [LISTENER, "http://m"], "{text}");
        assert!(hosts[LISTENER].get("header").is_none() && hosts["http://m"]["ca"].as_str() == Some("ca-1.pem"), "{text}");
    }

    #[test]
    fn what_the_plan_leaves_as_it_is_comes_from_the_node() {
        let file = directory("a.io", "http://m").remove("ca-1.pem").unwrap();
        let plan = plan(vec![step(format!("{DIR}/a.io/ca-1.pem"), Change::PutFile(file))], &["a.io", "b.io"]);
        let hosts_toml = Some(directory("a.io", "http://m")[HOSTS_TOML].content.clone());
        let there = [("a.io".to_owned(), HostEntry { entry: Entry::Absent, hosts_toml, links: BTreeMap::new() })].into();
        let staged = staged(&plan, Some(&there), DIR, LISTENER);
        assert_eq!(staged.len(), 1);
        assert_eq!((staged[0].names.as_slice(), staged[0].files["ca-1.pem"].is_some()), (&["a.io".to_owned()][..], true));
    }

    #[test]
    fn what_is_given_back_is_theirs() {
        assert_eq!(staged(&plan(vec![place("a.io", "http://m")], &[]), None, DIR, LISTENER), []);
    }

    #[test]
    fn there_is_an_end_to_it() {
        let names: Vec<String> = (0..40).map(|number| format!("h{number}.io")).collect();
        let steps = names.iter().map(|name| place(name, &format!("http://m.{name}"))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        assert_eq!(staged(&plan(steps, &names), None, DIR, LISTENER).len(), MOST);
    }
}
