//! When a path was last changed, and by whom, where the kernel says it: fanotify does, to who has CAP_SYS_ADMIN. The shipped unit has not;
//! then the time is all there is.
//!
//! The kernel tells who closed a file that was written, a name of an editor's own as well. Who removed or renamed one it only tells with
//! file handles, which nix has no words for.
#![expect(clippy::disallowed_methods, reason = "reads /proc of who wrote")]

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use nix::{
    fcntl::AT_FDCWD,
    sys::fanotify::{EventFFlags, Fanotify, FanotifyEvent, InitFlags, MarkFlags, MaskFlags},
};

use super::{clock, files::Files};
use crate::observed::generation::Touch;

/// So many writes are remembered.
const MOST_WRITES: usize = 256;
/// An editor closes its own file and renames it within this time, in milliseconds.
const SAME_MOMENT: i64 = 1_000;

/// After an event that could not be read, as without a free descriptor.
const PAUSE: Duration = Duration::from_secs(1);

/// One file that somebody closed after writing.
#[derive(Debug)]
struct Write {
    path: PathBuf,
    at_ms: i64,
    by: String,
}

/// What the kernel told of who wrote.
#[derive(Debug, Default)]
pub struct Blame {
    group: Option<Arc<Fanotify>>,
    writes: Arc<Mutex<VecDeque<Write>>>,
}

impl Blame {
    /// Listens from now on, where the kernel lets this process.
    #[must_use]
    pub fn begin() -> Self {
        let flags = InitFlags::FAN_CLASS_NOTIF | InitFlags::FAN_CLOEXEC;
        // Whoever wrote to a FIFO and left must not keep the thread waiting for another.
        let opened = EventFFlags::O_RDONLY | EventFFlags::O_NONBLOCK | EventFFlags::O_CLOEXEC | EventFFlags::O_LARGEFILE;
        match Fanotify::init(flags, opened) {
            Ok(group) => {
                let (group, writes) = (Arc::new(group), Arc::new(Mutex::default()));
                let (listened, noted) = (group.clone(), Arc::clone(&writes));
                // A thread of its own: whoever wrote may be gone in a moment.
                let thread = thread::Builder::new().name("blame".into()).spawn(move || listen(&listened, &noted));
                Self { group: thread.ok().map(|_| group), writes }
            }
            Err(errno) => {
                tracing::debug!("who changes a file is not told here: {errno}");
                Self::default()
            }
        }
    }

    /// Wants to be told of writes in these directories.
    pub fn follow(&self, directories: impl Iterator<Item = PathBuf>) {
        let Some(group) = &self.group else { return };
        for directory in directories {
            let mask = MaskFlags::FAN_CLOSE_WRITE | MaskFlags::FAN_EVENT_ON_CHILD;
            // One that is gone is told of by the watch.
            let _ = group.mark(MarkFlags::FAN_MARK_ADD | MarkFlags::FAN_MARK_ONLYDIR, mask, AT_FDCWD, Some(&directory));
        }
    }

    /// The last change of a path; of one that is gone, of the directory it was in.
    #[must_use]
    pub fn touch(&self, files: &Files, path: &str) -> Touch {
        let directory = path.rsplit_once('/').map_or("/", |(directory, _)| directory);
        let changed_ms = files.changed_ms(path);
        let by = changed_ms.map(|changed_ms| self.by(&files.seen(path), changed_ms));
        let changed_ms = changed_ms.or_else(|| files.changed_ms(directory));
        Touch { time: changed_ms.map_or(0, |changed_ms| changed_ms / 1000), by: by.unwrap_or_default() }
    }

    /// Who wrote a path, or a file beside it in the moment it changed; empty: unknown.
    fn by(&self, path: &Path, changed_ms: i64) -> String {
        let writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
        let is_of_the_moment = |write: &&Write| (write.at_ms - changed_ms).abs() <= SAME_MOMENT;
        let here = || writes.iter().rev().filter(is_of_the_moment);
        let found = here().find(|write| write.path == path).or_else(|| here().find(|write| write.path.parent() == path.parent()));
        found.map(|write| write.by.clone()).unwrap_or_default()
    }
}

fn listen(group: &Fanotify, writes: &Mutex<VecDeque<Write>>) -> ! {
    loop {
        let events = match group.read_events() {
            Ok(events) => events,
            Err(errno) => {
                tracing::warn!("who changed a file is not told for a moment: {errno}");
                thread::sleep(PAUSE);
                continue;
            }
        };
        let written = events.iter().filter(|event| event.pid() as u32 != std::process::id()).filter_map(write);
        let mut writes = writes.lock().unwrap_or_else(PoisonError::into_inner);
        writes.extend(written);
        let surplus = writes.len().saturating_sub(MOST_WRITES);
        writes.drain(..surplus);
    }
}

fn write(event: &FanotifyEvent) -> Option<Write> {
    use std::os::fd::AsRawFd;
    let path = fs::read_link(format!("/proc/self/fd/{}", event.fd()?.as_raw_fd())).ok()?;
    Some(Write { path, at_ms: clock::unix_millis(), by: named(event.pid()) })
}

/// `sed (pid 812, uid 0, logged in as uid 1000)`. No arguments: they may hold secrets.
fn named(pid: i32) -> String {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let (name, status, login) = (read("comm"), read("status"), read("loginuid"));
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()).unwrap_or("unknown");
    let name = if name.is_empty() { "a process that is gone" } else { name.trim_end() };
    // (uid_t) -1: of no login session.
    let login = login.parse::<u32>().ok().filter(|login| *login != u32::MAX);
    let login = login.map(|login| format!(", logged in as uid {login}")).unwrap_or_default();
    format!("{name} (pid {pid}, uid {uid}{login})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rename_is_put_down_to_who_wrote_beside_it_in_that_moment() {
        let write = |path: &str, at_ms, by: &str| Write { path: path.into(), at_ms, by: by.into() };
        let writes = [write("/c/a", 5_000, "cp"), write("/c/sedX", 9_000, "sed"), write("/d/b", 9_000, "vi")];
        let blame = Blame { group: None, writes: Arc::new(Mutex::new(writes.into())) };
        let by = |path: &str, changed_ms| blame.by(Path::new(path), changed_ms);
        assert_eq!((by("/c/a", 5_001), by("/c/a", 9_001), by("/c/a", 20_000)), ("cp".into(), "sed".into(), String::new()));
    }

    #[test]
    fn a_process_is_named_without_its_arguments() {
        let named = named(std::process::id() as i32);
        assert!(named.contains(&format!("(pid {}, uid ", std::process::id())), "{named}");
        assert!(super::named(i32::MAX).starts_with("a process that is gone"));
    }
}
