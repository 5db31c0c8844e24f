//! Compiles the .proto files with protox, so that this crate needs no protoc.

#![allow(clippy::disallowed_methods, clippy::disallowed_macros, reason = "a build script reads and writes files")]

use std::{env, fs, path::PathBuf};

use prost::Message;

const OURS: [&str; 5] = [
    "mirrorlet/v1/plan.proto",
    "mirrorlet/v1/status.proto",
    "mirrorlet/v1/mirror_service.proto",
    "mirrorlet/v1/pull_service.proto",
    "mirrorlet/v1/diagnostics_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=mirrorlet");
    println!("cargo:rerun-if-changed=cri");
    let out = PathBuf::from(env::var("OUT_DIR")?);

    let ours = protox::compile(OURS, ["."])?;
    fs::write(out.join("mirrorlet.v1.fds"), ours.encode_to_vec())?;
    tonic_prost_build::configure().compile_fds(ours)?;

    let cri = protox::compile(["runtime/v1/api.proto"], ["cri"])?;
    tonic_prost_build::configure().build_server(false).compile_fds(cri)?;
    Ok(())
}
