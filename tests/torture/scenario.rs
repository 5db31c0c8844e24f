//! Seven changes of a node's files, each from a prepared tree to another one, done by one run of mirrorlet without containerd.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::chown,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use super::disk::tool;
use crate::cases_plan::{mirrorlet, root_of, tree};

pub type Tree = BTreeMap<String, Vec<u8>>;

/// One change.
pub struct Scenario {
    pub name: &'static str,
    /// Makes the tree as it is before the change.
    prepare: fn(&Path),
    /// What mirrorlet is asked to do.
    verb: &'static str,
    /// A call that strace makes fail, so that the change is undone, and how.
    pub failure: Option<(&'static str, &'static str)>,
}

/// The seven.
pub const ALL: [Scenario; 7] = [
    Scenario { name: "first-install", prepare: |root| spec(root, FIRST), verb: "once", failure: None },
    Scenario { name: "certs-d-only", prepare: installed_then_another_spec, verb: "once", failure: None },
    Scenario { name: "config-and-certs-d", prepare: config_edited_and_another_spec, verb: "once", failure: None },
    Scenario { name: "removal", prepare: installed, verb: "disable", failure: None },
    Scenario { name: "rollback", prepare: installed_then_another_spec, verb: "once", failure: Some(("linkat", "error=ENOSPC:when=2")) },
    Scenario { name: "confirm-expiry", prepare: unconfirmed, verb: "recover", failure: None },
    Scenario { name: "to-legacy", prepare: installed_then_the_other_layout, verb: "once", failure: None },
];

const FIRST: &str = "registryMirrors:\n  - endpoint: http://192.0.2.10:5000\n    hosts: [up.lab, stays.lab]\n";
const SECOND: &str = "registryMirrors:\n  - endpoint: http://192.0.2.11:5000\n    hosts: [new.lab, stays.lab]\n";

fn spec(root: &Path, text: &str) {
    fs::write(root.join("etc/mirrorlet/mirrors.yaml"), text).unwrap();
}

fn installed(root: &Path) {
    spec(root, FIRST);
    mirrorlet(root, "once");
}

fn installed_then_another_spec(root: &Path) {
    installed(root);
    spec(root, SECOND);
}

/// With a CA, so that files come that config.toml names.
fn installed_then_the_other_layout(root: &Path) {
    let ca = include_bytes!("../cases/plan/layout-legacy-ca-and-login/before/pki/ca.crt");
    fs::write(root.join("etc/mirrorlet/ca.crt"), ca).unwrap();
    let secure = FIRST.replace("http://192.0.2.10:5000", "https://192.0.2.10:5000\n    caCertPath: /etc/mirrorlet/ca.crt");
    spec(root, &secure);
    mirrorlet(root, "once");
    fs::write(root.join("etc/mirrorlet/mirrorlet.toml"), "[containerd]\nlayout = \"legacy\"\n").unwrap();
}

/// By somebody else, who gives the file an owner and a label too, and has a host of his own in another directory.
fn config_edited_and_another_spec(root: &Path) {
    installed_then_another_spec(root);
    let path = root.join("etc/containerd/config.toml");
    let config = fs::read_to_string(&path).unwrap();
    fs::write(&path, config.replace("/etc/containerd/certs.d", "/etc/elsewhere") + "# theirs\n").unwrap();
    chown(&path, Some(12), Some(12)).unwrap();
    xattr::set(&path, "trusted.note", b"theirs").unwrap();
    fs::create_dir_all(root.join("etc/elsewhere/theirs.lab")).unwrap();
    fs::write(root.join("etc/elsewhere/theirs.lab/hosts.toml"), "server = \"https://theirs.lab\"\n").unwrap();
}

/// The second spec is in effect and waits for a confirmation of a boot that is over.
fn unconfirmed(root: &Path) {
    installed_then_another_spec(root);
    mirrorlet(root, "once");
    let state = root.join("var/lib/mirrorlet");
    let before: Value = serde_json::from_slice(&fs::read(state.join("generation-1.json")).unwrap()).unwrap();
    let mut record: Value = serde_json::from_slice(&fs::read(state.join("record.json")).unwrap()).unwrap();
    record["pending"] = json!({ "generation": 2, "back_to": before["applied"], "boot_id": "before", "deadline_ms": 0, "deadline": 0 });
    fs::write(state.join("record.json"), record.to_string()).unwrap();
}

/// A scenario that is about to begin.
pub struct Ready {
    pub root: TempDir,
    pub scenario: &'static Scenario,
}

impl Scenario {
    pub fn ready(&'static self) -> Ready {
        let root = root_of("stock-v2");
        (self.prepare)(root.path());
        Ready { root, scenario: self }
    }

    /// The tree before the change and the one after it.
    pub fn ends(&'static self) -> (Tree, Tree) {
        let ready = self.ready();
        let before = ready.tree();
        self.run(ready.root.path());
        (before, ready.tree())
    }

    /// Runs the change below a root that was prepared for it.
    pub fn run(&self, root: &Path) -> Output {
        if self.failure.is_some() { self.under_strace(root, &[], &["-o", "/dev/null"]) } else { self.command(root, &[]) }
    }

    /// The same under strace, which stops at these calls only. The last options may be programs that run the rest.
    pub fn under_strace(&self, root: &Path, calls: &[&str], options: &[&str]) -> Output {
        let calls: Vec<&str> = ["execve"].iter().chain(calls).copied().chain(self.failure.map(|(call, _)| call)).collect();
        let trace = format!("trace={}", calls.join(","));
        let failure = self.failure.map(|(call, how)| format!("inject={call}:{how}"));
        let failure = failure.iter().flat_map(|failure| ["-e", failure]);
        let words = ["strace", "-f", "-qq", "-e", &trace].into_iter().chain(failure).chain(options.iter().copied());
        self.command(root, &words.collect::<Vec<_>>())
    }

    /// With other programs before it, each of which runs the rest.
    fn command(&self, root: &Path, programs: &[&str]) -> Output {
        let words = programs.iter().copied().chain([env!("CARGO_BIN_EXE_mirrorlet"), "--root", root.to_str().unwrap(), self.verb]);
        let words: Vec<&str> = words.collect();
        Command::new(words[0])
            .args(&words[1..])
            .output()
            .unwrap_or_else(|error| panic!("{}: {error}; \"make prerequisites\" installs it", words[0]))
    }

    /// The root it ran below, and these calls of one run, with descriptors as paths.
    pub fn trace(&'static self, calls: &[&str]) -> (String, String) {
        let ready = self.ready().again();
        let log = NamedTempFile::new().unwrap();
        self.under_strace(ready.root.path(), calls, &["-y", "-o", log.path().to_str().unwrap()]);
        (ready.root.path().to_str().unwrap().to_owned(), fs::read_to_string(log).unwrap())
    }
}

impl Ready {
    pub fn tree(&self) -> Tree {
        containerd_tree(self.root.path())
    }

    /// The same once more, for another run, in memory: there a sync costs nothing.
    pub fn again(&self) -> Self {
        let root = tempfile::tempdir_in("/dev/shm").unwrap();
        tool("cp", &["--archive", &format!("{}/.", self.root.path().display()), root.path().to_str().unwrap()]);
        Self { root, scenario: self.scenario }
    }
}

/// What waits for a confirmation is that of a boot that is over.
pub fn boot(root: &Path) {
    let path = root.join("var/lib/mirrorlet/record.json");
    let record = fs::read(&path).ok().map(|text| serde_json::from_slice(&text).unwrap());
    if let Some(mut record) = record.filter(|record: &Value| !record["pending"].is_null()) {
        record["pending"]["boot_id"] = "before".into();
        fs::write(path, record.to_string()).unwrap();
    }
}

/// All that containerd reads below a root.
pub fn containerd_tree(root: &Path) -> Tree {
    tree(&root.join("etc/containerd"))
}

/// No journal, no temporary name, neither beside containerd's files nor in the state directory.
pub fn assert_tidy(root: &Path, when: &str) {
    let all = tree(root);
    let left: Vec<&String> = all.keys().filter(|name| name.contains(".mirrorlet.") || name.ends_with("mirrorlet/journal")).collect();
    assert!(left.is_empty(), "{when}: {left:?}");
}

/// The way back from wherever it is: the node as it was found.
pub fn assert_can_be_given_back(root: &Path, when: &str) {
    assert!(mirrorlet(root, "disable"), "{when}: disable failed");
    let found = containerd_tree(root);
    let config = String::from_utf8_lossy(&found["config.toml"]);
    let is_original = !found.keys().any(|name| name.starts_with("certs.d")) && !config.contains("certs.d") && !config.contains("mirrors");
    assert!(is_original, "{when}: the way back is not whole: {:?}", found.keys());
}
