//! Restarting containerd, and when that counts as done: the job's result, a new process, no plugin that failed, a CRI that answers.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use crate::{
    config::RestartDriver,
    host::{clock, commands, containerd::Containerd, cri::Cri, observe::Host, units},
    observed::Process,
    spec::problem::Problem,
};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Restarts containerd and waits for its CRI, at most the deadline of the settings. Returns the new process.
///
/// # Errors
/// When the restart fails, or the CRI is not there in time.
pub async fn restart(host: &Host, client: &Containerd, old_pid: Option<u32>) -> Result<Process, Problem> {
    let settings = &host.settings.restart;
    let begun = clock::monotonic();
    let deadline = settings.ready_deadline;
    match settings.driver {
        RestartDriver::Systemd => units::restart(&host.settings.containerd.unit, deadline).await.map_err(|error| restart_failed(&error))?,
        RestartDriver::Command => commands::restart(&settings.command, deadline).await.map_err(|error| restart_failed(&error))?,
        RestartDriver::Never => {
            return Err(Problem::new(
                "restart.never",
                "[restart] driver = \"never\": nobody may be asked to restart containerd",
                "restart it yourself",
            ));
        }
    }
    let mut last = "it was not asked yet".to_owned();
    let left = deadline.saturating_sub(begun.elapsed());
    timeout(left, ready(host, client, old_pid, &mut last)).await.unwrap_or_else(|_| {
        let message = format!("containerd's CRI was not ready {} s after the restart: {last}", deadline.as_secs());
        Err(Problem::new("restart.cri-late", message, "see \"journalctl -u containerd\""))
    })
}

fn restart_failed(error: &dyn std::error::Error) -> Problem {
    Problem::new("restart.failed", format!("containerd did not restart: {error}"), "see \"journalctl -u containerd\"")
}

/// Asks until the CRI answers. A plugin that failed to load will not load by waiting.
async fn ready(host: &Host, client: &Containerd, old_pid: Option<u32>, last: &mut String) -> Result<Process, Problem> {
    let mut pause = FIRST_PAUSE;
    loop {
        match new_process(host, client, old_pid).await {
            Err(reason) => *last = reason,
            Ok(process) => match Cri::on(client.channel()).check().await {
                Ok(()) => return check(client, &process).await.map(|()| process),
                Err(error) => {
                    *last = error.to_string();
                    plugins(client).await?;
                }
            },
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn new_process(host: &Host, client: &Containerd, old_pid: Option<u32>) -> Result<Process, String> {
    let main_pid = match host.settings.restart.driver {
        RestartDriver::Systemd => units::look(&host.settings.containerd.unit).await.map_or(0, |(_, pid)| pid),
        _ => 0,
    };
    let process = client.process(main_pid).await.map_err(|error| error.to_string())?;
    if old_pid == Some(process.pid) { Err(format!("process {} is still the old one", process.pid)) } else { Ok(process) }
}

async fn plugins(client: &Containerd) -> Result<(), Problem> {
    // A daemon that does not answer yet is not one whose plugins failed.
    let errors = client.cri_plugin_errors().await.unwrap_or_default();
    if errors.is_empty() {
        return Ok(());
    }
    Err(Problem::new(
        "restart.cri-dead",
        format!("containerd started without its CRI: {}", errors.join("; ")),
        "its unit is active all the same; see \"ctr plugins ls\"",
    ))
}

/// The same process still runs, its plugins are loaded and its CRI answers.
///
/// # Errors
/// What is wrong.
pub async fn check(client: &Containerd, process: &Process) -> Result<(), Problem> {
    plugins(client).await?;
    Cri::on(client.channel())
        .check()
        .await
        .map_err(|error| Problem::new("restart.cri-dead", error.to_string(), "see \"journalctl -u containerd\""))?;
    if clock::start_ticks(process.pid) != Some(process.start_ticks) {
        return Err(Problem::new(
            "restart.crashed",
            format!("containerd's process {} is gone again", process.pid),
            "see \"journalctl -u containerd\"",
        ));
    }
    Ok(())
}
