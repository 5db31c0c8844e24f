//! systemd, over D-Bus: what it says of containerd's unit, and restarting it.
//!
//! Without a bus, by systemctl, which root lets talk to systemd itself: a rescue has to work on a node whose bus is down. (On that private
//! socket systemd signs its messages with a name that is none of D-Bus's, and zbus 6.2 refuses them.)

use std::time::Duration;

use tokio::time::timeout;
use tokio_stream::StreamExt;
use zbus::{Connection, OwnedObjectPath, proxy};

use super::commands::{self, CommandError};
use crate::observed::{ConfigFile, Unit};

const CALL_DEADLINE: Duration = Duration::from_secs(10);

#[proxy(
    interface = "org.freedesktop.systemd1.Manager",
    default_service = "org.freedesktop.systemd1",
    default_path = "/org/freedesktop/systemd1"
)]
trait Manager {
    fn load_unit(&self, name: &str) -> zbus::Result<OwnedObjectPath>;
    fn reset_failed_unit(&self, name: &str) -> zbus::Result<()>;
    fn restart_unit(&self, name: &str, mode: &str) -> zbus::Result<OwnedObjectPath>;
    fn subscribe(&self) -> zbus::Result<()>;
    #[zbus(signal)]
    fn job_removed(&self, id: u32, job: OwnedObjectPath, unit: String, result: String) -> zbus::Result<()>;
}

#[proxy(interface = "org.freedesktop.systemd1.Unit", default_service = "org.freedesktop.systemd1")]
trait UnitProperties {
    #[zbus(property(emits_changed_signal = "false"))]
    fn load_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn active_state(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn need_daemon_reload(&self) -> zbus::Result<bool>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn fragment_path(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn drop_in_paths(&self) -> zbus::Result<Vec<String>>;
}

/// One command of ExecStart as systemd hands it out: path, arguments, and what became of its last run.
type ExecCommand = (String, Vec<String>, bool, u64, u64, u64, u64, u32, i32, i32);

#[proxy(interface = "org.freedesktop.systemd1.Service", default_service = "org.freedesktop.systemd1")]
trait ServiceProperties {
    #[zbus(property(emits_changed_signal = "false"))]
    fn kill_mode(&self) -> zbus::Result<String>;
    #[zbus(property(emits_changed_signal = "false"))]
    fn exec_start(&self) -> zbus::Result<Vec<ExecCommand>>;
    #[zbus(property(emits_changed_signal = "false"), name = "MainPID")]
    fn main_pid(&self) -> zbus::Result<u32>;
}

/// systemd did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum UnitError {
    /// The bus does not answer.
    #[error("systemd cannot be reached: {0}")]
    Unreachable(#[source] zbus::Error),
    /// The bus does not answer, and systemctl does not help either.
    #[error("systemd cannot be reached by bus, and {0}")]
    Systemctl(#[source] CommandError),
    /// A call was refused.
    #[error("systemd refused: {0}")]
    Refused(#[from] zbus::Error),
    /// No answer in time.
    #[error("systemd gave no answer within {0:?}")]
    Late(Duration),
    /// The job ended otherwise than done.
    #[error("the restart job of {unit} ended as \"{result}\"")]
    JobFailed {
        /// The unit.
        unit: String,
        /// systemd's word: failed, timeout, canceled, dependency, skipped.
        result: String,
    },
}

async fn connect() -> Result<Connection, UnitError> {
    let bus = zbus::connection::Builder::system().method_timeout(CALL_DEADLINE).build();
    timeout(CALL_DEADLINE, bus).await.map_err(|_| UnitError::Late(CALL_DEADLINE))?.map_err(UnitError::Unreachable)
}

/// What systemd says of a unit. Its files are named, not read.
///
/// # Errors
/// When systemd cannot be reached or refuses.
pub async fn look(name: &str) -> Result<(Unit, u32), UnitError> {
    match timeout(CALL_DEADLINE, look_now(name)).await.map_err(|_| UnitError::Late(CALL_DEADLINE))? {
        Err(UnitError::Unreachable(_)) => look_by_systemctl(name).await,
        answer => answer,
    }
}

async fn look_by_systemctl(name: &str) -> Result<(Unit, u32), UnitError> {
    const PROPERTIES: &str = "LoadState,ActiveState,KillMode,NeedDaemonReload,MainPID,ExecStart,FragmentPath,DropInPaths";
    let text = commands::systemctl(&["show", "--property", PROPERTIES, name], CALL_DEADLINE).await.map_err(UnitError::Systemctl)?;
    Ok(shown(name, &text))
}

/// Reads `systemctl show`.
fn shown(name: &str, text: &str) -> (Unit, u32) {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).unwrap_or_default();
    let arguments = value("ExecStart").split(" ; ").find_map(|part| part.trim().strip_prefix("argv[]=")).unwrap_or_default();
    let unit = Unit {
        name: name.to_owned(),
        load_state: value("LoadState").to_owned(),
        active_state: value("ActiveState").to_owned(),
        kill_mode: value("KillMode").to_owned(),
        needs_daemon_reload: value("NeedDaemonReload") == "yes",
        exec_start: arguments.split_whitespace().map(str::to_owned).collect(),
        files: ["FragmentPath", "DropInPaths"].into_iter().flat_map(|key| value(key).split_whitespace()).map(unread).collect(),
    };
    (unit, value("MainPID").parse().unwrap_or(0))
}

async fn look_now(name: &str) -> Result<(Unit, u32), UnitError> {
    let connection = connect().await?;
    let path = ManagerProxy::new(&connection).await?.load_unit(name).await?;
    let unit =
        UnitPropertiesProxy::builder(&connection).path(path.clone()).cache_properties(zbus::proxy::CacheProperties::No).build().await?;
    let service =
        ServicePropertiesProxy::builder(&connection).path(path).cache_properties(zbus::proxy::CacheProperties::No).build().await?;
    let exec_start = service
        .exec_start()
        .await
        .unwrap_or_default()
        .into_iter()
        .next()
        .map(|command| with_program(command.0, command.1))
        .unwrap_or_default();
    let files = std::iter::once(unit.fragment_path().await?).chain(unit.drop_in_paths().await?);
    let facts = Unit {
        files: files.filter(|path| !path.is_empty()).map(|path| unread(&path)).collect(),
        name: name.to_owned(),
        load_state: unit.load_state().await?,
        active_state: unit.active_state().await?,
        needs_daemon_reload: unit.need_daemon_reload().await?,
        kill_mode: service.kill_mode().await.unwrap_or_default(),
        exec_start,
    };
    Ok((facts, service.main_pid().await.unwrap_or(0)))
}

fn unread(path: &str) -> ConfigFile {
    ConfigFile { path: path.to_owned(), text: None, changed_ms: 0 }
}

fn with_program(program: String, arguments: Vec<String>) -> Vec<String> {
    std::iter::once(program).chain(arguments.into_iter().skip(1)).collect()
}

/// Restarts a unit and waits for the job's result, at most `deadline`.
///
/// `reset-failed` first: the sixth restart within 10 s would leave the unit down for good (LAB.md 6).
///
/// # Errors
/// When systemd cannot be reached, the job fails, or it does not end in time.
pub async fn restart(name: &str, deadline: Duration) -> Result<(), UnitError> {
    match timeout(deadline, restart_now(name)).await.map_err(|_| UnitError::Late(deadline))? {
        Err(UnitError::Unreachable(_)) => restart_by_systemctl(name, deadline).await,
        answer => answer,
    }
}

async fn restart_by_systemctl(name: &str, deadline: Duration) -> Result<(), UnitError> {
    // A unit that never failed has nothing to reset; that is no error to us.
    let _ = commands::systemctl(&["reset-failed", name], CALL_DEADLINE).await;
    commands::systemctl(&["restart", name], deadline).await.map(drop).map_err(UnitError::Systemctl)
}

async fn restart_now(name: &str) -> Result<(), UnitError> {
    let connection = connect().await?;
    let manager = ManagerProxy::new(&connection).await?;
    let mut removed = manager.receive_job_removed().await?;
    manager.subscribe().await?;
    // A unit that never failed has nothing to reset; that is no error to us.
    let _ = manager.reset_failed_unit(name).await;
    let job = manager.restart_unit(name, "replace").await?;
    while let Some(signal) = removed.next().await {
        let arguments = signal.args()?;
        if arguments.job == job {
            return match arguments.result.as_str() {
                "done" => Ok(()),
                result => Err(UnitError::JobFailed { unit: name.to_owned(), result: result.to_owned() }),
            };
        }
    }
    Err(UnitError::JobFailed { unit: name.to_owned(), result: "connection lost".into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemctl_show_is_read() {
        let text = "MainPID=42\nExecStart={ path=/usr/bin/containerd ; argv[]=/usr/bin/containerd --config /etc/c.toml ; ignore_errors=no ; pid=42 }\nLoadState=loaded\nActiveState=active\nKillMode=process\nNeedDaemonReload=no\nFragmentPath=/u.service\nDropInPaths=/d/a.conf /d/b.conf\n";
        let (unit, pid) = shown("containerd.service", text);
        assert_eq!((pid, unit.kill_mode.as_str(), unit.config_argument()), (42, "process", Some("/etc/c.toml")));
        assert_eq!(unit.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["/u.service", "/d/a.conf", "/d/b.conf"]);
    }
}
