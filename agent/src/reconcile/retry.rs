//! When an apply is tried again by itself.

use crate::{
    apply::{Effort, Outcome, is_transient},
    spec::problem::Problem,
};

/// When an apply is tried again to which containerd gave no answer.
#[derive(Debug, Default)]
pub struct Retry {
    failures: u32,
    /// Nothing is tried before this time, in seconds of Unix time.
    pub not_before: i64,
    /// Why the last try came to nothing.
    pub problems: Vec<Problem>,
}

impl Retry {
    /// Notes how an apply ended: 30 s after the first silence, then twice as long each time, at most 10 minutes.
    pub fn note(&mut self, outcome: &Outcome, now: i64) {
        match outcome {
            Outcome::RolledBack(Effort { restarts: 0, .. }, problems) | Outcome::Refused(problems) if is_transient(problems) => {
                self.not_before = now + (30_i64 << self.failures.min(5)).min(600);
                self.failures += 1;
                self.problems.clone_from(problems);
            }
            _ => *self = Self::default(),
        }
    }

    /// Whether it is time for the next try.
    pub const fn is_due(&self, now: i64) -> bool {
        self.failures > 0 && now >= self.not_before
    }
}
