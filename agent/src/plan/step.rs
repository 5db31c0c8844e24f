//! One change of one path, with the bytes it leaves and the state it expects to find.

use std::collections::BTreeMap;

use crate::observed::entry::{Attributes, Content, Entry, FileState};

/// A file to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFile {
    /// Its bytes.
    pub content: Content,
    /// Owner, mode, labels.
    pub attributes: Attributes,
}

impl NewFile {
    /// What will be there.
    #[must_use]
    pub fn state(&self) -> FileState {
        FileState { digest: self.content.digest(), attributes: self.attributes.clone() }
    }
}

/// What is done to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Written anew, or in place of what is there.
    PutFile(NewFile),
    /// Taken away; also a symbolic link.
    RemoveFile,
    /// Made under another name and renamed in whole.
    PlaceDirectory {
        /// Of the directory itself.
        attributes: Attributes,
        /// Its files by name.
        files: BTreeMap<String, NewFile>,
    },
    /// Renamed away whole, then swept. An empty one is removed as it is.
    RemoveDirectory,
    /// A symbolic link.
    Symlink {
        /// Where it points.
        target: String,
    },
}

/// One step of a plan.
#[derive(Debug, Clone)]
pub struct Step {
    /// Absolute path.
    pub path: String,
    /// What is expected to be there; anything else stops the apply before its first write.
    pub before: Entry,
    /// The text that is there now, for the diff.
    pub before_content: Option<Content>,
    /// What is done.
    pub change: Change,
    /// Why, as a phrase.
    pub reason: String,
}

impl Step {
    /// What is there afterwards.
    #[must_use]
    pub fn after(&self) -> Entry {
        match &self.change {
            Change::PutFile(file) => Entry::File(file.state()),
            Change::RemoveFile | Change::RemoveDirectory => Entry::Absent,
            Change::PlaceDirectory { attributes, files } => Entry::Directory {
                attributes: attributes.clone(),
                files: files.iter().map(|(name, file)| (name.clone(), file.state())).collect(),
                others: Vec::new(),
            },
            Change::Symlink { target } => Entry::Symlink { target: target.clone() },
        }
    }

    /// The word for it in a plan.
    #[must_use]
    pub const fn verb(&self) -> &'static str {
        match (&self.change, &self.before) {
            (Change::PutFile(_), Entry::Absent) => "create",
            (Change::PutFile(_), _) => "change",
            (Change::RemoveFile, _) => "remove",
            (Change::PlaceDirectory { .. }, _) => "place",
            (Change::RemoveDirectory, _) => "remove",
            (Change::Symlink { .. }, _) => "link",
        }
    }
}
