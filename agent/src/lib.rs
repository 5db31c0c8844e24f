//! mirrorlet: makes containerd pull through registry mirrors, and proves it.
//!
//! The modules in the order in which a change flows through them.

pub mod config;
pub mod exit;

pub mod spec;

pub mod observed;

pub mod render;

pub mod plan;

pub mod status;

pub mod host;

pub mod apply;

pub mod diagnose;

pub mod reconcile;

pub mod wire;

pub mod service;

pub mod cli;
