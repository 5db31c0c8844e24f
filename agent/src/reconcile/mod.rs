//! The loop that makes the node what the spec says, and the pure machine that decides.

pub mod commands;
