//! SIGKILL, and errors, at every system call that changes something.

use std::time::{Duration, Instant};

use super::{
    chosen, is_whole,
    scenario::{ALL, Scenario, assert_can_be_given_back, assert_tidy},
};
use crate::cases_plan::mirrorlet;

/// Every call by which mirrorlet changes a disk.
const CHANGES: [&str; 11] =
    ["renameat", "renameat2", "fsync", "fdatasync", "linkat", "symlinkat", "mkdirat", "unlinkat", "write", "fchmod", "fchown"];
/// Recovery is never slower; by far, on any disk.
const RECOVERY: Duration = Duration::from_secs(2);
/// What a disk or a kernel may answer.
const ERRNOS: [&str; 6] = ["ENOSPC", "EIO", "EROFS", "EDQUOT", "EACCES", "EMFILE"];

/// Killed anywhere: after recovery every file is from before or every one is from after, and nothing is left lying about.
fn killed_everywhere(scenario: &'static Scenario) {
    let (before, after) = scenario.ends();
    let all = scenario.points(&CHANGES);
    let tried = chosen(scenario.name, &all);
    for (call, number) in &tried {
        let when = format!("{}: killed at {call} {number}", scenario.name);
        let ready = scenario.ready();
        ready.under_strace(&["-e", &format!("inject={call}:signal=SIGKILL:when={number}")]);
        let begun = Instant::now();
        assert!(mirrorlet(ready.root.path(), "recover"), "{when}: recovery failed");
        assert!(begun.elapsed() < RECOVERY, "{when}: recovery took {:?}", begun.elapsed());
        let found = ready.tree();
        assert!(found == before || found == after, "{when}: neither before nor after: {:?}", found.keys());
        // Going back from a change that a boot left unconfirmed is recovery's own work.
        assert!(scenario.name != "confirm-expiry" || found == after, "{when}: still unconfirmed");
        assert_tidy(ready.root.path(), &when);
        assert_can_be_given_back(ready.root.path(), &when);
    }
    println!("{}: {} of {} points", scenario.name, tried.len(), all.len());
    assert!(!is_whole() || all.len() >= 50, "{}: only {} points", scenario.name, all.len());
}

/// Any error of any call: said with path and errno, undone, and the next change works. What is only tidying may fail unharmed.
fn failed_everywhere(scenario: &'static Scenario) {
    let (before, after) = scenario.ends();
    let all: Vec<(&str, usize, &str)> =
        scenario.points(&CHANGES).into_iter().flat_map(|(call, number)| ERRNOS.map(|errno| (call, number, errno))).collect();
    let tried = chosen(scenario.name, &all);
    for (call, number, errno) in &tried {
        let when = format!("{}: {call} {number} answers {errno}", scenario.name);
        let ready = scenario.ready();
        let output = ready.under_strace(&["-e", &format!("inject={call}:error={errno}:when={number}")]);
        let found = ready.tree();
        let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some(), "{when}: it died: {said}");
        assert!(!said.contains("panicked"), "{when}: {said}");
        let is_whole = |found: &super::scenario::Tree| {
            let without_leftovers =
                found.iter().filter(|(name, _)| !name.contains(".mirrorlet.")).map(|(name, content)| (name.clone(), content.clone()));
            let found = without_leftovers.collect::<super::scenario::Tree>();
            found == before || found == after
        };
        assert!(is_whole(&found), "{when}: neither before nor after: {:?}\n{said}", found.keys());
        assert!(mirrorlet(ready.root.path(), "recover"), "{when}: recovery failed");
        assert!(is_whole(&ready.tree()), "{when}: recovery mixed it up");
        let is_told_done = said.contains("is in effect; restarts");
        assert!(scenario.name == "rollback" || !is_told_done || ready.tree() == after, "{when}: it was told to be in effect\n{said}");
        assert_tidy(ready.root.path(), &when);
        assert_can_be_given_back(ready.root.path(), &when);
    }
    println!("{}: {} of {} points", scenario.name, tried.len(), all.len());
}

/// EINTR is no failure.
fn interrupted_everywhere(scenario: &'static Scenario) {
    let (_, after) = scenario.ends();
    let can_be_interrupted = |(call, _): &(&str, usize)| matches!(*call, "write" | "fsync" | "fdatasync");
    let all: Vec<(&str, usize)> = scenario.points(&CHANGES).into_iter().filter(can_be_interrupted).collect();
    let tried = chosen(scenario.name, &all);
    for (call, number) in &tried {
        let ready = scenario.ready();
        ready.under_strace(&["-e", &format!("inject={call}:error=EINTR:when={number}")]);
        assert!(ready.tree() == after, "{}: {call} {number} was taken for a failure", scenario.name);
    }
    println!("{}: {} of {} points", scenario.name, tried.len(), all.len());
}

macro_rules! rows {
    ($($row:ident: $index:literal),* $(,)?) => { $(
        mod $row {
            #[test]
            fn killed() {
                super::killed_everywhere(&super::ALL[$index]);
            }
            #[test]
            fn failed() {
                super::failed_everywhere(&super::ALL[$index]);
            }
            #[test]
            fn interrupted() {
                super::interrupted_everywhere(&super::ALL[$index]);
            }
        }
    )* };
}

rows!(first_install: 0, certs_d_only: 1, config_and_certs_d: 2, removal: 3, rollback: 4, confirm_expiry: 5, to_legacy: 6);
