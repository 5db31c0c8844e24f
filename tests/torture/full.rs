//! A disk that really is full, or really is read-only, below the config, below the state, and below both: whatever there is room for, the
//! node is as before or as after, the error names the path and the errno, and once there is room the next apply works.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Output,
};

use mirrorlet::exit;
use nix::unistd::syncfs;

use super::{
    chosen,
    disk::{Bench, FileSystem, Mounted, tool},
    scenario::{ALL, Scenario, Tree, assert_tidy, containerd_tree},
};

/// The size of ext4; it does not get smaller with a journal.
const MEBIBYTES: u64 = 16;
/// Room is made for so many blocks or inodes, one by one; a change needs some more.
const MOST_ROOM: usize = 12;
const BLOCK: usize = 4096;

/// What the disk lies below.
const PLACES: [&str; 3] = ["etc/containerd", "var/lib/mirrorlet", ""];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Tmpfs,
    Ext4,
}

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Room {
    Blocks(usize),
    Inodes(usize),
    ReadOnly,
}

impl Room {
    const fn is_none(self) -> bool {
        matches!(self, Self::Blocks(0) | Self::Inodes(0) | Self::ReadOnly)
    }

    const fn errnos(self) -> [&'static str; 2] {
        match self {
            Self::Blocks(_) | Self::Inodes(_) => ["os error 28", "ENOSPC"],
            Self::ReadOnly => ["os error 30", "EROFS"],
        }
    }

    /// Takes all other room.
    fn leave(self, disk: &Path) {
        let filler = disk.join("filler");
        match self {
            Self::Blocks(left) => {
                let file = File::create(&filler).unwrap();
                let length = fill(&file);
                file.set_len(length - (left * BLOCK) as u64).unwrap();
                file.sync_all().unwrap();
            }
            Self::Inodes(left) => {
                fs::create_dir(&filler).unwrap();
                let is_made = |number: &usize| File::create(filler.join(number.to_string())).is_ok();
                let made = (0..).take_while(is_made).count();
                (0..left).for_each(|number| fs::remove_file(filler.join((made - 1 - number).to_string())).unwrap());
            }
            Self::ReadOnly => drop(tool("mount", &["-o", "remount,ro", disk.to_str().unwrap()])),
        }
    }

    /// Gives it back.
    fn end(self, disk: &Path) {
        match self {
            Self::Blocks(_) => fs::remove_file(disk.join("filler")).unwrap(),
            Self::Inodes(_) => fs::remove_dir_all(disk.join("filler")).unwrap(),
            Self::ReadOnly => drop(tool("mount", &["-o", "remount,rw", disk.to_str().unwrap()])),
        }
    }
}

/// Writes until nothing fits any more, and says how much that was. What a file system keeps back at first, for this file and for those that
/// were there before, comes with a sync of it all.
fn fill(file: &File) -> u64 {
    let (mut length, mut at_last_sync) = (0, None);
    while at_last_sync != Some(length) {
        at_last_sync = Some(length);
        for chunk in [vec![7; 64 * BLOCK], vec![7; BLOCK]] {
            while let Ok(written @ 1..) = file.write_at(&chunk, length) {
                length += written as u64;
            }
        }
        syncfs(file).unwrap();
    }
    length
}

/// One run of a scenario on a disk with little room.
#[derive(Debug, Clone, Hash)]
struct Point {
    kind: Kind,
    place: &'static str,
    room: Room,
}

impl Point {
    fn all() -> Vec<Self> {
        let rooms = || (0..MOST_ROOM).flat_map(|left| [Room::Blocks(left), Room::Inodes(left)]).chain([Room::ReadOnly]);
        let disks = [Kind::Tmpfs, Kind::Ext4].into_iter().flat_map(|kind| PLACES.map(|place| (kind, place)));
        disks.flat_map(|(kind, place)| rooms().map(move |room| Self { kind, place, room })).collect()
    }

    /// A root with a small disk at the place.
    fn root(&self, bench: &Bench, prepared: &Path) -> (PathBuf, Mounted) {
        let root = bench.path("root");
        let _ = fs::remove_dir_all(&root);
        let at = root.join(self.place);
        let mounted = match self.kind {
            Kind::Tmpfs => bench.mount_tmpfs("size=1m,nr_inodes=128", &at),
            Kind::Ext4 => bench.mount_at(&bench.copy(&bench.path("empty"), "small"), FileSystem::Ext4, &at),
        };
        tool("cp", &["--archive", &format!("{}/.", prepared.display()), root.to_str().unwrap()]);
        (root, mounted)
    }
}

/// What containerd makes of it: without what the disk brings along, and what a change keeps for undoing while it cannot be closed.
fn tree_of(root: &Path) -> Tree {
    let mut tree = containerd_tree(root);
    tree.retain(|name, _| !name.starts_with("filler") && name != "lost+found/" && !name.contains(".mirrorlet."));
    tree
}

/// The error of a run, which names a path and what the disk answered, and its exit code. That this could not be noted either may follow.
fn assert_told(output: &Output, point: &Point, when: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let complaints: Vec<&str> =
        said.lines().filter(|line| [" INFO ", " WARN ", " ERROR "].iter().all(|level| !line.contains(level))).collect();
    let (complaint, more) = complaints.split_first().unwrap_or_else(|| panic!("{when}: no error:\n{said}"));
    assert!(more.iter().all(|more| more.ends_with("[state.failed]")), "{when}:\n{said}");
    assert!(complaint.contains(&format!("/{}", point.place)), "{when}: no path in {complaint}");
    assert!(point.room.errnos().iter().any(|errno| complaint.contains(errno)), "{when}: no errno in {complaint}");
    let codes = if complaint.ends_with("[apply.write-failed]") {
        [exit::ROLLED_BACK, exit::FAILED]
    } else {
        assert!(complaint.ends_with("[state.failed]"), "{when}: {complaint}");
        [exit::ROLLED_BACK, exit::FAILED]
    };
    let code = output.status.code().and_then(|code| u8::try_from(code).ok());
    assert!(code.is_some_and(|code| codes.contains(&code)), "{when}: {code:?} with {complaint}");
}

/// Room for anything: the change is done, or undone and told. Then room: it is done.
fn changed_with_little_room(scenario: &'static Scenario) {
    let (before, after) = scenario.ends();
    let (bench, ready) = (Bench::set_up(), scenario.ready());
    bench.disk("empty", FileSystem::Ext4, MEBIBYTES);
    let all = Point::all();
    let tried = chosen(scenario.name, &all);
    let mut undone = 0;
    for point in &tried {
        let when = format!("{}: {point:?}", scenario.name);
        let (root, mounted) = point.root(&bench, ready.root.path());
        point.room.leave(mounted.root());
        let output = scenario.run(&root);
        let found = tree_of(&root);
        assert!(found == before || found == after, "{when}: neither before nor after: {:?}", found.keys());
        assert!(found == before || !point.room.is_none(), "{when}: there was room");
        if found == before {
            assert_told(&output, point, &when);
            undone += 1;
        }
        point.room.end(mounted.root());
        scenario.run(&root);
        assert!(tree_of(&root) == after, "{when}: it fails with room too");
        assert_tidy(&root, &when);
        mounted.unmount();
    }
    println!("{}: {} of {} disks, {undone} times undone", scenario.name, tried.len(), all.len());
}

#[test]
fn first_install() {
    changed_with_little_room(&ALL[0]);
}

#[test]
fn certs_d_only() {
    changed_with_little_room(&ALL[1]);
}

#[test]
fn config_and_certs_d() {
    changed_with_little_room(&ALL[2]);
}

#[test]
fn removal() {
    changed_with_little_room(&ALL[3]);
}
