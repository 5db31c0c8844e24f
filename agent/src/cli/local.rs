//! What a verb reads where it runs: spec files, the inputs they name, logins.

use std::{collections::BTreeMap, io::Read, path::Path, time::Duration};

use super::failure::Failure;
use crate::{
    config::PolicySettings,
    exit,
    host::{clock, files::Files, inputs, inputs::SpecText},
    reconcile::commands::SpecSource,
    spec::{
        self, Fallback, Read as SpecRead, SpecFile,
        desired::{self, Defaults, Desired, Inputs},
        names::Digest,
        problem::{Problem, ProblemView},
    },
};

/// A spec file is never larger.
const MOST_SPEC_BYTES: u64 = 1 << 20;
/// A login is never longer.
const MOST_LOGIN_BYTES: u64 = 64 << 10;

/// Files by the names a person gives them: from the root, or from where the person is.
fn files(path: &str) -> Result<Files, Failure> {
    Files::open(Path::new(if path.starts_with('/') { "/" } else { "." })).map_err(|error| unreadable(path, &error.to_string()))
}

fn unreadable(path: &str, reason: &str) -> Failure {
    Failure::new(exit::FAILED, "cli.unreadable", format!("{path} cannot be read: {reason}"))
}

fn read(path: &str, most: u64) -> Result<String, Failure> {
    let bytes = if path == "-" { read_stdin(most) } else { files(path)?.read_named(path, most) };
    let bytes = bytes.map_err(|error| unreadable(path, &error.to_string()))?;
    String::from_utf8(bytes).map_err(|_| unreadable(path, "it is not UTF-8"))
}

fn read_stdin(most: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::io::stdin().take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The text of a spec file; `-` is stdin.
///
/// # Errors
/// When it cannot be read.
pub fn spec_text(path: &str) -> Result<SpecText, Failure> {
    let name = if path == "-" { "stdin" } else { path };
    Ok(SpecText { name: name.into(), text: read(path, MOST_SPEC_BYTES)? })
}

/// Texts as one spec.
///
/// # Errors
/// All their problems at once.
pub fn parse(texts: &[SpecText], cluster: Option<&str>) -> Result<SpecRead, Vec<ProblemView>> {
    let files: Vec<_> = texts.iter().map(|text| SpecFile { name: &text.name, text: &text.text }).collect();
    spec::read(&files, cluster).map_err(|problems| views(&problems))
}

/// Problems as they are shown.
#[must_use]
pub fn views(problems: &[Problem]) -> Vec<ProblemView> {
    problems.iter().map(ProblemView::from).collect()
}

/// A spec with everything it names, checked together.
#[derive(Debug)]
pub struct Complete {
    /// What a node is to be.
    pub desired: Desired,
    /// What is worth knowing.
    pub notices: Vec<Problem>,
    text: SpecText,
    inputs: Inputs,
}

impl Complete {
    /// As it is sent to the daemon.
    #[must_use]
    pub fn into_source(self) -> SpecSource {
        let inputs = self.inputs.into_iter().filter_map(|(name, content)| Some((name.to_string(), content.ok()?)));
        SpecSource { text: self.text.text, name: self.text.name, inputs: inputs.collect::<BTreeMap<_, _>>() }
    }
}

/// Reads a spec file and everything it names.
///
/// # Errors
/// When the file cannot be read, or spec or inputs have problems.
pub fn complete(path: &str, cluster: Option<&str>, secrets_dir: &str) -> Result<Complete, Failure> {
    let text = spec_text(path)?;
    let read = parse(std::slice::from_ref(&text), cluster).map_err(Failure::invalid)?;
    let inputs = inputs::read(&files("/")?, &read.spec.input_names(), secrets_dir);
    let digest = Digest::of(text.text.as_bytes());
    let (desired, notices) =
        desired::resolve(&read.spec, digest, &inputs, defaults()).map_err(|problems| Failure::invalid(views(&problems)))?;
    Ok(Complete { desired, notices: read.notices.into_iter().chain(notices).collect(), text, inputs })
}

fn defaults() -> Defaults {
    let dial_timeout: Duration = PolicySettings::default().dial_timeout;
    Defaults { dial_timeout, fallback: Fallback::Upstream, now: clock::unix_seconds() }
}

/// A password from stdin: its first line.
///
/// # Errors
/// When there is none.
pub fn password_from_stdin() -> Result<String, Failure> {
    let text = read("-", MOST_LOGIN_BYTES)?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(Failure::new(exit::USAGE, "cli.password", "no password came on stdin; pipe it, e.g. --password-stdin < FILE"));
    }
    Ok(password.to_owned())
}

/// User and password from a file that holds `USER:PASSWORD`.
///
/// # Errors
/// When it cannot be read or holds something else.
pub fn login_from_file(path: &str) -> Result<(String, String), Failure> {
    let text = read(path, MOST_LOGIN_BYTES)?;
    let login = text.lines().next().unwrap_or_default().split_once(':').filter(|(user, password)| !user.is_empty() && !password.is_empty());
    let (user, password) = login
        .ok_or_else(|| Failure::new(exit::USAGE, "cli.creds-file", format!("{path} does not hold USER:PASSWORD in its first line")))?;
    Ok((user.to_owned(), password.to_owned()))
}
