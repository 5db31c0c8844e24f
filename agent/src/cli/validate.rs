//! `mirrorctl validate`: reads, and does nothing else.

use serde::Serialize;

use super::{Done, local, output::Output, show};
use crate::{exit, spec::problem::ProblemView};

/// One finding, for programs.
#[derive(Debug, Serialize)]
struct Finding<'a> {
    severity: &'static str,
    #[serde(flatten)]
    problem: &'a ProblemView,
}

pub fn run(files: &[String], cluster: Option<&str>, output: &mut Output) -> Done {
    let texts = files.iter().map(|file| local::spec_text(file)).collect::<Result<Vec<_>, _>>()?;
    let (problems, notices, summary) = match local::parse(&texts, cluster) {
        Ok(read) => (Vec::new(), local::views(&read.notices), format!("valid, {}", show::count(read.spec.mirrors.len(), "mirror"))),
        Err(problems) => (problems, Vec::new(), String::new()),
    };
    tell(&problems, &notices, output);
    let findings = problems.iter().map(|problem| Finding { severity: "error", problem });
    let findings: Vec<_> = findings.chain(notices.iter().map(|problem| Finding { severity: "notice", problem })).collect();
    if output.is_json() || problems.is_empty() {
        output.answer(&findings, |paint| format!("{}\n", paint.good(&summary)));
    }
    Ok(if problems.is_empty() { exit::DONE } else { exit::USAGE })
}

fn tell(problems: &[ProblemView], notices: &[ProblemView], output: &mut Output) {
    if output.is_json() {
        return;
    }
    for problem in problems {
        output.say(|paint| show::finding(problem, &paint.bad("error")));
    }
    for notice in notices {
        output.say(|paint| show::finding(notice, &paint.notable("notice")));
    }
    if !problems.is_empty() {
        output.say(|_| format!("{}\n", show::count(problems.len(), "problem")));
    }
}
