//! A running alerts service with its mail server.

use std::{sync::Arc, time::Duration};

use alerts::{Alerts, Settings};
use catalog::{Entry, Language, Plan, Tenant};
use chassis::Service;
use jiff::{SignedDuration, Timestamp};
use metering::Clock;
use proto::v1;
use sandbox::{Sandbox, SandboxOptions, mail::Message};
use sqlx::Row;
use testkit::{TestBed, eventually};

/// The time on a desk's clock until it is moved.
pub const NOON: &str = "2026-11-24T12:00:00Z";

/// Longer than the first wait after a deferred attempt.
pub const A_MINUTE: SignedDuration = SignedDuration::from_mins(1);

pub struct Harness {
    pub bench: TestBed,
    pub sandbox: Sandbox,
}

/// How far a mail has come.
#[derive(Debug, PartialEq, Eq)]
pub struct Progress {
    pub state: String,
    pub attempts: i32,
    pub reason: Option<String>,
}

impl Harness {
    /// A running service that knows the plan `pro` and these tenants.
    pub async fn open(tenants: &[Tenant]) -> Self {
        let desk = Self::closed().await;
        desk.serve().await;
        for tenant in tenants {
            desk.introduce(tenant).await;
        }
        desk
    }

    /// A running service that notifies the operator at these addresses, and knows the tenant `north`.
    pub async fn with_operator(recipients: &[&str]) -> Self {
        let desk = Self::closed().await;
        desk.serve_operator(recipients).await;
        desk.introduce(&tenant("north", "en", &["ops@north.example"])).await;
        desk
    }

    /// A desk whose service does not run yet.
    pub async fn closed() -> Self {
        let bench = TestBed::narrow::<Alerts>(NOON).await;
        let clock = Arc::new(bench.clock.clone());
        let sandbox = Sandbox::start(SandboxOptions { clock, ..SandboxOptions::default() }).await.unwrap();
        bench.publish_entry(&plan(), 1).await;
        Self { bench, sandbox }
    }

    pub fn settings(&self) -> Settings {
        Settings {
            smtp_url: Some(self.sandbox.smtp_url().into()),
            from: "Flowmeter <alerts@example.com>".parse().unwrap(),
            dashboard_url: "https://usage.example.com".parse().unwrap(),
            operator_recipients: Vec::new(),
            operator_language: Language::English,
            operator_failing_after: Duration::from_secs(30 * 60),
            tenant_mails_per_day: 4,
            // Most tests are of one threshold; `paced.rs` has those of several.
            warning_delay: Duration::ZERO,
        }
    }

    pub async fn serve(&self) {
        self.serve_with(self.settings()).await;
    }

    pub async fn serve_operator(&self, recipients: &[&str]) {
        let operator_recipients = recipients.iter().map(|&recipient| recipient.to_owned()).collect();
        self.serve_with(Settings { operator_recipients, ..self.settings() }).await;
    }

    pub async fn serve_with(&self, settings: Settings) {
        Alerts::start(self.bench.context.clone(), settings).await.unwrap();
    }

    pub async fn introduce(&self, tenant: &Tenant) {
        self.bench.publish_entry(tenant, 1).await;
    }

    /// Publishes a crossing, under a fresh message id each time.
    pub async fn cross(&self, tenant: &str, percent: u32) {
        let message = crossing(tenant, percent);
        self.bench.publish(self.bench.namespace().usage_threshold(tenant), &message).await;
    }

    /// Waits until this many mails have been accepted, and returns them.
    pub async fn mails(&self, count: usize) -> Vec<Message> {
        eventually(&format!("{count} mails"), || async {
            let mails = self.sandbox.mail().messages();
            (mails.len() >= count).then_some(mails)
        })
        .await
    }

    /// Waits until the mail to `recipient` is in `state`.
    pub async fn progress(&self, recipient: &str, state: &str) -> Progress {
        eventually(&format!("{recipient} {state}"), || async {
            let row = sqlx::query("SELECT state, attempts, reason FROM notifications WHERE recipient = $1")
                .bind(recipient)
                .fetch_optional(self.bench.pool())
                .await
                .unwrap()?;
            (row.get::<&str, _>("state") == state).then(|| Progress {
                state: row.get("state"),
                attempts: row.get("attempts"),
                reason: row.get("reason"),
            })
        })
        .await
    }

    pub fn now(&self) -> Timestamp {
        self.bench.clock.now()
    }

    pub async fn close(self) {
        self.bench.finish().await;
        self.sandbox.stop().await;
    }
}

pub fn tenant(id: &str, language: &str, recipients: &[&str]) -> Tenant {
    Tenant::from_wire(v1::Tenant {
        tenant_id: id.to_owned(),
        name: id[..1].to_uppercase() + &id[1..],
        plan_id: "pro".to_owned(),
        time_zone: "Europe/Madrid".to_owned(),
        language: language.to_owned(),
        alert_recipients: recipients.iter().map(|&recipient| recipient.to_owned()).collect(),
        ..v1::Tenant::default()
    })
    .unwrap()
}

fn plan() -> Plan {
    Plan::from_wire(v1::Plan {
        plan_id: "pro".to_owned(),
        name: "Pro".to_owned(),
        monthly_limit: Some(10_000),
        thresholds_percent: vec![80, 100],
        ..v1::Plan::default()
    })
    .unwrap()
}

/// A crossing of November in Madrid.
pub fn crossing(tenant: &str, percent: u32) -> v1::ThresholdCrossed {
    let at = |text: &str| Some(proto::timestamp(text.parse().unwrap()));
    v1::ThresholdCrossed {
        crossing_id: format!("{tenant}:2026-11:{percent}"),
        tenant_id: tenant.to_owned(),
        period: Some(v1::Period { start: at("2026-10-31T23:00:00Z"), end: at("2026-11-30T23:00:00Z") }),
        rule: "monthly-executions".to_owned(),
        threshold_percent: percent,
        limit: 10_000,
        used: u64::from(percent) * 100,
        crossed_at: at(NOON),
        plan_id: "pro".to_owned(),
        highest_percent: percent,
    }
}

pub fn header<'m>(mail: &'m Message, name: &str) -> Option<&'m str> {
    mail.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}
