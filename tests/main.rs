//! What crosses modules or processes: real containerd of three generations, real registries, real systemd, under the shipped unit.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_macros,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "tests look at the node from outside"
)]

mod architecture;
mod bench;
mod cases_plan;
mod cases_spec;
mod configs;
mod daemon;
mod drift;
mod harness;
mod history;
mod legacy;
mod mirrors;
mod operators;
mod package;
mod planted;
mod readme;
mod staged;
mod stand;
mod torture;
