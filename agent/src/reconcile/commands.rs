//! What callers ask of the one task that may change the node. A caller that hangs up stops nothing.

use std::{collections::BTreeMap, time::Duration};

use tokio::sync::{mpsc, oneshot};

use crate::{
    apply::journal::Phase,
    plan::{Allowed, explain::PlanView},
    spec::problem::Problem,
    status::{GenerationView, OutcomeView, Status},
};

/// A spec that comes from a caller, with the content of what it names.
#[derive(Clone, Default)]
pub struct SpecSource {
    /// The YAML.
    pub text: String,
    /// Name for messages.
    pub name: String,
    /// Content by the name the spec gives it: a path, or NAMESPACE/NAME/KEY.
    pub inputs: BTreeMap<String, Vec<u8>>,
}

impl std::fmt::Debug for SpecSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SpecSource({}, inputs {:?})", self.name, self.inputs.keys())
    }
}

/// An apply that a caller asks for.
#[derive(Debug, Clone, Default)]
pub struct ApplyOrder {
    /// The spec; `None`: the node's own.
    pub spec: Option<SpecSource>,
    /// What may be done to what is others'.
    pub allowed: Allowed,
    /// What the caller believes to be so; empty: not checked.
    pub etag: String,
    /// Same id and body: same answer and one effect; empty: none.
    pub request_id: String,
    /// Digest of the body, for the request id.
    pub body: String,
    /// Nothing is changed.
    pub validate_only: bool,
    /// Gone back from by itself unless it is confirmed within this time.
    pub confirm_within: Option<Duration>,
    /// Who asks, for record and log.
    pub who: String,
}

/// A restore of the node as it was found.
#[derive(Debug, Clone, Default)]
pub struct RestoreOrder {
    /// What the caller believes to be so; empty: not checked.
    pub etag: String,
    /// Same id: same answer and one effect; empty: none.
    pub request_id: String,
    /// Nothing is changed.
    pub validate_only: bool,
    /// Who asks.
    pub who: String,
}

/// Going back to an earlier generation.
#[derive(Debug, Clone, Default)]
pub struct RevertOrder {
    /// Its number; `None`: the one that was in effect before the present one.
    pub generation: Option<u64>,
    /// What the caller believes to be so; empty: not checked.
    pub etag: String,
    /// Same id: same answer and one effect; empty: none.
    pub request_id: String,
    /// Who asks.
    pub who: String,
}

/// A step on the way to an outcome.
#[derive(Debug, Clone)]
pub enum ApplyEvent {
    /// What will be done.
    Planned(Box<PlanView>),
    /// A phase was entered; why, a sentence.
    Entered(Phase, String),
    /// The end.
    Ended(OutcomeView),
}

/// Why a command was not taken.
#[derive(Debug, Clone)]
pub enum CommandError {
    /// The caller's etag is stale.
    Stale {
        /// The etag now.
        etag: String,
    },
    /// Somebody else changed the node while it was carried out; nothing of it stays.
    Overtaken(Problem),
    /// The spec or its inputs have problems.
    Invalid(Vec<Problem>),
    /// The node is not in a state in which this can be done.
    Precondition(Problem),
    /// The request id was used with another body.
    RequestIdReused,
    /// The daemon is stopping.
    Stopping,
}

impl CommandError {
    /// The error as one problem.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            Self::Stale { etag } => Problem::new(
                "etag.stale",
                format!("something changed in between; the etag is {etag} now"),
                "look at the status, then ask again",
            ),
            Self::Invalid(problems) => {
                problems.first().cloned().unwrap_or_else(|| Problem::new("spec.invalid", "the spec cannot be used", ""))
            }
            Self::Precondition(problem) | Self::Overtaken(problem) => problem.clone(),
            Self::RequestIdReused => Problem::new("request-id.reused", "this request id was used with another request", "take a new one"),
            Self::Stopping => Problem::new("daemon.stopping", "the daemon is stopping", "ask again once it runs"),
        }
    }
}

/// The answer to a plan: what would be done, and the etag it is valid for.
pub type Planned = Result<(PlanView, String), CommandError>;
/// The answer to a change: how it ended, and the etag then.
pub type Ended = Result<(OutcomeView, String), CommandError>;

/// A command.
#[derive(Debug)]
pub enum Command {
    /// What would be done for this spec, or for the node's own.
    Plan {
        /// The spec; `None`: the node's own.
        spec: Option<SpecSource>,
        /// What may be done to what is others'.
        allowed: Allowed,
        /// The mirrors may be asked how they want to be logged in to: not for everybody who can open the socket.
        may_probe: bool,
        /// Where the answer goes.
        reply: oneshot::Sender<Planned>,
    },
    /// Make this spec the node's and apply it.
    Apply {
        /// The order.
        order: Box<ApplyOrder>,
        /// Where phases go; nobody has to listen.
        events: mpsc::UnboundedSender<ApplyEvent>,
        /// Where the answer goes.
        reply: oneshot::Sender<Ended>,
    },
    /// End a hold, or take a parked spec up again.
    Resume {
        /// Who asks.
        who: String,
        /// Same id: same answer and one effect; empty: none.
        request_id: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Ended>,
    },
    /// Go back to an earlier generation.
    Revert {
        /// The order.
        order: Box<RevertOrder>,
        /// Where the answer goes.
        reply: oneshot::Sender<Ended>,
    },
    /// Keep a generation that waits for it.
    Confirm {
        /// Its number.
        generation: u64,
        /// Who asks.
        who: String,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Status, CommandError>>,
    },
    /// Past changes, newest first, without their diffs.
    History {
        /// Where the answer goes.
        reply: oneshot::Sender<Result<Vec<GenerationView>, CommandError>>,
    },
    /// One past change.
    Show {
        /// Its number.
        generation: u64,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<GenerationView, CommandError>>,
    },
    /// Give the node back as it was found.
    Restore {
        /// The order.
        order: Box<RestoreOrder>,
        /// Where the answer goes.
        reply: oneshot::Sender<Result<(OutcomeView, PlanView, String), CommandError>>,
    },
}

/// Where commands go. Cheap to clone.
pub type Commands = mpsc::Sender<Command>;
