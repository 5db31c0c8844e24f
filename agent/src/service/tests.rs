//! The API as any gRPC client meets it.

use std::{path::PathBuf, time::Duration};

use tokio::sync::{mpsc, oneshot, watch};
use tonic::{
    Code, Request,
    transport::{Channel, Endpoint},
};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use super::{Api, listen};
use crate::{
    host::socket,
    reconcile::commands::{Command, CommandError},
    spec::problem::{Location, Problem},
    status::{Status, sample},
    wire::{failure::CallFailed, v1, v1::mirror_service_client::MirrorServiceClient, v1::pull_service_server::PullService},
};

struct Served {
    channel: Channel,
    inbox: mpsc::Receiver<Command>,
    status: watch::Sender<Status>,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<Result<(), listen::ServeError>>,
    _directory: tempfile::TempDir,
}

async fn serve() -> Served {
    let directory = tempfile::tempdir().unwrap();
    let path: PathBuf = directory.path().join("m.sock");
    let (commands, inbox) = mpsc::channel(8);
    let (status, published) = watch::channel(sample::status());
    let (stop, stopped) = oneshot::channel();
    let listener = socket::bind(&path, "").unwrap().listener;
    let ended = tokio::spawn(listen::serve(Api::new(commands, published).for_root(nix::unistd::geteuid().as_raw()), listener, async {
        let _ = stopped.await;
    }));
    let channel = Endpoint::from_shared(format!("unix://{}", path.display())).unwrap().connect().await.unwrap();
    Served { channel, inbox, status, stop: Some(stop), ended, _directory: directory }
}

#[tokio::test]
async fn every_service_is_healthy_and_described() {
    let served = serve().await;
    let mut health = HealthClient::new(served.channel.clone());
    for service in ["", "mirrorlet.v1.MirrorService", "mirrorlet.v1.PullService", "mirrorlet.v1.DiagnosticsService"] {
        let answer = health.check(HealthCheckRequest { service: service.into() }).await.unwrap();
        assert_eq!(answer.into_inner().status, 1, "{service}");
    }
    let list = MessageRequest::ListServices(String::new());
    let request = ServerReflectionRequest { host: String::new(), message_request: Some(list) };
    let mut reflection = ServerReflectionClient::new(served.channel.clone());
    let mut answers = reflection.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(list)) = answers.message().await.unwrap().unwrap().message_response else { panic!() };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"mirrorlet.v1.MirrorService".to_owned()) && names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
}

#[tokio::test]
async fn a_mask_is_honoured_and_checked() {
    let served = serve().await;
    let mut mirrors = MirrorServiceClient::new(served.channel.clone());
    let request = |path: &str| v1::GetStatusRequest { read_mask: Some(prost_types::FieldMask { paths: vec![path.into()] }) };
    let status = mirrors.get_status(request("etag")).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status, v1::Status { etag: "e1".into(), ..v1::Status::default() });
    let failed = CallFailed::from(&mirrors.get_status(request("colour")).await.unwrap_err());
    assert_eq!((failed.code, failed.problems[0].field.as_str()), (Code::InvalidArgument, "read_mask"));
}

#[tokio::test]
async fn nothing_is_said_of_a_node_before_it_was_looked_at() {
    let served = serve().await;
    served.status.send_replace(Status::default());
    let mut mirrors = MirrorServiceClient::new(served.channel.clone());
    let mut statuses = mirrors.watch_status(v1::WatchStatusRequest {}).await.unwrap().into_inner();
    let asked = tokio::spawn(async move { mirrors.get_status(v1::GetStatusRequest::default()).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!asked.is_finished(), "the status of no look was told");
    served.status.send_replace(sample::status());
    assert_eq!(asked.await.unwrap().unwrap().into_inner().status.unwrap().etag, "e1");
    assert_eq!(statuses.message().await.unwrap().unwrap().status.unwrap().etag, "e1");
}

#[tokio::test]
async fn watching_begins_with_a_snapshot_and_goes_on_with_changes() {
    let served = serve().await;
    let mut mirrors = MirrorServiceClient::new(served.channel.clone());
    let mut statuses = mirrors.watch_status(v1::WatchStatusRequest {}).await.unwrap().into_inner();
    let mut next = async || statuses.message().await.unwrap().unwrap().status.unwrap().effective_generation;
    assert_eq!(next().await, 3);
    served.status.send_modify(|status| status.effective_generation = 4);
    assert_eq!(next().await, 4);
}

#[tokio::test]
async fn an_apply_goes_on_when_its_client_is_gone() {
    let mut served = serve().await;
    let mut mirrors = MirrorServiceClient::new(served.channel.clone());
    let answers = mirrors.apply_spec(v1::ApplySpecRequest::default()).await.unwrap();
    drop(answers);
    let Some(Command::Apply { order, reply, .. }) = served.inbox.recv().await else { panic!() };
    assert!(order.spec.is_none());
    assert!(order.who.starts_with("uid "), "{}", order.who);
    drop(reply);
}

#[tokio::test]
async fn many_problems_arrive_as_a_refusal_and_not_as_a_broken_stream() {
    let mut served = serve().await;
    let mut mirrors = MirrorServiceClient::new(served.channel.clone());
    let answering = async {
        let Some(Command::Plan { reply, .. }) = served.inbox.recv().await else { panic!() };
        let at = Location { file: "m.yaml".into(), line: 1, column: 1 };
        let problem = Problem::new("spec.x", "wrong, ".repeat(40), "mend it").at(at, "registryMirrors[0].endpoint");
        drop(reply.send(Err(CommandError::Invalid(vec![problem; 5_000]))));
    };
    let (answer, ()) = tokio::join!(mirrors.plan_spec(v1::PlanSpecRequest::default()), answering);
    let failed = CallFailed::from(&answer.unwrap_err());
    assert_eq!((failed.code, failed.reason.as_str()), (Code::InvalidArgument, "spec.invalid"));
    assert!(failed.message.starts_with("5000 problems") && failed.problems.len() > 5, "{failed:?}");
}

#[tokio::test]
async fn there_is_one_test_pull_at_a_time() {
    let (commands, _inbox) = mpsc::channel(8);
    let (_status, published) = watch::channel(Status::default());
    let api = Api::new(commands, published);
    let running = api.pulls.clone().try_acquire_owned().unwrap();
    let Err(status) = api.test_pull(Request::new(v1::TestPullRequest::default())).await else { panic!() };
    assert_eq!((status.code(), CallFailed::from(&status).reason.as_str()), (Code::ResourceExhausted, "pull.another"));
    drop(running);
    assert!(api.test_pull(Request::new(v1::TestPullRequest::default())).await.is_ok());
}

#[tokio::test]
async fn a_daemon_that_stops_says_so() {
    let mut served = serve().await;
    served.inbox.close();
    let mut mirrors = MirrorServiceClient::new(served.channel.clone());
    let status = mirrors.plan_spec(v1::PlanSpecRequest::default()).await.unwrap_err();
    assert_eq!((status.code(), CallFailed::from(&status).reason.as_str()), (Code::Unavailable, "daemon.stopping"));
}

#[tokio::test]
async fn what_is_not_built_says_so() {
    let served = serve().await;
    let mut diagnostics = v1::diagnostics_service_client::DiagnosticsServiceClient::new(served.channel.clone());
    let status = diagnostics.explain_reference(v1::ExplainReferenceRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    assert!(status.message().starts_with("ExplainReference is not built yet"), "{status}");
}

#[tokio::test]
async fn facts_name_the_disk_of_the_content() {
    let served = serve().await;
    let mut mirrors = MirrorServiceClient::new(served.channel.clone());
    let facts = mirrors.get_node_facts(Request::new(v1::GetNodeFactsRequest {})).await.unwrap().into_inner();
    assert_eq!(facts.content_dir, "/var/lib/containerd");
    assert!(facts.cpus > 0 && facts.content_disk_total_bytes > 0 && facts.load.len() == 3);
}

#[tokio::test]
async fn stopping_does_not_wait_for_those_who_watch() {
    let mut served = serve().await;
    let mut mirrors = MirrorServiceClient::new(served.channel.clone());
    let _watching = mirrors.watch_status(v1::WatchStatusRequest {}).await.unwrap();
    let _ = served.stop.take().unwrap().send(());
    tokio::time::timeout(Duration::from_secs(10), served.ended).await.unwrap().unwrap().unwrap();
}
