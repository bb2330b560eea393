//! `flowmeter billing`: what billing could not do, and an operator has to.

use std::{io::Write, time::Duration};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::StreamExt;
use messaging::Bus;
use proto::consumers;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    event::{Event, Topic},
    table,
};

/// A broker that has not delivered a message that it holds by then is treated as unavailable.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `flowmeter billing`.
#[derive(Debug, Args)]
pub struct Billing {
    /// Only of this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

impl Billing {
    /// Lists failed reports and differences to Stripe's totals, the oldest first, as long as they are kept (90 days).
    pub async fn run(&self, bus: &Bus, out: &mut dyn Write) -> Result<()> {
        let mut table = table::new(&["at", "tenant", "what"]);
        for event in kept(bus, self.tenant.as_deref()).await? {
            if event.json["event"] == "reported" {
                continue;
            }
            let at = event.at.unwrap_or_default();
            if self.json {
                let mut line = event.json;
                line["at"] = json!(at);
                line["tenant"] = json!(event.subject);
                writeln!(out, "{line}")?;
            } else {
                table.add_row([at, event.subject, event.text]);
            }
        }
        if !self.json {
            writeln!(
                out,
                "{}",
                table::or_none(&table, "Every report has reached Stripe, or is on its way.")
            )?;
        }
        Ok(())
    }
}

/// What billing has published and the stream still keeps.
async fn kept(bus: &Bus, tenant: Option<&str>) -> Result<Vec<Event>> {
    let topic = Topic::Billing;
    let stream = bus.jetstream().get_stream(topic.stream().name(bus.namespace())).await;
    let stream =
        stream.context("cannot read what billing has published; have the services been started once?")?;
    let mut config = consumers::live(bus.namespace(), topic.name());
    if let Some(tenant) = tenant {
        let tenant = metering::TenantId::parse(tenant).context("--tenant")?;
        config.filter_subject = bus.namespace().billing(tenant.as_str());
    }
    let failed = "cannot read what billing has published; may this NATS user create consumers?";
    let consumer = stream.create_consumer(config).await.context(failed)?;
    // Only what is there now: a running installation publishes while this reads.
    let mut left = consumer.cached_info().num_pending;
    let mut messages = consumer.messages().await.context(failed)?;
    let mut events = Vec::new();
    while left > 0 {
        let Ok(Some(Ok(message))) = timeout(READ_TIMEOUT, messages.next()).await else {
            bail!("the broker has stopped sending; try again");
        };
        left -= 1;
        match topic.read(message.payload.clone()) {
            Ok(event) => events.push(event),
            Err(error) => eprintln!("A message on {} cannot be read: {error}", message.subject),
        }
    }
    Ok(events)
}
