//! What can be at a path, in the words of plan, journal and record.

use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::spec::names::Digest;

/// Bytes that may hold a secret: cheap to clone, never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Content(Arc<[u8]>);

impl Content {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Their digest.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(&self.0)
    }

    /// The bytes as text; `None` when they are not UTF-8.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.0).ok()
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes)", self.0.len())
    }
}

/// Who may do what with a file, and its labels.
///
/// Labels do not count when two are compared: a security module gives every new file its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attributes {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes by name, base64.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
}

impl PartialEq for Attributes {
    fn eq(&self, other: &Self) -> bool {
        (self.mode, self.uid, self.gid) == (other.mode, other.uid, other.gid)
    }
}

impl Eq for Attributes {}

impl Attributes {
    /// Root's, with these permission bits and no labels.
    #[must_use]
    pub const fn root(mode: u32) -> Self {
        Self { mode, uid: 0, gid: 0, xattrs: BTreeMap::new() }
    }
}

/// A regular file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileState {
    /// Digest of its bytes.
    pub digest: Digest,
    /// Owner, mode, labels.
    pub attributes: Attributes,
}

/// What is at a path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Entry {
    /// Nothing.
    Absent,
    /// A regular file.
    File(FileState),
    /// A directory with its regular files; what else is in it is named in `others`.
    Directory {
        /// Owner, mode, labels.
        attributes: Attributes,
        /// Regular files by name.
        files: BTreeMap<String, FileState>,
        /// Names of subdirectories, links and the like.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        others: Vec<String>,
    },
    /// A symbolic link.
    Symlink {
        /// Where it points, as written.
        target: String,
    },
    /// A socket, a device, …
    Other,
}

impl Entry {
    /// Digest of a regular file.
    #[must_use]
    pub fn digest(&self) -> Option<&Digest> {
        match self {
            Self::File(file) => Some(&file.digest),
            _ => None,
        }
    }

    /// Attributes of a file or directory.
    #[must_use]
    pub fn attributes(&self) -> Option<&Attributes> {
        match self {
            Self::File(file) => Some(&file.attributes),
            Self::Directory { attributes, .. } => Some(attributes),
            _ => None,
        }
    }

    /// The word for it in a sentence.
    #[must_use]
    pub const fn noun(&self) -> &'static str {
        match self {
            Self::Absent => "nothing",
            Self::File(_) => "a file",
            Self::Directory { .. } => "a directory",
            Self::Symlink { .. } => "a symbolic link",
            Self::Other => "neither file nor directory",
        }
    }
}
