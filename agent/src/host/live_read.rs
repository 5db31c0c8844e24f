//! Asks containerd to show that it reads our directory: for a moment the directory of host directories holds one named after an unused
//! loopback address, whose only endpoint is a listener of ours. A pull of a nonce through it ends at once, but the listener saw the nonce.
//! Nothing is stored, no outside host is asked, nothing stays.

use std::{cell::Cell, collections::BTreeMap, convert::Infallible, time::Duration};

use tokio::time::timeout;
use tonic::Status;

use super::{
    cri::Cri,
    files::{Files, Transaction},
    listener::Listener,
};
use crate::{
    observed::entry::{Attributes, Entry},
    plan::step::{Change, NewFile, Step},
    render::{
        host_directory::HOSTS_TOML,
        hosts_toml::{HostTable, HostsToml},
    },
    spec::problem::Problem,
};

/// How long the pull of the nonce may take.
const DEADLINE: Duration = Duration::from_secs(10);

/// Whether the running containerd reads `hosts_dir`.
///
/// # Errors
/// When it could not be asked.
pub async fn ask(files: &Files, hosts_dir: &str, cri: &Cri, nonce: &str) -> Result<bool, String> {
    let listener = Listener::open().await?;
    let bytes = nonce.as_bytes();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(7) % 250 + 1;
    let name = listener.nobody([byte(0), byte(1)]);
    let step = step(hosts_dir, &name, listener.url()).map_err(|problem| problem.to_string())?;
    let transaction = Transaction { files, id: "live-read" };
    transaction.carry_out(0, &step).map_err(|error| error.to_string())?;
    let seen = Cell::new(false);
    let pulled = tokio::select! {
        never = listen(&listener, nonce, &seen) => match never {},
        pulled = pull(cri, &name, nonce) => pulled,
    };
    files.remove(&step.path).map_err(|error| error.to_string())?;
    if seen.get() { Ok(true) } else { pulled.map(|()| false) }
}

fn step(hosts_dir: &str, name: &str, url: String) -> Result<Step, Problem> {
    let toml = HostsToml { server: Some(HostTable::plain(url.clone())), hosts: vec![HostTable::plain(url)] };
    let file = NewFile { content: toml.render()?.into(), attributes: Attributes::root(0o644) };
    Ok(Step {
        path: format!("{hosts_dir}/{name}"),
        before: Entry::Absent,
        before_content: None,
        change: Change::PlaceDirectory { attributes: Attributes::root(0o755), files: BTreeMap::from([(HOSTS_TOML.to_owned(), file)]) },
        reason: "live-read proof".into(),
    })
}

/// Ends when containerd has ended the pull, which it cannot but refuse.
///
/// # Errors
/// When it gave no answer: that says nothing of what it reads.
async fn pull(cri: &Cri, name: &str, nonce: &str) -> Result<(), String> {
    let reference = format!("{name}/mirrorlet/{nonce}:live-read");
    match timeout(DEADLINE, cri.pull(&reference, None)).await {
        Err(_) => Err(format!("no answer within {} s", DEADLINE.as_secs())),
        Ok(Err(status)) if is_silence(&status) => Err(format!("{} ({:?})", status.message(), status.code())),
        Ok(_) => Ok(()),
    }
}

/// containerd went away, has no CRI, or was cancelled; every other error is its word on the image.
#[must_use]
pub fn is_silence(status: &Status) -> bool {
    use tonic::Code;
    let is_starting = status.message().contains("not initialized");
    is_starting || matches!(status.code(), Code::Unavailable | Code::Unimplemented | Code::Cancelled | Code::DeadlineExceeded)
}

/// Goes on when the nonce was seen: the answer ends the pull, and one that is cut off may leave containerd a lease.
async fn listen(listener: &Listener, nonce: &str, seen: &Cell<bool>) -> Infallible {
    loop {
        let request = listener.next().await;
        seen.set(seen.get() || request.contains(nonce));
    }
}
