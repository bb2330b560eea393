//! The catalog of a benchmark: a source for each n8n instance, published as the gateway publishes it.

use std::path::PathBuf;

use anyhow::{Context, Result};
use catalog::{Entry, Source, sealing::SealingKey};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use messaging::{Bus, BusConfig, Outgoing};
use metering::{Clock, SourceId, SystemClock, TenantId};
use proto::{Namespace, streams::Capacity};
use serde_json::{Value, json};

use crate::instances::{self, Instance};

/// Messages on their way at once.
const IN_FLIGHT_MAX: usize = 256;

/// No source has been told before.
const REVISION: u64 = 1;

/// Arguments of `flowmeter-load sources`.
#[derive(Debug, Args)]
pub struct Sources {
    /// A file with a line `NAME ADDRESS KEY` for each instance.
    #[arg(long)]
    instances: PathBuf,
    /// The broker, with a user who may write the catalog.
    #[arg(long)]
    nats: String,
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
        let namespace = Namespace::parse(Namespace::DEFAULT).context("the default namespace")?;
        let config =
            BusConfig { url: self.nats.clone(), user: None, password: None, capacity: Capacity::default() };
        let bus = Bus::connect("load", namespace, &config).await?;
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
    let subject = bus.namespace().catalog(Source::KIND, source.id());
    let message_id = format!("{}:{REVISION}", source.id());
    bus.publish(Outgoing::new(subject, message_id, &source.to_message(REVISION), SystemClock.now())).await?;
    Ok(())
}
