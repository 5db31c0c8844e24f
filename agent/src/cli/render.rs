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
    config::{CONTAINERD_CONFIG_PATH, HOSTS_DIR},
    exit,
    host::files::export::{ExportError, Tree, export},
    observed::{Asks, record::Carried, version::Version},
    render::{
        config_toml::{self, Goal},
        host_directory::{self, Reader, Rendered},
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
    let (tree, notices) =
        tree(&complete.desired, &version, arguments.auth).map_err(|problems| Failure::invalid(local::views(&problems)))?;
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

/// Every file by its path on a node.
fn tree(desired: &Desired, version: &Version, auth: Auth) -> Result<(Tree, Vec<Problem>), Vec<Problem>> {
    let carried = Carried::default();
    let asks = match auth {
        Auth::Basic => Asks::Basic,
        Auth::Token => Asks::Token,
    };
    let asks = desired.by_authority().into_keys().map(|authority| (authority, asks)).collect::<BTreeMap<_, _>>();
    let (config_logins, named_files) = (BTreeSet::new(), BTreeMap::new());
    let reader = Reader { version, asks: &asks, config_logins: &config_logins, keeps_config_logins: false, named_files: &named_files };
    let mut rendered = host_directory::render(desired, &carried, &reader)?;
    let notices = std::mem::take(&mut rendered.notices);
    let (config, mode) = config(&rendered, version).map_err(|problem| vec![problem])?;
    let mut tree = Tree::from([(CONTAINERD_CONFIG_PATH.to_owned(), (config.into(), mode))]);
    for (host, directory) in rendered.directories {
        tree.extend(directory.files.into_iter().map(|(name, file)| (format!("{HOSTS_DIR}/{host}/{name}"), file)));
    }
    Ok((tree, notices))
}

/// A config.toml that holds only what is mirrorlet's, and its mode.
fn config(rendered: &Rendered<'_>, version: &Version) -> Result<(String, u32), Problem> {
    let text = if version.is_at_least(2, 0, 0) { "version = 3\n" } else { "version = 2\n" };
    let logins: BTreeMap<String, _> = rendered.config_logins.iter().map(|(host, login)| (host.clone(), *login)).collect();
    let mode = if logins.is_empty() { 0o644 } else { 0o600 };
    let goal = Goal { config_path: Some(HOSTS_DIR), logins, ..Goal::default() };
    Ok((config_toml::edit(CONTAINERD_CONFIG_PATH, Some(text), None, &goal)?, mode))
}
