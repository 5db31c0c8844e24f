//! YAML as a tree in which every key and every value knows its place.
//!
//! Nothing is interpreted here: which keys mean what is the business of `validate`. What a hostile text could do to the reader is
//! ended here: size, depth and number of values are limited, aliases counted as often as they are used.

mod build;
mod mapping;
mod parse;

use std::rc::Rc;

pub use parse::parse;

/// Most bytes of text in one file.
pub const MOST_BYTES: usize = 1 << 20;
/// Deepest nesting, aliases followed.
pub const DEEPEST: u32 = 64;
/// Most keys and values in one file, aliases counted as often as they are used.
pub const MOST_NODES: usize = 100_000;

/// A place in a file: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Mark {
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

/// A value and its place.
#[derive(Debug, Clone)]
pub struct Node {
    /// Where it begins.
    pub at: Mark,
    /// What it is.
    pub value: Value,
}

/// Children are shared, so that an alias costs nothing.
#[derive(Debug, Clone)]
pub enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// A text; `is_plain` when it stands without quotes.
    Scalar {
        /// The text after unescaping.
        text: Rc<str>,
        /// Whether it was written without quotes.
        is_plain: bool,
    },
    /// A list.
    Sequence(Rc<[Node]>),
    /// A mapping, merge keys resolved, duplicate keys kept.
    Mapping(Rc<[Entry]>),
    /// Anything with an explicit tag, which could make of it what the text does not show.
    Tagged(String),
}

impl Value {
    /// The kind in words, with its article.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Scalar { .. } => "a text",
            Self::Sequence(_) => "a list",
            Self::Mapping(_) => "a mapping",
            Self::Tagged(_) => "a value with a tag",
        }
    }
}

/// One key of a mapping and its value.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where the key stands.
    pub at: Mark,
    /// The key; `None` when it is a list, a mapping or tagged.
    pub key: Option<Rc<str>>,
    /// The value.
    pub value: Node,
    /// Whether the key stands without quotes.
    is_plain: bool,
}

/// What ends the reading of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub at: Mark,
    /// Stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub remedy: &'static str,
}
