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
    sys::stat::{Mode, umask},
    unistd::{Gid, Group, chown},
};
use tokio::net::UnixListener;

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

/// Listens at a path, for root and one group.
///
/// # Errors
/// When somebody listens there already, or a system call fails.
pub fn bind(path: &Path, group: &str) -> Result<Bound, SocketError> {
    let failed = |action| move |source| SocketError::Failed { action, path: path.display().to_string(), source };
    if let Some(directory) = path.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed("make the directory of"))?;
    }
    remove_stale(path)?;
    // From its first moment on, nobody else can open it; the group is let in once it is the group's.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = UnixListener::bind(path);
    umask(before);
    let listener = bound.map_err(failed("listen at"))?;
    let given = give_to_group(path, group);
    let mode = if given.is_ok() { 0o660 } else { 0o600 };
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(failed("set the mode of"))?;
    Ok(Bound { listener, group_problem: given.err() })
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
    let gid = match Group::from_name(group) {
        Ok(Some(group)) => group.gid,
        Ok(None) => return Err(format!("there is no group \"{group}\", so only root can open {}", path.display())),
        Err(errno) => {
            return Err(format!("the group \"{group}\" cannot be looked up ({}), so only root can open {}", errno.desc(), path.display()));
        }
    };
    chown(path, None, Some(Gid::from_raw(gid.as_raw()))).map_err(|errno| {
        format!("{} cannot be given to the group \"{group}\" ({}), so only root can open it", path.display(), errno.desc())
    })
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
        assert!(first.group_problem.unwrap().contains("no-such-group"));
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
