//! `mirrorctl status`.

use super::{Done, client::Client, output::Output, show};
use crate::{exit, host::clock, status::Status};

pub async fn run(client: &Client, watch: bool, output: &mut Output) -> Done {
    if watch {
        return follow(client, output).await;
    }
    let status = client.status().await?;
    output.answer(&status, |paint| show::status(&status, paint, clock::unix_seconds()));
    Ok(exit_of(&status))
}

async fn follow(client: &Client, output: &mut Output) -> Done {
    client
        .watch(|status| {
            output.next_answer(&status, |paint| show::status(&status, paint, clock::unix_seconds()));
            true
        })
        .await?;
    Ok(exit::DONE)
}

fn exit_of(status: &Status) -> u8 {
    if status.condition.is_as_wanted() { exit::DONE } else { exit::DIFFERS }
}
