//! The Cluster form: which Cluster counts, and where in it the entries are.

use super::{
    super::{
        codes,
        document::{Node, Value},
        problem::Problem,
        quote::{field_word, plain, quoted},
    },
    fields::{Fields, nearest},
    report::{Field, Report},
    stream::{Cluster, MIRRORS, misspelt},
};

/// The one Cluster that counts; what stands against choosing one is reported.
pub(super) fn choose<'a>(clusters: &'a [Cluster], wanted: Option<&str>, report: &mut Report<'_>) -> Option<&'a Cluster> {
    let is_wanted = |cluster: &&Cluster| wanted.is_none_or(|wanted| cluster.name == wanted || cluster.full_name() == wanted);
    let candidates: Vec<&Cluster> = clusters.iter().filter(is_wanted).collect();
    match (candidates.as_slice(), wanted) {
        ([], None) => None,
        ([], Some(wanted)) => {
            report.problem_without_place(unknown(wanted, clusters));
            None
        }
        ([only], _) => Some(*only),
        ([first, second, ..], _) => {
            report.turn_to(second.file);
            let problem = if first.full_name() == second.full_name() { twice(first) } else { ambiguous(&candidates, wanted) };
            report.problem(second.root.at, &Field::Root, problem);
            None
        }
    }
}

fn unknown(wanted: &str, clusters: &[Cluster]) -> Problem {
    let message = format!("there is no Cluster {}", quoted(wanted));
    let remedy = match names(clusters.iter()) {
        names if names.is_empty() => "take cluster out of [spec] in the settings, or add the Cluster".to_owned(),
        names => format!("name one of these in [spec] cluster: {names}"),
    };
    Problem::new(codes::CLUSTER_UNKNOWN, message, remedy)
}

fn twice(cluster: &Cluster) -> Problem {
    let message =
        format!("the Cluster {} is here for the second time, first in line {}", plain(&cluster.full_name()), cluster.root.at.line);
    Problem::new(codes::CLUSTER_TWICE, message, "keep one of them")
}

fn ambiguous(candidates: &[&Cluster], wanted: Option<&str>) -> Problem {
    let count = candidates.len();
    let message = match wanted {
        Some(wanted) => format!("{} is the name of {count} Clusters", quoted(wanted)),
        None => format!("there are {count} Clusters and none is chosen"),
    };
    let remedy = format!("set cluster under [spec] in the settings to one of these: {}", names(candidates.iter().copied()));
    Problem::new(codes::CLUSTER_AMBIGUOUS, message, remedy)
}

fn names<'a>(clusters: impl Iterator<Item = &'a Cluster>) -> String {
    clusters.map(|cluster| plain(&cluster.full_name())).collect::<Vec<_>>().join(", ")
}

/// Hands `spec.nodeConfig.registryMirrors` of a Cluster on, if it has one.
pub(super) fn with_mirrors<T>(
    cluster: &Cluster,
    report: &mut Report<'_>,
    read: impl FnOnce(&Node, &Field<'_>, &mut Report<'_>) -> Option<T>,
) -> Option<T> {
    report.turn_to(cluster.file);
    let root = Fields::open(&cluster.root, &Field::Root, report)?;
    refuse_misplaced(&root, report);
    if let Some(metadata) = present(&root, "metadata") {
        // Opened for its duplicate keys: the name decides which Cluster counts.
        Fields::open(metadata, &Field::Root.key("metadata"), report);
    }
    let spec_field = Field::Root.key("spec");
    let spec = Fields::open(present(&root, "spec")?, &spec_field, report)?;
    refuse_misplaced(&spec, report);
    let config_field = spec_field.key("nodeConfig");
    let config = Fields::open(present(&spec, "nodeConfig")?, &config_field, report)?;
    refuse_misspelt(&config, report);
    read(config.get(MIRRORS)?, &config_field.key(MIRRORS), report)
}

/// The value of a key, unless it is blank.
fn present<'a>(fields: &Fields<'a>, key: &str) -> Option<&'a Node> {
    fields.get(key).filter(|node| !matches!(node.value, Value::Null))
}

fn refuse_misplaced(fields: &Fields<'_>, report: &mut Report<'_>) {
    for (key, at) in fields.keys().filter(|(key, _)| nearest(key, &[MIRRORS]).is_some()) {
        let problem = Problem::new(
            codes::CLUSTER_MISPLACED,
            format!("in a Cluster {MIRRORS} does not belong here"),
            format!("write it under spec.nodeConfig.{MIRRORS}"),
        );
        report.problem(at, &fields.field.key(&field_word(key)), problem);
    }
}

fn refuse_misspelt(fields: &Fields<'_>, report: &mut Report<'_>) {
    for (key, at) in fields.keys().filter(|(key, _)| *key != MIRRORS) {
        if let Some(near) = nearest(key, &[MIRRORS]) {
            report.problem(at, &fields.field.key(&field_word(key)), misspelt(key, near));
        }
    }
}
