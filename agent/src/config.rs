//! The daemon's own settings (`mirrorlet.toml`) and every path it uses. Pure: the text comes in, [`Settings`] come out.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Deserializer};

/// Where the settings are looked for when `--config` does not say otherwise. The file may be absent.
pub const SETTINGS_PATH: &str = "/etc/mirrorlet/mirrorlet.toml";
/// Where the spec is by default: a file, a symlink to one, or a directory of `*.yaml`.
pub const SPEC_PATH: &str = "/etc/mirrorlet/mirrors.yaml";
/// Where secrets named by a Cluster are mounted, as NAMESPACE/NAME/KEY.
pub const SECRETS_DIR: &str = "/etc/mirrorlet/secrets";
/// containerd's config file where neither settings nor unit name one.
pub const CONTAINERD_CONFIG_PATH: &str = "/etc/containerd/config.toml";
/// The directory of host directories that containerd is told to read.
pub const HOSTS_DIR: &str = "/etc/containerd/certs.d";
/// containerd's socket where neither settings, unit nor config name one.
pub const CONTAINERD_SOCKET_PATH: &str = "/run/containerd/containerd.sock";
/// Journal, record and before-images.
pub const STATE_DIR: &str = "/var/lib/mirrorlet";
/// Where a config is tried before it goes live; gone afterwards.
pub const TRIAL_DIR: &str = "/run/mirrorlet/trial";
/// Where host directories are shown to containerd before they go live; gone afterwards.
pub const STAGED_DIR: &str = "/run/mirrorlet/staged";
/// gRPC for `mirrorctl` and local callers.
pub const SOCKET_PATH: &str = "/run/mirrorlet/mirrorlet.sock";

/// All settings, each with its default.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// `[spec]`
    pub spec: SpecSettings,
    /// `[containerd]`
    pub containerd: ContainerdSettings,
    /// `[restart]`
    pub restart: RestartSettings,
    /// `[api]`
    pub api: ApiSettings,
    /// `[state]`
    pub state: StateSettings,
    /// `[policy]`
    pub policy: PolicySettings,
    /// The file they were read from, when it was named on the command line.
    #[serde(skip)]
    pub file: Option<String>,
}

/// `[spec]`: where the operator's wish is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SpecSettings {
    /// File, symlink, or directory of `*.yaml`.
    pub path: String,
    /// Secrets a Cluster refers to, as NAMESPACE/NAME/KEY below this directory.
    pub secrets_dir: String,
    /// Which Cluster counts when the stream holds several.
    pub cluster: Option<String>,
}

impl Default for SpecSettings {
    fn default() -> Self {
        Self { path: SPEC_PATH.into(), secrets_dir: SECRETS_DIR.into(), cluster: None }
    }
}

/// How mirrors are written down for containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Layout {
    /// `config_path` and one hosts.toml a registry.
    #[default]
    Hosts,
    /// `registry.mirrors` and `registry.configs` in config.toml.
    Legacy,
}

/// `[containerd]`: which containerd, and which of its files.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ContainerdSettings {
    /// systemd unit.
    pub unit: String,
    /// The directory of host directories.
    pub hosts_dir: String,
    /// How mirrors are written down.
    pub layout: Layout,
    /// Config file; by default what the unit says.
    pub config: Option<String>,
    /// Binary; by default what the unit says.
    pub binary: Option<String>,
    /// Socket; by default what unit or config say.
    pub address: Option<String>,
}

impl Default for ContainerdSettings {
    fn default() -> Self {
        Self {
            unit: "containerd.service".into(),
            hosts_dir: HOSTS_DIR.into(),
            layout: Layout::Hosts,
            config: None,
            binary: None,
            address: None,
        }
    }
}

/// Who restarts containerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartDriver {
    /// systemd, over D-Bus.
    #[default]
    Systemd,
    /// A command of the operator's.
    Command,
    /// Nobody: a plan that needs a restart is written and waits for the owner's restart.
    Never,
}

/// What is done when there is no quiet moment in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum QuietPolicy {
    /// Nothing is changed; it is tried again later.
    #[default]
    GiveUp,
    /// containerd is restarted all the same.
    GoOn,
}

/// What somebody else changed since containerd was started, so that a restart makes it effective.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum ForeignChange {
    /// Another containerd was installed.
    Upgrade,
    /// Its config file, or a file that imports.
    Config,
    /// The files of its unit.
    Unit,
    /// Host directories that nobody reads before `config_path` names their directory.
    HostDirectories,
}

impl ForeignChange {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Upgrade, Self::Config, Self::Unit, Self::HostDirectories];

    /// The word in settings and on the command line.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Upgrade => "upgrade",
            Self::Config => "config",
            Self::Unit => "unit",
            Self::HostDirectories => "host-directories",
        }
    }
}

/// `[restart]`: how containerd is restarted, and when that counts as done.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RestartSettings {
    /// Who restarts it.
    pub driver: RestartDriver,
    /// Program and arguments for the driver `command`.
    pub command: Vec<String>,
    /// What of others a restart may make effective.
    pub accept: Vec<ForeignChange>,
    /// The config is tried with a second containerd before a restart.
    pub trial_boot: bool,
    /// No pull and no start of a container for so long before a restart; 0s does not wait.
    #[serde(deserialize_with = "duration")]
    pub quiet_for: Duration,
    /// A quiet moment is waited for at most so long.
    #[serde(deserialize_with = "duration")]
    pub quiet_deadline: Duration,
    /// What is done when there is none.
    pub quiet_policy: QuietPolicy,
    /// At most so many restarts in an hour; undoing counts and is never refused.
    pub max_per_hour: usize,
    /// The CRI has to answer within this time after a restart.
    #[serde(deserialize_with = "duration")]
    pub ready_deadline: Duration,
    /// How long it has to stay so before the change counts.
    #[serde(deserialize_with = "duration")]
    pub settle_for: Duration,
}

impl Default for RestartSettings {
    fn default() -> Self {
        Self {
            driver: RestartDriver::Systemd,
            command: Vec::new(),
            accept: Vec::new(),
            trial_boot: true,
            quiet_for: Duration::from_secs(2),
            quiet_deadline: Duration::from_secs(60),
            quiet_policy: QuietPolicy::GiveUp,
            max_per_hour: 4,
            ready_deadline: Duration::from_secs(30),
            settle_for: Duration::from_secs(10),
        }
    }
}

/// `[api]`: who may talk to the daemon.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiSettings {
    /// Path of the Unix socket, mode 0660.
    pub socket: String,
    /// Group of the socket; one that does not exist leaves it to root.
    pub group: String,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self { socket: SOCKET_PATH.into(), group: "mirrorlet".into() }
    }
}

/// `[state]`: where the agent remembers.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StateSettings {
    /// Journal, record, past changes, before-images, stored inputs. Mode 0700.
    pub dir: String,
    /// So many past changes can be shown and gone back to; at most 1000.
    pub keep_generations: usize,
}

impl Default for StateSettings {
    fn default() -> Self {
        Self { dir: STATE_DIR.into(), keep_generations: 20 }
    }
}

/// What is done about files of ours that somebody else changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DriftPolicy {
    /// Written anew.
    #[default]
    Repair,
    /// Left, and reported.
    Report,
}

/// What a mirrored host falls back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FallbackPolicy {
    /// The registry itself.
    #[default]
    Upstream,
    /// Nothing.
    None,
}

/// `[policy]`: what holds where a spec entry is silent.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PolicySettings {
    /// What is done about drift.
    pub drift: DriftPolicy,
    /// The same for single files, and for directories with all that is below them; the longest path counts.
    pub drift_at: BTreeMap<String, DriftPolicy>,
    /// Hosts whose foreign files may be replaced.
    pub take_over: Vec<String>,
    /// How long containerd waits for a connection to a mirror (2.1 and later).
    #[serde(deserialize_with = "duration")]
    pub dial_timeout: Duration,
    /// Whether the registry itself is asked when no mirror has an image.
    pub fallback: FallbackPolicy,
}

impl Default for PolicySettings {
    fn default() -> Self {
        Self {
            drift: DriftPolicy::Repair,
            drift_at: BTreeMap::new(),
            take_over: Vec::new(),
            dial_timeout: Duration::from_secs(2),
            fallback: FallbackPolicy::Upstream,
        }
    }
}

impl PolicySettings {
    /// Drift of this path is only told.
    #[must_use]
    pub fn leaves_drift(&self, path: &str) -> bool {
        let is_below = |above: &str| path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let nearest = self.drift_at.iter().filter(|(above, _)| is_below(above)).max_by_key(|(above, _)| above.len());
        *nearest.map_or(&self.drift, |(_, policy)| policy) == DriftPolicy::Report
    }
}

/// The settings file is not usable.
#[derive(Debug, thiserror::Error)]
pub enum SettingsProblem {
    /// Not TOML, an unknown key, or a value of the wrong kind.
    #[error("{file}: {source}")]
    Unreadable {
        /// The file, as given.
        file: String,
        /// Line, column and reason.
        source: Box<toml_edit::de::Error>,
    },
    /// A value that contradicts itself or another one.
    #[error("{file}: {key}: {message}")]
    Wrong {
        /// The file, as given.
        file: String,
        /// The key, with its table.
        key: &'static str,
        /// What is wrong and what would be right.
        message: String,
    },
}

/// Reads settings.
///
/// # Errors
/// When the text is not TOML, has a key that is not a setting, or a value that cannot be meant.
pub fn read(file: &str, text: &str) -> Result<Settings, SettingsProblem> {
    let settings: Settings =
        toml_edit::de::from_str(text).map_err(|source| SettingsProblem::Unreadable { file: file.into(), source: Box::new(source) })?;
    check(&settings).map_err(|(key, message)| SettingsProblem::Wrong { file: file.into(), key, message })?;
    Ok(settings)
}

fn check(settings: &Settings) -> Result<(), (&'static str, String)> {
    let paths = [
        ("spec.path", &settings.spec.path),
        ("spec.secrets_dir", &settings.spec.secrets_dir),
        ("containerd.hosts_dir", &settings.containerd.hosts_dir),
        ("api.socket", &settings.api.socket),
        ("state.dir", &settings.state.dir),
    ];
    let given = [
        ("containerd.config", &settings.containerd.config),
        ("containerd.binary", &settings.containerd.binary),
        ("containerd.address", &settings.containerd.address),
    ];
    let given = given.into_iter().filter_map(|(key, path)| path.as_ref().map(|path| (key, path)));
    let drift_at = settings.policy.drift_at.keys().map(|path| ("policy.drift_at", path));
    for (key, path) in paths.into_iter().chain(given).chain(drift_at) {
        if !is_plain_absolute(path) {
            return Err((key, format!("\"{path}\" is not an absolute path without . and .. parts")));
        }
    }
    if settings.containerd.hosts_dir.contains(':') {
        return Err((
            "containerd.hosts_dir",
            "a list of directories switches mirrors off on containerd 2.1 and later; name one directory".into(),
        ));
    }
    if settings.restart.driver == RestartDriver::Command && settings.restart.command.is_empty() {
        return Err(("restart.command", "driver \"command\" needs command = [\"PROGRAM\", \"ARGUMENT\", …]".into()));
    }
    if !(1..=1000).contains(&settings.state.keep_generations) {
        return Err(("state.keep_generations", "at least 1 and at most 1000 past changes are kept".into()));
    }
    if settings.restart.quiet_for >= settings.restart.quiet_deadline {
        return Err(("restart.quiet_for", "has to be shorter than quiet_deadline, or there is never a quiet moment".into()));
    }
    if settings.restart.max_per_hour == 0 || settings.restart.max_per_hour > 60 {
        return Err(("restart.max_per_hour", "between 1 and 60; to have containerd never restarted, set driver = \"never\"".into()));
    }
    Ok(())
}

fn is_plain_absolute(path: &str) -> bool {
    path.starts_with('/') && !path.contains('\0') && path.split('/').all(|part| part != "." && part != "..")
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text)
        .map_err(|reason| serde::de::Error::custom(format!("\"{text}\" is not a time such as \"2s\": {reason}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_means_every_default() {
        let settings = read("mirrorlet.toml", "").unwrap();
        assert_eq!(settings.containerd.hosts_dir, HOSTS_DIR);
        assert_eq!(settings.restart.ready_deadline, Duration::from_secs(30));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_place() {
        let message = read("mirrorlet.toml", "[spec]\npaht = \"/x\"\n").unwrap_err().to_string();
        assert!(message.contains("line 2") && message.contains("paht"), "{message}");
    }

    #[test]
    fn a_list_of_host_directories_is_refused() {
        let message = read("m.toml", "[containerd]\nhosts_dir = \"/a:/b\"\n").unwrap_err().to_string();
        assert!(message.contains("containerd.hosts_dir"), "{message}");
    }

    #[test]
    fn a_relative_path_is_refused() {
        assert!(read("m.toml", "[state]\ndir = \"var\"\n").is_err());
        assert!(read("m.toml", "[state]\ndir = \"/var/../x\"\n").is_err());
    }

    #[test]
    fn the_nearest_path_says_what_is_done_about_drift() {
        let text = "[policy.drift_at]\n\"/etc/c/certs.d\" = \"report\"\n\"/etc/c/certs.d/a.io\" = \"repair\"\n";
        let policy = read("m.toml", text).unwrap().policy;
        let left = ["/etc/c/certs.d", "/etc/c/certs.d/b.io/hosts.toml", "/etc/c/certs.d/a.ios"];
        let mended = ["/etc/c/config.toml", "/etc/c/certs.d/a.io", "/etc/c/certs.d/a.io/hosts.toml"];
        assert!(left.iter().all(|path| policy.leaves_drift(path)) && !mended.iter().any(|path| policy.leaves_drift(path)));
        assert!(read("m.toml", "[policy.drift_at]\n\"certs.d\" = \"report\"\n").is_err());
    }

    #[test]
    fn times_have_units() {
        assert_eq!(read("m.toml", "[restart]\nsettle_for = \"1m 30s\"\n").unwrap().restart.settle_for, Duration::from_secs(90));
        assert!(read("m.toml", "[restart]\nsettle_for = \"10\"\n").is_err());
    }
}
