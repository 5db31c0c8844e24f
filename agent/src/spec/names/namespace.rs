//! The part of a registry below which a mirror keeps its images.

use std::fmt;

use super::super::quote::quoted;

/// How long a repository path may be in an image reference; a namespace is the beginning of one.
const LONGEST: usize = 255;

/// One or more path components, e.g. `proxy` or `team/proxy`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(String);

impl Namespace {
    /// Reads `a/b`; the error says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("a namespace has at most {LONGEST} characters, this one has {}", text.len()));
        }
        match text.split('/').find(|component| !is_path_component(component)) {
            Some("") => Err("a namespace must not have an empty part".to_owned()),
            Some(wrong) => Err(format!("{} cannot be part of a namespace", quoted(wrong))),
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The namespace without slashes around it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// `path-component` of the reference grammar: lower-case letters and digits, joined by `.`, `_`, `__` or any number of `-`.
pub(super) fn is_path_component(text: &str) -> bool {
    let is_alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let runs = bytes.chunk_by(|a, b| is_alphanumeric(*a) == is_alphanumeric(*b));
    let joined = |run: &[u8]| matches!(run, b"." | b"_" | b"__") || run.iter().all(|b| *b == b'-');
    let ends = [bytes.first(), bytes.last()];
    ends.iter().all(|end| end.is_some_and(|b| is_alphanumeric(*b))) && runs.into_iter().all(|run| is_alphanumeric(run[0]) || joined(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_follow_the_reference_grammar() {
        for good in ["a", "0", "a.b", "a_b", "a__b", "a-b", "a---b", "a-b.c_d"] {
            assert!(is_path_component(good), "{good}");
        }
        for bad in ["", ".", "..", "a..b", "a___b", "a.-b", "-a", "a-", "A", "a b", "a%2fb", "é", "a\nb", "_"] {
            assert!(!is_path_component(bad), "{bad}");
        }
    }
}
