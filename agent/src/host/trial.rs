//! A second containerd for a moment: the node's own binary with a config that is not live yet, in a unit of its own with private root,
//! state, /run and network. What kills the CRI, it shows in a fraction of a second (LAB.md finding 4).

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    commands::{self, CommandError},
    containerd::Containerd,
    cri::Cri,
    files::{FileError, Files},
};
use crate::{config::TRIAL_DIR, observed::entry::Attributes};

const UNIT: &str = "mirrorlet-trial";
const CALL_DEADLINE: Duration = Duration::from_secs(10);
/// It answers in a quarter of a second; a node that swaps has this long.
const DEADLINE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(20);
/// What the unit may not touch, and what it gets instead. All of it is known to systemd 240, as "Type=exec" is.
const PROPERTIES: [&str; 17] = [
    "Type=exec",
    "PrivateNetwork=yes",
    "PrivateTmp=yes",
    "PrivateDevices=yes",
    "ProtectSystem=strict",
    // It would move itself out of the unit, and so out of reach, where its config names a cgroup.
    "ProtectControlGroups=yes",
    "ProtectKernelTunables=yes",
    "ProtectKernelModules=yes",
    // It mounts, to see which snapshotters work. Of root's other powers it needs none of these.
    "CapabilityBoundingSet=~CAP_SYS_TIME CAP_WAKE_ALARM CAP_SYSLOG CAP_SYS_BOOT CAP_SYS_RAWIO CAP_SYS_PTRACE",
    "NoNewPrivileges=yes",
    "LockPersonality=yes",
    "RestrictRealtime=yes",
    // The sockets of the live containerd and of everybody who listens there are out of sight, and so is its database.
    "TemporaryFileSystem=/run /var/lib/containerd",
    "KillMode=control-group",
    "TimeoutStopSec=2",
    // Should nobody be left to stop it.
    "RuntimeMaxSec=60",
    "OOMScoreAdjust=900",
];

/// How a trial ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trial {
    /// Its CRI answered.
    Ready,
    /// It did not; why, a sentence.
    Dead(String),
}

/// There was no trial.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// Its files cannot be written.
    #[error(transparent)]
    File(#[from] FileError),
    /// systemd does not start it.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Its socket has no name.
    #[error("{0}")]
    Address(String),
}

/// Starts a containerd with this config, asks it, and takes it away again. What is in `hidden` it does not see.
///
/// # Errors
/// When it could not even be tried.
pub async fn boot(files: &Files, binary: &str, config: &str, hidden: Option<&str>) -> Result<Trial, TrialError> {
    // One that a killed process left lives on without its directory.
    let _ = commands::systemctl(&["stop", UNIT], CALL_DEADLINE).await;
    clear(files).await;
    files.make_own_directory(TRIAL_DIR)?;
    files.put(&format!("{TRIAL_DIR}/config.toml"), &config.into(), &Attributes::root(0o600))?;
    let ended = start_and_ask(files, binary, hidden).await;
    clear(files).await;
    ended
}

/// What a trial leaves when nobody cleans up after it.
pub async fn clear(files: &Files) {
    if files.is_directory(TRIAL_DIR) {
        let _ = commands::systemctl(&["stop", UNIT], CALL_DEADLINE).await;
        let _ = files.remove(TRIAL_DIR);
    }
}

async fn start_and_ask(files: &Files, binary: &str, hidden: Option<&str>) -> Result<Trial, TrialError> {
    let address = format!("{TRIAL_DIR}/containerd.sock");
    let properties: Vec<String> = PROPERTIES
        .iter()
        .map(|property| format!("--property={property}"))
        .chain([format!("--property=BindPaths={TRIAL_DIR}"), format!("--property=StandardError=file:{TRIAL_DIR}/log")])
        .chain(hidden.map(|directory| format!("--property=InaccessiblePaths=\"-{directory}\"")))
        .collect();
    let unit = format!("--unit={UNIT}");
    let place = [format!("{TRIAL_DIR}/config.toml"), format!("{TRIAL_DIR}/root"), format!("{TRIAL_DIR}/state")];
    let mut arguments = vec!["--quiet", "--collect", unit.as_str(), "--description=a config for containerd is tried"];
    arguments.extend(properties.iter().map(String::as_str));
    arguments.extend([binary, "--config", &place[0], "--root", &place[1], "--state", &place[2], "--address", &address]);
    commands::systemd_run(&arguments, CALL_DEADLINE).await?;
    let client = Containerd::at(&address).map_err(|error| TrialError::Address(error.to_string()))?;
    let begun = Instant::now();
    loop {
        if Cri::on(client.channel()).check().await.is_ok() {
            return Ok(Trial::Ready);
        }
        let errors = client.cri_plugin_errors().await.unwrap_or_default();
        if !errors.is_empty() {
            return Ok(Trial::Dead(errors.join("; ")));
        }
        let asked = commands::systemctl(&["is-active", "--quiet", UNIT], CALL_DEADLINE).await;
        let is_gone = matches!(asked, Err(CommandError::Failed { .. }));
        if is_gone || begun.elapsed() > DEADLINE {
            let what = if is_gone { "it ended by itself" } else { "its CRI did not answer" };
            return Ok(Trial::Dead(format!("{what}{}", last_words(files))));
        }
        sleep(PAUSE).await;
    }
}

fn last_words(files: &Files) -> String {
    let log = files.read_named(&format!("{TRIAL_DIR}/log"), 1 << 20).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let telling = |line: &&str| line.contains("level=fatal") || line.contains("level=error") || line.starts_with("containerd:");
    // containerd prints its whole config in one line, logins and all.
    let said = |line: &&str| !line.contains("with config");
    log.lines().rfind(telling).or_else(|| log.lines().rfind(said)).map(|line| format!(": {line}")).unwrap_or_default()
}
