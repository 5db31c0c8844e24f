//! Writes that the kernel cuts short: with a limit on the size of files (RLIMIT_FSIZE, its signal ignored) it takes what is below the limit,
//! says how much that was, and answers EFBIG to the rest. A full disk does the same, but only at the end of a block.

use std::{collections::BTreeSet, fs};

use tempfile::NamedTempFile;

use super::{chosen, faults::survived, scenario::Scenario};

/// How long each file is after each write, less one byte. All are written at once but the journal, to which lines are added.
fn limits(scenario: &'static Scenario) -> BTreeSet<u64> {
    let (root, log) = scenario.trace(&["write"]);
    let (mut journal, mut limits) = (0, BTreeSet::new());
    for line in log.lines().filter(|line| line.contains("write(") && line.contains(&root)) {
        let written = line.rsplit_once(" = ").and_then(|(_, written)| written.parse().ok());
        let written: u64 = written.unwrap_or_else(|| panic!("not a write that was done: {line}"));
        if line.contains("/.mirrorlet.journal.new>") {
            journal = 0;
        }
        let length = if line.contains("journal") {
            journal += written;
            journal
        } else {
            written
        };
        limits.insert(length - 1);
    }
    limits
}

/// Whatever is a byte too long: the change is done, or undone.
pub fn cut_short_everywhere(scenario: &'static Scenario) {
    let (ends, prepared) = (scenario.ends(), scenario.ready());
    let all: Vec<u64> = limits(scenario).into_iter().collect();
    let tried = chosen(&format!("{}, short writes", scenario.name), &all);
    for limit in &tried {
        let when = format!("{}: no file is longer than {limit} bytes", scenario.name);
        let ready = prepared.again();
        let log = NamedTempFile::new().unwrap();
        let limit = format!("--fsize={limit}");
        let limited = ["-o", log.path().to_str().unwrap(), "env", "--ignore-signal=XFSZ", "prlimit", &limit];
        let output = scenario.under_strace(ready.root.path(), &["write"], &limited);
        let log = fs::read_to_string(log).unwrap();
        assert!(log.contains("EFBIG"), "{when}: nothing was:\n{log}");
        survived(&ready, &output, &ends, &when);
    }
    println!("{}: {} of {} lengths", scenario.name, tried.len(), all.len());
}
