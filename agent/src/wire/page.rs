//! Pages of past changes.

use super::v1;
use crate::{
    spec::{problem::Problem, quote::quoted},
    status::GenerationView,
};

const DEFAULT_SIZE: usize = 50;
const MOST: usize = 1_000;

/// What part of the past is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page {
    size: usize,
    /// Only older ones.
    below: Option<u64>,
}

impl TryFrom<&v1::ListGenerationsRequest> for Page {
    type Error = Problem;

    fn try_from(request: &v1::ListGenerationsRequest) -> Result<Self, Problem> {
        let refused = |field: &str, message: String, remedy: &str| {
            let mut problem = Problem::new("request.page", message, remedy);
            problem.field = field.into();
            problem
        };
        let size = match usize::try_from(request.page_size) {
            Ok(0) => DEFAULT_SIZE,
            Ok(size) => size.min(MOST),
            Err(_) => return Err(refused("page_size", format!("{} is no size of a page", request.page_size), "name 1 to 1000, or none")),
        };
        let below = match request.page_token.as_str() {
            "" => None,
            token => Some(token.parse().map_err(|_| {
                refused("page_token", format!("{} is no token of this list", quoted(token)), "take next_page_token of the last answer")
            })?),
        };
        Ok(Self { size, below })
    }
}

impl Page {
    /// The page of a list that is newest first.
    #[must_use]
    pub fn of(self, past: &[GenerationView]) -> v1::ListGenerationsResponse {
        let mut rest = past.iter().filter(|past| self.below.is_none_or(|below| past.generation < below));
        let generations: Vec<v1::Generation> = rest.by_ref().take(self.size).map(v1::Generation::from).collect();
        let last = generations.last().map(|last| last.generation.to_string()).unwrap_or_default();
        let next_page_token = if rest.next().is_some() { last } else { String::new() };
        v1::ListGenerationsResponse { generations, next_page_token }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(size: i32, token: &str) -> Result<Page, Problem> {
        Page::try_from(&v1::ListGenerationsRequest { page_size: size, page_token: token.into() })
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let past: Vec<GenerationView> =
            (1..=5).rev().map(|generation| GenerationView { generation, ..GenerationView::default() }).collect();
        let mut token = String::new();
        let mut seen = Vec::new();
        loop {
            let answer = page(2, &token).unwrap().of(&past);
            seen.push(answer.generations.iter().map(|past| past.generation).collect::<Vec<_>>());
            token = answer.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, [vec![5, 4], vec![3, 2], vec![1]]);
    }

    #[test]
    fn what_is_no_page_is_refused_by_field() {
        assert_eq!(page(-1, "").unwrap_err().field, "page_size");
        assert_eq!(page(0, "x").unwrap_err().field, "page_token");
        assert_eq!(page(5_000, "").unwrap().size, MOST);
    }
}
