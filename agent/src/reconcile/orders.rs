//! What operators ask for: plan, apply, resume, restore.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::mpsc;

use super::{
    Look, Reconciler,
    commands::{ApplyEvent, ApplyOrder, Command, CommandError, Ended, Planned, RestoreOrder, SpecSource},
    machine::Cause,
    policy, report,
    wish::{self, Wanted, Wish},
};
use crate::{
    apply::{Order, Outcome},
    config::Layout,
    host::{clock, planted},
    observed::{
        Asks,
        entry::{Attributes, Content, Entry},
        record::{AnsweredRequest, Hold, HoldCause},
    },
    plan::{
        self, Allowed,
        explain::{self, PlanView},
        step::{Change, NewFile, Step},
    },
    spec::{names::Digest, problem::Problem},
    status::OutcomeView,
};

/// Whether the mirrors of a spec are asked, and what becomes of the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Probing {
    /// They are not asked.
    No,
    /// They are asked for this plan alone.
    ForNow,
    /// They are asked, and the answers count from now on.
    ToLearn,
}

/// What came along with a spec. It counts until the next apply or a hand edit of the spec.
fn sent_along(source: &SpecSource, wish: &Wish) -> (BTreeMap<String, Digest>, Digest) {
    let sent = wish.contents.iter().filter(|(name, _)| source.inputs.contains_key(*name));
    (sent.map(|(name, content)| (name.clone(), content.digest())).collect(), wish.desired.text_digest)
}

/// Who is not root has no mirror asked how it wants to be logged in to; before containerd 2.1 that decides where the login goes.
fn unprobed(look: &Look, asks: &BTreeMap<String, Asks>) -> Option<Problem> {
    let targets = look.wish.desired.targets.iter().filter(|target| target.login.is_some());
    let unknown: BTreeSet<&str> =
        targets.map(|target| target.endpoint.authority()).filter(|authority| !asks.contains_key(*authority)).collect();
    (!unknown.is_empty()).then(|| {
        let hosts = unknown.into_iter().collect::<Vec<_>>().join(", ");
        Problem::new(
            "plan.not-probed",
            format!("how {hosts} asks for its login is not known yet; before containerd 2.1 a login by token means one restart more"),
            "plan as root, then the mirrors are asked",
        )
    })
}

/// Answers are remembered this long, in seconds, and at most so many.
const REMEMBERED_FOR: i64 = 24 * 60 * 60;
const REMEMBERED: usize = 1_000;

impl Reconciler {
    pub(super) async fn serve(&mut self, command: Command) {
        // Nobody may be listening any more: that stops nothing.
        match command {
            Command::Plan { spec, allowed, may_probe, reply } => {
                let planned = self.plan_for(spec.as_ref(), &allowed, may_probe).await;
                let _ = reply.send(planned);
            }
            Command::Apply { order, events, reply } => {
                let ended = self.apply_for(&order, &events).await;
                let _ = reply.send(ended);
            }
            Command::Resume { who, request_id, reply } => {
                let ended = self.resume(&who, &request_id).await;
                let _ = reply.send(ended);
            }
            Command::Revert { order, reply } => {
                let ended = self.revert(&order).await;
                let _ = reply.send(ended);
            }
            Command::Confirm { generation, who, reply } => {
                let confirmed = self.confirm(generation, &who).await;
                let _ = reply.send(confirmed);
            }
            Command::History { reply } => {
                let _ = reply.send(self.history());
            }
            Command::Show { generation, reply } => {
                let _ = reply.send(self.show(generation));
            }
            Command::Restore { order, reply } => {
                let ended = self.restore(&order).await;
                let _ = reply.send(ended);
            }
        }
    }

    pub(super) fn etag(&self) -> String {
        self.status.borrow().etag.clone()
    }

    /// The caller's wish, or the node's own.
    fn wish_for(&self, spec: Option<&SpecSource>) -> Result<Wish, CommandError> {
        if let Some(source) = spec {
            return wish::of_caller(&self.host.settings, source).map_err(CommandError::Invalid);
        }
        match wish::of_node(&self.host, &self.record) {
            Wanted::Spec(wish) => Ok(*wish),
            Wanted::Invalid { problems, .. } => Err(CommandError::Invalid(problems)),
            Wanted::Missing => Err(CommandError::Precondition(Problem::new(
                "spec.missing",
                format!("there is no spec at {}", self.host.settings.spec.path),
                "write it, or send one along: mirrorctl apply FILE",
            ))),
        }
    }

    /// A look for a caller's spec. What is only planned for leaves no trace in what was learned and is shown of the mirrors.
    async fn look_for(&mut self, spec: Option<&SpecSource>, allowed: &Allowed, probing: Probing) -> Result<Look, CommandError> {
        let wish = self.wish_for(spec)?;
        let before = (self.record.asks.clone(), self.endpoints.clone(), self.probed);
        if probing != Probing::No {
            self.probe(&wish.desired, Cause::Operator).await;
        }
        let look = self.look(wish, allowed).await.map_err(CommandError::Precondition);
        if probing != Probing::ToLearn || !look.as_ref().is_ok_and(|look| look.plan.refusals.is_empty()) {
            (self.record.asks, self.endpoints, self.probed) = before;
        }
        let mut look = look?;
        if let Some(source) = spec {
            self.add_spec_step(&mut look, source)?;
        }
        Ok(look)
    }

    async fn plan_for(&mut self, spec: Option<&SpecSource>, allowed: &Allowed, may_probe: bool) -> Planned {
        let mut look = self.look_for(spec, allowed, if may_probe { Probing::ForNow } else { Probing::No }).await?;
        if !may_probe && self.host.settings.containerd.layout == Layout::Hosts {
            look.plan.notices.extend(unprobed(&look, &self.record.asks));
        }
        Ok((explain::view(&look.plan), self.etag()))
    }

    /// The applied spec becomes the node's spec as a step of the same apply: one source of truth.
    fn add_spec_step(&self, look: &mut Look, source: &SpecSource) -> Result<(), CommandError> {
        let path = &self.host.settings.spec.path;
        let owner = |what: String| {
            CommandError::Precondition(Problem::new(
                "spec.not-ours",
                format!("{path} is {what}, so somebody else writes the spec of this node"),
                "change the spec there",
            ))
        };
        let before = self.host.files.entry(path).map_err(|error| owner(format!("out of reach ({error})")))?;
        let attributes = match &before {
            Entry::Absent => Attributes::root(0o644),
            Entry::File(file) => file.attributes.clone(),
            Entry::Symlink { target } => return Err(owner(format!("a symbolic link to {target}"))),
            Entry::Directory { .. } => return Err(owner("a directory of specs".into())),
            Entry::Other => return Err(owner(before.noun().into())),
        };
        let file = NewFile { content: Content::from(source.text.as_str()), attributes };
        if before == Entry::File(file.state()) {
            return Ok(());
        }
        let before_content = self.host.files.read(path).ok().flatten().map(|found| found.content);
        let reason = "the spec becomes the node's own".into();
        look.plan.steps.push(Step { path: path.clone(), before, before_content, change: Change::PutFile(file), reason });
        Ok(())
    }

    async fn apply_for(&mut self, order: &ApplyOrder, events: &mpsc::UnboundedSender<ApplyEvent>) -> Ended {
        if let Some(answer) = self.answered(&order.request_id, &order.body)? {
            return Ok((answer, self.etag()));
        }
        self.check_etag(&order.etag).await?;
        if !order.validate_only {
            self.check_pending()?;
        }
        let probing = if order.validate_only { Probing::ForNow } else { Probing::ToLearn };
        let look = self.look_for(order.spec.as_ref(), &order.allowed, probing).await?;
        let _ = events.send(ApplyEvent::Planned(Box::new(explain::view(&look.plan))));
        if order.validate_only {
            let kind = if !look.plan.refusals.is_empty() { Outcome::Refused(look.plan.refusals.clone()) } else { Outcome::Unchanged };
            return Ok((report::outcome_view(&kind), self.etag()));
        }
        let wanted = Order {
            who: order.who.clone(),
            request_id: order.request_id.clone(),
            reason: "somebody applied it".into(),
            applied: Some(look.wish.applied()),
            kept: look.wish.bytes(),
            sent_along: order.spec.as_ref().map(|source| sent_along(source, &look.wish)),
            confirm_within: order.confirm_within,
            ..Order::default()
        };
        let progress = |phase, sentence: &str| {
            let _ = events.send(ApplyEvent::Entered(phase, sentence.to_owned()));
        };
        let outcome = self.carry_out(&look, &wanted, &progress).await;
        self.look_again_at_node(&outcome).await;
        check_not_overtaken(&outcome)?;
        let view = report::outcome_view(&outcome);
        self.remember(&order.request_id, &order.body, &view);
        let _ = events.send(ApplyEvent::Ended(view.clone()));
        Ok((view, self.etag()))
    }

    pub(super) async fn look_again_at_node(&mut self, outcome: &Outcome) {
        // What stood in the way of another spec says nothing of the node's own.
        let outcome = if matches!(outcome, Outcome::Refused(_)) { &Outcome::Unchanged } else { outcome };
        if let Some(Ok(wish)) = self.kept_wish() {
            return self.look_again(wish, Cause::Kept, outcome).await;
        }
        match wish::of_node(&self.host, &self.record) {
            Wanted::Spec(wish) => {
                self.watched_inputs = wish.inputs.clone();
                self.look_again(*wish, Cause::Event, outcome).await;
            }
            Wanted::Missing => self.publish_without_wish(Vec::new()).await,
            Wanted::Invalid { problems, .. } => self.publish_without_wish(problems).await,
        }
    }

    async fn resume(&mut self, who: &str, request_id: &str) -> Ended {
        if let Some(answer) = self.answered(request_id, "resume")? {
            return Ok((answer, self.etag()));
        }
        self.check_pending()?;
        tracing::info!(who, "resumed");
        self.wish_for(None)?;
        let outcome = self.look_and_act(Cause::Operator).await;
        let view = report::outcome_view(&outcome.unwrap_or_else(|| self.refused_or_unchanged()));
        self.remember(request_id, "resume", &view);
        Ok((view, self.etag()))
    }

    fn refused_or_unchanged(&self) -> Outcome {
        let status = self.status.borrow();
        if status.condition.is_as_wanted() {
            Outcome::Unchanged
        } else {
            Outcome::Refused(status.problems.iter().map(Problem::from).collect())
        }
    }

    pub(super) async fn restore(&mut self, order: &RestoreOrder) -> Result<(OutcomeView, PlanView, String), CommandError> {
        if let Some(answer) = self.answered(&order.request_id, "restore")? {
            return Ok((answer, PlanView::default(), self.etag()));
        }
        self.check_etag(&order.etag).await?;
        let look = self.look_back().await?;
        let view = explain::view(&look.plan);
        if order.validate_only && planted::has("dry-run-disarms") {
            self.record.pending = None;
            self.keep_record();
        }
        if order.validate_only {
            let outcome = if look.plan.refusals.is_empty() { Outcome::Unchanged } else { Outcome::Refused(look.plan.refusals) };
            return Ok((report::outcome_view(&outcome), view, self.etag()));
        }
        let wanted = Order {
            who: order.who.clone(),
            request_id: order.request_id.clone(),
            reason: "somebody asked for the node as it was found".into(),
            hold: Some(self.hold(HoldCause::Disable)),
            restores: Some(0),
            ..Order::default()
        };
        let outcome = self.go_back(look, &wanted).await;
        check_not_overtaken(&outcome)?;
        let answer = report::outcome_view(&outcome);
        self.remember(&order.request_id, "restore", &answer);
        Ok((answer, view, self.etag()))
    }

    /// The way back to the node as it was found.
    pub(super) async fn look_back(&self) -> Result<Look, CommandError> {
        let mut observed = self.host.observe(self.record.clone()).await.map_err(CommandError::Precondition)?;
        let policy = policy(&self.host.settings, &Allowed::default(), self.host.can_restart(), true);
        let mut plan = plan::restore(&observed, &policy);
        if plan.restart.is_some() {
            observed.restart = Some(self.host.restart_facts());
            plan = plan::restore(&observed, &policy);
        }
        let wish = match wish::of_node(&self.host, &self.record) {
            Wanted::Spec(wish) => *wish,
            _ => Wish::nothing(),
        };
        Ok(Look { wish, observed, plan })
    }

    /// Keeps the spec that is still there from being applied again by itself.
    pub(super) fn hold(&self, cause: HoldCause) -> Hold {
        Hold { cause, since: clock::unix_seconds(), text_digest: self.host.spec_digest() }
    }

    /// Held against the node as it is now, not as it was when the status was last published.
    pub(super) async fn check_etag(&self, etag: &str) -> Result<(), CommandError> {
        if etag.is_empty() {
            return Ok(());
        }
        let wish = match (self.kept_wish(), wish::of_node(&self.host, &self.record)) {
            (Some(kept), _) => kept.ok(),
            (None, Wanted::Spec(wish)) => Some(*wish),
            (None, Wanted::Missing | Wanted::Invalid { .. }) => None,
        };
        let now = match wish {
            Some(wish) => {
                let look = self.look(wish, &Allowed::default()).await.map_err(CommandError::Precondition)?;
                report::etag(self, &look.wish.desired.digest.to_string(), Some(&look.plan))
            }
            None => report::etag(self, &report::text_digest(self), None),
        };
        if etag == now { Ok(()) } else { Err(CommandError::Stale { etag: now }) }
    }

    pub(super) fn answered(&self, id: &str, body: &str) -> Result<Option<OutcomeView>, CommandError> {
        let Some(answered) = self.record.requests.iter().find(|request| !id.is_empty() && request.id == id) else { return Ok(None) };
        if answered.body != Digest::of(body.as_bytes()) {
            return Err(CommandError::RequestIdReused);
        }
        Ok(serde_json::from_str(&answered.answer).ok())
    }

    pub(super) fn remember(&mut self, id: &str, body: &str, answer: &OutcomeView) {
        if id.is_empty() {
            return;
        }
        let now = clock::unix_seconds();
        let requests = &mut self.record.requests;
        requests.retain(|request| now - request.time < REMEMBERED_FOR);
        let surplus = (requests.len() + 1).saturating_sub(REMEMBERED);
        requests.drain(..surplus);
        let answer = serde_json::to_string(answer).unwrap_or_default();
        requests.push(AnsweredRequest { id: id.to_owned(), body: Digest::of(body.as_bytes()), time: now, answer });
        self.keep_record();
    }
}

/// Who was overtaken may look again and repeat the request.
pub(super) fn check_not_overtaken(outcome: &Outcome) -> Result<(), CommandError> {
    outcome.overtaken_by().map_or(Ok(()), |problem| Err(CommandError::Overtaken(problem.clone())))
}
