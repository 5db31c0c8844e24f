//! Serves the API on a socket, with health checks and reflection.

use std::time::Duration;

use tokio::{net::UnixListener, sync::oneshot, time::sleep};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::transport::Server;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{Api, guard::Guarded};
use crate::wire::v1::{
    FILE_DESCRIPTOR_SET, diagnostics_service_server::DiagnosticsServiceServer, mirror_service_server::MirrorServiceServer,
    pull_service_server::PullServiceServer,
};

/// A request is never larger: a spec, and inputs of a node.
const MOST_REQUEST_BYTES: usize = 32 << 20;
/// Calls of one connection at a time.
const MOST_CALLS: usize = 64;
/// How long calls under way may take once the daemon stops; somebody who watches the status would never end.
const GRACE: Duration = Duration::from_secs(2);
/// Services whose health is told, and `""` for all.
const SERVICES: [&str; 4] = ["", "mirrorlet.v1.MirrorService", "mirrorlet.v1.PullService", "mirrorlet.v1.DiagnosticsService"];

/// The API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The descriptors do not fit together.
    #[error("the API cannot describe itself: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
    /// The listener failed.
    #[error("the API stopped: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `stop`, and a little longer for calls under way.
///
/// # Errors
/// When the listener fails.
pub async fn serve(api: Api, listener: UnixListener, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let (reporter, health) = tonic_health::server::health_reporter();
    report_serving(&reporter).await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let root = api.root;
    let (begin_end, end) = oneshot::channel::<()>();
    let serving = Server::builder()
        .concurrency_limit_per_connection(MOST_CALLS)
        .add_service(guarded(root, MirrorServiceServer::new(api.clone()).max_decoding_message_size(MOST_REQUEST_BYTES)))
        .add_service(guarded(root, PullServiceServer::new(api.clone())))
        .add_service(guarded(root, DiagnosticsServiceServer::new(api)))
        .add_service(guarded(root, health))
        .add_service(guarded(root, reflection))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), async {
            let _ = end.await;
        });
    tokio::select! {
        served = serving => Ok(served?),
        () = ending(stop, begin_end) => Ok(()),
    }
}

const fn guarded<S>(root: u32, service: S) -> Guarded<S> {
    Guarded { service, root }
}

async fn ending(stop: impl Future<Output = ()>, begin_end: oneshot::Sender<()>) {
    stop.await;
    let _ = begin_end.send(());
    sleep(GRACE).await;
}

async fn report_serving(reporter: &HealthReporter) {
    for service in SERVICES {
        reporter.set_service_status(service, ServingStatus::Serving).await;
    }
}
