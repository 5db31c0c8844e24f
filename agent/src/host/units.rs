//! systemd, over D-Bus: what it says of containerd's unit, and restarting it.
//!
//! The bus first; without one, systemd's own socket (`/run/systemd/private`), so that a rescue works on a node whose bus is down.

use std::time::Duration;

use tokio::{net::UnixStream, time::timeout};
use tokio_stream::StreamExt;
use zbus::{Connection, OwnedObjectPath, proxy};

use crate::observed::Unit;

const PRIVATE_SOCKET: &str = "/run/systemd/private";
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
    /// Neither bus nor private socket answers.
    #[error("systemd cannot be reached: {0}")]
    Unreachable(#[source] zbus::Error),
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
    let error = match timeout(CALL_DEADLINE, bus).await {
        Ok(Ok(connection)) => return Ok(connection),
        Ok(Err(error)) => error,
        Err(_) => return Err(UnitError::Late(CALL_DEADLINE)),
    };
    let private = UnixStream::connect(PRIVATE_SOCKET).await.and_then(UnixStream::into_std);
    let Ok(stream) = private else { return Err(UnitError::Unreachable(error)) };
    let direct = zbus::connection::Builder::unix_stream(stream).p2p().method_timeout(CALL_DEADLINE).build();
    timeout(CALL_DEADLINE, direct).await.map_err(|_| UnitError::Late(CALL_DEADLINE))?.map_err(UnitError::Unreachable)
}

/// What systemd says of a unit.
///
/// # Errors
/// When systemd cannot be reached or refuses.
pub async fn look(name: &str) -> Result<(Unit, u32), UnitError> {
    timeout(CALL_DEADLINE, look_now(name)).await.map_err(|_| UnitError::Late(CALL_DEADLINE))?
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
    let facts = Unit {
        name: name.to_owned(),
        load_state: unit.load_state().await?,
        active_state: unit.active_state().await?,
        needs_daemon_reload: unit.need_daemon_reload().await?,
        kill_mode: service.kill_mode().await.unwrap_or_default(),
        exec_start,
    };
    Ok((facts, service.main_pid().await.unwrap_or(0)))
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
    timeout(deadline, restart_now(name)).await.map_err(|_| UnitError::Late(deadline))?
}

async fn restart_now(name: &str) -> Result<(), UnitError> {
    let connection = connect().await?;
    let manager = ManagerProxy::new(&connection).await?;
    let mut removed = manager.receive_job_removed().await?;
    // The private socket sends signals without being asked, and refuses to be asked.
    let _ = manager.subscribe().await;
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
