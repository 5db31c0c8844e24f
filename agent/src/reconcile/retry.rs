//! When an apply is tried again by itself that failed for no fault of the spec.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    apply::{Effort, Outcome, is_transient, is_write_failure},
    spec::{names::Digest, problem::Problem},
    status::Condition,
};

/// After the first silence; then twice as long each time.
const FIRST: Duration = Duration::from_secs(30);
const LONGEST: Duration = Duration::from_secs(600);

/// When an apply is tried again to which containerd gave no answer, or the disk no room.
#[derive(Debug, Default)]
pub struct Retry {
    /// The spec that is tried again.
    digest: Option<Digest>,
    failures: u32,
    not_before: Option<Instant>,
    /// Why the last try came to nothing.
    pub problems: Vec<Problem>,
}

impl Retry {
    /// Notes how an apply of this spec ended.
    pub fn note(&mut self, digest: Digest, outcome: &Outcome, now: Instant) {
        if self.digest.replace(digest) != Some(digest) {
            self.failures = 0;
        }
        match outcome {
            Outcome::RolledBack(Effort { restarts: 0, .. }, problems) | Outcome::Refused(problems) if is_transient(problems) => {
                self.not_before = Some(now + (FIRST * (1 << self.failures.min(5))).min(LONGEST));
                self.failures += 1;
                self.problems.clone_from(problems);
            }
            _ => *self = Self::default(),
        }
    }

    /// Where the node stands until then; `None` when this spec is not put off.
    #[must_use]
    pub fn condition(&self, digest: Digest) -> Option<Condition> {
        self.not_before
            .filter(|_| self.digest == Some(digest))
            .map(|_| if is_write_failure(&self.problems) { Condition::RolledBack } else { Condition::ContainerdSick })
    }

    /// When it is time for the next try.
    #[must_use]
    pub const fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// The next try begins.
    pub const fn begin(&mut self) {
        self.not_before = None;
    }
}
