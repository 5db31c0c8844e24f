//! MirrorService.

use tokio::sync::{mpsc, oneshot};
use tokio_stream::{
    StreamExt,
    wrappers::{ReceiverStream, WatchStream},
};
use tonic::{Request, Response, Status as Answer, async_trait, transport::server::UdsConnectInfo};

use super::{Answers, Api, STREAM_BUFFER, access, answered, who};
use crate::{
    host::facts,
    reconcile::commands::{ApplyEvent, Command, Ended, RevertOrder},
    status::Status,
    wire::{self, failure, v1, v1::mirror_service_server::MirrorService},
};

type ApplyAnswer = Result<v1::ApplySpecResponse, Answer>;

#[async_trait]
impl MirrorService for Api {
    type WatchStatusStream = Answers<v1::WatchStatusResponse>;
    type ApplySpecStream = Answers<v1::ApplySpecResponse>;

    async fn get_status(&self, request: Request<v1::GetStatusRequest>) -> Result<Response<v1::GetStatusResponse>, Answer> {
        let status = v1::Status::from(&self.snapshot().await);
        let status = wire::mask::masked(status, request.get_ref().read_mask.as_ref()).map_err(|problem| failure::invalid(&[problem]))?;
        Ok(Response::new(v1::GetStatusResponse { status: Some(status) }))
    }

    async fn get_node_facts(&self, _: Request<v1::GetNodeFactsRequest>) -> Result<Response<v1::GetNodeFactsResponse>, Answer> {
        let content_dir = self.snapshot().await.containerd.content_dir;
        let disk = facts::disk(content_dir.as_ref());
        Ok(Response::new(wire::facts_response(facts::node(), content_dir, disk)))
    }

    async fn watch_status(&self, _: Request<v1::WatchStatusRequest>) -> Result<Response<Self::WatchStatusStream>, Answer> {
        let snapshots = WatchStream::new(self.status.clone()).filter(Status::is_seen);
        let answers = snapshots.map(|status| Ok(v1::WatchStatusResponse { status: Some(v1::Status::from(&status)) }));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn plan_spec(&self, request: Request<v1::PlanSpecRequest>) -> Result<Response<v1::PlanSpecResponse>, Answer> {
        let may_probe = access::uid(request.extensions().get::<UdsConnectInfo>()) == Some(self.root);
        let (spec, allowed) = wire::plan_order(request.into_inner()).map_err(|problem| failure::invalid(&[problem]))?;
        let (plan, etag) = self.ask(|reply| Command::Plan { spec, allowed, may_probe, reply }).await?;
        Ok(Response::new(v1::PlanSpecResponse { plan: Some(v1::Plan::from(&plan)), etag }))
    }

    async fn apply_spec(&self, request: Request<v1::ApplySpecRequest>) -> Result<Response<Self::ApplySpecStream>, Answer> {
        let who = who(&request, &request.get_ref().client);
        let order = wire::apply_order(request.into_inner(), who).map_err(|problem| failure::invalid(&[problem]))?;
        let (events, phases) = mpsc::unbounded_channel();
        let (reply, end) = oneshot::channel();
        self.send(Command::Apply { order: Box::new(order), events, reply }).await?;
        let (sender, answers) = mpsc::channel(STREAM_BUFFER);
        tokio::spawn(tell(phases, end, sender));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn resume_spec(&self, request: Request<v1::ResumeSpecRequest>) -> Result<Response<v1::ResumeSpecResponse>, Answer> {
        let who = who(&request, "resume");
        let request_id = request.into_inner().request_id;
        let (outcome, etag) = self.ask(|reply| Command::Resume { who, request_id, reply }).await?;
        Ok(Response::new(v1::ResumeSpecResponse { outcome: Some(v1::Outcome::from(&outcome)), etag }))
    }

    async fn restore_original(
        &self,
        request: Request<v1::RestoreOriginalRequest>,
    ) -> Result<Response<v1::RestoreOriginalResponse>, Answer> {
        let who = who(&request, "disable");
        let order = Box::new(wire::restore_order(request.into_inner(), who));
        let (outcome, plan, etag) = self.ask(|reply| Command::Restore { order, reply }).await?;
        let (outcome, plan) = (Some(v1::Outcome::from(&outcome)), Some(v1::Plan::from(&plan)));
        Ok(Response::new(v1::RestoreOriginalResponse { outcome, plan, etag }))
    }

    async fn confirm_generation(
        &self,
        request: Request<v1::ConfirmGenerationRequest>,
    ) -> Result<Response<v1::ConfirmGenerationResponse>, Answer> {
        let who = who(&request, "confirm");
        let generation = request.into_inner().generation;
        let status = self.ask(|reply| Command::Confirm { generation, who, reply }).await?;
        Ok(Response::new(v1::ConfirmGenerationResponse { status: Some(v1::Status::from(&status)) }))
    }

    async fn revert_generation(
        &self,
        request: Request<v1::RevertGenerationRequest>,
    ) -> Result<Response<v1::RevertGenerationResponse>, Answer> {
        let who = who(&request, "revert");
        let v1::RevertGenerationRequest { generation, etag, request_id } = request.into_inner();
        let order = Box::new(RevertOrder { generation, etag, request_id, who });
        let (outcome, etag) = self.ask(|reply| Command::Revert { order, reply }).await?;
        Ok(Response::new(v1::RevertGenerationResponse { outcome: Some(v1::Outcome::from(&outcome)), etag }))
    }

    async fn list_generations(
        &self,
        request: Request<v1::ListGenerationsRequest>,
    ) -> Result<Response<v1::ListGenerationsResponse>, Answer> {
        let page = wire::Page::try_from(request.get_ref()).map_err(|problem| failure::invalid(&[problem]))?;
        let past = self.ask(|reply| Command::History { reply }).await?;
        Ok(Response::new(page.of(&past)))
    }

    async fn get_generation(&self, request: Request<v1::GetGenerationRequest>) -> Result<Response<v1::GetGenerationResponse>, Answer> {
        let generation = request.into_inner().generation;
        let past = self.ask(|reply| Command::Show { generation, reply }).await?;
        Ok(Response::new(v1::GetGenerationResponse { generation: Some(v1::Generation::from(&past)) }))
    }
}

/// Tells a client the phases as they come, then the end. The apply goes on when nobody listens.
async fn tell(mut phases: mpsc::UnboundedReceiver<ApplyEvent>, end: oneshot::Receiver<Ended>, client: mpsc::Sender<ApplyAnswer>) {
    while let Some(event) = phases.recv().await {
        if let Some(response) = wire::apply_response(&event)
            && client.send(Ok(response)).await.is_err()
        {
            return;
        }
    }
    let last = answered(end).await.map(|(outcome, etag)| wire::ended_response(&outcome, etag));
    let _ = client.send(last).await;
}
