//! The status.

use prost_types::Timestamp;

use super::{problem_views, problems, v1};
use crate::status::{
    Condition, ContainerdStatus, EndpointStatus, GenerationView, HoldStatus, LastChange, LoginState, MirroredHost, PendingStatus,
    ReplacedFile, Status,
};

const CONDITIONS: [(Condition, v1::Condition); 12] = [
    (Condition::NoSpec, v1::Condition::NoSpec),
    (Condition::InEffect, v1::Condition::InEffect),
    (Condition::Applying, v1::Condition::Applying),
    (Condition::SpecInvalid, v1::Condition::SpecInvalid),
    (Condition::Refused, v1::Condition::Refused),
    (Condition::RolledBack, v1::Condition::RolledBack),
    (Condition::Held, v1::Condition::Held),
    (Condition::Drifted, v1::Condition::Drifted),
    (Condition::ContainerdSick, v1::Condition::ContainerdSick),
    (Condition::PendingConfirm, v1::Condition::PendingConfirm),
    (Condition::SwitchedOff, v1::Condition::SwitchedOff),
    (Condition::AwaitingRestart, v1::Condition::AwaitingRestart),
];

const LOGINS: [(LoginState, v1::LoginState); 4] = [
    (LoginState::None, v1::LoginState::None),
    (LoginState::Unproven, v1::LoginState::Unproven),
    (LoginState::Accepted, v1::LoginState::Accepted),
    (LoginState::Refused, v1::LoginState::Refused),
];

/// 0 is "never".
fn timestamp(seconds: i64) -> Option<Timestamp> {
    (seconds != 0).then_some(Timestamp { seconds, nanos: 0 })
}

fn seconds(timestamp: Option<Timestamp>) -> i64 {
    timestamp.map_or(0, |timestamp| timestamp.seconds)
}

impl From<&Status> for v1::Status {
    fn from(status: &Status) -> Self {
        let condition =
            CONDITIONS.iter().find(|(ours, _)| *ours == status.condition).map_or(v1::Condition::Unspecified, |(_, theirs)| *theirs);
        Self {
            condition: condition.into(),
            summary: status.summary.clone(),
            next_step: status.next_step.clone(),
            wanted_spec_digest: status.wanted_spec_digest.clone(),
            effective_generation: status.effective_generation,
            proof: status.proof.clone(),
            containerd: Some(v1::ContainerdStatus::from(&status.containerd)),
            hosts: status.hosts.iter().map(v1::MirroredHost::from).collect(),
            endpoints: status.endpoints.iter().map(v1::EndpointStatus::from).collect(),
            hold: status.hold.as_ref().map(v1::Hold::from),
            pending: status.pending.as_ref().map(v1::PendingConfirm::from),
            last_change: status.last_change.as_ref().map(v1::LastChange::from),
            problems: problems(&status.problems),
            notices: problems(&status.notices),
            etag: status.etag.clone(),
            agent_version: status.agent_version.clone(),
            watch: status.watch.clone(),
            spec_path: status.spec_path.clone(),
            observed_at: timestamp(status.observed_at),
        }
    }
}

impl From<v1::Status> for Status {
    fn from(status: v1::Status) -> Self {
        // A condition of a newer daemon is not one in which all is well.
        let condition =
            CONDITIONS.iter().find(|(_, theirs)| *theirs == status.condition()).map_or(Condition::ContainerdSick, |(ours, _)| *ours);
        Self {
            condition,
            summary: status.summary,
            next_step: status.next_step,
            wanted_spec_digest: status.wanted_spec_digest,
            effective_generation: status.effective_generation,
            proof: status.proof,
            containerd: status.containerd.map(ContainerdStatus::from).unwrap_or_default(),
            hosts: status.hosts.into_iter().map(MirroredHost::from).collect(),
            endpoints: status.endpoints.into_iter().map(EndpointStatus::from).collect(),
            hold: status.hold.map(HoldStatus::from),
            pending: status.pending.map(PendingStatus::from),
            last_change: status.last_change.map(LastChange::from),
            problems: problem_views(status.problems),
            notices: problem_views(status.notices),
            etag: status.etag,
            agent_version: status.agent_version,
            watch: status.watch,
            spec_path: status.spec_path,
            observed_at: seconds(status.observed_at),
        }
    }
}

impl From<&ContainerdStatus> for v1::ContainerdStatus {
    fn from(status: &ContainerdStatus) -> Self {
        let ContainerdStatus { running_version, installed_version, pid, cri_is_ready, config_path, address, unit, content_dir } =
            status.clone();
        let cri = if cri_is_ready { v1::CriState::Ready } else { v1::CriState::NotReady };
        let pid = i32::try_from(pid).unwrap_or_default();
        Self { running_version, installed_version, pid, cri: cri.into(), config_path, address, unit, content_dir }
    }
}

impl From<v1::ContainerdStatus> for ContainerdStatus {
    fn from(status: v1::ContainerdStatus) -> Self {
        let cri_is_ready = status.cri() == v1::CriState::Ready;
        let v1::ContainerdStatus { running_version, installed_version, pid, cri: _, config_path, address, unit, content_dir } = status;
        let pid = u32::try_from(pid).unwrap_or_default();
        Self { running_version, installed_version, pid, cri_is_ready, config_path, address, unit, content_dir }
    }
}

impl From<&MirroredHost> for v1::MirroredHost {
    fn from(host: &MirroredHost) -> Self {
        let fallback = if host.falls_back { v1::Fallback::Upstream } else { v1::Fallback::None };
        let MirroredHost { host, endpoints, carried_endpoints, .. } = host.clone();
        Self { host, endpoints, fallback: fallback.into(), carried_endpoints }
    }
}

impl From<v1::MirroredHost> for MirroredHost {
    fn from(host: v1::MirroredHost) -> Self {
        let falls_back = host.fallback() == v1::Fallback::Upstream;
        Self { host: host.host, endpoints: host.endpoints, carried_endpoints: host.carried_endpoints, falls_back }
    }
}

impl From<&EndpointStatus> for v1::EndpointStatus {
    fn from(status: &EndpointStatus) -> Self {
        let login = LOGINS.iter().find(|(ours, _)| *ours == status.login).map_or(v1::LoginState::Unspecified, |(_, theirs)| *theirs);
        let EndpointStatus { endpoint, asks_for, error, .. } = status.clone();
        Self { endpoint, login: login.into(), asks_for, error }
    }
}

impl From<v1::EndpointStatus> for EndpointStatus {
    fn from(status: v1::EndpointStatus) -> Self {
        let login = LOGINS.iter().find(|(_, theirs)| *theirs == status.login()).map_or(LoginState::Unproven, |(ours, _)| *ours);
        Self { endpoint: status.endpoint, login, asks_for: status.asks_for, error: status.error }
    }
}

impl From<&HoldStatus> for v1::Hold {
    fn from(hold: &HoldStatus) -> Self {
        Self { cause: hold.cause.clone(), since: timestamp(hold.since), spec_digest: hold.spec_digest.clone() }
    }
}

impl From<v1::Hold> for HoldStatus {
    fn from(hold: v1::Hold) -> Self {
        Self { cause: hold.cause, since: seconds(hold.since), spec_digest: hold.spec_digest }
    }
}

impl From<&PendingStatus> for v1::PendingConfirm {
    fn from(pending: &PendingStatus) -> Self {
        Self { generation: pending.generation, deadline: timestamp(pending.deadline) }
    }
}

impl From<v1::PendingConfirm> for PendingStatus {
    fn from(pending: v1::PendingConfirm) -> Self {
        Self { generation: pending.generation, deadline: seconds(pending.deadline) }
    }
}

impl From<&GenerationView> for v1::Generation {
    fn from(past: &GenerationView) -> Self {
        let GenerationView { generation, who, reason, restores, diff, .. } = past.clone();
        let replaced = past.replaced.iter().cloned().map(replaced_message).collect();
        let outcome = Some(v1::Outcome::from(&past.outcome));
        Self { generation, time: timestamp(past.time), who, reason, outcome, restores, diff, replaced }
    }
}

fn replaced_message(file: ReplacedFile) -> v1::ReplacedFile {
    let ReplacedFile { path, kept_at, changed_at, changed_by } = file;
    v1::ReplacedFile { path, kept_at, changed_at: timestamp(changed_at), changed_by }
}

fn replaced_file(file: v1::ReplacedFile) -> ReplacedFile {
    let v1::ReplacedFile { path, kept_at, changed_at, changed_by } = file;
    ReplacedFile { path, kept_at, changed_at: seconds(changed_at), changed_by }
}

impl From<v1::Generation> for GenerationView {
    fn from(past: v1::Generation) -> Self {
        let v1::Generation { generation, time, who, reason, outcome, restores, diff, replaced } = past;
        let replaced = replaced.into_iter().map(replaced_file).collect();
        Self {
            generation,
            time: seconds(time),
            who,
            reason,
            outcome: outcome.map(Into::into).unwrap_or_default(),
            restores,
            diff,
            replaced,
        }
    }
}

impl From<&LastChange> for v1::LastChange {
    fn from(change: &LastChange) -> Self {
        let outcome = Some(v1::Outcome::from(&change.outcome));
        Self { generation: change.generation, time: timestamp(change.time), who: change.who.clone(), outcome }
    }
}

impl From<v1::LastChange> for LastChange {
    fn from(change: v1::LastChange) -> Self {
        let outcome = change.outcome.map(Into::into).unwrap_or_default();
        Self { generation: change.generation, time: seconds(change.time), who: change.who, outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::sample;

    #[test]
    fn a_status_comes_back_as_it_was() {
        for (condition, _) in CONDITIONS {
            let status = Status { condition, ..sample::status() };
            assert_eq!(Status::from(v1::Status::from(&status)), status);
        }
        for (login, _) in LOGINS {
            let endpoint = EndpointStatus { login, ..EndpointStatus::default() };
            assert_eq!(EndpointStatus::from(v1::EndpointStatus::from(&endpoint)), endpoint);
        }
    }

    #[test]
    fn a_past_change_comes_back_as_it_was() {
        for restores in [None, Some(0), Some(2)] {
            let change = sample::status().last_change.unwrap();
            let past = GenerationView {
                generation: 3,
                time: change.time,
                who: change.who,
                reason: "why".into(),
                outcome: change.outcome,
                restores,
                diff: "-a\n+b\n".into(),
                replaced: vec![ReplacedFile {
                    path: "/x".into(),
                    kept_at: "/kept".into(),
                    changed_at: 1_800_000_000,
                    changed_by: "vi (pid 7)".into(),
                }],
            };
            assert_eq!(GenerationView::from(v1::Generation::from(&past)), past);
        }
    }

    #[test]
    fn a_condition_that_is_not_known_is_not_a_good_one() {
        let status = v1::Status { condition: 999, ..v1::Status::default() };
        assert!(!Status::from(status).condition.is_as_wanted());
    }
}
