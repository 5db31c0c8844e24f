//! Everything outside the process: one file or folder for each outside system. All effects are here, and no decision.

pub mod blame;
pub mod clock;
pub mod commands;
pub mod containerd;
pub mod cri;
pub mod facts;
pub mod files;
pub mod inputs;
pub mod listener;
pub mod live_read;
pub mod log;
pub mod notify;
pub mod observe;
pub mod planted;
pub mod proof;
pub mod registry;
pub mod signals;
pub mod socket;
pub mod staging;
pub mod state;
pub mod timer;
pub mod trial;
pub mod units;
pub mod watch;
