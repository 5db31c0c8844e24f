//! What is remembered of a change that is in effect.

use super::Order;
use crate::{
    host::{clock, planted},
    observed::{
        Observed, Process,
        record::{HoldCause, Loaded, Proof, Record},
        start::Start,
    },
    plan::{Plan, step::Step},
};

/// The record once the files are as planned and nothing is restarted.
#[must_use]
pub fn remembered(plan: &Plan, observed: &Observed, order: &Order) -> Record {
    let after = &plan.after;
    let mut record = observed.record.clone();
    record.owned = after.owned.clone();
    if record.owned.is_empty() {
        record.effective_generation = 0;
    }
    record.originals = after.originals.clone();
    record.carried = after.carried.clone();
    record.config_logins = after.config_logins.clone();
    record.legacy = after.legacy.clone();
    record.applied = order.applied.clone();
    record.hold = order.hold.clone().filter(|_| !planted::has("no-hold"));
    if let Some((inputs, text_digest)) = &order.sent_along {
        record.inline_inputs.clone_from(inputs);
        record.inline_inputs_for = Some(*text_digest);
    }
    if !order.is_repair() && order.hold.as_ref().is_none_or(|hold| hold.cause != HoldCause::Rescue) {
        record.parked = None;
    }
    record.pending = None;
    record.start = record.start.map(|start| with_steps(start, &plan.steps, &observed.config.root.path));
    if observed.containerd.unit.known().is_some() {
        record.place = Some(observed.containerd.place.clone());
    }
    with_loaded(record, plan, observed.containerd.process.known())
}

/// What the running process was started from, once steps that need no restart are taken.
#[must_use]
pub fn with_steps(mut start: Start, steps: &[Step], config: &str) -> Start {
    for step in steps.iter().filter(|step| step.path == config) {
        start.moved_on(&step.path, step.before.digest().copied(), step.after().digest().copied());
    }
    start
}

/// Remembers the settings that a process was started with.
#[must_use]
pub fn with_loaded(mut record: Record, plan: &Plan, process: Option<&Process>) -> Record {
    if let (Some(process), Some(settings), false) = (process, plan.after.settings, plan.awaits_restart) {
        record.loaded = Some(Loaded { process: process.clone(), settings });
    }
    record
}

/// Remembers that a process showed that it uses what is ours.
#[must_use]
pub fn with_proof(mut record: Record, process: Option<&Process>, earlier: Option<&Proof>) -> Record {
    let Some(process) = process else { return record };
    if earlier.is_none_or(|proof| proof.process != *process) {
        record.proof = Some(Proof { process: process.clone(), time: clock::unix_seconds() });
    }
    record
}
