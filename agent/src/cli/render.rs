//! `mirrorctl render`: the files a node would get, without a node.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::{
    Done,
    arguments::{Auth, Render},
    failure::Failure,
    local,
    output::Output,
    show,
};
use crate::{
    config::{CONTAINERD_CONFIG_PATH, HOSTS_DIR, Layout},
    exit,
    host::files::export::{ExportError, Tree, export},
    observed::{Asks, record::Carried, version::Version},
    render::{
        config_toml::{self, Goal},
        host_directory::{self, HostDirectory, Reader},
        legacy::{self, SUPPORT_DIRECTORY, Tables},
    },
    spec::{desired::Desired, problem::Problem, problem::ProblemView},
};

/// Where nothing is ever rendered to: what is there belongs to the node.
const FORBIDDEN: [&str; 2] = ["/etc", "/var"];

/// What was written, for programs.
#[derive(Debug, Serialize)]
struct Written {
    directory: String,
    files: Vec<String>,
    notices: Vec<ProblemView>,
}

pub fn run(arguments: &Render, output: &mut Output) -> Done {
    let version = Version::parse(&arguments.containerd)
        .ok_or_else(|| Failure::new(exit::USAGE, "cli.version", format!("\"{}\" is no version; write e.g. 2.1.4", arguments.containerd)))?;
    let complete = local::complete(&arguments.file, arguments.cluster.as_deref(), &arguments.secrets_dir)?;
    let (tree, notices) = tree(&complete.desired, &version, arguments).map_err(|problems| Failure::invalid(local::views(&problems)))?;
    export(&arguments.out, &tree, &FORBIDDEN).map_err(|error| not_written(&error))?;
    let notices = local::views(&complete.notices.into_iter().chain(notices).collect::<Vec<_>>());
    let written = Written { directory: arguments.out.display().to_string(), files: tree.into_keys().collect(), notices };
    for notice in &written.notices {
        output.say(|paint| show::finding(notice, &paint.notable("notice")));
    }
    output.answer(&written, |_| written.files.iter().map(|file| format!("{}{file}\n", written.directory.trim_end_matches('/'))).collect());
    Ok(exit::DONE)
}

fn not_written(error: &ExportError) -> Failure {
    let exit = if matches!(error, ExportError::Failed(_)) { exit::FAILED } else { exit::USAGE };
    Failure::new(exit, "cli.render", error.to_string())
}

/// Every file by its path on a node, and what is worth knowing.
type Rendering = (Tree, Vec<Problem>);

fn tree(desired: &Desired, version: &Version, arguments: &Render) -> Result<Rendering, Vec<Problem>> {
    match arguments.layout {
        Layout::Hosts => host_directories(desired, version, arguments.auth),
        Layout::Legacy => legacy_tables(desired, version),
    }
}

fn host_directories(desired: &Desired, version: &Version, auth: Auth) -> Result<Rendering, Vec<Problem>> {
    let carried = Carried::default();
    let asks = match auth {
        Auth::Basic => Asks::Basic,
        Auth::Token => Asks::Token,
    };
    let asks = desired.by_authority().into_keys().map(|authority| (authority, asks)).collect::<BTreeMap<_, _>>();
    let (config_logins, named_files) = (BTreeSet::new(), BTreeMap::new());
    let reader = Reader { version, asks: &asks, config_logins: &config_logins, keeps_config_logins: false, named_files: &named_files };
    let rendered = host_directory::render(desired, &carried, &reader)?;
    let goal = Goal { config_path: Some(HOSTS_DIR), logins: rendered.config_logins, ..Goal::default() };
    Ok((with_directories(config(&goal, version)?, rendered.directories), rendered.notices))
}

fn legacy_tables(desired: &Desired, version: &Version) -> Result<Rendering, Vec<Problem>> {
    let others = BTreeMap::new();
    let reader = legacy::Reader { version, config_version: config_version(version), others: &others, hosts_dir: HOSTS_DIR };
    let Tables { mirrors, tls, logins, support } = legacy::render(desired, &reader)?;
    let config_path = version.forces_config_path().then_some("");
    let goal = Goal { config_path, mirrors, tls: Some(tls), logins, ..Goal::default() };
    let directories = support.map(|support| (SUPPORT_DIRECTORY.to_owned(), support));
    Ok((with_directories(config(&goal, version)?, directories), Vec::new()))
}

fn with_directories(mut tree: Tree, directories: impl IntoIterator<Item = (String, HostDirectory)>) -> Tree {
    for (name, directory) in directories {
        tree.extend(directory.files.into_iter().map(|(file, content)| (format!("{HOSTS_DIR}/{name}/{file}"), content)));
    }
    tree
}

/// The version of a config file that holds nothing else.
fn config_version(version: &Version) -> i64 {
    if version.is_at_least(2, 0, 0) { 3 } else { 2 }
}

/// A config.toml that holds only what is mirrorlet's.
fn config(goal: &Goal<'_>, version: &Version) -> Result<Tree, Vec<Problem>> {
    let text = format!("version = {}\n", config_version(version));
    let text = config_toml::edit(CONTAINERD_CONFIG_PATH, Some(&text), None, goal).map_err(|problem| vec![problem])?;
    let mode = if goal.logins.is_empty() { 0o644 } else { 0o600 };
    Ok(Tree::from([(CONTAINERD_CONFIG_PATH.to_owned(), (text.into(), mode))]))
}
