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

/// Milliseconds since boot, the time the machine was suspended included; the wall clock does not touch it.
#[must_use]
pub fn boot_millis() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME);
    now.map_or(0, |now| u64::try_from(now.tv_sec()).unwrap_or(0) * 1000 + u64::try_from(now.tv_nsec()).unwrap_or(0) / 1_000_000)
}

/// The kernel's id of this boot.
#[must_use]
pub fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned()).unwrap_or_default()
}

/// Ticks of the kernel's clock in a second, for every program since Linux 2.6 (proc_pid_stat(5), USER_HZ).
const TICKS: u64 = 100;

/// When a process was started, in ticks since boot; `None` when there is no such process.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

/// The same point in milliseconds of Unix time, to some 20 ms. `btime` of /proc/stat is in whole seconds and would be too coarse.
#[must_use]
pub fn unix_millis_of(ticks: u64) -> i64 {
    let uptime = std::fs::read_to_string("/proc/uptime").ok();
    let uptime = uptime.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0);
    unix_millis() - (uptime * 1000.0) as i64 + (ticks * 1000 / TICKS) as i64
}
