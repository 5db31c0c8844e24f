//! The Unix socket callers come through: who can open it is who may look.
#![expect(clippy::disallowed_methods, reason = "makes the socket and its directory")]

use std::{
    io,
    os::unix::{
        fs::{DirBuilderExt, FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
};

use nix::{
    sys::stat::{Mode, fchmod},
    unistd::{Group, chown},
};
use tokio::net::{UnixListener, UnixSocket};

/// Connections that may wait to be taken.
const BACKLOG: u32 = 128;

/// The socket could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("another process listens at {path}; stop it, or name another [api] socket")]
    InUse {
        /// The socket.
        path: String,
    },
    /// Something that is not a socket is there.
    #[error("{path} is not a socket; move it away, or name another [api] socket")]
    Occupied {
        /// The path.
        path: String,
    },
    /// A system call failed.
    #[error("cannot {action} {path}: {source}")]
    Failed {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: String,
        /// Why not.
        source: io::Error,
    },
}

/// A socket that is listened at.
#[derive(Debug)]
pub struct Bound {
    /// Where connections come from.
    pub listener: UnixListener,
    /// Why its group could not have it, a sentence; it is root's alone then.
    pub group_problem: Option<String>,
}

/// Listens at a path, for root and one group; for root alone when the group cannot have it.
///
/// # Errors
/// When somebody listens there already, or a system call fails.
pub fn bind(path: &Path, group: &str) -> Result<Bound, SocketError> {
    let failed = |action| move |source| SocketError::Failed { action, path: path.display().to_string(), source };
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed("make the directory of"))?;
    }
    remove_stale(path)?;
    let socket = UnixSocket::new_stream().map_err(failed("make"))?;
    // Linux gives the file the mode its socket has, so that there is no moment in which others can open it (unix_bind in af_unix.c).
    fchmod(&socket, Mode::from_bits_truncate(0o600)).map_err(io::Error::from).map_err(failed("set the mode of"))?;
    socket.bind(path).map_err(failed("bind"))?;
    let given = give_to_group(path, group);
    if given.is_ok() {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed("set the mode of"))?;
    }
    let listener = socket.listen(BACKLOG).map_err(failed("listen at"))?;
    let group_problem = given.err().map(|reason| format!("{reason}, so only root can open {}", path.display()));
    Ok(Bound { listener, group_problem })
}

fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let shown = || path.display().to_string();
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(SocketError::Occupied { path: shown() });
    }
    if UnixStream::connect(path).is_ok() {
        return Err(SocketError::InUse { path: shown() });
    }
    std::fs::remove_file(path).map_err(|source| SocketError::Failed { action: "remove the stale", path: shown(), source })
}

fn give_to_group(path: &Path, group: &str) -> Result<(), String> {
    let found = Group::from_name(group).map_err(|errno| format!("the group \"{group}\" cannot be looked up ({})", errno.desc()))?;
    let found = found.ok_or_else(|| format!("there is no group \"{group}\""))?;
    let given = chown(path, None, Some(found.gid));
    given.map_err(|errno| format!("the socket cannot be given to the group \"{group}\" ({})", errno.desc()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/mirrorlet.sock");
        let first = bind(&path, "no-such-group").unwrap();
        assert!(first.group_problem.is_some_and(|reason| reason.contains("no-such-group")));
        assert_eq!(mode(&path), 0o600);
        assert!(matches!(bind(&path, "root"), Err(SocketError::InUse { .. })));
        drop(first.listener);
        bind(&path, "root").unwrap();
    }

    #[tokio::test]
    async fn a_group_that_exists_may_open_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s.sock");
        let own = Group::from_gid(nix::unistd::getgid()).unwrap().unwrap();
        assert_eq!(bind(&path, &own.name).unwrap().group_problem, None);
        assert_eq!(mode(&path), 0o660);
    }

    #[tokio::test]
    async fn a_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path, "root"), Err(SocketError::Occupied { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
