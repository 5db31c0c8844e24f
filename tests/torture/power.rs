//! The power goes: at every point of what a disk was told during a change, with everything it was told by then or with some of it, the
//! file system is mounted as after a boot, recovery runs, and every file is from before or every one from after.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use super::{
    SEED,
    block_log::{BlockLog, Cut},
    chosen,
    disk::{Bench, FileSystem, NotingDisk, tool},
    is_whole,
    scenario::{ALL, Scenario, Tree, assert_can_be_given_back, assert_tidy, containerd_tree},
};
use crate::cases_plan::mirrorlet;

const MEBIBYTES: u64 = 32;
/// The way back is tried from each of so many images.
const GIVEN_BACK: usize = 8;

/// Where a node stands after the power went.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Found {
    Before,
    After,
    /// Each file is whole, but some are from before and some from after.
    Mixed,
    /// A file that is neither from before nor from after, and its length if it is there.
    Damaged(String, Option<usize>),
}

fn found(tree: &Tree, before: &Tree, after: &Tree) -> Found {
    if tree == after {
        return Found::After;
    } else if tree == before {
        return Found::Before;
    }
    let names = before.keys().chain(after.keys()).chain(tree.keys());
    let is_damaged = |name: &&String| ![before.get(*name), after.get(*name)].contains(&tree.get(*name));
    match names.into_iter().find(is_damaged) {
        Some(name) => Found::Damaged(name.clone(), tree.get(name).map(Vec::len)),
        None => Found::Mixed,
    }
}

/// What a disk was told while its files were changed.
struct Recording<'a> {
    bench: &'a Bench,
    file_system: FileSystem,
    /// The disk as it was when the noting began.
    begin: PathBuf,
    log: BlockLog,
    /// The change was told to be done when this much was noted.
    done: usize,
}

impl<'a> Recording<'a> {
    /// Puts a prepared tree on a disk, and changes it there.
    fn of(bench: &'a Bench, file_system: FileSystem, prepared: &Path, change: impl FnOnce(&Path)) -> Self {
        let begin = bench.disk("begin", file_system, MEBIBYTES);
        let mounted = bench.mount(&begin, file_system);
        tool("cp", &["--archive", &format!("{}/.", prepared.display()), mounted.root().to_str().unwrap()]);
        mounted.unmount();
        let disk = bench.copy(&begin, "disk");
        let noting = NotingDisk::around(&disk, bench);
        let mounted = bench.mount(&noting.disk, file_system);
        change(mounted.root());
        let noted = noting.noted();
        mounted.unmount();
        let log = BlockLog::read(&noting.end());
        let replayed = bench.copy(&begin, "replayed");
        log.replay(0..log.len(), &File::options().write(true).open(&replayed).unwrap());
        assert!(fs::read(replayed).unwrap() == fs::read(disk).unwrap(), "the log does not tell all that the disk was told");
        let done = log.entries_at(noted);
        assert!(done > 10 && done <= log.len(), "only {done} of {} writes by the end of the change", log.len());
        Self { bench, file_system, begin, log, done }
    }

    /// Mounts the disk of each cut and looks at it.
    fn look_at_each(&self, mut cuts: Vec<Cut>, mut look: impl FnMut(&Cut, &Path)) {
        cuts.sort_by_key(|cut| self.log.settled(cut));
        let settled = self.bench.copy(&self.begin, "settled");
        let mut settled_entries = 0;
        for cut in cuts {
            let open = |path: &Path| File::options().write(true).open(path).unwrap();
            self.log.replay(settled_entries..self.log.settled(&cut), &open(&settled));
            settled_entries = self.log.settled(&cut);
            let image = self.bench.copy(&settled, "image");
            self.log.replay_subset(&cut, &open(&image));
            let mounted = self.bench.mount(&image, self.file_system);
            look(&cut, mounted.root());
            mounted.unmount();
        }
    }
}

/// Cut anywhere: after recovery all is from before or all from after; from after once the change was told to be done.
fn cut_everywhere(file_system: FileSystem, scenario: &'static Scenario) {
    let row = format!("{file_system:?}: {}", scenario.name);
    let (before, after) = scenario.ends();
    let (bench, ready) = (Bench::set_up(), scenario.ready());
    let recording = Recording::of(&bench, file_system, ready.root.path(), |root| {
        scenario.run(root);
        assert!(containerd_tree(root) == after, "{row}: it was not carried out");
    });
    let all = recording.log.cuts();
    let tried = chosen(&row, &all);
    let (mut images, mut new) = (0, 0);
    recording.look_at_each(tried, |cut, root| {
        let when = format!("{row}: cut at {cut:?} of {}, done at {}, MIRRORLET_SEED={}", recording.log.len(), recording.done, *SEED);
        assert!(mirrorlet(root, "recover"), "{when}: recovery failed");
        let found = found(&containerd_tree(root), &before, &after);
        // Going back from a change that a boot left unconfirmed is recovery's own work.
        let must_be_new = cut.at >= recording.done || scenario.name == "confirm-expiry";
        assert!(found == Found::After || found == Found::Before && !must_be_new, "{when}: {found:?}");
        assert_tidy(root, &when);
        if images % GIVEN_BACK == 0 {
            assert_can_be_given_back(root, &when);
        }
        images += 1;
        new += usize::from(found == Found::After);
    });
    println!("{row}: {images} of {} images, {new} of them new; {} writes, done at {}", all.len(), recording.log.len(), recording.done);
    // In all eighteen rows that is more than a thousand.
    assert!(!is_whole() || all.len() >= 60, "{row}: only {} images", all.len());
}

macro_rules! rows {
    ($($file_system:ident: $value:ident),* $(,)?) => { $(
        mod $file_system {
            use super::{ALL, FileSystem, cut_everywhere};

            #[test]
            fn first_install() {
                cut_everywhere(FileSystem::$value, &ALL[0]);
            }
            #[test]
            fn certs_d_only() {
                cut_everywhere(FileSystem::$value, &ALL[1]);
            }
            #[test]
            fn config_and_certs_d() {
                cut_everywhere(FileSystem::$value, &ALL[2]);
            }
            #[test]
            fn removal() {
                cut_everywhere(FileSystem::$value, &ALL[3]);
            }
            #[test]
            fn rollback() {
                cut_everywhere(FileSystem::$value, &ALL[4]);
            }
            #[test]
            fn confirm_expiry() {
                cut_everywhere(FileSystem::$value, &ALL[5]);
            }
        }
    )* };
}

rows!(ext4: Ext4, ext4_no_auto_da_alloc: Ext4NoAutoDaAlloc, xfs: Xfs);

/// A change without a journal, of the only two files of a node.
fn without_a_journal(file_system: FileSystem, write: fn(&Path, &str)) -> Vec<Found> {
    let prepared = tempfile::tempdir().unwrap();
    let change = |root: &Path, text: &str| {
        for name in ["certs.d/up.lab/hosts.toml", "config.toml"] {
            write(&root.join("etc/containerd").join(name), text);
        }
    };
    fs::create_dir_all(prepared.path().join("etc/containerd/certs.d/up.lab")).unwrap();
    change(prepared.path(), "# before\n");
    let before = containerd_tree(prepared.path());
    let bench = Bench::set_up();
    let mut after = Tree::new();
    let recording = Recording::of(&bench, file_system, prepared.path(), |root| {
        change(root, "# after\n");
        after = containerd_tree(root);
    });
    let mut all = Vec::new();
    recording.look_at_each(recording.log.cuts(), |_, root| {
        assert!(mirrorlet(root, "recover"));
        all.push(found(&containerd_tree(root), &before, &after));
    });
    let count = |wanted: fn(&Found) -> bool| all.iter().filter(|found| wanted(found)).count();
    let (mixed, damaged) = (count(|found| *found == Found::Mixed), count(|found| matches!(found, Found::Damaged(..))));
    println!("{file_system:?}: {} images without a journal, {mixed} mixed, {damaged} damaged", all.len());
    all
}

fn write_and_rename(path: &Path, text: &str, is_synced: bool) {
    let directory = path.parent().unwrap();
    // Recovery sweeps it.
    let temporary = directory.join(".mirrorlet.new");
    fs::write(&temporary, text).unwrap();
    if is_synced {
        File::open(&temporary).unwrap().sync_all().unwrap();
    }
    fs::rename(&temporary, path).unwrap();
    File::open(directory).unwrap().sync_all().unwrap();
}

/// The control: each file is written with all care, and still the two do not belong together.
#[test]
fn without_a_journal_a_cut_mixes_files() {
    for file_system in [FileSystem::Ext4, FileSystem::Xfs] {
        let all = without_a_journal(file_system, |path, text| write_and_rename(path, text, true));
        assert!(all.contains(&Found::Mixed) && !all.iter().any(|found| matches!(found, Found::Damaged(..))), "{file_system:?}: {all:?}");
    }
}

/// The control: without a sync before the rename there are empty files.
#[test]
fn without_a_sync_a_cut_empties_files() {
    let all = without_a_journal(FileSystem::Ext4NoAutoDaAlloc, |path, text| write_and_rename(path, text, false));
    assert!(all.iter().any(|found| matches!(found, Found::Damaged(_, Some(0)))), "{all:?}");
}
