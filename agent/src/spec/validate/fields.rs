//! Mappings and values as the rules want to see them; what is of the wrong kind is reported here, in one wording.

use std::collections::{HashMap, hash_map};

use super::{
    super::{
        codes,
        document::{Entry, Mark, Node, Value},
        problem::Problem,
        quote::{field_word, quoted},
    },
    report::{Field, Report},
};

/// How a list is called.
const LIST: &str = "a list";

/// The keys of a mapping, each once.
pub(super) struct Fields<'a> {
    /// Where the mapping begins.
    pub(super) at: Mark,
    /// Its field path.
    pub(super) field: &'a Field<'a>,
    /// In the order of the text.
    entries: Vec<(&'a str, &'a Entry)>,
}

impl<'a> Fields<'a> {
    /// Opens a mapping. Keys written twice and keys that are no text are reported.
    pub(super) fn open(node: &'a Node, field: &'a Field<'a>, report: &mut Report<'_>) -> Option<Self> {
        let Value::Mapping(all) = &node.value else {
            wrong_kind(node, field, "a mapping of keys and values", report);
            return None;
        };
        let mut fields = Self { at: node.at, field, entries: Vec::new() };
        let mut seen = HashMap::new();
        for entry in all.iter() {
            fields.add(entry, &mut seen, report);
        }
        Some(fields)
    }

    fn add(&mut self, entry: &'a Entry, seen: &mut HashMap<&'a str, Mark>, report: &mut Report<'_>) {
        let Some(key) = entry.key.as_deref() else {
            report.problem(
                entry.at,
                self.field,
                Problem::new(codes::KEY_KIND, "a key must be a word", "check brackets, question marks and tags here"),
            );
            return;
        };
        match seen.entry(key) {
            hash_map::Entry::Vacant(place) => {
                place.insert(entry.at);
                self.entries.push((key, entry));
            }
            hash_map::Entry::Occupied(first) => {
                let (word, line) = (field_word(key), first.get().line);
                let message = format!("{word} stands here twice, first in line {line}");
                report.problem(entry.at, &self.field.key(&word), Problem::new(codes::KEY_DUPLICATE, message, "keep one of them"));
            }
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entry(key).map(|entry| &entry.value)
    }

    /// A key with its place.
    pub(super) fn entry(&self, key: &str) -> Option<&'a Entry> {
        self.entries.iter().find(|(name, _)| *name == key).map(|(_, entry)| *entry)
    }

    /// All keys, in the order of the text.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&'a str, Mark)> {
        self.entries.iter().map(|(name, entry)| (*name, entry.at))
    }

    /// Reports every key that is not known, with the one that was probably meant.
    pub(super) fn refuse_unknown(&self, known: &[&str], suggested: &[&str], report: &mut Report<'_>) {
        for (key, at) in self.keys().filter(|(key, _)| !known.contains(key)) {
            let remedy = match nearest(key, suggested) {
                Some(near) => format!("did you mean {near}?"),
                None => format!("known here are {}", suggested.join(", ")),
            };
            let word = field_word(key);
            report.problem(
                at,
                &self.field.key(&word),
                Problem::new(codes::KEY_UNKNOWN, format!("{} is not a key of this place", quoted(key)), remedy),
            );
        }
    }
}

/// The known word that differs from this one only by spelling.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let plain = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase();
    let written = plain(&word.chars().take(64).collect::<String>());
    let is_near_in_length = |candidate: &&&str| candidate.len().abs_diff(written.len()) <= candidate.len() / 4;
    let distance = |candidate: &str| strsim::osa_distance(&written, &plain(candidate));
    let near = known.iter().filter(is_near_in_length).map(|candidate| (*candidate, distance(candidate)));
    let (best, closest) = near.min_by_key(|(_, distance)| *distance)?;
    (closest <= best.len() / 4).then_some(best)
}

/// A text that must be there.
pub(super) fn text<'a>(node: &'a Node, field: &Field<'_>, report: &mut Report<'_>) -> Option<&'a str> {
    if let Value::Scalar { text, .. } = &node.value {
        return Some(text);
    }
    wrong_kind(node, field, "a text", report);
    None
}

/// A text that may be left blank, which means the same as leaving the key out.
pub(super) fn text_or_blank<'a>(node: &'a Node, field: &Field<'_>, report: &mut Report<'_>) -> Option<&'a str> {
    if is_blank(node) { None } else { text(node, field, report) }
}

/// Nothing, or an empty text.
pub(super) fn is_blank(node: &Node) -> bool {
    match &node.value {
        Value::Null => true,
        Value::Scalar { text, .. } => text.is_empty(),
        _ => false,
    }
}

/// The items of a list.
pub(super) fn list<'a>(node: &'a Node, field: &Field<'_>, report: &mut Report<'_>) -> Option<&'a [Node]> {
    if let Value::Sequence(items) = &node.value {
        return Some(items);
    }
    wrong_kind(node, field, LIST, report);
    None
}

/// `true` or `false`, nothing else: `yes` is a text in YAML 1.2, and was not in YAML 1.1.
pub(super) fn boolean(node: &Node, field: &Field<'_>, report: &mut Report<'_>) -> Option<bool> {
    let Value::Scalar { text, is_plain } = &node.value else {
        wrong_kind(node, field, "true or false", report);
        return None;
    };
    match (&**text, is_plain) {
        ("true", true) => return Some(true),
        ("false", true) => return Some(false),
        _ => {}
    }
    let remedy = match text.to_ascii_lowercase().as_str() {
        "yes" | "on" | "y" | "true" | "1" => "write true, without quotes",
        "no" | "off" | "n" | "false" | "0" => "write false, without quotes",
        _ => "write true or false, without quotes",
    };
    report.problem(node.at, field, Problem::new(codes::VALUE_BOOLEAN, format!("{} is neither true nor false", quoted(text)), remedy));
    None
}

/// What to say when the value is not of the kind it should be.
pub(super) fn wrong_kind(node: &Node, field: &Field<'_>, wanted: &str, report: &mut Report<'_>) {
    let remedy = if wanted == LIST { "write each item on a line of its own after a dash, or [] for none" } else { "" };
    let problem = match &node.value {
        Value::Null => Problem::new(codes::VALUE_MISSING, format!("there is no value here, {wanted} is needed"), remedy),
        Value::Tagged(tag) => Problem::new(codes::VALUE_TAG, format!("a YAML tag ({tag}) is not taken here"), "write the value without it"),
        other => Problem::new(codes::VALUE_KIND, format!("{wanted} is needed here, found {}", other.kind()), remedy),
    };
    report.problem(node.at, field, problem);
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_of_the_pen_is_recognised_and_another_word_is_not() {
        let known = ["endpoint", "skipVerify", "hosts", "caCertPath"];
        let table = [
            ("endpont", Some("endpoint")),
            ("skip_verify", Some("skipVerify")),
            ("host", Some("hosts")),
            ("CACertPath", Some("caCertPath")),
            ("mirror", None),
            ("", None),
        ];
        for (word, meant) in table {
            assert_eq!(nearest(word, &known), meant, "{word}");
        }
    }
}
