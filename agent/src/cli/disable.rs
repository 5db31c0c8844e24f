//! `mirrorctl disable`.

use std::time::Duration;

use tokio::time::timeout;

use super::{Done, client::Client, exit_of, output::Output, plan, show};
use crate::{reconcile::commands::RestoreOrder, status::OutcomeView};

/// After this time a person is told what takes so long.
const PATIENCE: Duration = Duration::from_secs(1);

pub async fn run(client: &Client, dry_run: bool, output: &mut Output) -> Done {
    let order = RestoreOrder { validate_only: dry_run, ..RestoreOrder::default() };
    let (outcome, planned) = {
        let restored = client.restore(order);
        tokio::pin!(restored);
        match timeout(PATIENCE, &mut restored).await {
            Ok(answer) => answer?,
            Err(_) => {
                output.say(|_| {
                    if dry_run {
                        "the daemon is busy; waiting for it\n"
                    } else {
                        "giving the node back as it was found; a restart of containerd is watched for a while\n"
                    }
                    .into()
                });
                restored.await?
            }
        }
    };
    if dry_run {
        output.answer(&planned, |paint| show::plan(&planned, paint));
        return Ok(plan::exit_of(&planned));
    }
    output.answer(&outcome, |paint| format!("{}{}", show::outcome(&outcome, paint), hint(&outcome)));
    Ok(exit_of(&outcome))
}

fn hint(outcome: &OutcomeView) -> &'static str {
    match outcome.kind.as_str() {
        "changed" | "unchanged" => "The node is as it was found, and stays so until \"mirrorctl resume\" or another spec.\n",
        _ => "",
    }
}
