//! The catalog of a benchmark: a source for each n8n instance, published as the gateway publishes it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use catalog::{Source, sealing::SealingKey};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use messaging::Bus;
use metering::{SourceId, TenantId};
use serde_json::{Value, json};

use crate::{
    broker::Broker,
    instances::{self, Instance},
    tenants,
};

/// Messages in flight at once.
const IN_FLIGHT_MAX: usize = 256;

/// Arguments of `flowmeter-load sources`.
#[derive(Debug, Args)]
pub struct Sources {
    /// A file with a line `NAME ADDRESS KEY` for each instance.
    #[arg(long)]
    instances: PathBuf,
    #[command(flatten)]
    broker: Broker,
    /// The key that seals API keys for the collector.
    #[arg(long)]
    public_key: String,
    /// The tenant they all belong to.
    #[arg(long)]
    tenant: String,
}

impl Sources {
    /// Publishes them all.
    pub async fn run(self) -> Result<Value> {
        let instances = instances::read(&self.instances)?;
        let bus = self.broker.connect().await?;
        bus.ensure_streams().await?;
        let sealing = SealingKey::parse(&self.public_key)?;
        let tenant = TenantId::parse(&self.tenant)?;
        stream::iter(&instances)
            .map(|instance| publish(&bus, &sealing, &tenant, instance))
            .buffer_unordered(IN_FLIGHT_MAX)
            .try_collect::<()>()
            .await?;
        Ok(json!({ "sources": instances.len() }))
    }
}

async fn publish(bus: &Bus, sealing: &SealingKey, tenant: &TenantId, instance: &Instance) -> Result<()> {
    let source = Source {
        id: SourceId::parse(&instance.name)?,
        tenant: Some(tenant.clone()),
        attributions: Vec::new(),
        base_url: instance.address.parse().context("an address")?,
        api_key: sealing.seal(&instance.key.clone().into()),
        poll_interval: None,
        paused: false,
        push_token_sha256: None,
    };
    tenants::publish(bus, &source).await
}
