//! Time and boot, read here and handed on as arguments.
#![expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Seconds of Unix time.
#[must_use]
pub fn unix_seconds() -> i64 {
    unix_millis() / 1000
}

/// Milliseconds of Unix time.
#[must_use]
pub fn unix_millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

/// A point in time that only goes forward.
#[must_use]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// The kernel's id of this boot.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// When a process was started, in milliseconds of Unix time; `None` when there is no such process.
#[must_use]
pub fn process_started_ms(pid: u32) -> Option<i64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    // Ticks are 1/100 s for every program since Linux 2.6 (proc_pid_stat(5), USER_HZ).
    Some(boot * 1000 + ticks * 10)
}
