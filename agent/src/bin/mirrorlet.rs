//! The daemon: arguments, settings, the node, then loop and service.
#![expect(clippy::disallowed_methods, reason = "a program reads its arguments and prints its last word")]

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand};
use mirrorlet::{
    config::{self, SETTINGS_PATH, Settings},
    exit,
    host::{files::Files, log, notify, observe::Host, signals::Stop, socket},
    reconcile::Reconciler,
    service::{Api, listen},
    spec::problem::Problem,
    status::Status,
};
use tokio::sync::{mpsc, watch};

/// Commands that wait while an apply is under way.
const WAITING_COMMANDS: usize = 64;

/// Makes containerd pull through registry mirrors, safely.
#[derive(Debug, Parser)]
#[command(name = "mirrorlet", version)]
struct Arguments {
    /// The daemon's settings; the default may be absent.
    #[arg(long, value_name = "FILE")]
    config: Option<String>,
    /// Every path is below this directory; no process of this node is asked or restarted.
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum Verb {
    /// Watch the spec, keep the node so, serve the API.
    Run,
    /// One round: make the node what the spec says, then end.
    Once,
    /// Finish or undo an apply that was interrupted, and go back from a change that a boot left unconfirmed; needs no containerd.
    Recover,
    /// Go back to an earlier generation; holds until "mirrorctl resume" or another spec.
    Revert {
        /// Its number, 0 for the node as it was found. Without it: the one before the present one.
        #[arg(conflicts_with = "pending")]
        generation: Option<u64>,
        /// Only if this generation still waits for its confirmation and its time is over; what systemd's timer runs.
        #[arg(long, value_name = "GENERATION")]
        pending: Option<u64>,
    },
    /// Give the node back as it was found; holds until "mirrorctl resume" or another spec.
    Disable,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log::start();
    match start(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(problem) => {
            complain(&format!("mirrorlet: {problem}"));
            ExitCode::from(match problem.code.as_ref() {
                "state.locked" => exit::LOCKED,
                "settings" => exit::USAGE,
                _ => exit::FAILED,
            })
        }
    }
}

fn start(arguments: &Arguments) -> Result<u8, Problem> {
    let files = Files::open(&arguments.root).map_err(|error| Problem::new("root", error.to_string(), "name a directory"))?;
    let settings = settings(&files, arguments.config.as_deref())?;
    // What runs before containerd and the bus asks neither.
    let is_offline = arguments.root != Path::new("/") || matches!(arguments.verb, Verb::Recover);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Problem::new("runtime", error.to_string(), ""))?;
    runtime.block_on(carry_out(arguments.verb, Host::new(files, settings, is_offline)))
}

fn settings(files: &Files, given: Option<&str>) -> Result<Settings, Problem> {
    let path = given.unwrap_or(SETTINGS_PATH);
    let text = match files.read_named(path, 1 << 20) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && given.is_none() => String::new(),
        Err(error) => return Err(Problem::new("settings", format!("{path} cannot be read: {error}"), "")),
    };
    let settings = config::read(path, &text).map_err(|error| Problem::new("settings", error.to_string(), ""))?;
    Ok(Settings { file: given.map(str::to_owned), ..settings })
}

async fn carry_out(verb: Verb, host: Host) -> Result<u8, Problem> {
    let settings = host.settings.clone();
    let (mut reconciler, status) = match verb {
        Verb::Revert { pending: Some(number), .. } => match Reconciler::start_for_pending(host, number).await? {
            Some(started) => started,
            None => return Ok(exit::DONE),
        },
        _ => Reconciler::start(host)?,
    };
    match verb {
        Verb::Run => run(reconciler, status, &settings).await.map(|()| exit::DONE),
        Verb::Once => Ok(told(&reconciler.once().await)),
        Verb::Disable => Ok(gone_back(&reconciler.disable().await?)),
        Verb::Revert { pending: Some(_), .. } => Ok(gone_back(&reconciler.revert_pending().await)),
        Verb::Revert { generation, .. } => Ok(gone_back(&reconciler.revert_to(generation).await?)),
        Verb::Recover => {
            reconciler.revert_pending_of_another_boot().await;
            Ok(if reconciler.is_clean() { exit::DONE } else { exit::FAILED })
        }
    }
}

/// Loop and service side by side, until SIGTERM or SIGINT. What the loop has begun it carries to its end.
async fn run(reconciler: Reconciler, status: watch::Receiver<Status>, settings: &Settings) -> Result<(), Problem> {
    let failed = |error: &dyn std::error::Error| Problem::new("daemon", error.to_string(), "");
    let bound = socket::bind(Path::new(&settings.api.socket), &settings.api.group).map_err(|error| failed(&error))?;
    if let Some(reason) = bound.group_problem {
        tracing::warn!("{reason}");
    }
    let (commands, receiver) = mpsc::channel(WAITING_COMMANDS);
    let stop = Stop::at_signals().map_err(|error| failed(&error))?;
    let api = listen::serve(Api::new(commands, status), bound.listener, stop.clone().asked());
    notify::ready();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), socket = %settings.api.socket, "serving");
    let served = async { api.await.map_err(|error| failed(&error)) };
    let ended = tokio::try_join!(reconciler.run(receiver, stop.asked()), served);
    notify::stopping();
    ended.map(drop)
}

/// Going back succeeded, whatever is to be said of the spec that is still there.
fn gone_back(status: &Status) -> u8 {
    say(&status.line());
    exit::DONE
}

/// Prints where the node stands, and says it as an exit code.
fn told(status: &Status) -> u8 {
    say(&status.line());
    status.problems.iter().for_each(|problem| complain(&problem.to_string()));
    status.condition.exit_code()
}

/// A line on stdout. Where nobody takes it, on a full disk or a closed pipe, the work goes on.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A line on stderr.
fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}
