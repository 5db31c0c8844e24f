//! `mirrorctl resume`.

use super::{Done, client::Client, exit_of, output::Output, show};

pub async fn run(client: &Client, output: &mut Output) -> Done {
    let outcome = client.resume().await?;
    output.answer(&outcome, |paint| show::outcome(&outcome, paint));
    Ok(exit_of(&outcome))
}
