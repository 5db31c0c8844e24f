//! Many changes, half of them killed at some moment: nothing is left behind, and what is remembered stays within its bounds.

use std::{
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use super::{SEED, is_whole};
use crate::cases_plan::{mirrorlet, root_of, tree};

/// `[state] keep_generations` by default, and the record, lock and objects directory.
const MOST_FILES: usize = 20 + 3;
/// Of each remembered change a spec, and the original config.
const MOST_OBJECTS: usize = 20 + 2;
/// A change takes some 20 ms; half of the kills come in time.
const LONGEST: u64 = 40;

fn random(number: usize) -> u64 {
    let mut hasher = DefaultHasher::new();
    (*SEED, number).hash(&mut hasher);
    hasher.finish()
}

fn count(directory: &Path) -> usize {
    // The very first change may be killed before it makes the directory.
    fs::read_dir(directory).map_or(0, Iterator::count)
}

#[test]
fn many_killed_changes_leave_nothing_behind() {
    let changes = if is_whole() { 2_000 } else { 200 };
    println!("soak: MIRRORLET_SEED={}", *SEED);
    let root = root_of("stock-v2");
    let original = tree(&root.path().join("etc/containerd"));
    let state = root.path().join("var/lib/mirrorlet");
    let mut killed = 0;
    for number in 0..changes {
        let hosts = ["up.lab", "other.lab", "third.lab"].get(..=number % 3).unwrap().join(", ");
        let text = format!("registryMirrors:\n  - endpoint: http://192.0.2.{}:5000\n    hosts: [{hosts}]\n", number % 200 + 1);
        fs::write(root.path().join("etc/mirrorlet/mirrors.yaml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_mirrorlet"));
        command.arg("--root").arg(root.path()).arg("once").stdout(Stdio::null()).stderr(Stdio::null());
        let mut running = command.spawn().unwrap();
        if random(number).is_multiple_of(2) {
            std::thread::sleep(Duration::from_millis(random(number) / 2 % LONGEST));
            running.kill().unwrap();
        }
        killed += usize::from(running.wait().unwrap().code().is_none());
        let (files, objects) = (count(&state), count(&state.join("objects")));
        // What a killed process left is swept by the next one.
        assert!(files <= MOST_FILES + 3 && objects <= MOST_OBJECTS + 3, "after {number}: {files} files, {objects} objects");
    }
    println!("{killed} of {changes} were killed in time");
    assert!(killed > changes / 20, "only {killed} kills came in time");
    assert!(mirrorlet(root.path(), "recover"));
    mirrorlet(root.path(), "once");
    assert!(count(&state) <= MOST_FILES && count(&state.join("objects")) <= MOST_OBJECTS);
    assert!(mirrorlet(root.path(), "disable"));
    assert_eq!(tree(&root.path().join("etc/containerd")), original);
}
