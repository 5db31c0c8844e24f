//! From documents to a [`Spec`]: every rule, in one pass, so that a person is told everything at once.

mod cluster;
mod entry;
mod fields;
mod hosts;
mod input_names;
mod overlap;
mod report;
mod settings;
mod stream;

use super::{
    InputName, Located, Mirror, Read, Spec, SpecFile, codes,
    document::{Mark, Node, Value},
    problem::Problem,
};
use entry::{Draft, Form};
use fields::Fields;
use report::{Field, Report};
use stream::{Header, Stream};

/// Reads the files of a spec, in this order, as one. `cluster` names the Cluster that counts (`NAME` or `NAMESPACE/NAME`).
///
/// On `Err` there is at least one problem, and all are there, in reading order.
pub fn read(files: &[SpecFile<'_>], cluster: Option<&str>) -> Result<Read, Vec<Problem>> {
    let mut report = Report::new(files);
    let stream = stream::gather(files, &mut report);
    let of_header = read_headers(&stream.headers, &mut report);
    let of_cluster = read_cluster(&stream, cluster, &mut report);
    let mirrors = winner(of_header.mirrors, of_cluster, &mut report);
    if mirrors.is_none() && report.count() == 0 {
        report.turn_to(0);
        refuse_empty(files, &mut report);
    }
    let notices = report.finish()?;
    Ok(Read { spec: Spec { mirrors: mirrors.unwrap_or_default(), upstream_key: of_header.upstream_key }, notices })
}

fn refuse_empty(files: &[SpecFile<'_>], report: &mut Report<'_>) {
    let remedy = "write the entries under registryMirrors, or registryMirrors: [] to switch mirroring off";
    let problem = Problem::new(codes::EMPTY, "nothing here says which mirrors to use", remedy);
    if files.is_empty() {
        report.problem_without_place(problem)
    } else {
        report.problem(Mark { line: 1, column: 1 }, &Field::Root, problem)
    }
}

/// What all headers together say.
struct Headers {
    mirrors: Option<Vec<Mirror>>,
    upstream_key: Option<Located<InputName>>,
}

/// A list of entries, and where it was written.
struct Listed {
    file: usize,
    at: Mark,
    drafts: Vec<Draft>,
}

fn read_headers(headers: &[Header], report: &mut Report<'_>) -> Headers {
    let mut lists = Vec::new();
    let mut upstream_key = None;
    for header in headers {
        report.turn_to(header.file);
        let Some(fields) = Fields::open(&header.root, &Field::Root, report) else { continue };
        read_upstream_key(&fields, &mut upstream_key, report);
        let Some(node) = fields.get(stream::MIRRORS) else { continue };
        let drafts = read_mirrors(node, &Field::Root.key(stream::MIRRORS), Form::Header, header.file, report);
        lists.extend(drafts.map(|drafts| Listed { file: header.file, at: node.at, drafts }));
    }
    Headers { mirrors: merge(lists, report), upstream_key }
}

fn read_upstream_key(fields: &Fields<'_>, known: &mut Option<Located<InputName>>, report: &mut Report<'_>) {
    let Some(node) = fields.get(stream::GCR_KEY) else { return };
    let Some(key) = input_names::path(node, &Field::Root.key(stream::GCR_KEY), report) else { return };
    match known {
        None => *known = Some(key),
        Some(first) if first.value == key.value => {}
        Some(first) => {
            let message = format!("gcrKeyPath is here for the second time with another value, first at {}", first.at);
            report.problem(node.at, &Field::Root.key(stream::GCR_KEY), Problem::new(codes::GCR_KEY_TWICE, message, "keep one of them"));
        }
    }
}

/// All lists as one; a list that says "off" yields to one that has entries.
fn merge(lists: Vec<Listed>, report: &mut Report<'_>) -> Option<Vec<Mirror>> {
    if lists.is_empty() {
        return None;
    }
    let has_entries = lists.iter().any(|list| !list.drafts.is_empty());
    for off in lists.iter().filter(|list| has_entries && list.drafts.is_empty()) {
        report.turn_to(off.file);
        let notice = Problem::new(codes::MIRRORS_NOT_OFF, "this does not switch mirroring off, because there are entries elsewhere", "");
        report.notice(off.at, &Field::Root.key(stream::MIRRORS), notice);
    }
    Some(overlap::settle(lists.into_iter().flat_map(|list| list.drafts).collect(), report))
}

fn read_cluster(stream: &Stream, wanted: Option<&str>, report: &mut Report<'_>) -> Option<(usize, Mark, Vec<Mirror>)> {
    let chosen = cluster::choose(&stream.clusters, wanted, report)?;
    let (at, drafts) = cluster::with_mirrors(chosen, report, |node, field, report| {
        read_mirrors(node, field, Form::Cluster, chosen.file, report).map(|drafts| (node.at, drafts))
    })?;
    Some((chosen.file, at, overlap::settle(drafts, report)))
}

/// The entries of one `registryMirrors`; those that are wrong are reported and left out.
fn read_mirrors(node: &Node, field: &Field<'_>, form: Form, file: usize, report: &mut Report<'_>) -> Option<Vec<Draft>> {
    if matches!(node.value, Value::Null) {
        let problem = Problem::new(
            codes::MIRRORS_MISSING,
            "registryMirrors has no value",
            "write its entries, or registryMirrors: [] to switch mirroring off",
        );
        report.problem(node.at, field, problem);
        return None;
    }
    let items = fields::list(node, field, report)?;
    Some(items.iter().enumerate().filter_map(|(index, item)| entry::read(item, &field.item(index), form, file, report)).collect())
}

/// The Cluster's mirrors where it has any, else the header's.
fn winner(of_header: Option<Vec<Mirror>>, of_cluster: Option<(usize, Mark, Vec<Mirror>)>, report: &mut Report<'_>) -> Option<Vec<Mirror>> {
    let Some((file, at, of_cluster)) = of_cluster else { return of_header };
    if of_header.is_some_and(|of_header| !is_same(&of_header, &of_cluster)) {
        report.turn_to(file);
        let field = Field::Root.key("spec");
        let field = field.key("nodeConfig");
        let notice = Problem::new(codes::CLUSTER_WINS, "the header and the Cluster have different mirrors, those of the Cluster count", "");
        report.notice(at, &field.key(stream::MIRRORS), notice);
    }
    Some(of_cluster)
}

/// Whether both want the same, wherever and in whichever of the two forms it was written.
fn is_same(one: &[Mirror], other: &[Mirror]) -> bool {
    one.len() == other.len() && one.iter().zip(other).all(|(one, other)| wanted(one) == wanted(other))
}

/// A mirror without its places and without the names of its inputs, which differ between the forms.
fn wanted(mirror: &Mirror) -> impl PartialEq + use<'_> {
    let inputs = [mirror.ca.is_some(), mirror.login.is_some(), mirror.client.is_some()];
    let trust = (mirror.skip_verify, &mirror.capabilities, mirror.dial_timeout, mirror.fallback);
    (&mirror.endpoint, &mirror.hosts, inputs, trust)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GOOD: &str = "gcrKeyPath: /k\nregistryMirrors:\n  - endpoint: https://192.0.2.20:5000/v2/a\n    caCertPath: &x /root/ca.crt\n    hosts:\n      - somehost.io\n      - *x\n---\napiVersion: baremetal.cluster.gke.io/v1\nkind: Cluster\nspec: {nodeConfig: {registryMirrors: [{<<: {hosts: []}, endpoint: \"http://[::1]\"}]}}\n";

    fn read_one(text: &str) -> Result<Read, Vec<Problem>> {
        read(&[SpecFile { name: "spec.yaml", text }], None)
    }

    /// Everything a message is made of, on one line.
    fn shown(answer: Result<Read, Vec<Problem>>) -> Vec<String> {
        let problems = answer.map_or_else(|problems| problems, |read| read.notices);
        problems.iter().map(Problem::to_string).collect()
    }

    proptest! {
        #[test]
        fn no_text_ends_in_a_panic_or_a_broken_message(cut in 0..GOOD.len(), length in 0usize..20, put in "\\PC{0,6}|[\\x00-\\x7f]{0,6}|[-&*<>{}\\[\\]:\\n ]{0,6}") {
            let end = (cut + length).min(GOOD.len());
            let text = format!("{}{put}{}", &GOOD[..cut], &GOOD[end..]);
            for line in shown(read_one(&text)) {
                prop_assert!(!line.chars().any(char::is_control), "{line:?}");
            }
        }

        #[test]
        fn a_spec_that_ends_early_is_never_switched_off(cut in 0..GOOD.len()) {
            let text = &GOOD[..cut];
            prop_assert!(read_one(text).map_or(true, |read| !read.spec.is_switched_off()), "{}", text);
        }
    }
}
