//! Programs that are run: containerd's own binary, asked about itself, systemctl on a node whose bus is down, and the operator's restart
//! command.
#![expect(clippy::disallowed_methods, reason = "the one place that starts processes")]

use std::{process::Stdio, time::Duration};

use tokio::{process::Command, time::timeout};

use crate::observed::version::Version;

const DEADLINE: Duration = Duration::from_secs(10);

/// A program did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("{program} cannot be run: {source}")]
    NotStarted {
        /// The program.
        program: String,
        /// Why not.
        source: std::io::Error,
    },
    /// It did not end in time and was killed.
    #[error("{program} did not end within {deadline:?}")]
    Late {
        /// The program.
        program: String,
        /// The time it had.
        deadline: Duration,
    },
    /// It failed, or printed what cannot be used.
    #[error("{program} failed: {message}")]
    Failed {
        /// The program.
        program: String,
        /// Exit code and the last line it printed.
        message: String,
    },
}

async fn run(program: &str, arguments: &[&str], deadline: Duration) -> Result<String, CommandError> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
    let output = match timeout(deadline, command.output()).await {
        Err(_) => return Err(CommandError::Late { program: program.into(), deadline }),
        Ok(Err(source)) => return Err(CommandError::NotStarted { program: program.into(), source }),
        Ok(Ok(output)) => output,
    };
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let message = format!("{}: {}", output.status, stderr.trim().lines().last().unwrap_or_default());
        return Err(CommandError::Failed { program: program.into(), message });
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The version of a containerd binary.
///
/// # Errors
/// When it cannot be run or says no version.
pub async fn containerd_version(binary: &str) -> Result<Version, CommandError> {
    let text = run(binary, &["--version"], DEADLINE).await?;
    // "containerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+deb12u3"
    let version = text.split_whitespace().find_map(|word| Version::parse(word).filter(|_| word.contains('.')));
    version.ok_or_else(|| CommandError::Failed { program: binary.into(), message: format!("no version in \"{}\"", text.trim()) })
}

/// What a containerd binary makes of a config file; holds secrets.
///
/// # Errors
/// When it cannot be run or refuses the file.
pub async fn containerd_config_dump(binary: &str, config: &str) -> Result<String, CommandError> {
    run(binary, &["--config", config, "config", "dump"], DEADLINE).await
}

/// systemctl, which talks to systemd without a message bus.
///
/// # Errors
/// When it cannot be run, fails, or does not end in time.
pub async fn systemctl(arguments: &[&str], deadline: Duration) -> Result<String, CommandError> {
    run("systemctl", arguments, deadline).await
}

/// systemd-run, which makes a unit that is gone once it is done.
///
/// # Errors
/// When it cannot be run, fails, or does not end in time.
pub async fn systemd_run(arguments: &[&str], deadline: Duration) -> Result<(), CommandError> {
    run("systemd-run", arguments, deadline).await.map(drop)
}

/// The operator's restart command.
///
/// # Errors
/// When it cannot be run, fails, or does not end in time.
pub async fn restart(command: &[String], deadline: Duration) -> Result<(), CommandError> {
    let arguments: Vec<&str> = command.iter().skip(1).map(String::as_str).collect();
    run(command.first().map(String::as_str).unwrap_or_default(), &arguments, deadline).await.map(drop)
}
