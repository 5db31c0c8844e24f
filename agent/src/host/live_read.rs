//! Asks containerd to show that it reads our directory: for a moment the directory of host directories holds one named after an unused
//! loopback address, whose only endpoint is a listener of ours. A pull of a nonce through it ends in a quick "not found", but the listener saw
//! the nonce. Nothing is stored, no outside host is asked, nothing stays.

use std::{cell::Cell, collections::BTreeMap, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use tonic::Status;

use super::{
    cri::Cri,
    files::{Files, Transaction},
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
/// Names of these directories begin so; 127.116.0.0/16 is ours by nothing but this line.
const ADDRESSES: [u8; 2] = [127, 116];

/// Whether a name in the hosts directory is one of these, left behind by a process that was killed.
#[must_use]
pub fn is_nonce_directory(name: &str) -> bool {
    name.starts_with(&format!("{}.{}.", ADDRESSES[0], ADDRESSES[1]))
}

/// Whether the running containerd reads `hosts_dir`.
///
/// # Errors
/// When it could not be asked.
pub async fn ask(files: &Files, hosts_dir: &str, cri: &Cri, nonce: &str) -> Result<bool, String> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(|error| format!("no listener on loopback: {error}"))?;
    let port = listener.local_addr().map_err(|error| error.to_string())?.port();
    let bytes = nonce.as_bytes();
    let byte = |index: usize| bytes.get(index).copied().unwrap_or(7) % 250 + 1;
    let name = format!("{}.{}.{}.{}:{port}", ADDRESSES[0], ADDRESSES[1], byte(0), byte(1));
    let step = step(hosts_dir, &name, port).map_err(|problem| problem.to_string())?;
    let transaction = Transaction { files, id: "live-read" };
    transaction.carry_out(0, &step).map_err(|error| error.to_string())?;
    let seen = Cell::new(false);
    let pulled = tokio::select! {
        () = listen(listener, nonce, &seen) => Ok(()),
        pulled = pull(cri, &name, nonce) => pulled,
    };
    files.remove(&step.path).map_err(|error| error.to_string())?;
    if seen.get() { Ok(true) } else { pulled.map(|()| false) }
}

fn step(hosts_dir: &str, name: &str, port: u16) -> Result<Step, Problem> {
    let url = format!("http://127.0.0.1:{port}");
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
fn is_silence(status: &Status) -> bool {
    use tonic::Code;
    let is_starting = status.message().contains("not initialized");
    is_starting || matches!(status.code(), Code::Unavailable | Code::Unimplemented | Code::Cancelled | Code::DeadlineExceeded)
}

/// Ends when a request named the nonce.
async fn listen(listener: TcpListener, nonce: &str, seen: &Cell<bool>) {
    while !seen.get() {
        if let Ok((stream, _)) = listener.accept().await {
            let _ = timeout(DEADLINE, answer(stream, nonce, seen)).await;
        }
    }
}

/// Reads one request and answers "not found" on a connection that is closed then.
async fn answer(mut stream: TcpStream, nonce: &str, seen: &Cell<bool>) -> std::io::Result<()> {
    let mut request = Vec::new();
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < 16 * 1024 {
        match stream.read(&mut part).await? {
            0 => break,
            count => request.extend_from_slice(&part[..count]),
        }
    }
    seen.set(seen.get() || String::from_utf8_lossy(&request).contains(nonce));
    stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await?;
    stream.shutdown().await
}
