//! The content of what a spec names: CA bundles, logins, keys.
//!
//! Bytes come in, checked values go out. No message made here repeats a byte of a secret.

mod ca_bundle;
mod client_pair;
mod docker_config;
mod login;
mod pem;
mod service_account_key;

pub use ca_bundle::{CaBundle, Certificate};
pub use client_pair::ClientPair;
pub use docker_config::DockerConfig;
pub use login::Login;
pub use service_account_key::ServiceAccountKey;

use super::{codes, problem::Problem};

/// Most bytes an input may have: a whole system's CA bundle is a fifth of it.
pub const MOST_BYTES: usize = 1 << 20;

/// Refuses what is too large to be what it should be.
fn refuse_large(bytes: &[u8]) -> Result<(), Problem> {
    if bytes.len() <= MOST_BYTES {
        return Ok(());
    }
    let message = format!("this file has {} bytes, at most {MOST_BYTES} are read", bytes.len());
    Err(Problem::new(codes::INPUT_SIZE, message, "check that it is the right file"))
}

/// JSON as a value. The parser's own messages may repeat what they read, so only the place is told.
fn parse_json(bytes: &[u8]) -> Result<serde_json::Value, Problem> {
    refuse_large(bytes)?;
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("this is not JSON: line {}, column {}", error.line(), error.column());
        Problem::new(codes::JSON_SYNTAX, message, "check that the file is whole")
    })
}
