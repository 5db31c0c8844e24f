//! A pull through the CRI, asked for by somebody: what the kubelet would get, with every phase told.

use secrecy::SecretString;
use tokio::sync::mpsc::UnboundedSender;

use crate::{spec::problem::Problem, status::Status};

/// A login for one pull.
#[derive(Debug, Clone)]
pub struct PullCredentials {
    /// User; `oauth2accesstoken` with a token as password for cloud registries.
    pub username: String,
    /// Password or token.
    pub password: SecretString,
    /// Host it is meant for; empty: the ref's own registry.
    pub host: String,
}

/// A pull that is asked for.
#[derive(Debug, Clone, Default)]
pub struct PullOrder {
    /// As a person writes it.
    pub reference: String,
    /// Absent: no login.
    pub credentials: Option<PullCredentials>,
    /// Names that this pull created stay.
    pub keeps: bool,
    /// Also refs on hosts that the spec does not name.
    pub any: bool,
    /// Host that is expected to serve it; empty: not checked.
    pub expect_host: String,
}

/// Where a pull is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPhase {
    /// The registry is asked what the tag means.
    Resolving,
    /// Content is fetched.
    Fetching,
    /// Layers are unpacked.
    Unpacking,
    /// Names that the pull created are removed.
    Cleaning,
    /// It is over.
    Done,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct PullResult {
    /// Full name.
    pub reference: String,
    /// Config digest, as crictl prints it.
    pub image_id: String,
    /// NAME@DIGEST.
    pub repo_digest: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds.
    pub elapsed_ms: u64,
    /// Names that were removed again.
    pub removed_names: Vec<String>,
    /// Hosts that containerd may have asked, in order.
    pub asked_in_order: Vec<String>,
}

/// One thing to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEvent {
    /// How far it is: bytes so far, bytes in all (0: unknown).
    At(PullPhase, u64, u64),
    /// It succeeded.
    Pulled(Box<PullResult>),
    /// It did not.
    Failed(Problem),
}

/// Pulls, and tells every phase; ends with [`PullEvent::Pulled`] or [`PullEvent::Failed`].
pub async fn pull(status: Status, order: PullOrder, events: UnboundedSender<PullEvent>) {
    let _ = (status, order, events);
}
