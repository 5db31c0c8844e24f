//! The names of inputs: absolute paths, and keys of Kubernetes Secrets.

use super::{
    super::{
        InputName, Located, codes,
        document::{Entry, Node},
        names::is_label,
        problem::Problem,
        quote::quoted,
    },
    entry::Form,
    fields::{self, Fields},
    report::{Field, Report},
};

/// The longest path Linux takes.
const LONGEST_PATH: usize = 4095;
/// The longest name of a Secret.
const LONGEST_NAME: usize = 253;

/// An input that has a name in each form.
pub(super) struct Input {
    pub(super) path_key: &'static str,
    pub(super) secret_key: &'static str,
    /// The key of a Secret of the type that belongs here.
    data_key: &'static str,
}

/// The mirror's CA.
pub(super) const CA: Input = Input { path_key: "caCertPath", secret_key: "caCertSecretRef", data_key: "ca.crt" };
/// The login at the mirror.
pub(super) const LOGIN: Input =
    Input { path_key: "pullCredentialConfigPath", secret_key: "pullCredentialSecretRef", data_key: ".dockerconfigjson" };

/// Reads an input in the form it must have here.
pub(super) fn read(fields: &Fields<'_>, input: &Input, form: Form, report: &mut Report<'_>) -> Option<Located<InputName>> {
    let given = |key: &str| fields.entry(key).filter(|entry| !fields::is_blank(&entry.value));
    match (given(input.path_key), given(input.secret_key), form) {
        (Some(_), Some(entry), _) => refuse_both(fields, input, entry, form, report),
        (Some(entry), None, Form::Header) => return path(&entry.value, &fields.field.key(input.path_key), report),
        (None, Some(entry), Form::Cluster) => return secret(&entry.value, &fields.field.key(input.secret_key), input, report),
        (Some(entry), None, Form::Cluster) => {
            let remedy = format!("write {} with name and namespace", input.secret_key);
            refuse_form(fields, input.path_key, entry, "a Cluster names Secrets, not files", remedy, report);
        }
        (None, Some(entry), Form::Header) => {
            let remedy = format!("write {}: /PATH", input.path_key);
            refuse_form(fields, input.secret_key, entry, "a header names files, not Secrets", remedy, report);
        }
        (None, None, _) => {}
    }
    None
}

fn refuse_both(fields: &Fields<'_>, input: &Input, entry: &Entry, form: Form, report: &mut Report<'_>) {
    let right = if form == Form::Header { input.path_key } else { input.secret_key };
    let message = format!("{} and {} name the same thing twice", input.path_key, input.secret_key);
    report.problem(entry.at, &fields.field.key(input.secret_key), Problem::new(codes::INPUT_BOTH, message, format!("keep {right}")));
}

fn refuse_form(fields: &Fields<'_>, key: &str, entry: &Entry, message: &str, remedy: String, report: &mut Report<'_>) {
    report.problem(entry.at, &fields.field.key(key), Problem::new(codes::INPUT_FORM, message, remedy));
}

/// An absolute path, or nothing where the key was left blank.
pub(super) fn path(node: &Node, field: &Field<'_>, report: &mut Report<'_>) -> Option<Located<InputName>> {
    let text = fields::text_or_blank(node, field, report)?;
    if let Some(problem) = path_fault(text) {
        report.problem(node.at, field, problem);
        return None;
    }
    Some(Located { value: InputName::Path(text.to_owned()), at: report.location(node.at), field: field.to_string() })
}

fn path_fault(text: &str) -> Option<Problem> {
    let shown = quoted(text);
    if text.chars().any(char::is_control) {
        return Some(Problem::new(codes::PATH_CHARACTERS, format!("{shown} has a control character"), "write the path on one line"));
    }
    if text.len() > LONGEST_PATH {
        let message = format!("a path has at most {LONGEST_PATH} bytes, this one has {}", text.len());
        return Some(Problem::new(codes::PATH_CHARACTERS, message, "write a shorter one"));
    }
    if text.starts_with('~') {
        let message = format!("{shown} begins with ~, which only a shell understands");
        return Some(Problem::new(codes::PATH_HOME, message, "write the whole path, for example /root/…"));
    }
    if !text.starts_with('/') {
        return Some(Problem::new(codes::PATH_RELATIVE, format!("{shown} is not an absolute path"), "write it from / on"));
    }
    if text.split('/').any(|part| part == "..") {
        return Some(Problem::new(codes::PATH_CLIMBS, format!("{shown} has a .. in it"), "write the path without"));
    }
    text.ends_with('/').then(|| Problem::new(codes::PATH_DIRECTORY, format!("{shown} names a directory"), "name a file"))
}

/// `{name, namespace}`.
fn secret(node: &Node, field: &Field<'_>, input: &Input, report: &mut Report<'_>) -> Option<Located<InputName>> {
    let keys = ["name", "namespace"];
    let fields = Fields::open(node, field, report)?;
    fields.refuse_unknown(&keys, &keys, report);
    let name = secret_part(&fields, "name", is_secret_name, report);
    let namespace = secret_part(&fields, "namespace", is_label, report);
    let value = InputName::Secret { namespace: namespace?, name: name?, key: input.data_key.to_owned() };
    Some(Located { value, at: report.location(node.at), field: field.to_string() })
}

fn secret_part(fields: &Fields<'_>, key: &str, is_right: fn(&str) -> bool, report: &mut Report<'_>) -> Option<String> {
    let field = fields.field.key(key);
    let Some(node) = fields.get(key) else {
        let problem = Problem::new(codes::SECRET_MISSING, format!("a reference to a Secret needs its {key}"), format!("write {key}: …"));
        report.problem(fields.at, &field, problem);
        return None;
    };
    let text = fields::text(node, &field, report)?;
    if is_right(text) {
        return Some(text.to_owned());
    }
    let message = format!("{} is not a {key} Kubernetes takes", quoted(text));
    let remedy = "write lower-case letters, digits and hyphens, beginning and ending with a letter or digit";
    report.problem(node.at, &field, Problem::new(codes::SECRET_NAME, message, remedy));
    None
}

/// A DNS-1123 subdomain.
fn is_secret_name(text: &str) -> bool {
    text.len() <= LONGEST_NAME && text.split('.').all(is_label)
}
