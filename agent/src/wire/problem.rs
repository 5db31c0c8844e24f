//! Problems, and lists of them, which are cut: a spec of a megabyte can have a great many.

use super::v1;
use crate::spec::problem::ProblemView;

/// A list of problems is cut here.
pub const MOST_PROBLEMS: usize = 1_000;

impl From<&ProblemView> for v1::Problem {
    fn from(problem: &ProblemView) -> Self {
        let ProblemView { code, message, remedy, file, line, column, field } = problem.clone();
        Self { code, message, remedy, file, line, column, field }
    }
}

impl From<v1::Problem> for ProblemView {
    fn from(problem: v1::Problem) -> Self {
        let v1::Problem { code, message, remedy, file, line, column, field } = problem;
        Self { code, message, remedy, file, line, column, field }
    }
}

/// The list as it is sent: at most [`MOST_PROBLEMS`], the last of which then says how many were left out.
#[must_use]
pub fn problems(views: &[ProblemView]) -> Vec<v1::Problem> {
    if views.len() <= MOST_PROBLEMS {
        return views.iter().map(v1::Problem::from).collect();
    }
    let shown = MOST_PROBLEMS - 1;
    let message = format!("{} more are not listed", views.len() - shown);
    let rest = ProblemView { code: "list.cut".into(), message, ..ProblemView::default() };
    views.iter().take(shown).chain([&rest]).map(v1::Problem::from).collect()
}

/// The list as it was received.
#[must_use]
pub fn problem_views(problems: Vec<v1::Problem>) -> Vec<ProblemView> {
    problems.into_iter().map(ProblemView::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_and_says_so() {
        let views = vec![ProblemView { code: "c".into(), ..ProblemView::default() }; 1_500];
        let sent = problems(&views);
        assert_eq!(sent.len(), MOST_PROBLEMS);
        assert_eq!(sent[999].message, "501 more are not listed");
    }

    #[test]
    fn a_problem_comes_back_as_it_was() {
        let view = ProblemView {
            code: "spec.x".into(),
            message: "m".into(),
            remedy: "r".into(),
            file: "f".into(),
            line: 3,
            column: 4,
            field: "a[0].b".into(),
        };
        assert_eq!(problem_views(problems(std::slice::from_ref(&view))), [view]);
    }
}
