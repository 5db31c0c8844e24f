//! What cannot be read: every look at containerd's files, the spec and the state, answered with an error. What is not seen is not absent.

use std::{collections::BTreeSet, path::Path};

use super::{chosen, faults::survived, points::Point, scenario::Scenario};
use crate::cases_plan::tree;

const OPENED: &[&str] = &["EIO", "EMFILE", "EACCES"];
const NAMED: &[&str] = &["EIO", "EACCES"];
const READ: &[&str] = &["EIO"];
/// Every call by which mirrorlet looks, and what it may be answered.
pub const LOOKS: [(&str, &[&str]); 9] = [
    ("openat", OPENED),
    ("openat2", OPENED),
    ("newfstatat", NAMED),
    ("statx", NAMED),
    ("readlink", NAMED),
    ("readlinkat", NAMED),
    ("read", READ),
    ("getdents64", READ),
    ("flistxattr", READ),
];

/// Each look, with one of its errors; the next one has the next. The watch asks by name for the same links again and again: of those the
/// first time.
fn looks(scenario: &'static Scenario) -> Vec<(Point, &'static str)> {
    let mut asked = BTreeSet::new();
    let is_by_name = |point: &Point| point.arguments.starts_with('"') || point.call == "statx" && point.arguments.starts_with("AT_FDCWD");
    let mut is_new = |point: &Point| !is_by_name(point) || asked.insert((point.call, point.arguments.clone()));
    let points = LOOKS.iter().flat_map(|(call, errnos)| {
        let of_call = scenario.points(&[call]).into_iter();
        of_call.map(move |point| (point, *errnos))
    });
    let points = points.filter(|(point, _)| is_new(point)).enumerate();
    points.map(|(index, (point, errnos))| (point, errnos[index % errnos.len()])).collect()
}

/// Originals, specs and inputs that are kept.
fn kept(root: &Path) -> BTreeSet<String> {
    tree(&root.join("var/lib/mirrorlet/objects")).into_keys().collect()
}

/// Nothing is touched, or it is undone; and nothing is forgotten because it could not be seen.
pub fn unread_everywhere(scenario: &'static Scenario) {
    let (ends, prepared) = (scenario.ends(), scenario.ready());
    let changed = scenario.ready();
    let before = kept(changed.root.path());
    scenario.run(changed.root.path());
    let remembered: BTreeSet<String> = before.intersection(&kept(changed.root.path())).cloned().collect();
    let all = looks(scenario);
    let tried = chosen(scenario.name, &all);
    for (point, errno) in &tried {
        let when = format!("{}: {point:?} answers {errno}", scenario.name);
        let (ready, output) = prepared.tampered(point, &format!("error={errno}"));
        assert!(kept(ready.root.path()).is_superset(&remembered), "{when}: what was kept is lost");
        survived(&ready, &output, &ends, &when);
    }
    println!("{}: {} of {} looks", scenario.name, tried.len(), all.len());
}
