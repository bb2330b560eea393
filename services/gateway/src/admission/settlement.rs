//! The decisions of one ledger transaction: what they are based on, what each of them changes, and how many units
//! the replica is granted afterwards.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use catalog::{AdmissionRule, LoopRule, Plan, RunCaps, Tenant};
use jiff::{SignedDuration, Timestamp};
use messaging::{Outgoing, outbox};
use metering::{Mode, WorkflowId};
use proto::v1;
use sqlx::PgConnection;

use crate::{
    admission::{
        decision::{Decision, LimitState, Reason, Terms, decide},
        known::Known,
        lease_size::{self, LEASE_TIME, NEAR},
        loop_allowance::Allowances,
        loop_detection::{Episode, Rate},
        rate_caps::{Cap, Window, take_all},
        resources::{Resources, Settling},
        tallies::Tallies,
        verdict::{AdmitError, Request, Verdict},
    },
    store,
};

/// Time until `retry_at` of a refusal whose end is not known.
const RETRY_SOON: SignedDuration = SignedDuration::from_secs(10);

/// The same for a workflow that seems to start itself.
const RETRY_LOOP: SignedDuration = SignedDuration::from_secs(60);

/// The same for a refusal that may be false: after the sweep that it requests.
const RETRY_SWEPT: SignedDuration = SignedDuration::from_secs(20);

/// The work of one transaction.
#[derive(Debug)]
pub struct Batch {
    /// Requests to decide, in this order.
    pub requests: Vec<Request>,
    /// Spent units to tally.
    pub tallies: Tallies,
    /// Runs of each workflow that spent leased units since the last transaction.
    pub asked: BTreeMap<WorkflowId, u64>,
    /// Leased units that stay with the replica meanwhile.
    pub held: u64,
    /// Units needed since the last transaction.
    pub spent_count: u64,
    /// Time since the last transaction.
    pub elapsed: Duration,
    /// Whether to grant no more units.
    pub closing: bool,
    /// The watermark for which a sweep was requested already.
    pub doubted: Option<Timestamp>,
}

/// The figures that decisions are based on, as changed by the decisions before.
pub struct Settlement {
    pub tenant: Tenant,
    plan: Plan,
    known: Known,
    marks: LimitState,
    now: Timestamp,
    /// Units that count against the limit, those of this batch included.
    charged: u64,
    settled: Settling,
    tenant_caps: Vec<Cap>,
    workflows: HashMap<String, Workflow>,
    counted_workflows: HashMap<String, u64>,
}

/// One workflow's part.
#[derive(Default)]
struct Workflow {
    caps: Vec<Cap>,
    /// Runs allowed in the period.
    admitted: u64,
    /// Runs allowed since the watermark.
    admitted_since: u64,
    rate: Rate,
    episode: Option<Episode>,
}

/// Whether a smaller usage figure could have avoided the refusal.
fn is_for_the_limit(verdict: &Verdict) -> bool {
    matches!(verdict.reason, Reason::LimitReached | Reason::OverageReached)
}

/// Whether a plan has caps or shares besides the period's limit. Then every run is decided in the ledger.
fn is_capped(rule: &AdmissionRule) -> bool {
    rule.tenant_caps != RunCaps::default() || is_workflow_capped(rule)
}

/// Whether decisions need the number of a workflow's runs in the period.
pub fn is_workflow_capped(rule: &AdmissionRule) -> bool {
    rule.workflow_caps != RunCaps::default() || rule.workflow_share_percent.is_some()
}

/// The terms that the leased units were granted under.
#[derive(Debug, Clone)]
pub struct LeaseTerms {
    /// No unit is spent unless the catalog's tenant equals this one.
    pub tenant: Tenant,
    /// The same for its plan.
    pub plan: Plan,
    /// The terms that follow.
    pub terms: Terms,
    /// The usage at the grant.
    pub known: Known,
    /// Units that counted against the limit, without the leased ones.
    pub charged: u64,
    /// No unit is spent from then on.
    pub expires_at: Timestamp,
    /// How many units the lease held at the start.
    pub granted: u64,
    /// Whether so few units are free that leased ones should be returned soon.
    pub is_near: bool,
    /// How many runs of each workflow may spend leased units.
    pub allowances: Allowances,
}

impl Settlement {
    /// The figures for decisions at `now`, with `charged` units against the limit.
    pub fn new(
        resources: &Resources,
        tenant: Tenant,
        plan: Plan,
        (known, settled): (Known, Settling),
        marks: LimitState,
        charged: u64,
        now: Timestamp,
    ) -> Self {
        // A mark of an earlier period says nothing of this one.
        let marks = LimitState {
            reached_at: marks.reached_at.filter(|instant| known.period.contains(*instant)),
            blind_since: if known.fresh_at.is_none() { marks.blind_since.or(Some(now)) } else { None },
        };
        let counted = resources.usage.of(&tenant.id).filter(|counted| counted.period == known.period);
        let mut counted_workflows: HashMap<String, u64> = HashMap::new();
        for usage in counted.iter().flat_map(|counted| &counted.workflows) {
            *counted_workflows.entry(usage.workflow_id.clone()).or_default() +=
                usage.totals.as_ref().map_or(0, |totals| totals.counted);
        }
        Self {
            charged,
            settled,
            tenant_caps: Vec::new(),
            workflows: HashMap::new(),
            counted_workflows,
            tenant,
            plan,
            known,
            marks,
            now,
        }
    }

    /// Reads what the plan's caps and the loop detection need for the workflows in `asked`. `spent` are their
    /// runs that spent leased units since their rates were last stored.
    pub async fn load(
        &mut self,
        connection: &mut PgConnection,
        asked: &BTreeSet<WorkflowId>,
        spent: &BTreeMap<WorkflowId, u64>,
    ) -> Result<(), AdmitError> {
        let rule = self.plan.admission.clone();
        let names: Vec<&str> = asked.iter().map(WorkflowId::as_str).collect();
        let states = match is_capped(&rule) {
            true => store::admissions::caps(&mut *connection, &self.tenant.id, &names).await?,
            false => Vec::new(),
        };
        self.tenant_caps = caps(&rule.tenant_caps, "", &states, self.now);
        let Known { period, reserved_since, .. } = self.known;
        let admitted = match is_workflow_capped(&rule) && !names.is_empty() {
            true => {
                let tenant = &self.tenant.id;
                store::admissions::admitted_of(&mut *connection, tenant, &names, period.start, reserved_since)
                    .await?
            }
            false => HashMap::new(),
        };
        let mut rates: HashMap<String, Rate> = match rule.loop_rule {
            LoopRule::Off => HashMap::new(),
            _ if names.is_empty() => HashMap::new(),
            _ => store::admissions::rates(&mut *connection, &self.tenant.id, &names)
                .await?
                .into_iter()
                .collect(),
        };
        for workflow in asked {
            let mut part = Workflow::default();
            if is_workflow_capped(&rule) {
                part.caps = caps(&rule.workflow_caps, workflow.as_str(), &states, self.now);
                (part.admitted, part.admitted_since) =
                    admitted.get(workflow.as_str()).copied().unwrap_or_default();
            }
            if rule.loop_rule != LoopRule::Off {
                part.rate = rates.remove(workflow.as_str()).unwrap_or_default();
                part.episode = part.rate.observe(self.now, spent.get(workflow).copied().unwrap_or(0));
            }
            self.workflows.insert(workflow.to_string(), part);
        }
        Ok(())
    }

    /// The watermark, if some of these runs were refused for the limit while others may be counted twice,
    /// because they were allowed shortly before it. The sweep that is then requested may end the refusals.
    pub async fn doubt<'a>(
        &self,
        connection: &mut PgConnection,
        verdicts: impl Iterator<Item = &'a mut Verdict> + Send,
    ) -> Result<Option<Timestamp>, sqlx::Error> {
        let refused: Vec<_> = verdicts.filter(|verdict| is_for_the_limit(verdict)).collect();
        if self.known.counted.is_none() {
            // Which of the allowed runs have started is not known before the first figures.
            for verdict in refused {
                verdict.reason = Reason::LimitUnsettled;
                verdict.retry_at = self.now.saturating_add(RETRY_SOON).ok();
            }
            return Ok(None);
        }
        let Some(until) = self.known.complete_until.filter(|_| !refused.is_empty()) else {
            return Ok(None);
        };
        let since = self.known.reserved_since;
        let settled = self.settled.slots();
        if !store::admissions::any_between(connection, &self.tenant.id, since, until, settled).await? {
            return Ok(None);
        }
        // If the count alone reaches the bound, the refusal is final.
        let is_proven = self.terms().bound().is_some_and(|bound| self.known.counted >= Some(bound));
        let swept_at = self.now.saturating_add(RETRY_SWEPT).ok();
        for verdict in refused {
            verdict.retry_at = verdict.retry_at.min(swept_at);
            if !is_proven {
                verdict.reason = Reason::LimitUnsettled;
            }
        }
        Ok(Some(until))
    }

    fn terms(&self) -> Terms {
        Terms::of(&self.tenant, &self.plan, &self.known, self.marks, self.now)
    }

    /// Decides one run; one that may start takes its unit and its cells.
    pub fn decide(&mut self, request: &Request) -> Verdict {
        let verdict = self.answer(request);
        if !verdict.allowed {
            return verdict;
        }
        self.charged = self.charged.saturating_add(1);
        let workflow = request.workflow.as_ref().map(WorkflowId::as_str);
        if let Some(part) = workflow.and_then(|workflow| self.workflows.get_mut(workflow)) {
            part.admitted += 1;
            part.admitted_since += 1;
        }
        verdict.reserve(self.now)
    }

    /// The one decision on a run, without taking its unit: for requests decided here, for `preview`, and for
    /// runs from a lease, which is granted only where this would allow them.
    pub fn answer(&mut self, request: &Request) -> Verdict {
        let terms = self.terms();
        let workflow = request.workflow.as_ref().map(ToString::to_string);
        let workflow = workflow.as_deref();
        self.observe(workflow);
        let (decision, retry_at) = match request.mode {
            Some(Mode::Error) => (Decision::allow(Reason::ErrorWorkflow), None),
            _ => self.checked(&terms, workflow),
        };
        let shadow = (!decision.allowed && self.plan.admission.shadow).then_some(decision.reason);
        let decision = shadow.map_or(decision, |_| Decision::allow(Reason::Shadow));
        let mut verdict = Verdict::new(&self.known, &terms, self.charged, decision);
        verdict.shadow = shadow;
        verdict.retry_at = retry_at.filter(|_| !verdict.allowed);
        verdict
    }

    /// Every run that asks to start raises the rate of its workflow, so that the first run too many is
    /// refused.
    fn observe(&mut self, workflow: Option<&str>) {
        if self.plan.admission.loop_rule == LoopRule::Off {
            return;
        }
        let Some(part) = workflow.and_then(|workflow| self.workflows.get_mut(workflow)) else { return };
        let episode = part.rate.observe(self.now, 1);
        part.episode = part.episode.or(episode);
    }

    fn checked(&mut self, terms: &Terms, workflow: Option<&str>) -> (Decision, Option<Timestamp>) {
        let soon = self.now.saturating_add(RETRY_SOON).ok();
        let refuse = |reason, retry_at| (Decision::refuse(reason), retry_at);
        let part = workflow.and_then(|workflow| self.workflows.get(workflow));
        let rule = &self.plan.admission;
        if rule.loop_rule == LoopRule::Refuse && part.is_some_and(|part| part.rate.looping_since.is_some()) {
            return refuse(Reason::LoopDetected, self.now.saturating_add(RETRY_LOOP).ok());
        }
        let decision = decide(terms, &self.known, self.charged, self.now);
        match decision.reason {
            Reason::Grace | Reason::LimitReached if self.marks.reached_at.is_none() => {
                self.marks.reached_at = Some(self.now);
            }
            // A limit that was raised may be reached again.
            Reason::WithinLimit => self.marks.reached_at = None,
            _ => {}
        }
        if !decision.allowed {
            let retry_at = match decision.reason {
                Reason::MeteringStale => soon,
                _ => Some(self.known.period.end),
            };
            return (decision, retry_at);
        }
        if !self.known.stale
            && let Some(reason) = self.too_many(terms, workflow.zip(part))
        {
            let share_ends = (reason == Reason::WorkflowShareUsed).then_some(self.known.period.end);
            return refuse(reason, share_ends.or(soon));
        }
        let part_caps = part.map(|part| part.caps.as_slice()).unwrap_or_default();
        let before: Vec<_> = self.tenant_caps.iter().map(Cap::arrival_ns).collect();
        if let Err((window, retry_at)) = take_all(&self.tenant_caps, 1) {
            return refuse(cap_reason(window, false), retry_at.or(soon));
        }
        if let Err((window, retry_at)) = take_all(part_caps, 1) {
            for (cap, arrival_ns) in self.tenant_caps.iter().zip(before) {
                cap.restore(arrival_ns);
            }
            return refuse(cap_reason(window, true), retry_at.or(soon));
        }
        (decision, None)
    }

    /// A reason to refuse besides the limit and the caps on rates.
    fn too_many(&self, terms: &Terms, part: Option<(&str, &Workflow)>) -> Option<Reason> {
        let rule = &self.plan.admission;
        let running = self.known.running(self.charged);
        if rule.tenant_caps.concurrent.is_some_and(|most| running >= most) {
            return Some(Reason::TenantConcurrentCap);
        }
        let (workflow, part) = part?;
        let counted = self.counted_workflows.get(workflow).copied().unwrap_or(0);
        if let (Some(percent), Some(limit)) = (rule.workflow_share_percent, terms.limit) {
            let most = u128::from(limit) * u128::from(percent) / 100;
            if u128::from(counted.max(part.admitted)) >= most {
                return Some(Reason::WorkflowShareUsed);
            }
        }
        // Each of these is an upper bound of the running runs.
        let accounted = self.known.accounted_for.saturating_sub(self.known.counted.unwrap_or(0));
        let since = part.admitted_since.saturating_add(accounted);
        let running = running.min(part.admitted.saturating_sub(counted)).min(since);
        rule.workflow_caps
            .concurrent
            .is_some_and(|most| running >= most)
            .then_some(Reason::WorkflowConcurrentCap)
    }

    /// The states of caps to store: (workflow or empty, window, arrival).
    fn kept_caps(&self) -> Vec<(&str, &'static str, u64)> {
        let of_workflows = self
            .workflows
            .iter()
            .flat_map(|(workflow, part)| part.caps.iter().map(move |cap| (workflow.as_str(), cap)));
        let caps = self.tenant_caps.iter().map(|cap| ("", cap)).chain(of_workflows);
        caps.filter_map(|(workflow, cap)| Some((workflow, cap.window.as_str(), cap.arrival_ns()?))).collect()
    }

    /// Stores what the decisions have changed, and reports loops.
    pub async fn keep(
        &mut self,
        connection: &mut PgConnection,
        resources: &Resources,
        before: LimitState,
    ) -> Result<(), AdmitError> {
        let terms = self.terms();
        // A limit that was raised may be reached again.
        let used = self.known.used(self.charged).unwrap_or(0);
        if terms.limit.is_none_or(|limit| used < limit) {
            self.marks.reached_at = None;
        }
        if self.marks != before {
            store::admissions::mark(&mut *connection, &self.tenant.id, self.marks).await?;
        }
        let tenant = &self.tenant.id;
        let kept = self.kept_caps();
        if !kept.is_empty() {
            store::admissions::keep_caps(&mut *connection, tenant, &kept).await?;
        }
        for (workflow, part) in &self.workflows {
            if let Some(episode) = part.episode {
                let begin = episode.minute_start();
                let started =
                    store::admissions::started_since(&mut *connection, tenant, workflow, begin).await?;
                outbox::enqueue(
                    &mut *connection,
                    &[self.loop_detected(resources, workflow, episode, started)],
                )
                .await?;
            }
        }
        if self.plan.admission.loop_rule != LoopRule::Off && !self.workflows.is_empty() {
            let rates: Vec<_> =
                self.workflows.iter().map(|(workflow, part)| (workflow.as_str(), part.rate)).collect();
            store::admissions::keep_rates(connection, tenant, &rates).await?;
        }
        Ok(())
    }

    fn loop_detected(
        &self,
        resources: &Resources,
        workflow: &str,
        episode: Episode,
        started: u64,
    ) -> Outgoing {
        let rule = &self.plan.admission;
        let tenant = self.tenant.id.to_string();
        let detected = v1::LoopDetected {
            tenant_id: tenant.clone(),
            source_id: String::new(),
            workflow_id: workflow.to_owned(),
            runs_per_minute: episode.runs_per_minute,
            usual_runs_per_minute: episode.usual_runs_per_minute,
            refusing: rule.loop_rule == LoopRule::Refuse && !rule.shadow,
            detected_at: Some(proto::timestamp(self.now)),
            usual_most: episode.most,
            started,
            shadow: rule.loop_rule == LoopRule::Refuse && rule.shadow,
        };
        let message_id = format!("loop:{tenant}:{workflow}:{}", self.now.as_microsecond());
        let event = v1::AdmissionEvent { event: Some(v1::admission_event::Event::LoopDetected(detected)) };
        Outgoing::new(resources.namespace.admission(&tenant), message_id, &event, self.now)
    }

    /// How many runs of each workflow may spend leased units.
    fn allowances(&self) -> Allowances {
        match self.plan.admission.loop_rule {
            LoopRule::Refuse => {
                let rates = self.workflows.iter().map(|(workflow, part)| (workflow.as_str(), &part.rate));
                Allowances::of(rates)
            }
            LoopRule::Tell | LoopRule::Off => Allowances::unlimited(),
        }
    }

    /// How many units the replica is granted, and their terms.
    pub fn hand_out(&self, batch: &Batch) -> (LeaseTerms, u64) {
        let terms = self.terms();
        let bound = terms.bound();
        let used = self.known.used(self.charged).unwrap_or(0);
        let free = bound.map(|bound| bound.saturating_sub(used));
        let rule = &self.plan.admission;
        let every_run_is_asked_for = self.known.stale || is_capped(rule);
        let size = lease_size::size(batch.spent_count, batch.elapsed, free.map(|free| free + batch.held));
        let granted = match batch.closing || every_run_is_asked_for {
            true => 0,
            false => size.saturating_sub(batch.held),
        };
        let ends = [
            self.now.saturating_add(LEASE_TIME).ok(),
            Some(self.known.period.end),
            self.tenant.limit_override_until.filter(|until| *until > self.now),
            terms.grace_until.filter(|until| *until > self.now),
            terms.open_until.filter(|until| *until > self.now),
        ];
        let footing = LeaseTerms {
            expires_at: ends.into_iter().flatten().min().unwrap_or(self.now),
            // Units that the replica holds are not spent yet.
            charged: self.charged.saturating_sub(batch.held),
            granted: 0,
            is_near: free.is_some_and(|free| free < NEAR || free < (batch.held + granted).saturating_mul(4)),
            tenant: self.tenant.clone(),
            plan: self.plan.clone(),
            known: self.known,
            terms,
            allowances: self.allowances(),
        };
        (footing, granted)
    }
}

fn cap_reason(window: Window, of_workflow: bool) -> Reason {
    match (window, of_workflow) {
        (Window::Minute, false) => Reason::TenantMinuteCap,
        (Window::Day, false) => Reason::TenantDayCap,
        (Window::Minute, true) => Reason::WorkflowMinuteCap,
        (Window::Day, true) => Reason::WorkflowDayCap,
    }
}

fn caps(rule: &RunCaps, workflow: &str, states: &[(String, String, u64)], now: Timestamp) -> Vec<Cap> {
    let windows = [(Window::Minute, rule.per_minute), (Window::Day, rule.per_day)];
    let cap = |(window, runs): (Window, Option<u64>)| {
        let state = states.iter().find(|(of, kind, _)| of == workflow && kind == window.as_str());
        runs.map(|runs| Cap::new(window, runs, state.map(|(_, _, arrival)| *arrival), now))
    };
    windows.into_iter().filter_map(cap).collect()
}
