//! The quiet moment before a restart: no image is being pulled, nothing is being started.

use tokio::time::{Instant, sleep};

use super::{
    Progress,
    journal::Phase,
    problems::{BUSY, TRIED_AGAIN},
};
use crate::{
    config::QuietPolicy,
    host::{clock, containerd::Containerd, observe::Host, planted},
    spec::problem::Problem,
};

/// Looked at this often while it lasts: a tenth of the time that has to be quiet.
const LOOKS: u32 = 10;

/// Waits until nothing happened for `quiet_for`, at most `quiet_deadline`. A containerd that does not answer has nothing to lose.
///
/// # Errors
/// When there was no such moment in time, and the policy is to give up.
pub async fn wait(host: &Host, client: &Containerd, progress: Progress<'_>) -> Result<(), Problem> {
    let settings = &host.settings.restart;
    if settings.quiet_for.is_zero() || planted::has("no-quiet-moment") {
        return Ok(());
    }
    let begun = Instant::now();
    let mut quiet_since = begun;
    let mut is_told = false;
    loop {
        let busy = match client.busy_with(clock::unix_seconds()).await {
            Ok(busy) => busy,
            Err(error) if error.is_of_a_dead_one() => None,
            Err(error) => Some(format!("it does not say what it is doing ({error})")),
        };
        if let Some(reason) = &busy {
            quiet_since = Instant::now();
            if !is_told {
                progress(Phase::Waiting, &format!("waiting for a quiet moment: {reason}"));
                is_told = true;
            }
        }
        if quiet_since.elapsed() >= settings.quiet_for {
            return Ok(());
        }
        if begun.elapsed() >= settings.quiet_deadline {
            let reason = busy.unwrap_or_else(|| "something was started again and again".to_owned());
            let waited = settings.quiet_deadline.as_secs();
            let problem = Problem::new(
                BUSY,
                format!("containerd had no quiet moment within {waited} s: {reason}"),
                format!("{TRIED_AGAIN}; [restart] quiet_policy = \"go-on\" restarts all the same"),
            );
            if settings.quiet_policy == QuietPolicy::GiveUp {
                return Err(problem);
            }
            tracing::warn!("{}; going on, as the settings say", problem.message);
            return Ok(());
        }
        sleep(settings.quiet_for / LOOKS).await;
    }
}
