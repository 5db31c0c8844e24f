//! PullService: one test pull at a time, and it ends with its client.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status as Answer, async_trait};

use super::{Answers, Api, STREAM_BUFFER};
use crate::{
    diagnose::test_pull::{self, PullOrder},
    status::Status,
    wire::{self, failure, v1, v1::pull_service_server::PullService},
};

type PullAnswer = Result<v1::TestPullResponse, Answer>;

#[async_trait]
impl PullService for Api {
    type TestPullStream = Answers<v1::TestPullResponse>;

    async fn test_pull(&self, request: Request<v1::TestPullRequest>) -> Result<Response<Self::TestPullStream>, Answer> {
        let turn = self.pulls.clone().try_acquire_owned().map_err(|_| {
            failure::failed(Code::ResourceExhausted, "pull.another", "another test pull is running; wait until it has ended")
        })?;
        let order = wire::pull_order(request.into_inner());
        let api = self.clone();
        let (client, answers) = mpsc::channel(STREAM_BUFFER);
        tokio::spawn(async move {
            tokio::select! {
                () = async { pull(api.snapshot().await, order, &client).await } => {}
                () = client.closed() => {}
            }
            drop(turn);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

async fn pull(status: Status, order: PullOrder, client: &mpsc::Sender<PullAnswer>) {
    let (sender, mut events) = mpsc::unbounded_channel();
    let telling = async {
        while let Some(event) = events.recv().await {
            if client.send(Ok(wire::pull_response(&event))).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(test_pull::pull(status, order, sender), telling);
}
