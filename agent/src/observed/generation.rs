//! One past change: who, when, why, what, how it ended, and the spec it takes to go back to it. Versioned text.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::record::{Applied, Change, Ending};
use crate::spec::names::Digest;

/// The format written by this release.
pub const FORMAT: u32 = 1;

/// A change that took a number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// Format of this text.
    pub version: u32,
    /// Number, time, who, how it ended and what it cost.
    pub change: Change,
    /// Why, a phrase.
    pub reason: String,
    /// The generation this one went back to; 0: the node as it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restores: Option<u64>,
    /// The spec it put in effect, or was to; absent: the node as it was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    /// Unified diff of its steps, secrets masked, cut when it is very long.
    pub diff: String,
    /// What somebody else had written where it wrote; content is kept by digest.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub replaced: BTreeMap<String, Digest>,
    /// When somebody else had last changed what it mended or wrote over, and who.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub touched: BTreeMap<String, Touch>,
}

/// The last change of a path that was not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Touch {
    /// When, in seconds of Unix time; of a path that is gone, when its directory last changed. 0: unknown.
    pub time: i64,
    /// Who, as far as the kernel says; empty: unknown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

impl Generation {
    /// Digests of everything that is kept for it.
    pub fn objects(&self) -> impl Iterator<Item = &Digest> {
        self.applied.iter().flat_map(Applied::objects).chain(self.replaced.values())
    }

    /// Whether it was in effect, so that somebody can go back to it.
    #[must_use]
    pub fn was_in_effect(&self) -> bool {
        self.change.ending == Ending::Changed
    }
}

/// Reads one.
///
/// # Errors
/// When a newer release wrote it, or it is damaged; a sentence.
pub fn read(text: &str) -> Result<Generation, String> {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("it cannot be read: {error}"))?;
    let found = value.get("version").and_then(serde_json::Value::as_u64).unwrap_or(0);
    if found > u64::from(FORMAT) {
        return Err(format!("it has format {found}, this mirrorlet reads up to format {FORMAT}; install the release that wrote it"));
    }
    serde_json::from_value(value).map_err(|error| format!("it cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_sample_of_format_1_can_be_read() {
        let generation = read(include_str!("samples/generation-1.json")).unwrap();
        assert_eq!((generation.change.generation, generation.restores, generation.was_in_effect()), (4, Some(2), true));
        let again = read(&serde_json::to_string(&generation).unwrap()).unwrap();
        assert_eq!(again, generation);
    }

    #[test]
    fn a_newer_format_is_refused_with_a_sentence() {
        assert!(read("{\"version\": 7}").unwrap_err().contains("format 7"));
    }
}
