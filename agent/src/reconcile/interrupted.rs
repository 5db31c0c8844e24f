//! What an interrupted change still owes: the rest of its undo, and a restart. And what it left: timers.

use super::Reconciler;
use crate::{
    apply::{
        activate,
        recover::{self, Recovery},
    },
    host::{clock, timer},
    observed::record::RestartNote,
};

impl Reconciler {
    /// A containerd that was restarted with files that are gone now is restarted again, unless it was in the meantime.
    pub(super) async fn pay_owed_restart(&mut self) {
        let Some(boot) = self.record.owed_restart.clone() else { return };
        let Ok(observed) = self.host.observe(self.record.clone()).await else { return };
        let containerd = &observed.containerd;
        let is_owed = boot == clock::boot_id()
            && containerd.process.known().is_some()
            && containerd.started_ms <= observed.config.changed_ms()
            && self.host.can_restart();
        if is_owed {
            let restarted = match self.host.client(&containerd.place) {
                Ok(client) => activate::restart(&self.host, &client, None).await.map(drop),
                Err(problem) => Err(problem),
            };
            if let Err(problem) = restarted {
                // Once more with the next tick.
                tracing::error!("{problem}");
                return;
            }
            let generation = self.record.generation;
            self.record.restarts.push(RestartNote {
                time: clock::unix_seconds(),
                generation,
                reason: "an interrupted change was undone".into(),
            });
        }
        self.record.owed_restart = None;
        self.keep_record();
    }

    /// The timers of a change that waits for nobody have nothing to go back from.
    pub(super) async fn disarm_what_is_over(&self) {
        if self.record.pending.is_none() && self.record.generation > 0 {
            timer::disarm(self.record.generation).await;
        }
    }

    /// An undo that a failing disk stopped halfway.
    pub(super) fn go_on_undoing(&mut self) {
        if !self.host.state().has_journal() {
            return;
        }
        match recover::recover(&self.host, &self.lock) {
            Ok((recovery, record)) => {
                tell(&recovery);
                self.record = record;
            }
            Err(problem) => tracing::error!("{problem}"),
        }
    }
}

/// Says what recovery did.
pub fn tell(recovery: &Recovery) {
    match recovery {
        Recovery::Clean => {}
        Recovery::Finished { generation } => tracing::info!(generation, "an apply that was interrupted at its end is finished"),
        Recovery::Incomplete { generation, problems } => {
            tracing::error!(generation, "an apply that was interrupted cannot be undone yet");
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
        }
        Recovery::Undone { generation, problems } => {
            tracing::warn!(generation, "an apply that was interrupted is undone");
            problems.iter().for_each(|problem| tracing::error!("{problem}"));
        }
    }
}
