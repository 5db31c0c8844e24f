//! Asks the mirrors of a spec how they want to be logged in to, once for each spec.
//!
//! What was learned decides where containerd learns a login from, and on releases before 2.1 that may cost a restart: so it is only learned
//! for a spec that is new, or when an operator asks.

use std::collections::BTreeMap;

use tokio::task::JoinSet;

use super::{Reconciler, machine::Cause};
use crate::{
    host::registry::{self, Answer, Reach},
    observed::Asks,
    spec::desired::{Desired, GCR},
    status::{EndpointStatus, LoginState},
};

impl Reconciler {
    pub(super) async fn probe(&mut self, desired: &Desired, cause: Cause) {
        if cause == Cause::Event && self.probed == Some(desired.digest) {
            return;
        }
        let is_new = self.record.applied.as_ref().is_none_or(|applied| applied.digest != desired.digest);
        let reaches = reaches(desired);
        let answers = if self.host.is_offline { BTreeMap::new() } else { ask_all(&reaches).await };
        if is_new || cause == Cause::Operator {
            let learned = answers.iter().filter_map(|(authority, answer)| Some((authority.clone(), answer.as_ref().ok()?.asks)));
            self.record.asks.extend(learned);
        }
        self.endpoints = reaches.iter().map(|(authority, reach)| endpoint_status(reach, answers.get(authority))).collect();
        self.probed = Some(desired.digest);
    }
}

fn reaches(desired: &Desired) -> BTreeMap<String, Reach> {
    let mut reaches: BTreeMap<String, Reach> = BTreeMap::new();
    for target in &desired.targets {
        let reach = Reach::from(target.as_ref());
        let there = reaches.entry(target.endpoint.authority().to_owned()).or_insert_with(|| reach.clone());
        if there.login.is_none() && reach.login.is_some() {
            *there = reach;
        }
    }
    if let Some(login) = &desired.upstream_login {
        let reach = Reach { url: format!("https://{GCR}"), ca: None, client: None, login: Some(login.clone()), skip_verify: false };
        reaches.entry(GCR.to_owned()).or_insert(reach);
    }
    reaches
}

async fn ask_all(reaches: &BTreeMap<String, Reach>) -> BTreeMap<String, Result<Answer, String>> {
    let mut asked = JoinSet::new();
    for (authority, reach) in reaches.clone() {
        asked.spawn(async move { (authority, registry::ask(&reach).await) });
    }
    let mut answers = BTreeMap::new();
    while let Some(answer) = asked.join_next().await {
        answers.extend(answer.ok());
    }
    answers
}

fn endpoint_status(reach: &Reach, answer: Option<&Result<Answer, String>>) -> EndpointStatus {
    let has_login = reach.login.is_some();
    let (login, asks_for, error) = match answer {
        Some(Ok(answer)) => (login_state(has_login, answer), asks_word(answer.asks), String::new()),
        Some(Err(error)) => (unproven(has_login), "unknown", error.clone()),
        None => (unproven(has_login), "unknown", "it was not asked".to_owned()),
    };
    EndpointStatus { endpoint: reach.url.clone(), login, asks_for: asks_for.into(), error }
}

fn login_state(has_login: bool, answer: &Answer) -> LoginState {
    match answer.login_accepted {
        _ if !has_login => LoginState::None,
        Some(true) => LoginState::Accepted,
        Some(false) => LoginState::Refused,
        None => LoginState::Unproven,
    }
}

const fn unproven(has_login: bool) -> LoginState {
    if has_login { LoginState::Unproven } else { LoginState::None }
}

const fn asks_word(asks: Asks) -> &'static str {
    match asks {
        Asks::Nothing => "nothing",
        Asks::Basic => "basic",
        Asks::Token => "token",
    }
}
