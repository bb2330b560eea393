//! The figures of many tenants, published as the aggregator publishes them: nothing is counted yet.

use anyhow::{Context, Result};
use clap::Args;
use messaging::{Bus, BusConfig, Outgoing};
use metering::{Calendar, Clock, SystemClock};
use proto::{Namespace, streams::Capacity, v1};
use serde_json::{Value, json};

/// The first: no figures were published before.
const REVISION: u64 = 1;

/// Arguments of `flowmeter-load figures`.
#[derive(Debug, Args)]
pub struct Figures {
    /// The broker's URL, with a user who may publish figures.
    #[arg(long)]
    nats: String,
    /// Tenants `t0000`, `t0001` and so on.
    #[arg(long)]
    tenants: u32,
}

impl Figures {
    /// Publishes them all.
    pub async fn run(self) -> Result<Value> {
        let namespace = Namespace::parse(Namespace::DEFAULT).context("the default namespace")?;
        let config =
            BusConfig { url: self.nats.clone(), user: None, password: None, capacity: Capacity::default() };
        let bus = Bus::connect("load", namespace, &config).await?;
        bus.ensure_streams().await?;
        let now = SystemClock.now();
        for number in 0..self.tenants {
            let tenant = format!("t{number:04}");
            let usage = v1::UsageCounted {
                tenant_id: tenant.clone(),
                period: Some(Calendar::utc().period_of(now).into()),
                revision: REVISION,
                totals: Some(v1::Totals::default()),
                as_of: Some(proto::timestamp(now)),
                complete_until: Some(proto::timestamp(now)),
                ..v1::UsageCounted::default()
            };
            let message_id = format!("{tenant}:{REVISION}");
            let subject = bus.namespace().usage_counted(&tenant);
            bus.publish(Outgoing::new(subject, message_id, &usage, now)).await?;
        }
        Ok(json!({ "tenants": self.tenants }))
    }
}
