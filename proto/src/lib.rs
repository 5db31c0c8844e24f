//! Generated code only: `mirrorlet.v1`, the agent's API, and `cri`, the part of the CRI that it calls.

/// The agent's own API.
#[allow(clippy::all, missing_docs)]
pub mod v1 {
    tonic::include_proto!("mirrorlet.v1");

    /// Descriptors of this package, for server reflection.
    pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/mirrorlet.v1.fds"));
}

/// The part of `runtime.v1` (CRI) that the agent calls.
#[allow(clippy::all, missing_docs)]
pub mod cri {
    tonic::include_proto!("runtime.v1");
}
