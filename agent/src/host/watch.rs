//! Watches directories for what the operator writes and for what containerd reads.
//!
//! Directories, not files: an editor renames, a ConfigMap mount swaps a link. Every link on the way to a path is watched where it lies. When
//! inotify is used up the daemon looks from time to time instead, and says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::ModifyKind};
use tokio::sync::Notify;

use super::planted;

/// What is of interest: single paths, and directories with all that is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interest {
    /// Files, links, sockets.
    pub paths: BTreeSet<PathBuf>,
    /// Directories.
    pub directories: BTreeSet<PathBuf>,
}

impl Interest {
    /// A path with every link on the way to it, and the directory it is in, which may be replaced as a whole.
    pub fn follow(&mut self, path: &Path) {
        self.paths.extend(links_to(path));
        self.paths.extend(path.parent().into_iter().flat_map(links_to));
    }

    fn holds(&self, path: &Path) -> bool {
        self.paths.contains(path)
            || self.directories.contains(path)
            || path.parent().is_some_and(|parent| self.directories.contains(parent))
    }

    /// The directories that are watched for it.
    pub fn to_watch(&self) -> impl Iterator<Item = PathBuf> {
        let parents = self.paths.iter().chain(&self.directories).filter_map(|path| path.parent().map(Path::to_owned));
        parents.chain(self.directories.iter().cloned())
    }
}

/// The two kinds of change.
#[derive(Debug, Default)]
pub struct Changes {
    /// The spec, or a file it names.
    pub spec: Notify,
    /// What containerd reads, or containerd itself.
    pub node: Notify,
}

#[derive(Debug, Default)]
struct Interests {
    spec: Interest,
    node: Interest,
    /// Directories that went or were replaced since they were watched: their watch went along, whatever inode is there now.
    gone: BTreeSet<PathBuf>,
    /// The kernel had no room for events: any of the directories may have gone.
    has_missed: bool,
}

/// The watch.
#[derive(Debug)]
pub struct Watch {
    watcher: Option<RecommendedWatcher>,
    watched: BTreeMap<PathBuf, u64>,
    interests: Arc<Mutex<Interests>>,
    is_complete: bool,
}

impl Watch {
    /// A watch that notes changes there.
    #[must_use]
    pub fn new(changes: Arc<Changes>) -> Self {
        let interests = Arc::new(Mutex::new(Interests::default()));
        let seen = interests.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| note(&seen, &changes, event));
        if let Err(error) = &watcher {
            tracing::warn!("no inotify, looking from time to time instead: {error}");
        }
        Self { watcher: watcher.ok(), watched: BTreeMap::new(), interests, is_complete: true }
    }

    /// Whether every change is told by the kernel; else somebody has to look from time to time.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        self.watcher.is_some() && self.is_complete
    }

    /// Watches for this from now on, and for nothing else. Returns whether that is another interest than before: what was read before this
    /// call may have changed unseen.
    pub fn set(&mut self, spec: Interest, node: Interest) -> bool {
        let wanted: BTreeMap<PathBuf, u64> =
            spec.to_watch().chain(node.to_watch()).filter_map(|path| Some((path.clone(), inode(&path)?))).collect();
        let interests = Interests { spec, node, ..Interests::default() };
        let before = std::mem::replace(&mut *self.interests.lock().unwrap_or_else(PoisonError::into_inner), interests);
        let interests = self.interests.lock().unwrap_or_else(PoisonError::into_inner);
        let is_another = before.has_missed || (&before.spec, &before.node) != (&interests.spec, &interests.node) || wanted != self.watched;
        drop(interests);
        let gone = if before.has_missed { self.watched.keys().cloned().collect() } else { before.gone };
        let Some(watcher) = &mut self.watcher else { return false };
        for path in &gone {
            if self.watched.remove(path).is_some() {
                let _ = watcher.unwatch(path);
            }
        }
        for path in self.watched.keys().filter(|path| wanted.get(*path) != self.watched.get(*path)) {
            // A directory that is gone has taken its watch along.
            let _ = watcher.unwatch(path);
        }
        let mut watched = BTreeMap::new();
        let count = wanted.len();
        for (path, inode) in wanted {
            let is_watched = self.watched.get(&path) == Some(&inode);
            match if is_watched { Ok(()) } else { watcher.watch(&path, RecursiveMode::NonRecursive) } {
                Ok(()) => drop(watched.insert(path, inode)),
                Err(error) => tracing::warn!("cannot watch {}, looking from time to time instead: {error}", path.display()),
            }
        }
        self.is_complete = watched.len() == count;
        self.watched = watched;
        is_another
    }
}

fn note(interests: &Mutex<Interests>, changes: &Changes, event: notify::Result<notify::Event>) {
    let Ok(event) = event else {
        changes.spec.notify_one();
        changes.node.notify_one();
        return;
    };
    if matches!(event.kind, EventKind::Access(_)) {
        return;
    }
    let mut interests = interests.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(event.kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_))) {
        interests.gone.extend(event.paths.iter().cloned());
    }
    let overflowed = event.need_rescan() && !planted::has("overflow-unseen");
    interests.has_missed |= overflowed;
    if overflowed || event.paths.iter().any(|path| interests.spec.holds(path)) {
        changes.spec.notify_one();
    }
    if overflowed || event.paths.iter().any(|path| interests.node.holds(path) && !is_of_the_agent(path)) {
        changes.node.notify_one();
    }
}

/// Temporary names and nonce directories of ours: looking at them would make the next event.
fn is_of_the_agent(path: &Path) -> bool {
    path.iter()
        .filter_map(|part| part.to_str())
        .any(|part| part.starts_with(super::files::OURS) || super::listener::is_nonce_directory(part))
}

#[expect(clippy::disallowed_methods, reason = "looks at the directories it watches")]
fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_dir).map(|metadata| metadata.ino())
}

/// Every link on the way to a path, and the path itself; of a path that is not there, the first part that is missing.
#[must_use]
pub fn links_to(path: &Path) -> Vec<PathBuf> {
    const MOST_LINKS: usize = 40;
    let mut seen = Vec::new();
    let mut left: Vec<std::ffi::OsString> = parts(path);
    let mut current = PathBuf::from("/");
    while let Some(part) = left.pop() {
        if part == ".." {
            current.pop();
            continue;
        }
        let next = current.join(&part);
        match std::fs::read_link(&next) {
            Ok(target) if seen.len() < MOST_LINKS => {
                seen.push(next);
                if target.is_absolute() {
                    current = PathBuf::from("/");
                }
                left.extend(parts(&target));
            }
            _ if next.exists() && !left.is_empty() => current = next,
            _ => {
                seen.push(next);
                break;
            }
        }
    }
    seen
}

/// Last part first.
fn parts(path: &Path) -> Vec<std::ffi::OsString> {
    let parts = path.components().filter_map(|part| match part {
        Component::Normal(part) => Some(part.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    let mut parts: Vec<_> = parts.collect();
    parts.reverse();
    parts
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests make the links they look at")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_link_of_a_config_map_mount_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("..1")).unwrap();
        std::fs::write(root.join("..1/mirrors.yaml"), "x").unwrap();
        symlink("..1", root.join("..data")).unwrap();
        symlink("..data/mirrors.yaml", root.join("mirrors.yaml")).unwrap();
        let seen = links_to(&root.join("mirrors.yaml"));
        assert_eq!(seen, [root.join("mirrors.yaml"), root.join("..data"), root.join("..1/mirrors.yaml")]);
    }

    #[test]
    fn the_first_missing_part_is_what_can_appear() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        assert_eq!(links_to(&root.join("a/b/c")), [root.join("a")]);
    }
}
