//! What operators ask for: plan, apply, resume, restore.

use tokio::sync::mpsc;

use super::{
    Look, Reconciler, applied,
    commands::{ApplyEvent, ApplyOrder, Command, CommandError, Ended, Planned, RestoreOrder, SpecSource},
    machine::Cause,
    policy, report,
    wish::{self, Wanted, Wish},
};
use crate::{
    apply::{Order, Outcome},
    host::clock,
    observed::{
        entry::{Attributes, Content, Entry},
        record::{AnsweredRequest, Hold, HoldCause},
    },
    plan::{
        self,
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

/// Answers are remembered this long, in seconds, and at most so many.
const REMEMBERED_FOR: i64 = 24 * 60 * 60;
const REMEMBERED: usize = 1_000;

impl Reconciler {
    pub(super) async fn serve(&mut self, command: Command) {
        // Nobody may be listening any more: that stops nothing.
        match command {
            Command::Plan { spec, take_over, may_probe, reply } => {
                let planned = self.plan_for(spec.as_ref(), &take_over, may_probe).await;
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
            Command::Restore { order, reply } => {
                let ended = self.restore(&order).await;
                let _ = reply.send(ended);
            }
        }
    }

    fn etag(&self) -> String {
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
    async fn look_for(&mut self, spec: Option<&SpecSource>, take_over: &[String], probing: Probing) -> Result<Look, CommandError> {
        let wish = self.wish_for(spec)?;
        let before = (self.record.asks.clone(), self.endpoints.clone(), self.probed);
        if probing != Probing::No {
            self.probe(&wish.desired, Cause::Operator).await;
        }
        let look = self.look(wish, take_over).await.map_err(CommandError::Precondition);
        if probing != Probing::ToLearn || !look.as_ref().is_ok_and(|look| look.plan.refusals.is_empty()) {
            (self.record.asks, self.endpoints, self.probed) = before;
        }
        let mut look = look?;
        if let Some(source) = spec {
            self.add_spec_step(&mut look, source)?;
        }
        Ok(look)
    }

    async fn plan_for(&mut self, spec: Option<&SpecSource>, take_over: &[String], may_probe: bool) -> Planned {
        let look = self.look_for(spec, take_over, if may_probe { Probing::ForNow } else { Probing::No }).await?;
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
        let probing = if order.validate_only { Probing::ForNow } else { Probing::ToLearn };
        let look = self.look_for(order.spec.as_ref(), &order.take_over, probing).await?;
        let _ = events.send(ApplyEvent::Planned(Box::new(explain::view(&look.plan))));
        if order.validate_only {
            let kind = if !look.plan.refusals.is_empty() { Outcome::Refused(look.plan.refusals.clone()) } else { Outcome::Unchanged };
            return Ok((report::outcome_view(&kind), self.etag()));
        }
        let kept = self.keep_inputs(order.spec.as_ref(), &look.wish)?;
        let wanted = Order { who: order.who.clone(), request_id: order.request_id.clone(), applied: Some(applied(&look.wish)), hold: None };
        let progress = |phase, sentence: &str| {
            let _ = events.send(ApplyEvent::Entered(phase, sentence.to_owned()));
        };
        let before = (self.record.inline_inputs.clone(), self.record.inline_inputs_for);
        (self.record.inline_inputs, self.record.inline_inputs_for) = kept;
        let look = Look { observed: crate::observed::Observed { record: self.record.clone(), ..look.observed }, ..look };
        let outcome = self.carry_out(&look, &wanted, &progress).await;
        if !matches!(outcome, Outcome::Changed(_) | Outcome::Unchanged) {
            (self.record.inline_inputs, self.record.inline_inputs_for) = before;
        }
        self.look_again_at_node(&outcome).await;
        let view = report::outcome_view(&outcome);
        self.remember(&order.request_id, &order.body, &view);
        let _ = events.send(ApplyEvent::Ended(view.clone()));
        Ok((view, self.etag()))
    }

    /// Stores what came along with a spec. It counts until the next apply or a hand edit of the spec.
    fn keep_inputs(
        &self,
        spec: Option<&SpecSource>,
        wish: &Wish,
    ) -> Result<(std::collections::BTreeMap<String, Digest>, Option<Digest>), CommandError> {
        let Some(source) = spec else { return Ok((self.record.inline_inputs.clone(), self.record.inline_inputs_for)) };
        let mut kept = std::collections::BTreeMap::new();
        for name in &wish.inputs {
            let name = name.to_string();
            if let Some(bytes) = source.inputs.get(&name) {
                let digest = self.host.state().keep_object(&bytes.clone().into());
                let digest = digest.map_err(|error| CommandError::Precondition(crate::apply::state_problem(&error)))?;
                kept.insert(name, digest);
            }
        }
        Ok((kept, Some(wish.desired.text_digest)))
    }

    async fn look_again_at_node(&mut self, outcome: &Outcome) {
        match wish::of_node(&self.host, &self.record) {
            Wanted::Spec(wish) => {
                self.watched_inputs = wish.inputs.clone();
                self.look_again(*wish, outcome).await;
            }
            Wanted::Missing => self.publish_without_wish(Vec::new()).await,
            Wanted::Invalid { problems, .. } => self.publish_without_wish(problems).await,
        }
    }

    async fn resume(&mut self, who: &str, request_id: &str) -> Ended {
        if let Some(answer) = self.answered(request_id, "resume")? {
            return Ok((answer, self.etag()));
        }
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
        let (look, hold) = self.look_back().await?;
        let view = explain::view(&look.plan);
        if order.validate_only {
            return Ok((report::outcome_view(&Outcome::Unchanged), view, self.etag()));
        }
        let wanted = Order { who: order.who.clone(), request_id: order.request_id.clone(), applied: None, hold: Some(hold) };
        let outcome = self.carry_out(&look, &wanted, &|_, _| {}).await;
        self.look_again_at_node(&outcome).await;
        let answer = report::outcome_view(&outcome);
        self.remember(&order.request_id, "restore", &answer);
        Ok((answer, view, self.etag()))
    }

    /// The way back, and the hold that keeps the spec that is still there from being applied again.
    async fn look_back(&self) -> Result<(Look, Hold), CommandError> {
        let mut observed = self.host.observe(self.record.clone()).await.map_err(CommandError::Precondition)?;
        let policy = policy(&self.host.settings, &[], self.host.can_restart());
        let mut plan = plan::restore(&observed, &policy);
        if plan.restart.is_some() {
            observed.restart = Some(self.host.restart_facts());
            plan = plan::restore(&observed, &policy);
        }
        let wish = match wish::of_node(&self.host, &self.record) {
            Wanted::Spec(wish) => *wish,
            _ => Wish::nothing(),
        };
        let text_digest = wish::text_digest(&self.host);
        let hold = Hold { cause: HoldCause::Disable, since: clock::unix_seconds(), text_digest };
        Ok((Look { wish, observed, plan }, hold))
    }

    /// Held against the node as it is now, not as it was when the status was last published.
    async fn check_etag(&self, etag: &str) -> Result<(), CommandError> {
        if etag.is_empty() {
            return Ok(());
        }
        let now = match wish::of_node(&self.host, &self.record) {
            Wanted::Spec(wish) => {
                let look = self.look(*wish, &[]).await.map_err(CommandError::Precondition)?;
                report::etag(self, &look.wish.desired.digest.to_string(), Some(&look.plan))
            }
            Wanted::Missing | Wanted::Invalid { .. } => report::etag(self, &report::text_digest(self), None),
        };
        if etag == now { Ok(()) } else { Err(CommandError::Stale { etag: now }) }
    }

    fn answered(&self, id: &str, body: &str) -> Result<Option<OutcomeView>, CommandError> {
        let Some(answered) = self.record.requests.iter().find(|request| !id.is_empty() && request.id == id) else { return Ok(None) };
        if answered.body != Digest::of(body.as_bytes()) {
            return Err(CommandError::RequestIdReused);
        }
        Ok(serde_json::from_str(&answered.answer).ok())
    }

    fn remember(&mut self, id: &str, body: &str, answer: &OutcomeView) {
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
        if let Err(error) = self.host.state().keep_record(&self.record) {
            tracing::warn!("an answer is not remembered: {error}");
        }
    }
}
