//! `mirrorctl plan`.

use serde::Serialize;

use super::{
    Done,
    arguments::{Global, SpecOptions},
    connect, local,
    output::Output,
    show,
};
use crate::{exit, plan::explain::PlanView};

/// A plan and the etag it holds for, for programs.
#[derive(Debug, Serialize)]
struct Planned<'a> {
    plan: &'a PlanView,
    etag: &'a str,
}

pub async fn run(global: &Global, file: Option<String>, spec: SpecOptions, output: &mut Output) -> Done {
    let source = match &file {
        Some(file) => Some(local::complete(file, spec.cluster.as_deref(), &spec.secrets_dir)?.into_source()),
        None => None,
    };
    let (plan, etag) = connect(global).await?.plan(source, spec.allowed()).await?;
    output.answer(&Planned { plan: &plan, etag: &etag }, |paint| show::plan(&plan, paint));
    Ok(exit_of(&plan))
}

/// The exit code of a plan.
pub fn exit_of(plan: &PlanView) -> u8 {
    if !plan.refusals.is_empty() {
        exit::REFUSED
    } else if plan.steps.is_empty() && plan.restart.is_none() {
        exit::DONE
    } else {
        exit::DIFFERS
    }
}
