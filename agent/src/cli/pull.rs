//! `mirrorctl pull`.

use secrecy::SecretString;

use super::{
    Done,
    arguments::{Global, Pull},
    connect,
    failure::Failure,
    local,
    output::Output,
    progress::Progress,
    show,
};
use crate::{
    diagnose::test_pull::{PullCredentials, PullEvent, PullOrder, PullResult},
    exit,
    spec::problem::{Problem, ProblemView},
};

pub async fn run(global: &Global, pull: Pull, output: &mut Output) -> Done {
    let credentials = credentials(&pull)?;
    let order =
        PullOrder { reference: pull.reference, credentials, keeps: pull.keep, any: pull.any, expect_host: pull.expect.unwrap_or_default() };
    let client = connect(global).await?;
    let mut progress = Progress::new(output);
    let mut end = None;
    let told = client.pull(order, |event| match event {
        PullEvent::At(phase, fetched, total) => progress.show(phase, fetched, total, output),
        PullEvent::Pulled(result) => end = Some(Ok(result)),
        PullEvent::Failed(problem) => end = Some(Err(problem)),
    });
    let told = told.await;
    progress.end();
    told?;
    let result = end.ok_or_else(|| Failure::new(exit::FAILED, "pull.no-result", "the daemon ended the pull without a result"))?;
    let result = result.map_err(|problem| failed(&problem))?;
    answer(&result, output);
    Ok(exit::DONE)
}

fn answer(result: &PullResult, output: &mut Output) {
    output.answer(result, |paint| show::pulled(result, paint));
}

fn failed(problem: &Problem) -> Failure {
    let view = ProblemView::from(problem);
    let remedy = if view.remedy.is_empty() { String::new() } else { format!("; {}", view.remedy) };
    Failure { exit: exit::PULL_FAILED, reason: view.code.clone(), message: format!("{}{remedy}", view.message), problems: Vec::new() }
}

fn credentials(pull: &Pull) -> Result<Option<PullCredentials>, Failure> {
    let (username, password) = match (&pull.username, &pull.creds_file) {
        (Some(username), _) => (username.clone(), local::password_from_stdin()?),
        (None, Some(file)) => local::login_from_file(file)?,
        (None, None) if pull.creds_for.is_some() => return Err(no_login()),
        (None, None) => return Ok(None),
    };
    let host = pull.creds_for.clone().unwrap_or_default();
    Ok(Some(PullCredentials { username, password: SecretString::from(password), host }))
}

fn no_login() -> Failure {
    let message = "--creds-for says whom a login is for, and there is none; add --username with --password-stdin, or --creds-file";
    Failure::new(exit::USAGE, "cli.no-login", message)
}
