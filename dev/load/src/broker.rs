//! The broker that a task uses.

use anyhow::{Context, Result};
use clap::Args;
use messaging::{Bus, BusConfig};
use proto::{Namespace, streams::Capacity};

/// How to reach it.
#[derive(Debug, Args)]
pub struct Broker {
    /// The broker's URL, with a user who may do everything.
    #[arg(long)]
    nats: String,
    /// Bytes that the streams of executions may hold together, if this task creates them.
    #[arg(long, default_value_t = Capacity::default().executions_bytes_max)]
    executions_bytes_max: u64,
}

impl Broker {
    /// Connects, in the default namespace.
    pub async fn connect(&self) -> Result<Bus> {
        let namespace = Namespace::parse(Namespace::DEFAULT).context("the default namespace")?;
        let capacity = Capacity { executions_bytes_max: self.executions_bytes_max, ..Capacity::default() };
        let config = BusConfig { url: self.nats.clone(), user: None, password: None, capacity };
        Ok(Bus::connect("load", namespace, &config).await?)
    }
}
