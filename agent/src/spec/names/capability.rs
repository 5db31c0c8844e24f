//! What containerd may ask a mirror.

use std::fmt;

/// A word of hosts.toml's `capabilities`. Only these two matter for pulls, and every containerd release knows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Manifests by digest, and blobs.
    Pull,
    /// Tags: which digest a tag stands for.
    Resolve,
}

impl Capability {
    /// Both, which is what an entry gets that says nothing.
    pub const ALL: [Self; 2] = [Self::Pull, Self::Resolve];

    /// The word in hosts.toml and in a spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Resolve => "resolve",
        }
    }

    /// The capability of that word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|capability| capability.as_str() == word)
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
