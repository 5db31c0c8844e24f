//! `mirrorctl history`, `show`, `confirm` and `revert`.

use super::{Done, client::Client, exit_of, output::Output, show};
use crate::{exit, reconcile::commands::RevertOrder};

pub async fn list(client: &Client, most: usize, output: &mut Output) -> Done {
    let past = client.history(most).await?;
    output.answer(&past, |paint| show::history(&past, paint));
    Ok(exit::DONE)
}

pub async fn show(client: &Client, generation: u64, output: &mut Output) -> Done {
    let past = client.show(generation).await?;
    output.answer(&past, |paint| show::generation(&past, paint));
    Ok(exit::DONE)
}

pub async fn confirm(client: &Client, generation: u64, output: &mut Output) -> Done {
    let status = client.confirm(generation).await?;
    output.answer(&status, |paint| format!("{}\n", paint.good(&format!("generation {generation} is confirmed and stays"))));
    Ok(exit::DONE)
}

pub async fn revert(client: &Client, order: RevertOrder, output: &mut Output) -> Done {
    let outcome = client.revert(order).await?;
    let is_done = exit_of(&outcome) == exit::DONE;
    let hint = if is_done { "The spec of the node is held until \"mirrorctl resume\" or another spec.\n" } else { "" };
    output.answer(&outcome, |paint| format!("{}{hint}", show::outcome(&outcome, paint)));
    Ok(exit_of(&outcome))
}
