//! Children are started by one thread that lives as long as the test process, because the kernel's "kill me when my parent dies"
//! means the parent *thread*; a node booted in a thread of a test would otherwise die with that thread.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// How long a command may take unless the caller says otherwise.
pub const COMMAND_TIMEOUT: Duration = Duration::from_secs(60);

/// What a finished command left behind.
#[derive(Debug, Clone)]
pub struct Output {
    /// Exit code; `None` when a signal or the time limit ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Whether the command returned 0.
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// Standard output of a command that must have worked; otherwise panics with everything it said.
    pub fn expect_success(self, command: &str) -> String {
        assert!(self.success(), "`{command}` ended with {:?}\n-- stdout\n{}\n-- stderr\n{}", self.code, self.stdout, self.stderr);
        self.stdout
    }
}

/// A child that is killed when dropped, and by the kernel when the test process dies.
#[derive(Debug)]
pub struct Leashed(Child);

impl Leashed {
    /// Starts a command made by [`leash`].
    pub fn spawn(command: Command) -> Self {
        let name = format!("{command:?}");
        Self(start(command).unwrap_or_else(|error| panic!("cannot start {name}: {error}")))
    }

    /// Starts it from this very thread: it has the thread's namespaces, and dies with it.
    pub fn spawn_here(mut command: Command) -> Self {
        Self(command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}")))
    }

    /// Process id as the host sees it.
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.0
    }

    /// Whether it still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A command whose process dies with the test process.
pub fn leash(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// Runs a command to its end or to the time limit; output goes through files, so a grandchild that keeps it open blocks nobody.
pub fn run(mut command: Command, timeout: Duration) -> Output {
    let name = format!("{command:?}");
    let (mut stdout, mut stderr) = (scratch_file(), scratch_file());
    command.stdout(handle(&stdout)).stderr(handle(&stderr));
    let mut child = Leashed::spawn(command);
    let code = wait(child.child(), timeout);
    drop(child);
    let mut stderr = text(&mut stderr);
    if code.is_none() {
        stderr.push_str(&format!("\n(killed, or ended by the time limit of {timeout:?}: {name})"));
    }
    Output { code, stdout: text(&mut stdout), stderr }
}

/// Polls until the condition holds; says what it waited for when it does not.
pub fn eventually(what: &str, timeout: Duration, condition: impl FnMut() -> bool) {
    assert!(holds_within(timeout, condition), "not within {timeout:?}: {what}");
}

/// Whether the condition comes true in time.
pub fn holds_within(timeout: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeout;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

type Order = (Command, mpsc::Sender<io::Result<Child>>);

fn start(command: Command) -> io::Result<Child> {
    static NURSERY: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let nursery = NURSERY.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || inbox.into_iter().for_each(|(mut command, reply)| drop(reply.send(command.spawn()))));
        Mutex::new(orders)
    });
    let (reply, answer) = mpsc::channel();
    let sent = nursery.lock().map(|orders| orders.send((command, reply)).is_ok());
    assert!(sent.unwrap_or(false), "the thread that starts children is gone");
    answer.recv().unwrap_or_else(|_| Err(io::Error::other("the thread that starts children is gone")))
}

fn wait(child: &mut Child, timeout: Duration) -> Option<i32> {
    let mut status = None;
    holds_within(timeout, || {
        status = child.try_wait().ok().flatten();
        status.is_some()
    });
    status.and_then(|status| status.code())
}

fn scratch_file() -> File {
    tempfile::tempfile().unwrap_or_else(|error| panic!("no temporary file: {error}"))
}

fn handle(file: &File) -> Stdio {
    file.try_clone().map_or_else(|error| panic!("cannot share a temporary file: {error}"), Stdio::from)
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).unwrap_or_else(|error| panic!("cannot read output: {error}"));
    String::from_utf8_lossy(&bytes).into_owned()
}
