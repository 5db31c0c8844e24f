//! Which documents of the files are ours: headers and Clusters. Everything else is left alone and named in a notice.

use super::{
    super::{
        SpecFile, codes,
        document::{self, Mark, Node, Value},
        problem::Problem,
        quote::{field_word, plain},
    },
    fields::nearest,
    report::{Field, Report},
};

/// The group of the Cluster resource whose `spec.nodeConfig` we read.
const CLUSTER_GROUP: &str = "baremetal.cluster.gke.io";
const CLUSTER_VERSION: &str = "v1";
/// The key that holds the entries, in both forms.
pub(super) const MIRRORS: &str = "registryMirrors";
/// The key of the upstream's service-account key, in a header.
pub(super) const GCR_KEY: &str = "gcrKeyPath";
/// How many foreign names a notice repeats.
const NAMED: usize = 10;

/// A document without a kind: the header of the stream.
pub(super) struct Header {
    pub(super) file: usize,
    pub(super) root: Node,
}

/// A document of kind Cluster.
pub(super) struct Cluster {
    pub(super) file: usize,
    pub(super) root: Node,
    pub(super) name: String,
    pub(super) namespace: String,
}

impl Cluster {
    /// `NAMESPACE/NAME`, or the name alone where there is no namespace.
    pub(super) fn full_name(&self) -> String {
        match (self.namespace.as_str(), self.name.as_str()) {
            (_, "") => "(without a name)".to_owned(),
            ("", name) => name.to_owned(),
            (namespace, name) => format!("{namespace}/{name}"),
        }
    }
}

/// All documents that are ours, in reading order.
#[derive(Default)]
pub(super) struct Stream {
    pub(super) headers: Vec<Header>,
    pub(super) clusters: Vec<Cluster>,
}

/// Parses every file and sorts its documents.
pub(super) fn gather(files: &[SpecFile<'_>], report: &mut Report<'_>) -> Stream {
    let mut stream = Stream::default();
    for (index, file) in files.iter().enumerate() {
        report.turn_to(index);
        match document::parse(file.text) {
            Ok(documents) => stream.sort(index, documents, report),
            Err(fault) => report.problem(fault.at, &Field::Root, Problem::new(fault.code, fault.message, fault.remedy)),
        }
    }
    stream
}

impl Stream {
    fn sort(&mut self, file: usize, documents: Vec<Node>, report: &mut Report<'_>) {
        let documents: Vec<Node> = documents.into_iter().filter(|document| !matches!(document.value, Value::Null)).collect();
        if documents.is_empty() {
            let problem = Problem::new(
                codes::FILE_EMPTY,
                "this file says nothing",
                "write registryMirrors: [] to switch mirroring off, or remove the file",
            );
            report.problem(Mark { line: 1, column: 1 }, &Field::Root, problem);
        }
        let mut foreign = Foreign::default();
        for root in documents {
            self.sort_document(file, root, &mut foreign, report);
        }
        foreign.report(report);
    }

    fn sort_document(&mut self, file: usize, root: Node, foreign: &mut Foreign, report: &mut Report<'_>) {
        if !matches!(root.value, Value::Mapping(_)) {
            foreign.documents.push((root.at, root.value.kind().to_owned()));
            return;
        }
        let Some(kind) = text_at(&root, &["kind"]) else {
            foreign.note_keys(&root, report);
            self.headers.push(Header { file, root });
            return;
        };
        let version = text_at(&root, &["apiVersion"]).unwrap_or_default();
        let name = text_at(&root, &["metadata", "name"]).unwrap_or_default().to_owned();
        match version.split_once('/') {
            Some((CLUSTER_GROUP, CLUSTER_VERSION)) if kind == "Cluster" => {
                let namespace = text_at(&root, &["metadata", "namespace"]).unwrap_or_default().to_owned();
                self.clusters.push(Cluster { file, name, namespace, root });
            }
            Some((CLUSTER_GROUP, other)) if kind == "Cluster" => {
                let message = format!("a Cluster of version {} is not known", plain(other));
                report.problem(
                    root.at,
                    &Field::Root.key("apiVersion"),
                    Problem::new(codes::CLUSTER_VERSION, message, format!("known is {CLUSTER_GROUP}/{CLUSTER_VERSION}")),
                );
            }
            _ => foreign.documents.push((root.at, plain(format!("{kind} {name}").trim_end()))),
        }
    }
}

/// The text at the end of a chain of keys, if it is there; nothing is reported.
fn text_at<'a>(node: &'a Node, keys: &[&str]) -> Option<&'a str> {
    match (&node.value, keys) {
        (Value::Scalar { text, .. }, []) => Some(text),
        (Value::Mapping(entries), [key, rest @ ..]) => {
            let entry = entries.iter().find(|entry| entry.key.as_deref() == Some(key))?;
            text_at(&entry.value, rest)
        }
        _ => None,
    }
}

/// What is in a file and not ours.
#[derive(Default)]
struct Foreign {
    keys: Vec<(Mark, String)>,
    documents: Vec<(Mark, String)>,
}

impl Foreign {
    /// The top-level keys of a header that are not ours. One that is nearly ours is a slip, not somebody else's.
    fn note_keys(&mut self, root: &Node, report: &mut Report<'_>) {
        let Value::Mapping(entries) = &root.value else { return };
        let own = [MIRRORS, GCR_KEY];
        for entry in entries.iter() {
            let key = entry.key.as_deref().unwrap_or("(not a word)");
            let word = field_word(key);
            match nearest(key, &own) {
                Some(near) if near == key => {}
                Some(near) => report.problem(entry.at, &Field::Root.key(&word), misspelt(key, near)),
                None => self.keys.push((entry.at, word)),
            }
        }
    }

    /// One notice for all of it.
    fn report(self, report: &mut Report<'_>) {
        let Some(first) = self.keys.iter().chain(&self.documents).map(|(at, _)| *at).min() else { return };
        let parts = [named("keys", &self.keys), named("documents", &self.documents)];
        let message =
            format!("left alone, because mirrorlet does not read them: {}", parts.into_iter().flatten().collect::<Vec<_>>().join("; "));
        report.notice(first, &Field::Root, Problem::new(codes::FOREIGN, message, ""));
    }
}

/// What to say about a key that is nearly one of ours.
pub(super) fn misspelt(key: &str, near: &str) -> Problem {
    Problem::new(
        codes::KEY_UNKNOWN,
        format!("{} is not a key of this place", super::super::quote::quoted(key)),
        format!("did you mean {near}?"),
    )
}

fn named(what: &str, found: &[(Mark, String)]) -> Option<String> {
    let names: Vec<&str> = found.iter().take(NAMED).map(|(_, name)| name.as_str()).collect();
    let more = found.len().saturating_sub(NAMED);
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!found.is_empty()).then(|| format!("{what} {}{rest}", names.join(", ")))
}
