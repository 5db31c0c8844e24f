//! The gRPC API: one short method for each RPC. It asks the reconciler and shows the snapshot; it decides nothing and changes nothing.
//!
//! Commands go to the one task that may change the node, so a client that hangs up stops nothing.

pub mod access;
mod diagnostics;
mod guard;
pub mod listen;
mod mirror;
mod pull;

use std::sync::Arc;

use tokio::sync::{Semaphore, oneshot, watch};
use tonic::{Code, Request, Status as Answer, codegen::BoxStream, transport::server::UdsConnectInfo};

use crate::{
    reconcile::commands::{Command, CommandError, Commands},
    status::Status,
    wire::failure,
};

/// Messages of a stream that wait for a slow client.
const STREAM_BUFFER: usize = 64;

/// All services of the API. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Api {
    commands: Commands,
    status: watch::Receiver<Status>,
    pulls: Arc<Semaphore>,
    root: u32,
}

/// A stream of answers.
type Answers<T> = BoxStream<T>;

impl Api {
    /// The API of a reconciler that takes these commands and publishes this status.
    #[must_use]
    pub fn new(commands: Commands, status: watch::Receiver<Status>) -> Self {
        Self { commands, status, pulls: Arc::new(Semaphore::new(1)), root: access::ROOT }
    }

    /// The status; right after the start as soon as the node was looked at, for until then every answer would be wrong.
    async fn snapshot(&self) -> Status {
        let mut status = self.status.clone();
        let seen = status.wait_for(Status::is_seen).await.map(|status| status.clone());
        seen.unwrap_or_else(|_| self.status.borrow().clone())
    }

    /// Sends a command.
    async fn send(&self, command: Command) -> Result<(), Answer> {
        self.commands.send(command).await.map_err(|_| failure::refusal(&CommandError::Stopping))
    }

    /// Sends a command and waits for its answer.
    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<Result<T, CommandError>>) -> Command) -> Result<T, Answer> {
        let (reply, answer) = oneshot::channel();
        self.send(command(reply)).await?;
        answered(answer).await
    }
}

/// The answer to a command that was sent.
async fn answered<T>(answer: oneshot::Receiver<Result<T, CommandError>>) -> Result<T, Answer> {
    answer.await.unwrap_or(Err(CommandError::Stopping)).map_err(|error| failure::refusal(&error))
}

/// Who sent a request, for record and log.
fn who<T>(request: &Request<T>, client: &str) -> String {
    access::who(access::uid(request.extensions().get::<UdsConnectInfo>()), client)
}

/// The answer of what is in the API and not in this version.
fn not_built(what: &str) -> Answer {
    failure::failed(Code::Unimplemented, "api.not-built", format!("{what} is not built yet; this version of mirrorlet cannot do it"))
}

#[cfg(test)]
impl Api {
    /// The same for tests, which need not run as root.
    #[must_use]
    pub fn for_root(self, root: u32) -> Self {
        Self { root, ..self }
    }
}

#[cfg(test)]
mod tests;
