//! What is on the node now: data only, each fact present or unknown because of something.

pub mod effective;
pub mod entry;
pub mod generation;
pub mod record;
pub mod start;
pub mod version;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use effective::Registry;
use entry::{Content, Entry};
use record::Record;
use version::Version;

/// Something that was looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    /// It was found.
    Known(T),
    /// It could not be found out; why, a sentence.
    Unknown(String),
}

impl<T> Fact<T> {
    /// The fact, if it is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// Why it is not known.
    pub fn unknown_because(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(reason) => Some(reason),
        }
    }
}

impl<T, E: fmt::Display> From<Result<T, E>> for Fact<T> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(error) => Self::Unknown(error.to_string()),
        }
    }
}

/// One life of the containerd process.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// When it was started, in the kernel's ticks since boot: exact, whatever the wall clock does.
    pub start_ticks: u64,
    /// The kernel's boot id, so that a pid of another boot is not taken for this one.
    pub boot_id: String,
}

/// What systemd says of containerd's unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: String,
    /// `loaded`, `not-found`, `masked`, …
    pub load_state: String,
    /// `active`, `inactive`, `failed`, `activating`, …
    pub active_state: String,
    /// `process`, `mixed`, `control-group`, `none`.
    pub kill_mode: String,
    /// The unit's files changed since systemd read them.
    pub needs_daemon_reload: bool,
    /// Program and arguments of ExecStart.
    pub exec_start: Vec<String>,
    /// The unit's own file and its drop-ins.
    pub files: Vec<ConfigFile>,
}

impl Unit {
    /// The program of ExecStart.
    #[must_use]
    pub fn binary(&self) -> Option<&str> {
        self.exec_start.first().map(String::as_str)
    }

    /// The value of `--config` or `-c`.
    #[must_use]
    pub fn config_argument(&self) -> Option<&str> {
        self.argument("config", 'c')
    }

    /// The value of `--address` or `-a`.
    #[must_use]
    pub fn address_argument(&self) -> Option<&str> {
        self.argument("address", 'a')
    }

    fn argument(&self, long: &str, short: char) -> Option<&str> {
        let mut arguments = self.exec_start.iter().skip(1);
        while let Some(argument) = arguments.next() {
            let name = argument.trim_start_matches('-');
            if name.len() == argument.len() {
                continue;
            }
            match name.split_once('=') {
                Some((key, value)) if is_named(key, long, short) => return Some(value),
                None if is_named(name, long, short) => return arguments.next().map(String::as_str),
                _ => {}
            }
        }
        None
    }
}

fn is_named(key: &str, long: &str, short: char) -> bool {
    key == long || (key.len() == 1 && key.starts_with(short))
}

/// Which files, binary and socket are containerd's.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Place {
    /// Its config file.
    pub config: String,
    /// Its binary.
    pub binary: String,
    /// Its socket.
    pub address: String,
}

/// containerd itself.
#[derive(Debug, Clone)]
pub struct Containerd {
    /// Files, binary, socket.
    pub place: Place,
    /// What systemd knows of it.
    pub unit: Fact<Unit>,
    /// The running daemon's version.
    pub running: Fact<Version>,
    /// The binary's version.
    pub installed: Fact<Version>,
    /// The running process.
    pub process: Fact<Process>,
    /// When it was started, in milliseconds of Unix time; 0 when it does not run.
    pub started_ms: i64,
    /// CRI Version and Status succeed and the runtime is ready.
    pub cri: Fact<()>,
}

impl Containerd {
    /// The version that will read what is written now: the installed one after a restart, else the running one.
    #[must_use]
    pub fn version_to_be(&self, after_restart: bool) -> Option<&Version> {
        let (first, second) = if after_restart { (&self.installed, &self.running) } else { (&self.running, &self.installed) };
        first.known().or_else(|| second.known())
    }
}

/// One file that says how containerd is to be: of its config, or of its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigFile {
    /// Its path.
    pub path: String,
    /// Its text; `None` when it is absent.
    pub text: Option<Content>,
    /// When its inode last changed, in milliseconds of Unix time.
    pub changed_ms: i64,
}

/// containerd's config file and what it imports.
#[derive(Debug, Clone)]
pub struct Config {
    /// Content and attributes of the root file.
    pub root: ConfigFile,
    /// The root file as an entry.
    pub entry: Entry,
    /// Imported files in the order of merging (CONTAINERD.md 1.6), root left out.
    pub imports: Vec<ConfigFile>,
    /// Directories that imports are looked for in, whether there is one now or not.
    pub import_directories: BTreeSet<String>,
    /// The registry settings as `containerd config dump` prints them for these files; `None`: there was nothing to ask it about.
    pub dumped: Option<Fact<Registry>>,
}

impl Config {
    /// When the newest of the files changed, in milliseconds of Unix time.
    #[must_use]
    pub fn changed_ms(&self) -> i64 {
        self.imports.iter().map(|file| file.changed_ms).fold(self.root.changed_ms, i64::max)
    }

    /// Root and imports.
    pub fn files(&self) -> impl Iterator<Item = &ConfigFile> + Clone {
        std::iter::once(&self.root).chain(&self.imports)
    }
}

/// One name in a directory of host directories.
#[derive(Debug, Clone)]
pub struct HostEntry {
    /// What it is.
    pub entry: Entry,
    /// The text of its hosts.toml, if it has one.
    pub hosts_toml: Option<Content>,
    /// Links in it, with their targets.
    pub links: BTreeMap<String, String>,
}

/// What the node needs before containerd may be restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartFacts {
    /// Some more inotify instances can be made by root.
    pub inotify_head_room: Fact<()>,
}

/// How a mirror asks for a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Asks {
    /// It answers without one.
    Nothing,
    /// `WWW-Authenticate: Basic`.
    Basic,
    /// `WWW-Authenticate: Bearer`: by a token server.
    Token,
}

/// Everything, read once.
#[derive(Debug, Clone)]
pub struct Observed {
    /// containerd itself.
    pub containerd: Containerd,
    /// Its config.
    pub config: Config,
    /// The directory of host directories; `None` when it is absent.
    pub hosts_dir: Option<BTreeMap<String, HostEntry>>,
    /// Directories above the hosts directory and the config file that do not exist, outermost first.
    pub missing_parents: Vec<String>,
    /// Directories that we made, the hosts directory and those above it, with the names in them.
    pub made_directories: BTreeMap<String, Vec<String>>,
    /// The other directories of a `config_path` list, in order.
    pub other_roots: Vec<(String, BTreeMap<String, HostEntry>)>,
    /// What we own and why.
    pub record: Record,
    /// Content of the files we replaced, by path.
    pub originals: BTreeMap<String, Content>,
    /// Whether the running containerd uses what is ours; proven, or found wanting, for the running process.
    pub proven: Fact<bool>,
    /// Files that carried settings name, and whether containerd could use them.
    pub named_files: BTreeMap<String, Fact<()>>,
    /// When this was read, in seconds of Unix time.
    pub now: i64,
    /// This process may give files to other owners.
    pub can_change_owner: bool,
    /// Looked up only when a plan restarts containerd.
    pub restart: Option<RestartFacts>,
}
