//! The system calls of a change, one by one: which there are, and a run in which one of them is tampered with.

use std::{fs, process::Output};

use tempfile::NamedTempFile;

use super::scenario::{Ready, Scenario};

/// The runtime wakes itself by writes of its own, now and then by one more: what is tampered with then is none of the node's files.
const MOST_RUNS: usize = 10;

/// A call by the main thread that touches the node's files.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Point {
    pub call: &'static str,
    /// Among all calls of that name by that thread; strace counts those of each thread.
    number: usize,
    /// What it was called with, below the root.
    pub arguments: String,
}

impl Scenario {
    /// Each of these calls that touches the node's files. What strace makes fail anyway it cannot tamper with.
    pub fn points(&'static self, calls: &[&'static str]) -> Vec<Point> {
        let (root, log) = self.trace(calls);
        let calls = calls.iter().filter(|call| self.failure.is_none_or(|(failing, _)| failing != **call));
        calls.flat_map(|call| points_of(call, &root, &log)).collect()
    }
}

fn points_of(call: &'static str, root: &str, log: &str) -> Vec<Point> {
    let head = format!("{call}(");
    let arguments = of_main_thread(log).filter_map(|line| line.split_once(' ')?.1.trim_start().strip_prefix(&head));
    let all = (1..).zip(arguments).filter(|(_, arguments)| arguments.contains(root));
    all.map(|(number, arguments)| Point { call, number, arguments: arguments.replace(root, "") }).collect()
}

/// Each line begins with the number of its thread, and the first one is the program's start.
fn of_main_thread(log: &str) -> impl Iterator<Item = &str> {
    let main = log.split_whitespace().next().unwrap_or_default();
    log.lines().filter(move |line| line.split_whitespace().next() == Some(main))
}

impl Ready {
    /// A run of the change with what happens to the call, in strace's words. It does not count unless that happened.
    pub fn tampered(&self, point: &Point, how: &str) -> (Self, Output) {
        let inject = format!("inject={}:{how}:when={}", point.call, point.number);
        // What stops at the wanted calls only is twice as fast, but cannot be sent signals there.
        let fast: &[&str] = if how.starts_with("signal") { &[] } else { &["--seccomp-bpf"] };
        for _ in 0..MOST_RUNS {
            let ready = self.again();
            let log = NamedTempFile::new().unwrap();
            let options = [fast, &["-y", "-o", log.path().to_str().unwrap(), "-e", &inject]].concat();
            let output = ready.scenario.under_strace(ready.root.path(), &[point.call], &options);
            if has_happened(point.call, how, ready.root.path().to_str().unwrap(), &fs::read_to_string(log).unwrap()) {
                return (ready, output);
            }
        }
        panic!("{}: {inject} never happened", self.scenario.name);
    }
}

fn has_happened(call: &str, how: &str, root: &str, log: &str) -> bool {
    let is_killed = |line: &str| line.ends_with(" = ?") || line.ends_with("<unfinished ...>");
    let is_it = |line: &&str| line.contains(call) && if how.starts_with("signal") { is_killed(line) } else { line.contains("(INJECTED)") };
    of_main_thread(log).filter(is_it).any(|line| line.contains(root) || line.contains("resumed>"))
}
