//! What can be typed: every verb, every option, and what they mean.

use std::{path::PathBuf, time::Duration};

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use crate::{
    config::{ForeignChange, Layout, SECRETS_DIR, SOCKET_PATH},
    plan::Allowed,
};

/// Heading of what goes for every verb.
const GLOBAL: &str = "Options of every command";

const EXIT_CODES: &str = "\
Exit codes:
   0  yes; the same; done
   1  no; it differs; there are findings
   2  the command line, the settings or the spec cannot be meant
   3  the daemon cannot be reached
   4  you may not do that
   5  the plan was refused; nothing was changed
   6  the change failed and was undone
   7  somebody else changed something in between
   8  another mirrorlet, or another test pull, is at work
   9  the image could not be pulled
  10  a file or a system call failed
  11  the answer did not come in time

Data goes to stdout, everything else to stderr. No secret is ever an argument.";

/// Asks and tells the mirrorlet daemon of this node, which makes containerd pull through registry mirrors.
///
/// Looking needs access to the daemon's socket (root, or the group mirrorlet); changing the node and test pulls need root. `validate`,
/// `render` and `completions` need no daemon at all.
#[derive(Debug, Parser)]
#[command(name = "mirrorctl", version, after_help = EXIT_CODES, arg_required_else_help = true)]
pub struct Cli {
    /// What goes for every verb.
    #[command(flatten)]
    pub global: Global,
    /// The verb.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What goes for every verb.
#[derive(Debug, Args)]
pub struct Global {
    /// Where the daemon listens
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "unix:PATH", default_value_t = format!("unix:{SOCKET_PATH}"))]
    pub address: String,
    /// Answer for people or for programs
    #[arg(short, long, global = true, help_heading = GLOBAL, value_enum, value_name = "FORM", default_value_t = Form::Text)]
    pub output: Form,
    /// When to use colours; NO_COLOR is honoured, too
    #[arg(long, global = true, help_heading = GLOBAL, value_enum, value_name = "WHEN", default_value_t = When::Auto)]
    pub color: When,
    /// How long to wait for an answer; without it, questions wait 30s and changes wait for their end
    #[arg(long, global = true, help_heading = GLOBAL, value_name = "TIME", value_parser = duration)]
    pub timeout: Option<Duration>,
}

fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text).map_err(|reason| format!("{reason}; write a time such as 30s or 2m"))
}

/// For whom an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Form {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// When colours are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum When {
    /// On a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// What is wanted, what is in effect, how that is known, and what to do next
    ///
    /// Exits with 0 when the node is as wanted, with 1 when it is not (yet).
    Status {
        /// Go on, and show each change; ends with Ctrl-C
        #[arg(long)]
        watch: bool,
    },
    /// Check spec files; reads them and does nothing else
    ///
    /// Several files are read as one spec, as the daemon reads a directory. Every problem is shown with its place; exits with 2 when there is
    /// one. Files that the spec names are not read.
    Validate {
        /// The files; - is stdin
        #[arg(required = true, value_name = "FILE")]
        files: Vec<String>,
        /// Which Cluster counts, when the files hold several
        #[arg(long, value_name = "NAME")]
        cluster: Option<String>,
    },
    /// Write the files a node would get into a directory
    ///
    /// Needs no daemon. Inputs are read from this machine's disk. The directory is made, or has to be empty; it may not be below /etc or /var.
    Render(Render),
    /// What would be done for a spec, as steps and diffs; changes nothing
    ///
    /// Exits with 0 when there is nothing to change, with 1 when there is, with 5 when it would be refused.
    Plan {
        /// The spec; the files it names are read here and sent along. Without it: the node's own spec
        file: Option<String>,
        /// Spec options.
        #[command(flatten)]
        spec: SpecOptions,
    },
    /// Make a spec the node's spec and apply it, whole or not at all
    ///
    /// Phases are told on stderr as they come, the outcome on stdout. Once the daemon took the spec, the change runs to its end, whether
    /// mirrorctl still listens or not.
    Apply(Apply),
    /// End a hold, or take up again a spec that failed before
    Resume,
    /// Keep a change that was applied with --confirm-within
    Confirm {
        /// Its number, as `apply` and `status` say it
        generation: u64,
    },
    /// Go back to an earlier generation; holds until `resume` or another spec
    ///
    /// The spec file stays as it is; it is not applied again before it changes, or somebody resumes it.
    Revert {
        /// Its number, 0 for the node as it was found. Without it: the one before the present one
        generation: Option<u64>,
        /// Only if the node still has this etag
        #[arg(long, default_value = "", hide_default_value = true)]
        etag: String,
        /// A name for this request: repeated with the same one, it has one effect
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        request_id: String,
    },
    /// Past changes, newest first
    History {
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        most: u32,
    },
    /// One past change: who, when, why, its diff without secrets, how it ended
    Show {
        /// Its number
        generation: u64,
    },
    /// Give the node back as it was found, byte for byte; holds until `resume` or another spec
    Disable {
        /// Only show what would be done
        #[arg(long)]
        dry_run: bool,
    },
    /// Pull an image as the kubelet would, to see what happens
    ///
    /// Names that this pull created are removed again. Only images of registries that the spec mirrors are pulled, unless --any says
    /// otherwise. The last line of success is that of crictl. A pull ends when mirrorctl ends.
    Pull(Pull),
    /// Print the completion script of a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What a spec file on the command line comes with.
#[derive(Debug, Default, Args)]
pub struct SpecOptions {
    /// Replace what others wrote for this host; may be repeated
    #[arg(long, value_name = "HOST")]
    pub take_over: Vec<String>,
    /// Let a restart make effective what others changed since containerd was started; may be repeated
    #[arg(long, value_name = "WHAT")]
    pub accept: Vec<ForeignChange>,
    /// Where secrets that the spec names are on this machine, as NAMESPACE/NAME/KEY
    #[arg(long, value_name = "DIR", default_value = SECRETS_DIR)]
    pub secrets_dir: String,
    /// Which Cluster counts, when the file holds several
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
}

impl SpecOptions {
    /// What may be done to what is others'.
    pub fn allowed(&self) -> Allowed {
        Allowed { take_over: self.take_over.iter().cloned().collect(), accept: self.accept.iter().copied().collect() }
    }
}

/// `render`.
#[derive(Debug, Args)]
pub struct Render {
    /// The spec; - is stdin
    pub file: String,
    /// Where the files go
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// The containerd they are for
    #[arg(long, value_name = "VERSION", default_value = "2.1.0")]
    pub containerd: String,
    /// How mirrors are written down
    #[arg(long, value_enum, value_name = "LAYOUT", default_value_t = Layout::Hosts)]
    pub layout: Layout,
    /// How the mirrors ask for a login; decides where logins go before containerd 2.1
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Auth::Basic)]
    pub auth: Auth,
    /// Where secrets that the spec names are on this machine, as NAMESPACE/NAME/KEY
    #[arg(long, value_name = "DIR", default_value = SECRETS_DIR)]
    pub secrets_dir: String,
    /// Which Cluster counts, when the file holds several
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
}

/// How a mirror asks for a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Auth {
    /// User and password, itself.
    Basic,
    /// By a token server.
    Token,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// The spec; the files it names are read here and sent along; - is stdin
    pub file: String,
    /// Spec options.
    #[command(flatten)]
    pub spec: SpecOptions,
    /// Afterwards wait until it is in effect, e.g. until containerd's owner has restarted it
    #[arg(long)]
    pub wait: bool,
    /// Only if the node still has this etag (from `plan -o json` or `status -o json`)
    #[arg(long, default_value = "", hide_default_value = true)]
    pub etag: String,
    /// A name for this request: repeated with the same one, it has one effect
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    pub request_id: String,
    /// Go back by itself unless `confirm` comes within this time, also when the daemon is dead or the node is booted anew
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub confirm_within: Option<Duration>,
}

/// `pull`.
#[derive(Debug, Args)]
pub struct Pull {
    /// The image, e.g. busybox:1.36 or registry.example/team/app@sha256:…
    #[arg(value_name = "REF")]
    pub reference: String,
    /// User of a login for this pull only; the password comes from stdin
    #[arg(long, value_name = "USER", requires = "password_stdin", conflicts_with = "creds_file")]
    pub username: Option<String>,
    /// Read the password from stdin
    #[arg(long, requires = "username")]
    pub password_stdin: bool,
    /// A file that holds USER:PASSWORD, for this pull only
    #[arg(long, value_name = "FILE")]
    pub creds_file: Option<String>,
    /// The host the login is meant for; without it, the image's own registry
    #[arg(long, value_name = "HOST")]
    pub creds_for: Option<String>,
    /// Leave the names that this pull creates
    #[arg(long)]
    pub keep: bool,
    /// The host that is expected to serve it
    #[arg(long, value_name = "HOST")]
    pub expect: Option<String>,
    /// Also images of registries that the spec does not mirror
    #[arg(long)]
    pub any: bool,
}

/// The whole command line, for completions and man pages.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}
