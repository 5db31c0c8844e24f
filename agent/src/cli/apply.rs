//! `mirrorctl apply`.

use super::{
    Done,
    arguments::{Apply, Global},
    client::Client,
    connect, exit_of, local,
    output::Output,
    show,
};
use crate::{
    apply::journal::Phase,
    exit,
    plan::explain::PlanView,
    reconcile::commands::{ApplyEvent, ApplyOrder},
    status::Condition,
};

pub async fn run(global: &Global, apply: Apply, output: &mut Output) -> Done {
    let complete = local::complete(&apply.file, apply.spec.cluster.as_deref(), &apply.spec.secrets_dir)?;
    let order = ApplyOrder {
        spec: Some(complete.into_source()),
        allowed: apply.spec.allowed(),
        etag: apply.etag,
        request_id: apply.request_id,
        confirm_within: apply.confirm_within,
        who: "mirrorctl apply".into(),
        ..ApplyOrder::default()
    };
    let client = connect(global).await?;
    let (outcome, _) = client.apply(order, |event| tell(event, output)).await?;
    output.answer(&outcome, |paint| show::outcome(&outcome, paint));
    if let (Some(within), "changed") = (apply.confirm_within, outcome.kind.as_str()) {
        let (number, within) = (outcome.generation, humantime::format_duration(within));
        output.say(|_| format!("It is gone back from in {within} unless you say: mirrorctl confirm {number}\n"));
    }
    match exit_of(&outcome) {
        exit::DONE if apply.wait => wait(&client, outcome.generation, output).await,
        code => Ok(code),
    }
}

fn tell(event: &ApplyEvent, output: &mut Output) {
    match event {
        ApplyEvent::Planned(plan) => output.say(|_| planned(plan)),
        ApplyEvent::Entered(phase, why) => output.say(|paint| format!("{} {why}\n", paint.faint(&format!("{:<12}", word(*phase))))),
        ApplyEvent::Ended(_) => {}
    }
}

fn planned(plan: &PlanView) -> String {
    let restart = plan.restart.as_ref().map(|restart| format!(", and a restart of containerd because {}", restart.reason));
    format!("{:<12} {}{}\n", "planned", show::count(plan.steps.len(), "step"), restart.unwrap_or_default())
}

const fn word(phase: Phase) -> &'static str {
    match phase {
        Phase::Checking => "checking",
        Phase::Waiting => "waiting",
        Phase::Prepared => "prepared",
        Phase::Writing => "writing",
        Phase::Activating => "activating",
        Phase::Proving => "proving",
        Phase::Settling => "settling",
        Phase::Undoing => "undoing",
        Phase::Closed => "closed",
    }
}

/// Waits until what was applied is in effect, or cannot become so without somebody.
async fn wait(client: &Client, generation: u64, output: &mut Output) -> Done {
    let mut last = Condition::Applying;
    let watching = client.watch(|status| {
        // A snapshot from before the apply says nothing.
        let is_awaited = is_under_way(status.condition) || status.last_change.as_ref().map_or(0, |change| change.generation) < generation;
        if status.condition != last && is_awaited {
            output.say(|_| format!("{:<12} {}\n", "waiting", status.summary));
        }
        last = status.condition;
        is_awaited
    });
    client.change(watching).await?;
    Ok(if last.is_as_wanted() { exit::DONE } else { exit::DIFFERS })
}

const fn is_under_way(condition: Condition) -> bool {
    matches!(condition, Condition::Applying | Condition::AwaitingRestart)
}
