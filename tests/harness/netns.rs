//! A network namespace held open by a sleeping child, so that nodes may reboot and registries restart inside it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use super::process::{Leashed, leash};

/// Address of every node of the lab (nodes share its network).
pub const NODE_ADDRESS: &str = "192.0.2.1";

/// An address where packets vanish: connecting hangs until somebody's time limit.
pub const SILENT_ADDRESS: &str = "198.51.100.1";

const SETUP: &str = "
set -eu
ip link set lo up
ip link add lab0 type veth peer name void0
ip link set lab0 arp off up
ip link set void0 up
ip address add 192.0.2.1/24 dev lab0
ip route add local 192.0.2.0/24 dev lo src 192.0.2.1
ip -6 route add local 2001:db8::/64 dev lo
ip route add 198.51.100.0/24 dev lab0
echo ready
exec sleep infinity >/dev/null
";

/// The network of one lab.
#[derive(Debug)]
pub struct Netns {
    holder: Leashed,
}

impl Netns {
    /// A fresh network: loopback, the lab's local addresses and the silent ones.
    pub fn create() -> Self {
        let mut command = leash("unshare");
        command.args(["--net", "--", "sh", "-c", SETUP]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut holder = Leashed::spawn(command);
        let mut word = [0_u8; 6];
        let ready = holder.child().stdout.take().is_some_and(|mut stdout| stdout.read_exact(&mut word).is_ok());
        if !ready {
            let mut reason = String::new();
            holder.child().stderr.take().map(|mut stderr| stderr.read_to_string(&mut reason));
            panic!("no network namespace: {reason}");
        }
        Self { holder }
    }

    /// The file that names the namespace.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/{}/ns/net", self.holder.pid()))
    }

    /// A command of the host, run in this network.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut net = std::ffi::OsString::from("--net=");
        net.push(self.path());
        let mut command = leash("nsenter");
        command.arg(net).arg("--").arg(program);
        command
    }

    /// Runs a piece of the test in this network, on a thread of its own.
    pub fn enter<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let path = self.path();
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                join(&path);
                job()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Whether somebody listens there.
    pub fn is_listening(&self, address: SocketAddr) -> bool {
        self.enter(|| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
    }
}

/// Moves the calling thread, and only it, into a network namespace.
pub fn join(path: &std::path::Path) {
    let file = File::open(path).unwrap_or_else(|error| panic!("no network namespace {}: {error}", path.display()));
    setns(file, CloneFlags::CLONE_NEWNET).unwrap_or_else(|error| panic!("cannot enter {}: {error}", path.display()));
}
