//! A timer of systemd's own that outlives this process: it goes back to what was in effect before, unless it is taken away in time.

use std::time::Duration;

use super::{
    commands::{self, CommandError},
    planted,
};
use crate::config::Settings;

const DEADLINE: Duration = Duration::from_secs(10);
/// It comes after the daemon's own deadline, which it is there for when the daemon is not.
const LATER: Duration = Duration::from_millis(500);

fn unit(generation: u64) -> String {
    format!("mirrorlet-confirm-{generation}")
}

/// After `within`, `mirrorlet revert --pending GENERATION` is run by systemd.
///
/// # Errors
/// When systemd cannot be asked, or refuses.
pub async fn arm(settings: &Settings, generation: u64, within: Duration) -> Result<(), CommandError> {
    if planted::has("no-timer") {
        return Ok(());
    }
    let program = std::env::current_exe().unwrap_or_default().to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let unit = format!("--unit={}", unit(generation));
    let after = format!("--on-active={}ms", (within + LATER).as_millis());
    let number = generation.to_string();
    let mut arguments = vec![
        "--quiet",
        unit.as_str(),
        after.as_str(),
        "--timer-property=AccuracySec=100ms",
        "--property=Type=oneshot",
        "--description=goes back from a change nobody confirmed",
        program.as_str(),
    ];
    if let Some(file) = &settings.file {
        arguments.extend(["--config", file.as_str()]);
    }
    arguments.extend(["revert", "--pending", number.as_str()]);
    commands::systemd_run(&arguments, DEADLINE).await
}

/// Takes the timer away. One that fired, or never was, is fine.
pub async fn disarm(generation: u64) {
    let timer = format!("{}.timer", unit(generation));
    let _ = commands::systemctl(&["stop", timer.as_str()], DEADLINE).await;
}
