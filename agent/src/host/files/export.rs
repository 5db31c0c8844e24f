//! Writes a tree of files into a directory that nobody uses: for people and image builds, never for the node itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    path::{Path, PathBuf},
};

use nix::unistd::{getegid, geteuid};

use super::{FileError, Files, door};
use crate::observed::entry::{Attributes, Content};

/// Content and permission bits by absolute path.
pub type Tree = BTreeMap<String, (Content, u32)>;

/// A tree could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The directory is where only the node's own files are.
    #[error("{path} is below {forbidden}, where only the node's own files are; name another directory")]
    Forbidden {
        /// The directory.
        path: String,
        /// What it is below.
        forbidden: String,
    },
    /// Something is in it.
    #[error("{path} is not empty; name a new directory, or empty it first")]
    NotEmpty {
        /// The directory.
        path: String,
    },
    /// An access failed.
    #[error(transparent)]
    Failed(#[from] FileError),
}

/// Writes a tree below a directory, which is made or has to be empty, as the one who calls. Nothing is written below `forbidden`.
///
/// # Errors
/// When the directory may not be used, or a system call fails.
pub fn export(directory: &Path, tree: &Tree, forbidden: &[&str]) -> Result<(), ExportError> {
    let failed = |action| move |source| FileError { action, path: directory.display().to_string(), source };
    let real = real_path(directory).map_err(failed("look at"))?;
    if let Some(forbidden) = forbidden.iter().find(|forbidden| real.starts_with(forbidden)) {
        return Err(ExportError::Forbidden { path: real.display().to_string(), forbidden: (*forbidden).to_owned() });
    }
    std::fs::create_dir_all(&real).map_err(failed("make"))?;
    let files = Files::open(&real)?;
    if !files.names("/")?.is_empty() {
        return Err(ExportError::NotEmpty { path: directory.display().to_string() });
    }
    let own = |mode| Attributes { uid: geteuid().as_raw(), gid: getegid().as_raw(), ..Attributes::root(mode) };
    for parent in parents(tree) {
        make(&files, &parent, &own(0o755))?;
    }
    for (path, (content, mode)) in tree {
        files.put(path, content, &own(*mode))?;
    }
    Ok(())
}

/// The path without links; what is not there yet is taken as it is written.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut missing = Vec::new();
    for ancestor in path.ancestors() {
        match ancestor.canonicalize() {
            Ok(real) => return Ok(missing.iter().rev().fold(real, |path: PathBuf, name| path.join(name))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => missing.extend(ancestor.file_name()),
            Err(error) => return Err(error),
        }
    }
    Ok(path)
}

/// Directories of a tree, each after the one it is in.
fn parents(tree: &Tree) -> BTreeSet<String> {
    let above =
        |path: &str| path.match_indices('/').map(|(end, _)| path[..end].to_owned()).filter(|path| !path.is_empty()).collect::<Vec<_>>();
    tree.keys().flat_map(|path| above(path)).collect()
}

fn make(files: &Files, path: &str, attributes: &Attributes) -> Result<(), FileError> {
    let parent = files.parent(path)?;
    let directory = door::make_directory(&parent.fd, parent.name, path)?;
    door::dress(&directory.into(), attributes, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn tree() -> Tree {
        Tree::from([
            ("/etc/c/config.toml".to_owned(), ("a".into(), 0o644)),
            ("/etc/c/certs.d/h/hosts.toml".to_owned(), ("b".into(), 0o600)),
        ])
    }

    #[test]
    fn a_tree_is_written_once() {
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("a/b");
        export(&out, &tree(), &[]).unwrap();
        let hosts = out.join("etc/c/certs.d/h/hosts.toml");
        assert_eq!(std::fs::read_to_string(&hosts).unwrap(), "b");
        assert_eq!(std::fs::metadata(&hosts).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(export(&out, &tree(), &[]), Err(ExportError::NotEmpty { .. })));
    }

    #[test]
    fn a_forbidden_directory_is_not_even_made() {
        let directory = tempfile::tempdir().unwrap();
        let real = directory.path().canonicalize().unwrap();
        std::fs::create_dir(real.join("etc")).unwrap();
        std::os::unix::fs::symlink(real.join("etc"), real.join("link")).unwrap();
        let forbidden = real.join("etc").display().to_string();
        for out in ["etc/x", "link/x", "link/../etc/x", "etc"] {
            let result = export(&real.join(out), &tree(), &[&forbidden]);
            assert!(matches!(result, Err(ExportError::Forbidden { .. })), "{out}: {result:?}");
        }
        assert!(!real.join("etc/x").exists());
    }
}
