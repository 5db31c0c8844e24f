//! SIGKILL, and errors, at every system call that changes something.

use std::{
    collections::BTreeSet,
    process::Output,
    time::{Duration, Instant},
};

use super::{
    chosen, is_whole,
    points::Point,
    reads,
    scenario::{ALL, Ready, Scenario, Tree, assert_can_be_given_back, assert_tidy, boot},
};
use crate::cases_plan::mirrorlet;

/// Every call by which mirrorlet changes a disk.
const CHANGES: [&str; 12] =
    ["renameat", "renameat2", "fsync", "fdatasync", "linkat", "symlinkat", "mkdirat", "unlinkat", "write", "fchmod", "fchown", "fsetxattr"];
/// Recovery is never slower; by far, on any disk.
const RECOVERY: Duration = Duration::from_secs(2);
/// What a disk or a kernel may answer.
const ERRNOS: [&str; 6] = ["ENOSPC", "EIO", "EROFS", "EDQUOT", "EACCES", "EMFILE"];

/// Killed anywhere: after recovery every file is from before or every one is from after, and nothing is left lying about.
fn killed_everywhere(scenario: &'static Scenario) {
    let (before, after) = scenario.ends();
    let (prepared, all) = (scenario.ready(), scenario.points(&CHANGES));
    let tried = chosen(scenario.name, &all);
    for point in &tried {
        let when = format!("{}: killed at {point:?}", scenario.name);
        let (ready, _) = prepared.tampered(point, "signal=SIGKILL");
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

/// Whatever failed: mirrorlet lived, every file is from one side, nothing is told that is not so, and recovery, another try and the way
/// back work.
pub fn survived(ready: &Ready, output: &Output, (before, after): &(Tree, Tree), when: &str) {
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code().is_some(), "{when}: it died: {said}");
    assert!(!said.contains("panicked"), "{when}: {said}");
    let is_whole = |mut found: Tree| {
        found.retain(|name, _| !name.contains(".mirrorlet."));
        found == *before || found == *after
    };
    let (root, scenario) = (ready.root.path(), ready.scenario);
    assert!(is_whole(ready.tree()), "{when}: neither before nor after: {:?}\n{said}", ready.tree().keys());
    assert!(mirrorlet(root, "recover"), "{when}: recovery failed");
    assert!(is_whole(ready.tree()), "{when}: recovery mixed it up");
    let is_told_done = said.contains("is in effect; restarts");
    assert!(scenario.failure.is_some() || !is_told_done || ready.tree() == *after, "{when}: it was told to be in effect\n{said}");
    boot(root);
    scenario.run(root);
    assert!(ready.tree() == *after, "{when}: the next try does not work\n{said}");
    assert_tidy(root, when);
    assert_can_be_given_back(root, when);
}

/// Any error of any call: undone, and the next change works. What is only tidying may fail unharmed.
fn failed_everywhere(scenario: &'static Scenario) {
    let (ends, prepared) = (scenario.ends(), scenario.ready());
    let all: Vec<(Point, &str)> =
        scenario.points(&CHANGES).into_iter().flat_map(|point| ERRNOS.map(|errno| (point.clone(), errno))).collect();
    let tried = chosen(scenario.name, &all);
    for (point, errno) in &tried {
        let (ready, output) = prepared.tampered(point, &format!("error={errno}"));
        survived(&ready, &output, &ends, &format!("{}: {point:?} answers {errno}", scenario.name));
    }
    println!("{}: {} of {} points", scenario.name, tried.len(), all.len());
}

/// EINTR is no failure.
fn interrupted_everywhere(scenario: &'static Scenario) {
    let ((_, after), prepared) = (scenario.ends(), scenario.ready());
    let all = scenario.points(&["write", "fsync", "fdatasync"]);
    let tried = chosen(scenario.name, &all);
    for point in &tried {
        let (ready, _) = prepared.tampered(point, "error=EINTR");
        assert!(ready.tree() == after, "{}: {point:?} was taken for a failure", scenario.name);
    }
    println!("{}: {} of {} points", scenario.name, tried.len(), all.len());
}

/// A call that none of the changes makes would be tried nowhere.
#[test]
fn every_call_is_made_by_some_change() {
    let calls: Vec<&str> = CHANGES.into_iter().chain(reads::LOOKS.map(|(call, _)| call)).collect();
    let made: BTreeSet<&str> = ALL.iter().flat_map(|scenario| scenario.points(&calls)).map(|point| point.call).collect();
    let never: Vec<&&str> = calls.iter().filter(|call| !made.contains(**call)).collect();
    assert!(never.is_empty(), "{never:?}");
}

macro_rules! rows {
    ($($row:ident: $index:literal),* $(,)?) => { $(
        mod $row {
            use super::super::{reads, scenario::ALL, short_writes};

            #[test]
            fn killed() {
                super::killed_everywhere(&ALL[$index]);
            }
            #[test]
            fn failed() {
                super::failed_everywhere(&ALL[$index]);
            }
            #[test]
            fn interrupted() {
                super::interrupted_everywhere(&ALL[$index]);
            }
            #[test]
            fn unread() {
                reads::unread_everywhere(&ALL[$index]);
            }
            #[test]
            fn cut_short() {
                short_writes::cut_short_everywhere(&ALL[$index]);
            }
        }
    )* };
}

rows!(first_install: 0, certs_d_only: 1, config_and_certs_d: 2, removal: 3, rollback: 4, confirm_expiry: 5, to_legacy: 6);
