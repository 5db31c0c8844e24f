//! The write recipe, as the kernel saw it: whatever gets its name was synced before, and the directory with the name after.

use std::{collections::BTreeSet, fs};

use super::scenario::ALL;

/// `1234 renameat(5</etc>, ".a.new", 5</etc>, "a") = 0`: the call, its directory, and the two names.
struct Call<'a> {
    name: &'a str,
    descriptor: &'a str,
    names: Vec<&'a str>,
}

fn parse(line: &str) -> Option<Call<'_>> {
    if !line.ends_with("= 0") {
        return None;
    }
    let (head, rest) = line.split_once('(')?;
    let descriptor = rest.split_once('<')?.1.split_once('>')?.0;
    Some(Call { name: head.split_whitespace().next_back()?, descriptor, names: rest.split('"').skip(1).step_by(2).collect() })
}

/// Names that got their content or place without a sync before, and directories that were not synced after.
fn breaches(log: &str, watched: &str) -> Vec<String> {
    let mut synced = BTreeSet::new();
    let mut unsynced_directories = BTreeSet::new();
    let mut breaches = Vec::new();
    for call in log.lines().filter_map(parse) {
        match call.name {
            "fsync" | "fdatasync" => {
                unsynced_directories.remove(call.descriptor);
                synced.insert(call.descriptor.to_owned());
            }
            "renameat" | "renameat2" if call.descriptor.starts_with(watched) => {
                let (from, to) = (call.names[0], call.names[1]);
                if to.contains(".before") {
                    continue;
                }
                if !synced.contains(&format!("{}/{from}", call.descriptor)) {
                    breaches.push(format!("{}/{to} was renamed before it was synced", call.descriptor));
                }
                unsynced_directories.insert(call.descriptor.to_owned());
            }
            _ => {}
        }
    }
    breaches.extend(
        unsynced_directories.into_iter().map(|directory| format!("{directory} has a new name, and its directory was never synced")),
    );
    breaches
}

#[test]
fn what_is_renamed_was_synced() {
    for scenario in ALL.iter().filter(|scenario| ["first-install", "certs-d-only", "config-and-certs-d"].contains(&scenario.name)) {
        let ready = scenario.ready();
        let log = ready.root.path().join("strace.log");
        let calls = "trace=renameat,renameat2,fsync,fdatasync";
        ready.under_strace(&["-y", "-o", log.to_str().unwrap(), "-e", calls]);
        let log = fs::read_to_string(log).unwrap();
        assert!(log.matches("rename").count() >= 4, "{}: nothing was renamed:\n{log}", scenario.name);
        let watched = ready.root.path().join("etc");
        let breaches = breaches(&log, watched.to_str().unwrap());
        assert!(breaches.is_empty(), "{}: {breaches:#?}\n{log}", scenario.name);
    }
}
