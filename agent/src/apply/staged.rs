//! What the running containerd makes of the new host directories, found out before a live file changes.

use super::{Progress, journal::Phase};
use crate::{
    config::Layout,
    host::{
        containerd::Containerd,
        listener::Listener,
        observe::Host,
        planted,
        staging::{Stage, Unread},
    },
    observed::Observed,
    plan::{Plan, staged},
    spec::problem::Problem,
};

/// So many registries are named in a sentence.
const MOST_NAMES: usize = 3;

/// Shows containerd what is to become of its host directories, where it can be shown that, and where it is the one that will read them. What
/// could not be tried is told and stops nothing.
///
/// # Errors
/// When it could not use one of them: a file it does not understand it ignores without a word, and a certificate it cannot load fails
/// every pull of that registry.
pub async fn check(
    host: &Host,
    plan: &Plan,
    observed: &Observed,
    client: &Containerd,
    progress: Progress<'_>,
) -> Result<Vec<Problem>, Problem> {
    let containerd = &observed.containerd;
    let settings = &host.settings.containerd;
    let is_reader = |running| containerd.version_to_be(plan.restart.is_some()) == Some(running);
    let running = containerd.running.known().filter(|running| running.reads_staged_hosts() && is_reader(running));
    let is_tried = running.is_some() && plan.wants_mirrors && settings.layout == Layout::Hosts;
    if !is_tried || host.is_offline || planted::has("no-staging") {
        return Ok(Vec::new());
    }
    let listener = match Listener::open().await {
        Ok(listener) => listener,
        Err(reason) => return Ok(vec![not_tried(&reason)]),
    };
    let staged = staged::staged(plan, observed.hosts_dir.as_ref(), &settings.hosts_dir, &listener.url());
    if staged.is_empty() {
        return Ok(Vec::new());
    }
    progress(Phase::Checking, "showing containerd the new host directories before they are live");
    let stage = Stage { files: &host.files, client, listener: &listener, hosts_dir: &settings.hosts_dir };
    let unread = match stage.ask(&staged).await {
        Ok(unread) => unread,
        Err(reason) => return Ok(vec![not_tried(&reason)]),
    };
    unread.first().map_or_else(|| Ok(Vec::new()), |(staged, unread)| Err(refused(&named(&staged.names), unread, &settings.unit)))
}

fn refused(names: &str, unread: &Unread, unit: &str) -> Problem {
    let (message, remedy) = match unread {
        Unread::Ignored => (
            format!("shown beforehand, containerd ignores the hosts.toml of {names} and asks the registry itself"),
            format!("nothing was changed; \"journalctl -u {unit}\" has containerd's reason"),
        ),
        Unread::Refused(words) => (
            format!("shown beforehand, containerd cannot use the hosts.toml of {names}: {words}"),
            "nothing was changed; mend the file that the spec names".to_owned(),
        ),
    };
    Problem::new("candidate.hosts-unread", message, remedy)
}

fn named(names: &[String]) -> String {
    let more = names.len().saturating_sub(MOST_NAMES);
    let listed = names.iter().take(MOST_NAMES).cloned().collect::<Vec<_>>().join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

fn not_tried(reason: &str) -> Problem {
    let message = format!("containerd could not be shown the new host directories beforehand: {reason}");
    Problem::new("candidate.hosts-not-tried", message, "see whether they work: mirrorctl pull")
}
