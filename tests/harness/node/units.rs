//! What the systemd of a node knows.

use super::Node;

/// systemd's id of the message "starting a unit", one for each try.
const STARTING: &str = "MESSAGE_ID=7d4958e842da4a758f6c1cdc7b36dcc5";

impl Node {
    /// Whether that process exists in the node.
    pub fn process_exists(&self, pid: u32) -> bool {
        self.exists(format!("/proc/{pid}"))
    }

    /// Main process of a unit; `None` while it has none.
    pub fn main_pid(&self, unit: &str) -> Option<u32> {
        self.property(unit, "MainPID").parse().ok().filter(|pid| *pid != 0)
    }

    /// A property of a unit, as `systemctl show` prints it.
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run_ok(["systemctl", "show", "--value", "-p", name, unit]).trim().to_owned()
    }

    /// How often systemd has begun to start a unit since boot.
    pub fn starts(&self, unit: &str) -> usize {
        self.journal_of(&[STARTING, &format!("UNIT={unit}")]).lines().count()
    }

    /// The journal of a unit since boot.
    pub fn journal(&self, unit: &str) -> String {
        self.journal_of(&["-u", unit])
    }

    /// The whole journal since boot.
    pub fn full_journal(&self) -> String {
        self.journal_of(&[])
    }

    fn journal_of(&self, filter: &[&str]) -> String {
        self.run_ok(["journalctl", "--sync"]);
        let words = ["journalctl", "-q", "-a", "--no-pager", "--no-hostname", "-o", "short-precise"];
        self.run_ok(words.iter().chain(filter))
    }
}
