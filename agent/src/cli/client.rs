//! Talks to the daemon in domain types; proto types and gRPC end here.

use std::{error::Error, io, time::Duration};

use tokio::time::timeout;
use tonic::{
    Request, Status as Answer, Streaming,
    transport::{Channel, Endpoint},
};

use super::failure::Failure;
use crate::{
    diagnose::test_pull::{PullEvent, PullOrder},
    exit,
    plan::{Allowed, explain::PlanView},
    reconcile::commands::{ApplyEvent, ApplyOrder, RestoreOrder, RevertOrder, SpecSource},
    status::{GenerationView, OutcomeView, Status},
    wire::{self, failure::CallFailed, v1, v1::mirror_service_client::MirrorServiceClient, v1::pull_service_client::PullServiceClient},
};

/// An answer is never larger: a plan with the diffs of all its steps.
const MOST_ANSWER_BYTES: usize = 32 << 20;
/// How long a connection may take; the socket is on this machine.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);
/// How long a question may take when nobody says.
const QUESTION_DEADLINE: Duration = Duration::from_secs(30);

/// A connection to the daemon.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
    timeout: Option<Duration>,
}

impl Client {
    /// Connects; `timeout` is the caller's, for every call.
    ///
    /// # Errors
    /// When the address cannot be meant, or nobody answers there.
    pub async fn connect(address: &str, timeout: Option<Duration>) -> Result<Self, Failure> {
        let path = socket_path(address)?;
        let endpoint = Endpoint::from_shared(format!("unix://{path}")).map_err(|error| bad_address(address, &error.to_string()))?;
        let connected = endpoint.connect_timeout(CONNECT_DEADLINE).connect().await;
        Ok(Self { channel: connected.map_err(|error| unreachable(path, &error))?, timeout })
    }

    fn mirrors(&self) -> MirrorServiceClient<Channel> {
        MirrorServiceClient::new(self.channel.clone()).max_decoding_message_size(MOST_ANSWER_BYTES)
    }

    /// The status now.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub async fn status(&self) -> Result<Status, Failure> {
        let mut mirrors = self.mirrors();
        let answer = self.question(mirrors.get_status(v1::GetStatusRequest::default())).await?;
        Ok(answer.into_inner().status.unwrap_or_default().into())
    }

    /// The status now and with each change, until `tell` says that it is enough.
    ///
    /// # Errors
    /// When the daemon does not answer, or stops.
    pub async fn watch(&self, mut tell: impl FnMut(Status) -> bool) -> Result<(), Failure> {
        let mut mirrors = self.mirrors();
        let mut statuses = self.question(mirrors.watch_status(v1::WatchStatusRequest {})).await?.into_inner();
        while let Some(answer) = message(&mut statuses).await? {
            if !tell(answer.status.unwrap_or_default().into()) {
                return Ok(());
            }
        }
        Err(ended())
    }

    /// What would be done for a spec, or for the node's own, and the etag that holds for.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses the spec.
    pub async fn plan(&self, spec: Option<SpecSource>, allowed: Allowed) -> Result<(PlanView, String), Failure> {
        let mut mirrors = self.mirrors();
        let answer = self.question(mirrors.plan_spec(wire::plan_request(spec, allowed))).await?.into_inner();
        Ok((answer.plan.unwrap_or_default().into(), answer.etag))
    }

    /// Applies a spec, tells what happens, and returns how it ended and the etag then.
    ///
    /// # Errors
    /// When the daemon does not answer, or does not take the spec.
    pub async fn apply(&self, order: ApplyOrder, mut tell: impl FnMut(&ApplyEvent)) -> Result<(OutcomeView, String), Failure> {
        let mut mirrors = self.mirrors();
        self.change(async {
            let mut answers = answered(mirrors.apply_spec(wire::apply_request(order)).await)?.into_inner();
            while let Some(answer) = message(&mut answers).await? {
                match wire::apply_event(answer) {
                    Some((ApplyEvent::Ended(outcome), etag)) => return Ok((outcome, etag)),
                    Some((event, _)) => tell(&event),
                    None => {}
                }
            }
            Err(ended())
        })
        .await
    }

    /// Ends a hold, or takes a parked spec up again.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub async fn resume(&self) -> Result<OutcomeView, Failure> {
        let mut mirrors = self.mirrors();
        let answer = self.change(async { answered(mirrors.resume_spec(v1::ResumeSpecRequest::default()).await) }).await?;
        Ok(answer.into_inner().outcome.unwrap_or_default().into())
    }

    /// Keeps a generation that waits for it.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub async fn confirm(&self, generation: u64) -> Result<Status, Failure> {
        let mut mirrors = self.mirrors();
        let request = v1::ConfirmGenerationRequest { generation };
        let answer = self.change(async { answered(mirrors.confirm_generation(request).await) }).await?;
        Ok(answer.into_inner().status.unwrap_or_default().into())
    }

    /// Goes back to an earlier generation; without a number, to the one before the present one.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub async fn revert(&self, order: RevertOrder) -> Result<OutcomeView, Failure> {
        let mut mirrors = self.mirrors();
        let RevertOrder { generation, etag, request_id, who: _ } = order;
        let request = v1::RevertGenerationRequest { generation, etag, request_id };
        let answer = self.change(async { answered(mirrors.revert_generation(request).await) }).await?;
        Ok(answer.into_inner().outcome.unwrap_or_default().into())
    }

    /// Past changes, newest first, at most so many.
    ///
    /// # Errors
    /// When the daemon does not answer.
    pub async fn history(&self, most: usize) -> Result<Vec<GenerationView>, Failure> {
        let mut mirrors = self.mirrors();
        let mut past: Vec<GenerationView> = Vec::new();
        let mut page_token = String::new();
        loop {
            let page_size = i32::try_from(most - past.len()).unwrap_or(i32::MAX);
            let request = v1::ListGenerationsRequest { page_size, page_token };
            let answer = self.question(mirrors.list_generations(request)).await?.into_inner();
            past.extend(answer.generations.into_iter().map(GenerationView::from));
            page_token = answer.next_page_token;
            if page_token.is_empty() || past.len() >= most {
                return Ok(past);
            }
        }
    }

    /// One past change.
    ///
    /// # Errors
    /// When the daemon does not answer, or does not remember it.
    pub async fn show(&self, generation: u64) -> Result<GenerationView, Failure> {
        let mut mirrors = self.mirrors();
        let answer = self.question(mirrors.get_generation(v1::GetGenerationRequest { generation })).await?;
        Ok(answer.into_inner().generation.unwrap_or_default().into())
    }

    /// Gives the node back as it was found.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub async fn restore(&self, order: RestoreOrder) -> Result<(OutcomeView, PlanView), Failure> {
        let mut mirrors = self.mirrors();
        let answer = self.change(async { answered(mirrors.restore_original(wire::restore_request(order)).await) }).await?.into_inner();
        Ok((answer.outcome.unwrap_or_default().into(), answer.plan.unwrap_or_default().into()))
    }

    /// Pulls an image and tells every event, the last of which is how it ended.
    ///
    /// # Errors
    /// When the daemon does not answer, or refuses.
    pub async fn pull(&self, order: PullOrder, mut tell: impl FnMut(PullEvent)) -> Result<(), Failure> {
        let mut pulls = PullServiceClient::new(self.channel.clone());
        self.change(async {
            let mut answers = answered(pulls.test_pull(Request::new(wire::pull_request(order))).await)?.into_inner();
            while let Some(answer) = message(&mut answers).await? {
                if let Some(event) = wire::pull_event(answer) {
                    tell(event);
                }
            }
            Ok(())
        })
        .await
    }

    async fn question<T>(&self, call: impl Future<Output = Result<T, Answer>>) -> Result<T, Failure> {
        let deadline = self.timeout.unwrap_or(QUESTION_DEADLINE);
        let what = "the daemon did not answer";
        timeout(deadline, call).await.map_err(|_| late(what, deadline, "; it may be busy with a change"))?.map_err(|error| failure(&error))
    }

    /// Waits for something that takes as long as it takes, or as long as the caller said.
    ///
    /// # Errors
    /// Those of the call, or that it did not end in time.
    pub async fn change<T>(&self, call: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let Some(deadline) = self.timeout else { return call.await };
        let hint = "; a change goes on, a pull ends; see mirrorctl status";
        timeout(deadline, call).await.map_err(|_| late("it did not end", deadline, hint))?
    }
}

async fn message<T>(answers: &mut Streaming<T>) -> Result<Option<T>, Failure> {
    answered(answers.message().await)
}

fn answered<T>(answer: Result<T, Answer>) -> Result<T, Failure> {
    answer.map_err(|error| failure(&error))
}

fn failure(error: &Answer) -> Failure {
    let failed = CallFailed::from(error);
    // Without a reason it is not the daemon that says so, but the connection to it that broke.
    if failed.reason.is_empty() && error.source().is_some() { ended() } else { failed.into() }
}

fn ended() -> Failure {
    let message = "the daemon went away before it had answered; see \"systemctl status mirrorlet\" and mirrorctl status";
    Failure::new(exit::UNREACHABLE, "daemon.unreachable", message)
}

fn late(what: &str, deadline: Duration, hint: &str) -> Failure {
    Failure::new(exit::LATE, "daemon.late", format!("{what} within {}{hint}", humantime::format_duration(deadline)))
}

fn socket_path(address: &str) -> Result<&str, Failure> {
    if address.starts_with("https://") {
        return Err(Failure::not_built("an address on the network"));
    }
    let path = address.strip_prefix("unix:").ok_or_else(|| bad_address(address, "it does not begin with unix:"))?;
    let path = path.strip_prefix("//").unwrap_or(path);
    if path.starts_with('/') { Ok(path) } else { Err(bad_address(address, "its path is not absolute")) }
}

fn bad_address(address: &str, reason: &str) -> Failure {
    let message = format!("\"{address}\" is no address of a daemon: {reason}; write e.g. unix:{}", crate::config::SOCKET_PATH);
    Failure::new(exit::USAGE, "cli.address", message)
}

fn unreachable(path: &str, error: &(dyn Error + 'static)) -> Failure {
    let cause = io_cause(error);
    if cause.is_some_and(|cause| cause.kind() == io::ErrorKind::PermissionDenied) {
        let message = format!("you may not open {path}; be root, or join the group that owns it (mirrorlet by default)");
        return Failure::new(exit::DENIED, "access.socket", message);
    }
    let reason = match cause.map(io::Error::kind) {
        Some(io::ErrorKind::NotFound) => "it is not there".to_owned(),
        Some(io::ErrorKind::ConnectionRefused) => "nobody listens".to_owned(),
        _ => cause.map_or_else(|| error.to_string(), ToString::to_string),
    };
    let message =
        format!("no daemon answers at {path} ({reason}); start it with \"systemctl start mirrorlet\", or name its socket with --address");
    Failure::new(exit::UNREACHABLE, "daemon.unreachable", message)
}

fn io_cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(cause) = error.downcast_ref() {
            return Some(cause);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_unix_sockets() {
        assert_eq!(socket_path("unix:/run/m.sock").unwrap(), "/run/m.sock");
        assert_eq!(socket_path("unix:///run/m.sock").unwrap(), "/run/m.sock");
        for address in ["https://node:9797", "unix:m.sock", "/run/m.sock", ""] {
            assert_eq!(socket_path(address).unwrap_err().exit, exit::USAGE, "{address}");
        }
    }
}
