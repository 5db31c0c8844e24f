//! Proof rather than hope: containerd uses what is ours, and a restart killed nothing.

use std::collections::BTreeMap;

use super::problems::{NOT_ASKED, TRIED_AGAIN};
use crate::{
    config::Layout,
    host::{
        clock,
        containerd::{Containerd, ContainerdError, TaskName},
        observe::Host,
    },
    observed::{Fact, Place, Process},
    spec::problem::Problem,
};

/// The running containerd uses what is ours.
///
/// # Errors
/// When it does not, or could not be asked.
pub async fn in_use(host: &Host, client: &Containerd, place: &Place, process: &Process) -> Result<(), Problem> {
    match host.prove(client, place, process).await {
        Fact::Known(true) => Ok(()),
        Fact::Known(false) => Err(not_read(host, place)),
        Fact::Unknown(reason) => Err(Problem::new(NOT_ASKED, format!("containerd could not be asked: {reason}"), TRIED_AGAIN)),
    }
}

fn not_read(host: &Host, place: &Place) -> Problem {
    let settings = &host.settings.containerd;
    let (message, key) = match settings.layout {
        Layout::Hosts => {
            (format!("containerd does not read {}: it pulled a test name without looking there", settings.hosts_dir), "config_path")
        }
        Layout::Legacy => (format!("containerd does not use the mirrors in {}: it shows others", place.config), "mirrors"),
    };
    Problem::new("prove.not-read", message, format!("see what \"containerd config dump\" says of registry.{key}"))
}

/// The same tasks with the same processes as before. A container that ended by itself in between is told, one that was lost is an error.
///
/// # Errors
/// When a task lives on that containerd does not know any more, or knows as another process.
pub async fn tasks(client: &Containerd, before: &BTreeMap<TaskName, u32>) -> Result<Vec<Problem>, Problem> {
    let after = client.tasks().await.map_err(|error| tasks_unknown(&error))?;
    let mut notices = Vec::new();
    for ((namespace, id), pid) in before {
        let name = format!("{namespace}/{id} (process {pid})");
        match after.get(&(namespace.clone(), id.clone())) {
            Some(now) if now == pid => {}
            Some(now) => return Err(lost(format!("{name} is process {now} after the restart"))),
            None if clock::start_ticks(*pid).is_some() => {
                return Err(lost(format!("{name} runs on, but containerd does not know it any more")));
            }
            None => notices.push(Problem::new("restart.task-ended", format!("{name} ended while containerd was restarted"), "")),
        }
    }
    Ok(notices)
}

/// The tasks cannot be listed, so that nobody could say whether a restart kept them.
#[must_use]
pub fn tasks_unknown(error: &ContainerdError) -> Problem {
    Problem::new("prove.tasks-unknown", error.to_string(), "see \"journalctl -u containerd\"")
}

fn lost(message: String) -> Problem {
    Problem::new("restart.task-lost", message, "see \"journalctl -u containerd\" and the unit's KillMode")
}
