//! Tells systemd how the daemon is. Without systemd nothing happens.

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

/// The daemon is alive. Called every 30 s; the unit waits 60.
pub fn watchdog() {
    let _ = sd_notify::notify(&[NotifyState::Watchdog]);
}
