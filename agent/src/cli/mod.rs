//! mirrorctl: one file for each verb. It speaks to the daemon in domain types, and shows what it answers.
//!
//! Writes nothing but what `render` writes, and prints in `output` alone.

pub mod arguments;
pub mod client;
pub mod failure;
pub mod output;

mod apply;
mod completions;
mod disable;
mod history;
mod local;
mod paint;
mod plan;
mod progress;
mod pull;
mod render;
mod resume;
mod show;
mod status;
mod validate;

use std::ffi::OsString;

use clap::Parser;

use crate::{exit, reconcile::commands::RevertOrder, status::OutcomeView};
use arguments::{Cli, Global, Verb};
use client::Client;
use failure::Failure;
use output::Output;

/// An exit code, or why there is no answer.
type Done = Result<u8, Failure>;

/// Runs a command line and returns its exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return output::usage(&error),
    };
    let mut output = Output::new(cli.global.output, cli.global.color);
    let code = run_verb(cli, &mut output).await;
    output.finish(code)
}

/// Runs a verb and returns its exit code.
pub async fn run_verb(cli: Cli, output: &mut Output) -> u8 {
    let Cli { global, verb } = cli;
    match dispatch(verb, &global, output).await {
        Ok(code) => code,
        Err(failure) => {
            output.fail(&failure);
            failure.exit
        }
    }
}

async fn dispatch(verb: Verb, global: &Global, output: &mut Output) -> Done {
    match verb {
        Verb::Status { watch } => status::run(&connect(global).await?, watch, output).await,
        Verb::Validate { files, cluster } => validate::run(&files, cluster.as_deref(), output),
        Verb::Render(render) => render::run(&render, output),
        Verb::Plan { file, spec } => plan::run(global, file, spec, output).await,
        Verb::Apply(apply) => apply::run(global, apply, output).await,
        Verb::Resume => resume::run(&connect(global).await?, output).await,
        Verb::Confirm { generation } => history::confirm(&connect(global).await?, generation, output).await,
        Verb::Revert { generation, etag, request_id } => {
            let order = RevertOrder { generation, etag, request_id, who: String::new() };
            history::revert(&connect(global).await?, order, output).await
        }
        Verb::History { most } => history::list(&connect(global).await?, most as usize, output).await,
        Verb::Show { generation } => history::show(&connect(global).await?, generation, output).await,
        Verb::Disable { dry_run } => disable::run(&connect(global).await?, dry_run, output).await,
        Verb::Pull(pull) => pull::run(global, pull, output).await,
        Verb::Completions { shell } => Ok(completions::run(shell, output)),
    }
}

async fn connect(global: &Global) -> Result<Client, Failure> {
    Client::connect(&global.address, global.timeout).await
}

/// The exit code of an outcome.
fn exit_of(outcome: &OutcomeView) -> u8 {
    match outcome.kind.as_str() {
        "changed" | "unchanged" => exit::DONE,
        "refused" => exit::REFUSED,
        "rolled-back" => exit::ROLLED_BACK,
        _ => exit::FAILED,
    }
}

#[cfg(test)]
mod tests;
