//! Exit codes of both programs, one for each cause.

/// Yes; the same; done.
pub const DONE: u8 = 0;
/// No; it differs; there are findings.
pub const DIFFERS: u8 = 1;
/// The command line, the settings or the spec cannot be meant.
pub const USAGE: u8 = 2;
/// The daemon cannot be reached.
pub const UNREACHABLE: u8 = 3;
/// The caller may not do that.
pub const DENIED: u8 = 4;
/// The plan was refused; nothing was changed.
pub const REFUSED: u8 = 5;
/// The change failed and was undone.
pub const ROLLED_BACK: u8 = 6;
/// Somebody else changed something in between.
pub const STALE: u8 = 7;
/// Another mirrorlet, or another test pull, is at work.
pub const LOCKED: u8 = 8;
/// The image could not be pulled.
pub const PULL_FAILED: u8 = 9;
/// A file or a system call failed.
pub const FAILED: u8 = 10;
/// The answer did not come in time.
pub const LATE: u8 = 11;
