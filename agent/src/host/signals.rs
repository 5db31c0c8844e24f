//! SIGTERM and SIGINT: the daemon is to stop.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Whether somebody asked the daemon to stop. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens for the signals from now on.
    ///
    /// # Errors
    /// When the signals cannot be listened for.
    pub fn at_signals() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let (sender, receiver) = watch::channel(false);
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            let _ = sender.send(true);
        });
        Ok(Self(receiver))
    }

    /// Ends when it was asked.
    pub async fn asked(mut self) {
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
