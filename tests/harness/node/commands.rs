//! Commands run in a node.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::Node;
use crate::harness::process::{COMMAND_TIMEOUT, Leashed, Output, leash, run};

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

impl Node {
    /// Runs a command in the node.
    pub fn run<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Output {
        self.run_within(COMMAND_TIMEOUT, argv)
    }

    /// Runs a command in the node and ends it, inside too, at the time limit.
    pub fn run_within<A: AsRef<OsStr>>(&self, timeout: Duration, argv: impl IntoIterator<Item = A>) -> Output {
        let mut command = self.command(Some(timeout));
        command.args(argv);
        run(command, timeout + Duration::from_secs(2))
    }

    /// Standard output of a command that must work.
    pub fn run_ok<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> String {
        let argv: Vec<_> = argv.into_iter().map(|word| word.as_ref().to_owned()).collect();
        let line: Vec<_> = argv.iter().map(|word| word.to_string_lossy()).collect();
        self.run(&argv).expect_success(&line.join(" "))
    }

    /// Starts a long-running command; it ends with the returned child. Its output is dropped; with [`Node::command`] it can be kept.
    pub fn spawn<A: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = A>) -> Leashed {
        let mut command = self.command(None);
        command.args(argv).stdout(Stdio::null()).stderr(Stdio::null());
        Leashed::spawn(command)
    }

    /// A command that runs in the node, still without its words; [`Leashed::spawn`] starts it.
    pub fn command(&self, timeout: Option<Duration>) -> Command {
        let mut command = leash("nsenter");
        command.args(["-t", &self.pid().to_string(), "-a", "--", "env", "-i", PATH, "HOME=/root", "LANG=C.UTF-8"]);
        if let Some(timeout) = timeout {
            command.args(["timeout", "-s", "KILL", &timeout.as_secs_f64().to_string()]);
        } else {
            command.args(["setpriv", "--pdeathsig", "KILL", "--"]);
        }
        command
    }
}
