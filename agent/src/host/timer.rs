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

/// No apply takes longer than this.
const LONGEST_APPLY: Duration = Duration::from_secs(300);

fn unit(generation: u64) -> String {
    format!("mirrorlet-confirm-{generation}")
}

fn guard_unit(generation: u64) -> String {
    format!("mirrorlet-guard-{generation}")
}

/// After `within`, `mirrorlet revert --pending GENERATION` is run by systemd.
///
/// # Errors
/// When systemd cannot be asked, or refuses.
pub async fn arm(settings: &Settings, generation: u64, within: Duration) -> Result<(), CommandError> {
    set(settings, &unit(generation), generation, within + LATER).await
}

/// The same for the case that the process ends before the apply does: the time begins now, and is longer.
///
/// # Errors
/// When systemd cannot be asked, or refuses.
pub async fn guard(settings: &Settings, generation: u64, within: Duration) -> Result<(), CommandError> {
    set(settings, &guard_unit(generation), generation, within + LONGEST_APPLY).await
}

async fn set(settings: &Settings, unit: &str, generation: u64, after: Duration) -> Result<(), CommandError> {
    if planted::has("no-timer") {
        return Ok(());
    }
    let program = std::env::current_exe().unwrap_or_default().to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let unit = format!("--unit={unit}");
    let after = format!("--on-active={}ms", after.as_millis());
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

/// Takes the timers away. Those that fired, or never were, are fine.
pub async fn disarm(generation: u64) {
    let timers = [unit(generation), guard_unit(generation)].map(|unit| format!("{unit}.timer"));
    let _ = commands::systemctl(&["stop", &timers[0], &timers[1]], DEADLINE).await;
}
