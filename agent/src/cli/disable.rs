//! `mirrorctl disable`.

use super::{Done, client::Client, exit_of, output::Output, plan, show};
use crate::{reconcile::commands::RestoreOrder, status::OutcomeView};

pub async fn run(client: &Client, dry_run: bool, output: &mut Output) -> Done {
    let order = RestoreOrder { validate_only: dry_run, ..RestoreOrder::default() };
    let (outcome, planned) = client.restore(order).await?;
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
