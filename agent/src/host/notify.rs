//! Tells systemd how the daemon is. Without systemd nothing happens.

use std::time::Duration;

use sd_notify::NotifyState;

/// The daemon serves.
pub fn ready() {
    let _ = sd_notify::notify(&[NotifyState::Ready]);
}

/// The daemon is going.
pub fn stopping() {
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
}

/// One line for `systemctl status`.
pub fn status(line: &str) {
    let _ = sd_notify::notify(&[NotifyState::Status(line)]);
}

/// The daemon is alive.
pub fn watchdog() {
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}

/// How often [`watchdog`] has to be called; `None`: nobody waits for it.
#[must_use]
pub fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|timeout| timeout / 2)
}
