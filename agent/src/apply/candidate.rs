//! What containerd would make of the new config, found out before a live file changes: its own dump of a copy, and a trial boot.

use super::{
    Progress,
    journal::Phase,
    problems::{NOT_RUN, TRIED_AGAIN},
};
use crate::{
    config::{RestartDriver, TRIAL_DIR},
    host::{
        commands::{self, CommandError},
        observe::Host,
        planted,
        trial::{self, Trial},
    },
    observed::{Observed, entry::Attributes},
    plan::{Plan, candidate},
    spec::problem::Problem,
};

/// A trial that fails once may have met a node out of breath.
const TRIALS: usize = 2;

/// Checks what containerd would be restarted with. What could not be tried is told and stops nothing.
///
/// # Errors
/// When containerd would not come up with it, or would lose settings of others.
pub async fn check(host: &Host, plan: &Plan, observed: &Observed, progress: Progress<'_>) -> Result<Vec<Problem>, Problem> {
    let text = candidate::text(plan, observed);
    if planted::has("no-trial") || text.is_empty() || !host.settings.restart.trial_boot || host.is_offline {
        return Ok(Vec::new());
    }
    progress(Phase::Checking, "trying the new config before a live file changes");
    let dump = dump(host, &text, observed).await?;
    if host.settings.restart.driver != RestartDriver::Systemd {
        return Ok(Vec::new());
    }
    let hidden = candidate::nri_plugins(dump.as_deref()).filter(|_| !planted::has("plugins-in-trial"));
    boot(host, &text, observed, hidden.as_deref()).await
}

/// `containerd config dump` of a copy says the same as of the live file, but for the registry settings. The answer is that dump, where there
/// is anything to compare it with.
async fn dump(host: &Host, text: &str, observed: &Observed) -> Result<Option<String>, Problem> {
    let place = &observed.containerd.place;
    if observed.config.root.text.is_none() {
        return Ok(None);
    }
    let path = format!("{TRIAL_DIR}/config.toml");
    let copy = candidate::copy(&place.config, text)?;
    let files = &host.files;
    let written = files.make_own_directory(TRIAL_DIR).and_then(|()| files.put(&path, &copy.into(), &Attributes::root(0o600)));
    written.map_err(|error| super::file_problem(&error))?;
    let (now, then) = (
        commands::containerd_config_dump(&place.binary, &place.config).await,
        commands::containerd_config_dump(&place.binary, &path).await,
    );
    trial::clear(files).await;
    let (now, then) = match (now, then) {
        (Ok(now), Ok(then)) => (now, then),
        (_, Err(error @ (CommandError::NotStarted { .. } | CommandError::Late { .. }))) => {
            let message = format!("what containerd makes of the new config cannot be asked: {error}");
            return Err(Problem::new(NOT_RUN, message, TRIED_AGAIN));
        }
        (_, Err(error)) => {
            let message = format!("containerd cannot read the config it would be restarted with: {error}");
            return Err(Problem::new("candidate.unreadable", message, "nothing was changed; see what the plan writes"));
        }
        // The live one cannot be dumped: the plan has said so.
        (Err(_), Ok(then)) => return Ok(Some(then)),
    };
    let ignored = candidate::ignored(&place.config, text, &then)?;
    if !ignored.is_empty() {
        let message = format!("this containerd would not use the mirrors of {} in registry.mirrors", ignored.join(", "));
        return Err(Problem::new("candidate.ignored", message, "nothing was changed; set [containerd] layout = \"hosts\""));
    }
    let lost = candidate::differences(&now, &then).unwrap_or_default();
    if lost.is_empty() {
        return Ok(Some(then));
    }
    let message =
        format!("with the new config containerd would also change {}", lost.iter().take(5).cloned().collect::<Vec<_>>().join(", "));
    Err(Problem::new("candidate.changes-more", message, format!("nothing was changed; look at {} and its imports", place.config)))
}

async fn boot(host: &Host, text: &str, observed: &Observed, hidden: Option<&str>) -> Result<Vec<Problem>, Problem> {
    let place = &observed.containerd.place;
    let mut trial = candidate::trial(&place.config, text)?;
    let plugins = hidden.filter(|directory| host.files.names(directory).is_ok_and(|names| !names.is_empty()));
    trial.left_out.extend(plugins.map(|directory| format!("NRI plugins of {directory}")));
    let mut reason = String::new();
    for _ in 0..TRIALS {
        match trial::boot(&host.files, &place.binary, &trial.config, hidden).await {
            Ok(Trial::Ready) => return Ok(told(&trial.left_out)),
            Ok(Trial::Dead(why)) => reason = why,
            Err(error) => return Ok(vec![not_tried(format!("the new config could not be tried beforehand: {error}"))]),
        }
        if fails_today_as_well(host, observed, hidden).await {
            let message = format!("a second containerd cannot be tried on this node ({reason}), not with today's config either");
            return Ok(vec![not_tried(message)]);
        }
    }
    Err(Problem::new(
        "candidate.cri-dead",
        format!("tried beforehand, containerd's CRI does not come up: {reason}"),
        format!("nothing was changed and containerd was not restarted; mend {} or what it imports", place.config),
    ))
}

/// Today's config is what the healthy process was started with, and yet a trial of it fails: then trials say nothing here.
async fn fails_today_as_well(host: &Host, observed: &Observed, hidden: Option<&str>) -> bool {
    let containerd = &observed.containerd;
    let is_what_runs = observed.changed_since_start().config.is_empty() && containerd.cri.known().is_some();
    let Some(text) = observed.config.root.text.as_ref().and_then(|content| content.text()) else { return false };
    let Ok(today) = candidate::trial(&containerd.place.config, text) else { return false };
    is_what_runs && matches!(trial::boot(&host.files, &containerd.place.binary, &today.config, hidden).await, Ok(Trial::Dead(_)))
}

fn not_tried(message: String) -> Problem {
    Problem::new("candidate.not-tried", message, "the restart itself is watched and undone all the same")
}

fn told(left_out: &[String]) -> Vec<Problem> {
    if left_out.is_empty() {
        return Vec::new();
    }
    let message = format!("the new config was tried beforehand without {}", left_out.join(", "));
    vec![Problem::new("candidate.left-out", message, "what reaches out of a trial is only seen at the restart")]
}
