//! The catalog of a benchmark of the aggregator: one plan, many tenants, a source for each.

use anyhow::Result;
use catalog::{
    AdmissionRule, Entry, Language, LimitKind, OutageRule, Plan, Source, Tenant, sealing::SealingKey,
};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use messaging::{Bus, Outgoing};
use metering::{Calendar, Clock, CountingRule, PlanId, SourceId, SystemClock, TenantId};
use serde_json::{Value, json};

use crate::{broker::Broker, history::History};

/// Messages in flight at once.
const IN_FLIGHT_MAX: usize = 256;

/// The first: nothing was published before.
const REVISION: u64 = 1;

/// Never reached: crossings are a fixed number for each tenant, however many executions there are.
const MONTHLY_LIMIT: u64 = 1_000_000_000;

/// Arguments of `flowmeter-load tenants`.
#[derive(Debug, Args)]
pub struct Tenants {
    #[command(flatten)]
    broker: Broker,
    /// The key that seals API keys for the collector.
    #[arg(long)]
    public_key: String,
    /// How many.
    #[arg(long)]
    tenants: u32,
    /// Empty the broker first: all streams are recreated.
    #[arg(long)]
    anew: bool,
}

impl Tenants {
    /// Publishes them all, the plan first.
    pub async fn run(self) -> Result<Value> {
        let bus = self.broker.connect().await?;
        if self.anew {
            delete_streams(&bus).await?;
        }
        bus.ensure_streams().await?;
        let sealing = SealingKey::parse(&self.public_key)?;
        let plan = plan()?;
        publish(&bus, &plan).await?;
        stream::iter((0..self.tenants).map(|number| publish_tenant(&bus, &sealing, &plan, number)))
            .buffer_unordered(IN_FLIGHT_MAX)
            .try_collect::<()>()
            .await?;
        Ok(json!({ "tenants": self.tenants }))
    }
}

async fn delete_streams(bus: &Bus) -> Result<()> {
    let names: Vec<String> = bus.jetstream().stream_names().try_collect().await?;
    for name in names {
        bus.jetstream().delete_stream(name).await?;
    }
    Ok(())
}

fn plan() -> Result<Plan> {
    Ok(Plan {
        id: PlanId::parse("pro")?,
        name: "Pro".to_owned(),
        monthly_limit: Some(MONTHLY_LIMIT),
        limit_kind: LimitKind::Hard,
        thresholds: Vec::new(),
        counting: CountingRule::default(),
        price: None,
        meter_event_name: None,
        outage_rule: OutageRule::Open,
        admission: AdmissionRule::default(),
    })
}

async fn publish_tenant(bus: &Bus, sealing: &SealingKey, plan: &Plan, number: u32) -> Result<()> {
    let name = History::name(number);
    let tenant = Tenant {
        shared_customer: false,
        id: TenantId::parse(&name)?,
        name: name.clone(),
        plan: plan.id.clone(),
        calendar: Calendar::utc(),
        language: Language::English,
        alert_recipients: Vec::new(),
        stripe_customer: None,
        limit_override: None,
        limit_override_until: None,
    };
    let source = Source {
        id: SourceId::parse(&name)?,
        tenant: Some(tenant.id.clone()),
        attributions: Vec::new(),
        base_url: "http://127.0.0.1:9".parse()?,
        api_key: sealing.seal(&"none".to_owned().into()),
        poll_interval: None,
        paused: true,
        push_token_sha256: None,
    };
    publish(bus, &tenant).await?;
    publish(bus, &source).await
}

/// Publishes one entry, as the gateway does.
pub async fn publish<E: Entry>(bus: &Bus, entry: &E) -> Result<()> {
    let subject = bus.namespace().catalog(E::KIND, entry.id());
    let message_id = format!("{}:{}:{REVISION}", E::KIND.as_str(), entry.id());
    bus.publish(Outgoing::new(subject, message_id, &entry.to_message(REVISION), SystemClock.now())).await?;
    Ok(())
}
