//! A plan as people and machines read it: text, unified diff, view. Secrets are masked, ours and other people's.

use std::{collections::BTreeSet, fmt::Write};

use serde::{Deserialize, Serialize};
use similar::TextDiff;
use toml_edit::{DocumentMut, Item, TableLike};

use super::{
    Plan,
    step::{Change, NewFile, Step},
};
use crate::{
    observed::entry::{Content, Entry},
    spec::problem::{Problem, ProblemView},
};

const MASK: &str = "(secret)";
const NEW_MASK: &str = "(new secret)";

/// A TOML text with its secrets masked.
#[must_use]
pub fn masked(content: &Content) -> String {
    mask(content, &BTreeSet::new())
}

/// Masks a text; secrets that `known` does not hold are shown as new ones, so that a diff shows a rotation and nothing of it.
fn mask(content: &Content, known: &BTreeSet<String>) -> String {
    let Some(text) = content.text() else { return format!("({} bytes)\n", content.bytes().len()) };
    if text.contains("PRIVATE KEY-----") {
        return format!("{MASK}\n");
    }
    let Ok(mut document) = text.parse::<DocumentMut>() else { return mask_lines(text) };
    mask_table(document.as_table_mut(), false, known);
    mask_comments_and_urls(&document.to_string())
}

fn secrets_of(content: &Content) -> BTreeSet<String> {
    let mut secrets = BTreeSet::new();
    if let Some(document) = content.text().and_then(|text| text.parse::<DocumentMut>().ok()) {
        collect(document.as_table(), false, &mut secrets);
    }
    secrets
}

fn is_secret_key(key: &str) -> bool {
    const WORDS: [&str; 7] = ["password", "auth", "token", "secret", "cookie", "passphrase", "credential"];
    let key = key.to_ascii_lowercase();
    WORDS.iter().any(|word| key.contains(word))
}

fn is_header_key(key: &str) -> bool {
    matches!(key, "header" | "headers")
}

fn mask_table(table: &mut dyn TableLike, all: bool, known: &BTreeSet<String>) {
    for (key, item) in table.iter_mut() {
        let hidden = all || is_secret_key(&key) && !item.is_table_like();
        match item {
            Item::Value(toml_edit::Value::Array(values)) if !hidden => {
                let tables = values.iter_mut().filter_map(toml_edit::Value::as_inline_table_mut);
                tables.for_each(|table| mask_table(table, all, known));
            }
            Item::Value(toml_edit::Value::InlineTable(table)) => mask_table(table, all || is_header_key(&key), known),
            Item::Value(value) if hidden => mask_value(value, known),
            Item::Table(table) => mask_table(table, all || is_header_key(&key), known),
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|table| mask_table(table, all, known)),
            _ => {}
        }
    }
}

fn mask_value(value: &mut toml_edit::Value, known: &BTreeSet<String>) {
    match value {
        toml_edit::Value::Array(values) => values.iter_mut().for_each(|value| mask_value(value, known)),
        toml_edit::Value::InlineTable(table) => mask_table(table, true, known),
        value => {
            let is_known = known.is_empty() || value.as_str().is_some_and(|text| known.contains(text));
            // What stands behind a secret may be an older one.
            let prefix = value.decor().prefix().cloned().unwrap_or_default();
            *value = if is_known { MASK } else { NEW_MASK }.into();
            value.decor_mut().set_prefix(prefix);
        }
    }
}

fn collect(table: &dyn TableLike, all: bool, secrets: &mut BTreeSet<String>) {
    for (key, item) in table.iter() {
        let hidden = all || is_secret_key(key);
        match item {
            Item::Table(table) => collect(table, all || is_header_key(key), secrets),
            Item::Value(toml_edit::Value::InlineTable(table)) => collect(table, all || is_header_key(key), secrets),
            Item::Value(value) if hidden => collect_value(value, secrets),
            _ => {}
        }
    }
}

fn collect_value(value: &toml_edit::Value, secrets: &mut BTreeSet<String>) {
    match value {
        toml_edit::Value::Array(values) => values.iter().for_each(|value| collect_value(value, secrets)),
        value => secrets.extend(value.as_str().map(str::to_owned)),
    }
}

/// Keys of a spec that sound like secrets, and only name where one is.
const NAMES: [&str; 3] = ["pullCredentialConfigPath:", "pullCredentialSecretRef:", "caCertSecretRef:"];

/// What a parser does not see: a password in a comment, a login in a URL.
fn mask_comments_and_urls(text: &str) -> String {
    let is_secret = |comment: &str| is_secret_key(comment) && comment.contains(['=', ':']);
    let shown = |line: &str| match line.split_once('#') {
        Some((before, comment)) if is_secret(comment) => format!("{}# {MASK}\n", mask_logins(before)),
        _ => mask_logins(line),
    };
    text.split_inclusive('\n').map(shown).collect()
}

/// A URL as it may be shown.
#[must_use]
pub fn without_login(url: &str) -> String {
    mask_logins(url)
}

/// `https://user:password@host` without user and password.
fn mask_logins(line: &str) -> String {
    let mut masked = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        masked.push_str(before);
        let end = after.find(['/', '"', '\'', ' ', ',']).unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(login) => {
                masked.push_str(MASK);
                &after[login..]
            }
            None => after,
        };
    }
    masked + rest
}

/// For texts that are not TOML, a spec among them: whole lines that look like secrets.
fn mask_lines(text: &str) -> String {
    let looks_secret = |line: &str| is_secret_key(&NAMES.iter().fold(line.to_owned(), |line, name| line.replace(name, "")));
    text.lines().map(|line| if looks_secret(line) { format!("{MASK}\n") } else { format!("{}\n", mask_logins(line)) }).collect()
}

/// The unified diff of a step.
#[must_use]
pub fn diff(step: &Step) -> String {
    match &step.change {
        Change::PutFile(file) => file_diff(&step.path, step.before_content.as_ref(), &step.before, Some(file)),
        Change::RemoveFile if step.before_content.is_some() => file_diff(&step.path, step.before_content.as_ref(), &step.before, None),
        Change::PlaceDirectory { files, .. } => {
            files.iter().map(|(name, file)| file_diff(&format!("{}/{name}", step.path), None, &Entry::Absent, Some(file))).collect()
        }
        _ => String::new(),
    }
}

/// The unified diff of all steps, cut after so many bytes.
#[must_use]
pub fn diff_of(plan: &Plan, most: usize) -> String {
    let mut text = String::new();
    for step in &plan.steps {
        let next = diff(step);
        if text.len() + next.len() > most {
            let _ = writeln!(text, "(the rest is left out: {} steps in all)", plan.steps.len());
            break;
        }
        text.push_str(&next);
    }
    text
}

fn file_diff(path: &str, before: Option<&Content>, entry: &Entry, after: Option<&NewFile>) -> String {
    let known = before.map(secrets_of).unwrap_or_default();
    let old = before.map(|content| mask(content, &known)).unwrap_or_default();
    let new = after.map(|file| mask(&file.content, &known)).unwrap_or_default();
    let old_name = if *entry == Entry::Absent { "/dev/null" } else { path };
    let new_name = if after.is_none() { "/dev/null" } else { path };
    let mut text = TextDiff::from_lines(&old, &new).unified_diff().context_radius(3).header(old_name, new_name).to_string();
    if let (Some(was), Some(is)) = (entry.attributes(), after.map(|file| &file.attributes))
        && was.mode != is.mode
    {
        let _ = writeln!(text, "mode {:04o} -> {:04o} {path}", was.mode, is.mode);
    }
    text
}

/// The plan for people.
#[must_use]
pub fn text(plan: &Plan) -> String {
    let mut text = String::new();
    if !plan.refusals.is_empty() {
        text.push_str("refused:\n");
        list(&mut text, &plan.refusals);
    }
    if plan.steps.is_empty() && plan.refusals.is_empty() {
        text.push_str("nothing to change\n");
    }
    for (number, step) in plan.steps.iter().enumerate() {
        let _ = writeln!(text, "{:>3}. {} {}  ({})", number + 1, step.verb(), step.path, step.reason);
    }
    for step in &plan.steps {
        text.push_str(&diff(step));
    }
    let _ = writeln!(text, "restart: {}", restart_line(plan));
    if !plan.notices.is_empty() {
        text.push_str("notices:\n");
        list(&mut text, &plan.notices);
    }
    text
}

fn restart_line(plan: &Plan) -> String {
    match &plan.restart {
        None if plan.awaits_restart => "needed, left to you".into(),
        None => "no".into(),
        Some(restart) => {
            let also: String = if restart.also_effective.is_empty() {
                "nothing else".into()
            } else {
                restart.also_effective.iter().map(|(_, sentence)| format!("\n    {sentence}")).collect()
            };
            format!("yes, because {}; which also makes effective: {also}", restart.cause.sentence())
        }
    }
}

fn list(text: &mut String, problems: &[Problem]) {
    for problem in problems {
        let _ = writeln!(text, "  - {problem}");
    }
}

/// One step as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepView {
    /// `put-file`, `remove-file`, `place-directory`, `remove-directory` or `symlink`.
    pub kind: String,
    /// Absolute path.
    pub path: String,
    /// Why, a phrase.
    pub reason: String,
    /// Digest that is expected there; empty: nothing.
    pub before_digest: String,
    /// Digest that is left there; empty: nothing, or no file.
    pub after_digest: String,
    /// Permission bits afterwards; 0: nothing.
    pub mode: u32,
    /// Unified diff, secrets masked.
    pub diff: String,
}

/// A restart as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestartView {
    /// The stable word.
    pub cause: String,
    /// The sentence.
    pub reason: String,
    /// What else becomes effective, a sentence each.
    pub also_effective: Vec<String>,
}

/// A plan as it is shown: no bytes, no secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// The steps, in order.
    pub steps: Vec<StepView>,
    /// Absent when containerd is not restarted.
    pub restart: Option<RestartView>,
    /// Things to know that stop nothing.
    pub notices: Vec<ProblemView>,
    /// Problems for which it may not be applied.
    pub refusals: Vec<ProblemView>,
    /// For people.
    pub text: String,
    /// Digest of spec and inputs it leads to; empty for a restore.
    pub spec_digest: String,
}

/// What is shown of a plan.
#[must_use]
pub fn view(plan: &Plan) -> PlanView {
    PlanView {
        steps: plan.steps.iter().map(step_view).collect(),
        restart: plan.restart.as_ref().map(|restart| RestartView {
            cause: restart.cause.code().into(),
            reason: restart.cause.sentence().into(),
            also_effective: restart.also_effective.iter().map(|(_, sentence)| sentence.clone()).collect(),
        }),
        notices: plan.notices.iter().map(ProblemView::from).collect(),
        refusals: plan.refusals.iter().map(ProblemView::from).collect(),
        text: text(plan),
        spec_digest: plan.spec_digest.map(|digest| digest.to_string()).unwrap_or_default(),
    }
}

fn step_view(step: &Step) -> StepView {
    let kind = match &step.change {
        Change::PutFile(_) => "put-file",
        Change::RemoveFile => "remove-file",
        Change::PlaceDirectory { .. } => "place-directory",
        Change::RemoveDirectory => "remove-directory",
        Change::Symlink { .. } => "symlink",
    };
    let digest = |entry: &Entry| entry.digest().map(ToString::to_string).unwrap_or_default();
    let after = step.after();
    StepView {
        kind: kind.into(),
        path: step.path.clone(),
        reason: step.reason.clone(),
        before_digest: digest(&step.before),
        after_digest: digest(&after),
        mode: after.attributes().map_or(0, |attributes| attributes.mode),
        diff: diff(step),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITH_SECRETS: &str = r#"
[host."https://m:5000"]
  ca = "x.crt"
  [host."https://m:5000".header]
    Authorization = ["Basic c2VjcmV0"]
    X-Api-Key = "hidden-too"
[plugins."io.containerd.grpc.v1.cri".registry.configs."m".auth]
  username = "user"
  password = "pa55w0rd"
"#;

    #[test]
    fn no_secret_is_shown() {
        let text = masked(&WITH_SECRETS.into());
        for secret in ["c2VjcmV0", "hidden-too", "pa55w0rd"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("x.crt") && text.contains("user"), "{text}");
    }

    #[test]
    fn comments_urls_and_arrays_hide_nothing() {
        let text =
            "# password = \"hunter2\"\nendpoint = [\"http://bob:s3cr3t@m/x\", \"https://plain/y@z\"]\nlist = [{ token = \"abc\" }]\n";
        let shown = masked(&text.into());
        for secret in ["hunter2", "s3cr3t", "abc"] {
            assert!(!shown.contains(secret), "{shown}");
        }
        assert!(shown.contains("@m/x") && shown.contains("https://plain/y@z"), "{shown}");
    }

    #[test]
    fn a_rotated_secret_shows_as_a_change_without_a_secret() {
        let before = Content::from(WITH_SECRETS);
        let after = Content::from(WITH_SECRETS.replace("pa55w0rd", "other"));
        let known = secrets_of(&before);
        let text = mask(&after, &known);
        assert!(text.contains(NEW_MASK) && text.contains(MASK) && !text.contains("other"), "{text}");
    }

    #[test]
    fn what_stands_behind_a_value_hides_nothing() {
        let shown = masked(&"password = \"x\" # was hunter2\nusername = \"u\" # password: p4ss\n".into());
        assert!(!shown.contains("hunter2") && !shown.contains("p4ss") && shown.contains("\"u\""), "{shown}");
        let spec = masked(&"registryMirrors:\n  - endpoint: https://bob:pw@m\n".into());
        assert!(!spec.contains("bob:pw") && spec.contains("@m"), "{spec}");
    }

    #[test]
    fn a_text_that_does_not_parse_shows_no_secret_line() {
        assert!(!masked(&"password = \"x\"\n[broken".into()).contains("\"x\""));
    }

    #[test]
    fn a_spec_is_shown_with_the_names_of_its_inputs_and_nothing_more() {
        let spec = "registryMirrors:\n  - pullCredentialConfigPath: /root/.docker/config.json\n    pullCredentialSecretRef: {name: x}\n";
        assert_eq!(masked(&spec.into()), spec);
        assert!(!masked(&format!("{spec}    pullCredentialConfigPath: /x # password: hunter2\n").as_str().into()).contains("hunter2"));
    }
}
