//! What ext4 and XFS forgive, because their journals keep the order in which names change: no cut there shows a directory that is not synced.
//! Other file systems need not be so kind. So it is read off the system calls: a name that was made is synced before one changes elsewhere.

use std::collections::BTreeSet;

use super::scenario::ALL;

const CALLS: [&str; 6] = ["renameat", "renameat2", "mkdirat", "linkat", "symlinkat", "fsync"];

/// Call and directory of a line of a trace that shows descriptors as paths; `None` when the call failed.
fn call_of(line: &str) -> Option<(&str, &str)> {
    let (head, rest) = line.split_once('(').filter(|_| !line.contains(" = -1 "))?;
    let (_, path) = rest.split_once('<')?;
    Some((head.split_whitespace().last()?, path.split_once('>')?.0))
}

/// The lines of a trace that change a name while one in another directory is not synced yet, and what is not synced at the end.
fn too_early(trace: &str) -> Vec<String> {
    let (mut unsynced, mut found) = (BTreeSet::new(), Vec::new());
    for (line, (call, directory)) in trace.lines().filter_map(|line| Some((line, call_of(line)?))) {
        if call == "fsync" {
            unsynced.remove(directory);
            continue;
        }
        if call.starts_with("rename") && unsynced.iter().any(|unsynced| *unsynced != directory) {
            found.push(format!("{line}, while not synced: {unsynced:?}"));
        }
        unsynced.insert(directory);
    }
    found.extend(unsynced.into_iter().map(|directory| format!("never synced: {directory}")));
    found
}

#[test]
fn every_name_is_synced_before_one_changes_elsewhere() {
    for scenario in &ALL {
        let trace = scenario.trace(&CALLS).1;
        assert!(trace.lines().filter_map(call_of).count() > 10, "{}: {trace}", scenario.name);
        let found = too_early(&trace);
        assert!(found.is_empty(), "{}:\n{}", scenario.name, found.join("\n"));
    }
}

#[test]
fn a_name_that_is_not_synced_is_seen() {
    let made = "1 mkdirat(3</a>, \"x\", 0700) = 0\n";
    let elsewhere = "1 renameat(4</b>, \"y\", 4</b>, \"z\") = 0\n1 fsync(4</b>) = 0\n";
    let synced = "1 fsync(3</a>) = 0\n";
    assert_eq!(too_early(&format!("{made}{synced}{elsewhere}")), [""; 0]);
    assert_eq!(too_early(&format!("{made}{elsewhere}{synced}")).len(), 1);
    assert_eq!(too_early(made), ["never synced: /a"]);
    assert_eq!(too_early(&made.replace("= 0", "= -1 EEXIST (File exists)")), [""; 0]);
}
