//! Reads what the operator wrote on this node: the spec, and the files and secrets it names.

use super::files::Files;
use crate::spec::{InputName, desired::Inputs, names::Digest};

/// A spec or an input is never larger; a CA bundle of a whole distribution has 250 kB.
const LIMIT: u64 = 4 << 20;

/// One file of the spec as it is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecText {
    /// Its path.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// What is at the spec's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpecOnDisk {
    /// Nothing, or a directory without a `*.yaml`.
    Missing,
    /// It cannot be read; why, a sentence.
    Unreadable(String),
    /// The files in name order.
    Texts(Vec<SpecText>),
}

/// Reads the spec: a file, a link to one, or the `*.yaml` and `*.yml` of a directory.
#[must_use]
pub fn spec(files: &Files, path: &str) -> SpecOnDisk {
    if !files.is_directory(path) {
        return match text(files, path) {
            Ok(text) => SpecOnDisk::Texts(vec![text]),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => SpecOnDisk::Missing,
            Err(error) => SpecOnDisk::Unreadable(format!("{path} cannot be read: {error}")),
        };
    }
    let names = match files.names(path) {
        Ok(names) => names,
        Err(error) => return SpecOnDisk::Unreadable(error.to_string()),
    };
    let is_spec = |name: &String| !name.starts_with('.') && (name.ends_with(".yaml") || name.ends_with(".yml"));
    let mut texts = Vec::new();
    for name in names.into_iter().filter(is_spec) {
        let path = format!("{path}/{name}");
        match text(files, &path) {
            Ok(text) => texts.push(text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return SpecOnDisk::Unreadable(format!("{path} cannot be read: {error}")),
        }
    }
    if texts.is_empty() { SpecOnDisk::Missing } else { SpecOnDisk::Texts(texts) }
}

fn text(files: &Files, path: &str) -> std::io::Result<SpecText> {
    let bytes = files.read_named(path, LIMIT)?;
    let text = String::from_utf8(bytes).map_err(|_| std::io::Error::other("it is not UTF-8"))?;
    Ok(SpecText { name: path.to_owned(), text })
}

/// Digest of the text; of several files, of names and texts.
#[must_use]
pub fn digest_of(texts: &[SpecText]) -> Digest {
    match texts {
        [text] => Digest::of(text.text.as_bytes()),
        texts => {
            let all: String = texts.iter().map(|text| format!("{}\0{}\0", text.name, text.text)).collect();
            Digest::of(all.as_bytes())
        }
    }
}

/// Where an input is on this node.
#[must_use]
pub fn input_path(name: &InputName, secrets_dir: &str) -> String {
    match name {
        InputName::Path(path) => path.clone(),
        InputName::Secret { .. } => format!("{secrets_dir}/{name}"),
    }
}

/// Reads inputs; one that cannot be read comes with the reason.
#[must_use]
pub fn read(files: &Files, names: &[&InputName], secrets_dir: &str) -> Inputs {
    let read = |name: &InputName| files.read_named(&input_path(name, secrets_dir), LIMIT).map_err(|error| error.to_string());
    names.iter().map(|name| ((*name).clone(), read(name))).collect()
}
