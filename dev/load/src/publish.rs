//! Publishes executions, as the collector does.

use std::time::Instant;

use anyhow::Result;
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use messaging::{Bus, Outgoing};
use metering::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::{
    broker::Broker,
    history::{History, Pack},
};

/// Messages in flight at once.
const IN_FLIGHT_MAX: usize = 256;

/// Arguments of `flowmeter-load publish`.
#[derive(Debug, Args)]
pub struct Publish {
    #[command(flatten)]
    broker: Broker,
    #[command(flatten)]
    history: History,
    /// Makes message ids that no other run has used.
    #[arg(long)]
    run: String,
}

impl Publish {
    /// Publishes everything. Reports how many executions are new.
    pub async fn run(self) -> Result<Value> {
        let bus = self.broker.connect().await?;
        let begun = Instant::now();
        let packs = self.history.packs(SystemClock.now());
        let fresh = stream::iter(packs.enumerate())
            .map(|(place, pack)| self.publish(&bus, place, pack))
            .buffer_unordered(IN_FLIGHT_MAX)
            .try_fold(0, async |sum, fresh| Ok(sum + fresh))
            .await?;
        let seconds = begun.elapsed().as_secs_f64();
        Ok(json!({ "executions": self.history.executions, "fresh": fresh, "seconds": seconds }))
    }

    async fn publish(&self, bus: &Bus, place: usize, pack: Pack) -> Result<u64> {
        let subject = bus.namespace().executions(&pack.batch.source_id);
        let message_id = format!("{}:{place}", self.run);
        bus.publish(Outgoing::new(subject, message_id, &pack.batch, SystemClock.now())).await?;
        Ok(pack.fresh)
    }
}
