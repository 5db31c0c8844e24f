//! The one snapshot of the agent: API, command line, JSON, sd_notify and metrics show this and compute nothing of their own.

use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::{exit, spec::problem::ProblemView};

/// Where the node stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// No spec was ever given, and nothing of ours is on the node.
    #[default]
    NoSpec,
    /// containerd uses the wanted spec, and that was proven.
    InEffect,
    /// An apply is under way.
    Applying,
    /// The spec has problems; the node stays as it is.
    SpecInvalid,
    /// The plan was refused; the node stays as it is.
    Refused,
    /// The last apply failed and was undone; the spec is parked.
    RolledBack,
    /// After disable or revert nothing is applied until the spec changes or `resume`.
    Held,
    /// Files of ours were changed by somebody else, and they are not repaired.
    Drifted,
    /// containerd does not run, does not answer, or does not read our files.
    ContainerdSick,
    /// A generation waits for its confirmation.
    PendingConfirm,
    /// The spec says `registryMirrors: []`, and the node is as it was found.
    SwitchedOff,
    /// The files are in place; containerd's owner has to restart it.
    AwaitingRestart,
}

impl Condition {
    /// The word as it is written everywhere.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoSpec => "no-spec",
            Self::InEffect => "in-effect",
            Self::Applying => "applying",
            Self::SpecInvalid => "spec-invalid",
            Self::Refused => "refused",
            Self::RolledBack => "rolled-back",
            Self::Held => "held",
            Self::Drifted => "drifted",
            Self::ContainerdSick => "containerd-sick",
            Self::PendingConfirm => "pending-confirm",
            Self::SwitchedOff => "switched-off",
            Self::AwaitingRestart => "awaiting-restart",
        }
    }

    /// The exit code of a program that was asked for it.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::InEffect | Self::SwitchedOff | Self::NoSpec | Self::Held | Self::Applying => exit::DONE,
            Self::SpecInvalid => exit::USAGE,
            Self::Refused => exit::REFUSED,
            Self::RolledBack => exit::ROLLED_BACK,
            Self::Drifted | Self::AwaitingRestart | Self::PendingConfirm => exit::DIFFERS,
            Self::ContainerdSick => exit::FAILED,
        }
    }

    /// Whether the node is what the operator wants.
    #[must_use]
    pub const fn is_as_wanted(self) -> bool {
        matches!(self, Self::InEffect | Self::SwitchedOff | Self::NoSpec)
    }
}

/// What is known of containerd.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerdStatus {
    /// Version of the running daemon; empty when it does not answer.
    pub running_version: String,
    /// Version of the installed binary; empty when unknown.
    pub installed_version: String,
    /// 0 when it does not run.
    pub pid: u32,
    /// The CRI answers and is ready.
    pub cri_is_ready: bool,
    /// Its config file.
    pub config_path: String,
    /// Its socket.
    pub address: String,
    /// Its unit.
    pub unit: String,
    /// Where its content is.
    pub content_dir: String,
}

/// One mirrored registry and where it is looked for, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MirroredHost {
    /// The registry.
    pub host: String,
    /// Endpoints of the spec.
    pub endpoints: Vec<String>,
    /// Endpoints the node had before, kept working.
    pub carried_endpoints: Vec<String>,
    /// The registry itself is asked last.
    pub falls_back: bool,
}

/// What is known of the login at a mirror.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LoginState {
    /// The spec gives none.
    #[default]
    None,
    /// It was not tried, or only the token server could say.
    Unproven,
    /// The mirror took it.
    Accepted,
    /// The mirror refused it.
    Refused,
}

/// What a probe found at one endpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Scheme, host, port.
    pub endpoint: String,
    /// Of the login.
    pub login: LoginState,
    /// `nothing`, `basic`, `token` or `unknown`.
    pub asks_for: String,
    /// Why there was no answer; empty when there was one.
    pub error: String,
}

/// Why nothing is applied for now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldStatus {
    /// `disable`, `revert`, `expiry` or `rescue`.
    pub cause: String,
    /// Seconds of Unix time.
    pub since: i64,
    /// Digest of the spec text that is held; empty: none.
    pub spec_digest: String,
}

/// A generation that waits for its confirmation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingStatus {
    /// Its number.
    pub generation: u64,
    /// When it is gone back from, in seconds of Unix time.
    pub deadline: i64,
}

/// One past change, as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GenerationView {
    /// Its number.
    pub generation: u64,
    /// When it ended, in seconds of Unix time.
    pub time: i64,
    /// Who asked.
    pub who: String,
    /// Why, a phrase.
    pub reason: String,
    /// How it ended.
    pub outcome: OutcomeView,
    /// The generation it went back to; 0: the node as it was found.
    pub restores: Option<u64>,
    /// Unified diff, secrets masked; empty in lists.
    pub diff: String,
    /// What somebody else had changed where it wrote.
    pub replaced: Vec<ReplacedFile>,
}

/// A path that was written over, or put back.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplacedFile {
    /// The path.
    pub path: String,
    /// Where the other version is kept; empty: there was no file.
    pub kept_at: String,
    /// When somebody else changed it, in seconds of Unix time; 0: unknown.
    pub changed_at: i64,
    /// Who, as far as the kernel says; empty: unknown.
    pub changed_by: String,
}

/// A point in time, in seconds of Unix time, for people.
#[must_use]
pub fn moment(at: i64) -> String {
    match u64::try_from(at) {
        Ok(seconds @ 1..) => humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(seconds)).to_string(),
        _ => "at an unknown time".into(),
    }
}

/// How an apply ended, as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutcomeView {
    /// `changed`, `unchanged`, `rolled-back` or `refused`.
    pub kind: String,
    /// 0 for unchanged and refused.
    pub generation: u64,
    /// Restarts of containerd, undo included.
    pub restarts: u32,
    /// Longest time without a CRI, in milliseconds.
    pub cri_gap_ms: u64,
    /// Why it was rolled back or refused.
    pub problems: Vec<ProblemView>,
    /// What is worth knowing of a change that is in effect.
    #[serde(default)]
    pub notices: Vec<ProblemView>,
}

/// The last change that took a generation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastChange {
    /// Its number.
    pub generation: u64,
    /// Seconds of Unix time.
    pub time: i64,
    /// Who asked.
    pub who: String,
    /// How it ended.
    pub outcome: OutcomeView,
}

/// The snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// In one word.
    pub condition: Condition,
    /// In a sentence.
    pub summary: String,
    /// What a person should do next; empty: nothing.
    pub next_step: String,
    /// Digest of spec and inputs that are wanted; empty: none.
    pub wanted_spec_digest: String,
    /// 0: the node is as it was found.
    pub effective_generation: u64,
    /// How it is known that containerd reads our files; empty: it is not known.
    pub proof: String,
    /// containerd.
    pub containerd: ContainerdStatus,
    /// Mirrored registries.
    pub hosts: Vec<MirroredHost>,
    /// The mirrors.
    pub endpoints: Vec<EndpointStatus>,
    /// Why nothing is applied for now.
    pub hold: Option<HoldStatus>,
    /// What waits for its confirmation.
    pub pending: Option<PendingStatus>,
    /// The last change.
    pub last_change: Option<LastChange>,
    /// What is wrong.
    pub problems: Vec<ProblemView>,
    /// What is worth knowing.
    pub notices: Vec<ProblemView>,
    /// Changes with anything an apply depends on.
    pub etag: String,
    /// Version of the agent.
    pub agent_version: String,
    /// `inotify` or `polling`.
    pub watch: String,
    /// Where the spec is.
    pub spec_path: String,
    /// When this was seen, in seconds of Unix time.
    pub observed_at: i64,
}

impl Status {
    /// One line for sd_notify.
    #[must_use]
    pub fn line(&self) -> String {
        format!("{}: {}", self.condition.word(), self.summary)
    }

    /// Whether the node was looked at; before the first look after the start there is nothing to say of it.
    #[must_use]
    pub const fn is_seen(&self) -> bool {
        self.observed_at != 0
    }
}

/// A status with something in every field, for tests of the layers that carry and show it.
#[cfg(test)]
pub mod sample {
    use super::*;

    /// The node after a change.
    pub fn status() -> Status {
        let text = |text: &str| text.to_owned();
        Status {
            condition: Condition::InEffect,
            summary: text("containerd asks the mirrors of the spec first"),
            next_step: String::new(),
            wanted_spec_digest: format!("sha256:{}", "ab".repeat(32)),
            effective_generation: 3,
            proof: text("containerd's live settings name /etc/containerd/certs.d"),
            containerd: ContainerdStatus {
                running_version: text("2.1.4"),
                installed_version: text("2.1.4"),
                pid: 812,
                cri_is_ready: true,
                config_path: text("/etc/containerd/config.toml"),
                address: text("/run/containerd/containerd.sock"),
                unit: text("containerd.service"),
                content_dir: text("/var/lib/containerd"),
            },
            hosts: vec![
                MirroredHost {
                    host: text("docker.io"),
                    endpoints: vec![text("https://mirror.example:5000/v2/hub")],
                    carried_endpoints: vec![text("http://old.example")],
                    falls_back: true,
                },
                MirroredHost {
                    host: text("gcr.io"),
                    endpoints: vec![text("https://mirror.example:5000")],
                    carried_endpoints: Vec::new(),
                    falls_back: false,
                },
            ],
            endpoints: vec![
                EndpointStatus {
                    endpoint: text("https://mirror.example:5000"),
                    login: LoginState::Accepted,
                    asks_for: text("basic"),
                    error: String::new(),
                },
                EndpointStatus {
                    endpoint: text("http://old.example"),
                    login: LoginState::None,
                    asks_for: text("unknown"),
                    error: text("connection refused"),
                },
            ],
            hold: None,
            pending: Some(PendingStatus { generation: 3, deadline: 1_800_000_600 }),
            last_change: Some(LastChange {
                generation: 3,
                time: 1_800_000_000,
                who: text("uid 0 (mirrorctl apply)"),
                outcome: OutcomeView { kind: text("changed"), generation: 3, restarts: 1, cri_gap_ms: 1_240, ..OutcomeView::default() },
            }),
            problems: Vec::new(),
            notices: vec![ProblemView {
                code: text("spec.skip-verify"),
                message: text("the certificate of mirror.example:5000 is not checked"),
                remedy: text("name its CA instead"),
                file: text("/etc/mirrorlet/mirrors.yaml"),
                line: 4,
                column: 5,
                field: text("registryMirrors[0].skipVerify"),
            }],
            etag: text("e1"),
            agent_version: text("0.1.0"),
            watch: text("inotify"),
            spec_path: text("/etc/mirrorlet/mirrors.yaml"),
            observed_at: 1_800_000_100,
        }
    }
}
