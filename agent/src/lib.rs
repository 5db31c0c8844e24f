//! mirrorlet: makes containerd pull through registry mirrors, and proves it.
//!
//! The modules in the order in which a change flows through them.

pub mod apply;
pub mod config;
pub mod host;
pub mod observed;
pub mod plan;
pub mod render;
pub mod spec;
