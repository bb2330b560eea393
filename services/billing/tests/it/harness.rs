//! A bench, a Stripe, and the steps that the tests are written in.

use std::{sync::Arc, time::Duration};

use billing::{Billing, Settings};
use catalog::{Entry, Plan, Tenant};
use chassis::Service;
use jiff::{SignedDuration, Timestamp};
use metering::{Clock, Period};
use proto::{
    streams::Stream,
    timestamp,
    v1::{
        self, BillingEvent, DriftFound, EndedPeriod, LateUsage, PeriodClosed, PeriodEvent, ReportFailed,
        Totals, UsageCounted, UsageReported, billing_event, period_event,
    },
};
use sandbox::{Sandbox, SandboxOptions};
use testkit::{TestBed, Topic, eventually};

pub const METER: &str = "executions";

const NOW: &str = "2026-11-24T12:00:00Z";

/// Short, so that a Stripe that hangs does not hold a test up.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);

pub struct Harness {
    pub bench: TestBed,
    pub sandbox: Sandbox,
    pub events: Topic<BillingEvent>,
    key: Option<String>,
}

impl Harness {
    /// A running service in the middle of November; `north` and `south` are customers of a plan with a meter.
    pub async fn start() -> Self {
        Self::open(TestBed::of::<Billing>(NOW).await).await
    }

    /// As [`Harness::start`], with one connection to Postgres.
    pub async fn narrow() -> Self {
        Self::open(TestBed::narrow::<Billing>(NOW).await).await
    }

    async fn open(bench: TestBed) -> Self {
        let world = Self::prepare_on(bench).await;
        for tenant in ["north", "south"] {
            world.sandbox.stripe().add_customer(&format!("cus_{tenant}")).unwrap();
        }
        world.sandbox.stripe().add_meter(METER).unwrap();
        world.plan(METER, 1).await;
        world.tenant("north", "cus_north", 1).await;
        world.tenant("south", "cus_south", 1).await;
        world.serve().await;
        world
    }

    /// Nothing at Stripe, nothing in the catalog, and the service is not started.
    pub async fn prepare() -> Self {
        Self::prepare_on(TestBed::of::<Billing>(NOW).await).await
    }

    async fn prepare_on(bench: TestBed) -> Self {
        let options = SandboxOptions { clock: Arc::new(bench.clock.clone()), ..SandboxOptions::default() };
        let sandbox = Sandbox::start(options).await.unwrap();
        let events = bench.topic(Stream::Billing, "billing").await;
        Self { bench, sandbox, events, key: Some("sk_test_right".to_owned()) }
    }

    pub fn with_key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    pub async fn serve(&self) {
        let settings = Settings {
            environment: "test".to_owned(),
            report_interval: Duration::from_secs(5 * 60),
            seal_delay: Duration::from_secs(5 * 60),
            invoice_grace: Duration::from_secs(60 * 60),
            request_timeout: REQUEST_TIMEOUT,
            stripe_url: Some(self.sandbox.stripe_url().parse().unwrap()),
            stripe_key: self.key.clone().map(Into::into),
        };
        Billing::start(self.bench.context.clone(), settings).await.unwrap();
    }

    pub async fn restart(&mut self) {
        self.bench.restart().await;
        self.serve().await;
    }

    pub async fn finish(self) {
        self.bench.finish().await;
        self.sandbox.stop().await;
    }

    pub async fn plan(&self, meter: &str, revision: u64) {
        self.plan_named("pro", meter, revision).await;
    }

    pub async fn plan_named(&self, id: &str, meter: &str, revision: u64) {
        let wire = v1::Plan {
            plan_id: id.into(),
            name: id.into(),
            meter_event_name: meter.into(),
            ..v1::Plan::default()
        };
        self.bench.publish_entry(&Plan::from_wire(wire).unwrap(), revision).await;
    }

    pub async fn tenant(&self, id: &str, customer: &str, revision: u64) {
        self.tenant_on("pro", id, customer, revision).await;
    }

    pub async fn tenant_on(&self, plan: &str, id: &str, customer: &str, revision: u64) {
        let wire = v1::Tenant {
            tenant_id: id.into(),
            name: id.into(),
            plan_id: plan.into(),
            stripe_customer_id: customer.into(),
            ..v1::Tenant::default()
        };
        self.bench.publish_entry(&Tenant::from_wire(wire).unwrap(), revision).await;
    }

    /// The tenant is deleted.
    pub async fn remove_tenant(&self, id: &str, revision: u64) {
        let wire = v1::Tenant { tenant_id: id.into(), revision, removed: true, ..v1::Tenant::default() };
        let entry = v1::CatalogEntry { entry: Some(v1::catalog_entry::Entry::Tenant(wire)) };
        let subject = self.bench.namespace().catalog(catalog::CatalogKind::Tenant, id);
        self.bench.publish(subject, &entry).await;
    }

    /// Waits until the service's copy of the catalog has this revision of the tenant or plan.
    pub async fn catalog_has(&self, id: &str, revision: i64) {
        eventually(&format!("the catalog has {id} as of revision {revision}"), || async {
            let found: Option<i64> = sqlx::query_scalar("SELECT revision FROM catalog WHERE id = $1")
                .bind(id)
                .fetch_optional(self.bench.pool())
                .await
                .unwrap();
            (found == Some(revision)).then_some(())
        })
        .await;
    }

    pub async fn counted(&self, tenant: &str, revision: u64, counted: u64) {
        self.counted_at(self.bench.clock.now(), tenant, revision, counted).await;
    }

    /// A total counted at `as_of` arrives now.
    pub async fn counted_at(&self, as_of: Timestamp, tenant: &str, revision: u64, counted: u64) {
        self.usage(as_of, tenant, revision, (november(), counted), Vec::new()).await;
    }

    /// December is running; November has ended, is not closed, and has this total.
    pub async fn ended(&self, tenant: &str, revision: u64, counted: u64) {
        let november = EndedPeriod { period: Some(november().into()), totals: totals(counted) };
        self.usage(self.bench.clock.now(), tenant, revision, (december(), 0), vec![november]).await;
    }

    async fn usage(
        &self,
        as_of: Timestamp,
        tenant: &str,
        revision: u64,
        (period, counted): (Period, u64),
        ended_periods: Vec<EndedPeriod>,
    ) {
        let message = UsageCounted {
            tenant_id: tenant.into(),
            period: Some(period.into()),
            revision,
            totals: totals(counted),
            as_of: Some(timestamp(as_of)),
            ended_periods,
            ..UsageCounted::default()
        };
        self.bench.publish(self.bench.namespace().usage_counted(tenant), &message).await;
    }

    pub async fn closed(&self, tenant: &str, revision: u64, counted: u64) {
        self.closed_in(november(), tenant, revision, counted).await;
    }

    pub async fn closed_in(&self, period: Period, tenant: &str, revision: u64, counted: u64) {
        let event = period_event::Event::Closed(PeriodClosed {
            tenant_id: tenant.into(),
            period: Some(period.into()),
            revision,
            totals: totals(counted),
            closed_at: Some(timestamp(self.bench.clock.now())),
            ..PeriodClosed::default()
        });
        self.period_event(tenant, event).await;
    }

    pub async fn late(&self, tenant: &str, revision: u64, counted: u64) {
        let event = period_event::Event::Late(LateUsage {
            tenant_id: tenant.into(),
            period: Some(november().into()),
            revision,
            totals: totals(counted),
            found_at: Some(timestamp(self.bench.clock.now())),
        });
        self.period_event(tenant, event).await;
    }

    async fn period_event(&self, tenant: &str, event: period_event::Event) {
        let message = PeriodEvent { event: Some(event) };
        self.bench.publish(self.bench.namespace().usage_period(tenant), &message).await;
    }

    pub fn now_is(&self, instant: &str) {
        self.bench.clock.set(at(instant));
    }

    pub fn advance(&self, minutes: i64) {
        self.bench.clock.advance(SignedDuration::from_mins(minutes));
    }

    /// Waits until Stripe's total for the tenant's customer is this.
    pub async fn stripe_holds(&self, tenant: &str, total: i64) {
        let customer = format!("cus_{tenant}");
        let what = format!("{customer} has {total}");
        eventually(&what, || async {
            (self.sandbox.stripe().total(&customer, METER) == total).then_some(())
        })
        .await;
    }

    /// Waits until the tenant's reports are in these states, by version.
    pub async fn reports_are(&self, tenant: &str, states: &[&str]) {
        let what = format!("the reports of {tenant} are {states:?}");
        eventually(&what, || async { (self.states(tenant).await == states).then_some(()) }).await;
    }

    pub async fn states(&self, tenant: &str) -> Vec<String> {
        sqlx::query_scalar("SELECT state FROM reports WHERE tenant_id = $1 ORDER BY version")
            .bind(tenant)
            .fetch_all(self.bench.pool())
            .await
            .unwrap()
    }

    /// Waits until the books of the tenant's November say this.
    pub async fn billable_is(&self, tenant: &str, total: i64) {
        eventually(&format!("{total} are billable"), || async {
            let found: Option<i64> = sqlx::query_scalar(
                "SELECT billable_total FROM accounts WHERE tenant_id = $1 AND period_start = '2026-11-01'",
            )
            .bind(tenant)
            .fetch_optional(self.bench.pool())
            .await
            .unwrap();
            (found == Some(total)).then_some(())
        })
        .await;
    }

    /// Makes the next try of everything due now: pauses run on the machine's clock.
    pub async fn skip_pauses(&self) {
        for statement in ["UPDATE reports SET not_before = now()", "UPDATE pauses SET retry_at = now()"] {
            sqlx::query(statement).execute(self.bench.pool()).await.unwrap();
        }
    }

    /// An event that somebody else sends to the same Stripe account.
    pub async fn stray_event(&self, customer: &str, value: i64, timestamp_s: i64, idempotency_key: &str) {
        let body = format!(
            "event_name={METER}&identifier=stray&timestamp={timestamp_s}\
             &payload[stripe_customer_id]={customer}&payload[value]={value}"
        );
        let answer = reqwest::Client::new()
            .post(format!("{}v1/billing/meter_events", self.sandbox.stripe_url()))
            .bearer_auth("sk_test_stray")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("idempotency-key", idempotency_key)
            .body(body)
            .send()
            .await
            .unwrap();
        assert!(answer.status().is_success(), "{}", answer.text().await.unwrap());
    }

    pub async fn next_reported(&mut self) -> UsageReported {
        match self.events.next().await.event.unwrap() {
            billing_event::Event::Reported(reported) => reported,
            other => panic!("expected UsageReported, got {other:?}"),
        }
    }

    /// The next failure, whatever was reported before it: reports of different customers have no order.
    pub async fn first_failed(&mut self) -> ReportFailed {
        loop {
            if let billing_event::Event::Failed(failed) = self.events.next().await.event.unwrap() {
                return failed;
            }
        }
    }

    pub async fn next_failed(&mut self) -> ReportFailed {
        match self.events.next().await.event.unwrap() {
            billing_event::Event::Failed(failed) => failed,
            other => panic!("expected ReportFailed, got {other:?}"),
        }
    }

    /// The next failure; reports before it are skipped.
    pub async fn next_failed_after_reports(&mut self) -> ReportFailed {
        let is_failed = |event: &BillingEvent| matches!(event.event, Some(billing_event::Event::Failed(_)));
        match self.events.next_where(is_failed).await.event {
            Some(billing_event::Event::Failed(failed)) => failed,
            other => panic!("expected ReportFailed, got {other:?}"),
        }
    }

    pub async fn next_drift(&mut self) -> DriftFound {
        let is_drift = |event: &BillingEvent| matches!(event.event, Some(billing_event::Event::Drift(_)));
        match self.events.next_where(is_drift).await.event {
            Some(billing_event::Event::Drift(drift)) => drift,
            other => panic!("expected DriftFound, got {other:?}"),
        }
    }
}

pub fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub fn november() -> Period {
    Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") }
}

pub fn december() -> Period {
    Period { start: at("2026-12-01T00:00:00Z"), end: at("2027-01-01T00:00:00Z") }
}

fn totals(counted: u64) -> Option<Totals> {
    Some(Totals { counted, ..Totals::default() })
}
