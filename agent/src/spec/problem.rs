//! What is wrong, where, why, and what would be right: the one shape in which a person is told.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Serialize};

/// A place in a text. Lines and columns count from 1.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The file as the reader knows it.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column, from 1, in characters.
    pub column: u32,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// One thing that is wrong, or worth knowing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Stable word for machines, e.g. `spec.endpoint.path`.
    pub code: Cow<'static, str>,
    /// What is wrong, a sentence without its full stop.
    pub message: String,
    /// What would be right, or what to do, a sentence without its full stop; empty when the message says it.
    pub remedy: String,
    /// Where it is, when it is in a text.
    pub at: Option<Location>,
    /// Field path in that text, e.g. `registryMirrors[0].endpoint`; empty when there is none.
    pub field: String,
}

impl Problem {
    /// A problem that is not in a text.
    pub fn new(code: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { code: Cow::Borrowed(code), message: message.into(), remedy: remedy.into(), at: None, field: String::new() }
    }

    /// The same problem, placed.
    #[must_use]
    pub fn at(mut self, location: Location, field: impl Into<String>) -> Self {
        self.at = Some(location);
        self.field = field.into();
        self
    }
}

impl fmt::Display for Problem {
    /// `FILE:LINE:COLUMN: FIELD: message; remedy [code]`, parts that are unknown left out.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = &self.at {
            write!(f, "{at}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}", self.message)?;
        if !self.remedy.is_empty() {
            write!(f, "; {}", self.remedy)?;
        }
        write!(f, " [{}]", self.code)
    }
}

/// A [`Problem`] on its way to a person or a machine: every field present.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProblemView {
    /// Stable word.
    pub code: String,
    /// What is wrong.
    pub message: String,
    /// What to do; may be empty.
    pub remedy: String,
    /// The file it is in; empty: in none.
    pub file: String,
    /// From 1; 0: unknown.
    pub line: u32,
    /// From 1; 0: unknown.
    pub column: u32,
    /// Field path; empty: none.
    pub field: String,
}

impl From<&Problem> for ProblemView {
    fn from(problem: &Problem) -> Self {
        let at = problem.at.as_ref();
        Self {
            code: problem.code.to_string(),
            message: problem.message.clone(),
            remedy: problem.remedy.clone(),
            file: at.map(|at| at.file.clone()).unwrap_or_default(),
            line: at.map_or(0, |at| at.line),
            column: at.map_or(0, |at| at.column),
            field: problem.field.clone(),
        }
    }
}

impl From<&ProblemView> for Problem {
    fn from(view: &ProblemView) -> Self {
        let at = (!view.file.is_empty()).then(|| Location { file: view.file.clone(), line: view.line, column: view.column });
        Self { code: view.code.clone().into(), message: view.message.clone(), remedy: view.remedy.clone(), at, field: view.field.clone() }
    }
}

impl fmt::Display for ProblemView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Problem::from(self).fmt(f)
    }
}
