//! Bare HTTP: the pages that a sweep reads, fetched and thrown away.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::Client;
use serde_json::{Value, json};

use crate::instances::{self, Instance};

/// The collector's timeout of one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long the collector keeps a connection for the next request of the same sweep.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Arguments of `flowmeter-load fetch`.
#[derive(Debug, Args)]
pub struct Fetch {
    /// A file with a line `NAME ADDRESS KEY` for each instance.
    #[arg(long)]
    instances: PathBuf,
    /// A path under `/api/v1/`; each instance is asked for all of them, in this order.
    #[arg(long = "path", required = true)]
    paths: Vec<String>,
    /// Instances at once.
    #[arg(long)]
    concurrency: usize,
}

impl Fetch {
    /// Fetches everything once.
    pub async fn run(self) -> Result<Value> {
        let instances = instances::read(&self.instances)?;
        let client = Client::builder()
            .timeout(REQUEST_TIMEOUT)
            .pool_idle_timeout(IDLE_MAX)
            .no_proxy()
            .build()
            .context("cannot create an HTTP client")?;
        let started_at = Instant::now();
        let bytes = stream::iter(&instances)
            .map(|instance| self.fetch_all(&client, instance))
            .buffer_unordered(self.concurrency)
            .try_fold(0, async |sum, bytes| Ok(sum + bytes))
            .await?;
        let seconds = started_at.elapsed().as_secs_f64();
        Ok(json!({ "instances": instances.len(), "bytes": bytes, "seconds": seconds }))
    }

    /// The pages of one instance, one after the other, as a sweep reads them.
    async fn fetch_all(&self, client: &Client, instance: &Instance) -> Result<usize> {
        let mut bytes = 0;
        for path in &self.paths {
            let url = format!("{}/api/v1/{path}", instance.address);
            let request = client.get(&url).header("X-N8N-API-KEY", &instance.key);
            let answer = request.send().await.with_context(|| format!("no answer from {url}"))?;
            if !answer.status().is_success() {
                bail!("{url} answered {}", answer.status());
            }
            bytes += answer.bytes().await.with_context(|| format!("the answer from {url} broke off"))?.len();
        }
        Ok(bytes)
    }
}
