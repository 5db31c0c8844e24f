//! A case is a folder below `cases/plan`: `containerd.txt` (the version that is installed), `spec.yaml`, `before/` (the tree), `plan.txt` and
//! `after/`. Adding one needs no code. For every case: the plan's text, the tree after applying it, an empty second plan, a second apply
//! that writes nothing, and a `disable` that gives the tree back byte for byte. `UPDATE_CASES=1` writes what is expected anew.
//!
//! Settings are in `before/mirrorlet/mirrorlet.toml`. With a folder `earlier/` the spec is applied before with what it holds laid over the
//! tree: other settings, another spec, another containerd.txt; `later/` is laid over that as somebody else would
//! do it, and `given-back/` is what a `disable` leaves then.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use mirrorlet::{
    config::{self, SETTINGS_PATH, Settings},
    host::{files::Files, observe::Host},
    plan::{self, Allowed, explain},
    reconcile::{
        policy,
        wish::{self, Wanted},
    },
};

fn cases() -> Vec<PathBuf> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cases/plan"));
    let mut cases: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_symlink() {
            symlink(fs::read_link(&path).unwrap(), target).unwrap();
        } else if path.is_dir() {
            copy_tree(&path, &target);
        } else if path.file_name().unwrap() != ".keep" {
            fs::copy(&path, &target).unwrap();
            fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).unwrap();
        }
    }
}

/// Path to content (or link target); directories end in a slash.
pub fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    collect(root, root, &mut found);
    found
}

fn collect(root: &Path, directory: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
        if path.is_symlink() {
            found.insert(name, fs::read_link(&path).unwrap().into_os_string().into_encoded_bytes());
        } else if path.is_dir() {
            collect(root, &path, found);
            found.insert(format!("{name}/"), Vec::new());
        } else if name != ".keep" && !name.ends_with("/.keep") {
            found.insert(name, fs::read(&path).unwrap());
        }
    }
}

/// Inode and change time of every file: what a write would change.
fn traces(root: &Path) -> Vec<(String, u64, i64)> {
    let stat = |name: &String| fs::symlink_metadata(root.join(name)).unwrap();
    tree(root).keys().map(|name| (name.clone(), stat(name).ino(), stat(name).ctime_nsec())).collect()
}

/// A root with the case's tree, spec, and a containerd that says its version.
fn prepare(case: &Path) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let etc = root.path().join("etc");
    copy_tree(&case.join("before"), &etc);
    fs::create_dir_all(etc.join("mirrorlet")).unwrap();
    fs::copy(case.join("spec.yaml"), etc.join("mirrorlet/mirrors.yaml")).unwrap();
    install(root.path(), &fs::read_to_string(case.join("containerd.txt")).unwrap());
    root
}

fn install(root: &Path, version: &str) {
    let binary = root.join("usr/bin/containerd");
    fs::create_dir_all(binary.parent().unwrap()).unwrap();
    fs::write(&binary, format!("#!/bin/sh\necho containerd github.com/containerd/containerd {} 0\n", version.trim())).unwrap();
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Applies what was wanted earlier, then puts the files of the case back that are the operator's.
fn live_earlier(case: &Path, root: &Path) {
    let (earlier, etc) = (case.join("earlier"), root.join("etc"));
    if !earlier.exists() {
        return;
    }
    let operators = ["mirrorlet/mirrorlet.toml", "mirrorlet/mirrors.yaml"].map(|name| (etc.join(name), fs::read(etc.join(name)).ok()));
    copy_tree(&earlier, &etc);
    if let Ok(version) = fs::read_to_string(etc.join("containerd.txt")) {
        fs::remove_file(etc.join("containerd.txt")).unwrap();
        install(root, &version);
    }
    mirrorlet(root, "once");
    assert!(root.join("var/lib/mirrorlet/record.json").exists(), "{}: what was wanted earlier was not applied", case.display());
    for (path, content) in operators {
        match content {
            Some(content) => fs::write(path, content).unwrap(),
            None => drop(fs::remove_file(path)),
        }
    }
    install(root, &fs::read_to_string(case.join("containerd.txt")).unwrap());
    if case.join("later").exists() {
        copy_tree(&case.join("later"), &etc);
    }
}

/// The root of a case, by its name.
pub fn root_of(case: &str) -> tempfile::TempDir {
    prepare(&Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/cases/plan")).join(case))
}

fn plan_text(root: &Path) -> String {
    let settings = fs::read_to_string(root.join(SETTINGS_PATH.trim_start_matches('/')));
    let settings = settings.map_or_else(|_| Settings::default(), |text| config::read(SETTINGS_PATH, &text).unwrap());
    let host = Host::new(Files::open(root).unwrap(), settings, true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let record = host.state().record().unwrap();
    let Wanted::Spec(wish) = wish::of_node(&host, &record) else { panic!("the spec of a plan case is valid") };
    let observed = runtime.block_on(host.observe(record)).unwrap();
    explain::text(&plan::plan(&observed, &wish.desired, &policy(&host.settings, &Allowed::default(), false, false)))
}

pub fn mirrorlet(root: &Path, verb: &str) -> bool {
    Command::new(env!("CARGO_BIN_EXE_mirrorlet")).arg("--root").arg(root).arg(verb).output().unwrap().status.success()
}

fn check(case: &Path) -> Result<(), String> {
    let root = prepare(case);
    let etc = root.path().join("etc");
    let before = tree(&etc);
    live_earlier(case, root.path());
    let lived = tree(&etc);
    let text = plan_text(root.path());
    expect(case, "plan.txt", &text)?;
    mirrorlet(root.path(), "once");
    expect_tree(case, "after", &etc)?;
    let is_refused = text.starts_with("refused:");
    if is_refused {
        return if tree(&etc) == lived { Ok(()) } else { Err("a refused plan changed the tree".into()) };
    }
    let second = plan_text(root.path());
    if !second.starts_with("nothing to change\n") {
        return Err(format!("the second plan is not empty:\n{second}"));
    }
    let seen = traces(&etc);
    mirrorlet(root.path(), "once");
    if traces(&etc) != seen {
        return Err("the second apply wrote something".into());
    }
    mirrorlet(root.path(), "disable");
    if case.join("later").exists() {
        return expect_tree(case, "given-back", &etc);
    }
    if tree(&etc) == before { Ok(()) } else { Err(format!("disable left another tree: {:?}", tree(&etc).keys())) }
}

fn expect(case: &Path, name: &str, found: &str) -> Result<(), String> {
    let path = case.join(name);
    if env::var_os("UPDATE_CASES").is_some() {
        fs::write(&path, found).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    if found == expected { Ok(()) } else { Err(format!("{name}: expected\n{expected}\nfound\n{found}")) }
}

fn expect_tree(case: &Path, name: &str, etc: &Path) -> Result<(), String> {
    let after = case.join(name);
    if env::var_os("UPDATE_CASES").is_some() {
        let _ = fs::remove_dir_all(&after);
        copy_tree(&etc.join("containerd"), &after.join("containerd"));
    }
    let (found, expected) = (tree(&etc.join("containerd")), tree(&after.join("containerd")));
    for (name, content) in &expected {
        if found.get(name) != Some(content) {
            let found = found.get(name).map_or_else(|| "(nothing)".into(), |found| String::from_utf8_lossy(found).into_owned());
            return Err(format!("{}/{name}: expected\n{}\nfound\n{found}", after.display(), String::from_utf8_lossy(content)));
        }
    }
    match found.keys().find(|name| !expected.contains_key(*name)) {
        Some(extra) => Err(format!("{extra} was not expected")),
        None => Ok(()),
    }
}

#[test]
fn every_case_is_as_written() {
    let problems: Vec<String> =
        cases().iter().filter_map(|case| check(case).err().map(|problem| format!("{}: {problem}", case.display()))).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n\n"));
}
