//! Stand-in until the API is merged.
use tokio::sync::{mpsc, watch};

use crate::{config::Settings, host::notify, reconcile::Reconciler, spec::problem::Problem, status::Status};

/// Runs.
pub async fn run(reconciler: Reconciler, _status: watch::Receiver<Status>, _settings: &Settings) -> Result<(), Problem> {
    let (_commands, receiver) = mpsc::channel(8);
    notify::ready();
    reconciler
        .run(receiver, async {
            let _ = tokio::signal::ctrl_c().await;
        })
        .await;
    Ok(())
}
