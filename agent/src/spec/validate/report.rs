//! Where problems and notices are collected while the whole spec is walked once.

use std::fmt;

use super::super::{
    SpecFile,
    document::Mark,
    problem::{Location, Problem},
};

/// A field path that is only put into words when somebody needs it.
#[derive(Clone, Copy)]
pub(super) enum Field<'a> {
    /// The document itself.
    Root,
    /// A key of a mapping.
    Key(&'a Field<'a>, &'a str),
    /// An item of a list.
    Item(&'a Field<'a>, usize),
}

impl<'a> Field<'a> {
    pub(super) fn key(&'a self, key: &'a str) -> Field<'a> {
        Field::Key(self, key)
    }

    pub(super) fn item(&'a self, index: usize) -> Field<'a> {
        Field::Item(self, index)
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Field::Root => Ok(()),
            Field::Key(Field::Root, key) => f.write_str(key),
            Field::Key(parent, key) => write!(f, "{parent}.{key}"),
            Field::Item(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

/// A problem with its place in reading order.
type Ranked = (usize, Option<Mark>, Problem);

/// Problems and notices so far, and the file being read.
pub(super) struct Report<'a> {
    files: &'a [SpecFile<'a>],
    file: usize,
    problems: Vec<Ranked>,
    notices: Vec<Ranked>,
}

impl<'a> Report<'a> {
    pub(super) fn new(files: &'a [SpecFile<'a>]) -> Self {
        Self { files, file: 0, problems: Vec::new(), notices: Vec::new() }
    }

    /// From now on places are in that file.
    pub(super) fn turn_to(&mut self, file: usize) {
        self.file = file;
    }

    pub(super) fn problem(&mut self, at: Mark, field: &Field<'_>, problem: Problem) {
        let placed = problem.at(self.location(at), field.to_string());
        self.problems.push((self.file, Some(at), placed));
    }

    pub(super) fn notice(&mut self, at: Mark, field: &Field<'_>, notice: Problem) {
        let placed = notice.at(self.location(at), field.to_string());
        self.notices.push((self.file, Some(at), placed));
    }

    /// A problem of the spec as a whole.
    pub(super) fn problem_without_place(&mut self, problem: Problem) {
        self.problems.push((self.files.len(), None, problem));
    }

    /// How many problems there are, to see later whether something added one.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    pub(super) fn location(&self, at: Mark) -> Location {
        let file = self.files.get(self.file).map(|file| file.name.to_owned()).unwrap_or_default();
        Location { file, line: at.line, column: at.column }
    }

    /// The notices, or, when there are any, the problems; both in reading order.
    pub(super) fn finish(self) -> Result<Vec<Problem>, Vec<Problem>> {
        if self.problems.is_empty() { Ok(in_order(self.notices)) } else { Err(in_order(self.problems)) }
    }
}

fn in_order(mut ranked: Vec<Ranked>) -> Vec<Problem> {
    ranked.sort_by_key(|(file, at, _)| (*file, *at));
    ranked.into_iter().map(|(_, _, problem)| problem).collect()
}
