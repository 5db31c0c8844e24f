//! Desired state to the bytes containerd will read. Pure; every text is written by a serializer and parsed again before it is handed on.

pub mod config_toml;
pub mod host_directory;
pub mod hosts_toml;
pub mod legacy;
