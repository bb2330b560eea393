//! One tenant with one real n8n, as an operator sees it.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use stack::{Api, Backing, Stack, database, wait};

use crate::real_n8n::{RealN8n, Run};

/// As in the demo.
pub const TENANT: &str = "north";
pub const SOURCE: &str = "north-n8n";

/// A first sweep of a full instance, on a busy machine.
const SWEPT_WITHIN: Duration = Duration::from_secs(120);

/// Nothing listens here: until n8n runs, its source has no address.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Longer than a task: it requests each sweep itself.
const POLL_INTERVAL: &str = "1h";

/// A metered tenant.
#[derive(Debug)]
pub struct Metered {
    /// The gateway as its operator.
    pub gateway: Api,
    database_url: String,
}

impl Metered {
    /// Creates a tenant with this limit and a source that has no address yet.
    pub fn set_up(stack: &Stack, backing: &Backing, limit: u64) -> Result<Self> {
        let gateway = stack.gateway();
        gateway.put("/v1/plans/start", &json!({ "name": "Start", "monthly_limit": limit }))?;
        gateway.put(&format!("/v1/tenants/{TENANT}"), &json!({ "name": "North", "plan": "start" }))?;
        let metered = Self { gateway, database_url: backing.database_url.clone() };
        metered.put_source(NOWHERE, "none")?;
        Ok(metered)
    }

    fn put_source(&self, url: &str, key: &str) -> Result<()> {
        let source = json!({
            "tenant": TENANT, "kind": "n8n", "base_url": url, "api_key": key, "poll_interval": POLL_INTERVAL,
        });
        self.gateway.put(&format!("/v1/sources/{SOURCE}"), &source)?;
        Ok(())
    }

    /// A new push token of the source.
    pub fn push_token(&self) -> Result<String> {
        let issued = self.gateway.post(&format!("/v1/sources/{SOURCE}/push-token"), &Value::Null)?;
        let token = issued.get("token").and_then(Value::as_str).context("no push token was issued")?;
        Ok(token.to_owned())
    }

    /// Makes the source due, and waits until a sweep is counted that began afterwards. Returns what it published.
    pub fn sweep(&self, n8n: &RealN8n) -> Result<u64> {
        let path = format!("/v1/sources/{SOURCE}");
        let ended_at = |source: &Value| source.pointer("/status/last_sweep/ended_at").cloned();
        let before = ended_at(&self.gateway.get(&path)?);
        self.put_source(&n8n.url, &n8n.key)?;
        let source = wait::until("a sweep to end", SWEPT_WITHIN, || {
            let source = self.gateway.get(&path)?;
            Ok((ended_at(&source) != before).then_some(source))
        })?;
        let complete_until = source.pointer("/status/complete_until").cloned();
        wait::until("the sweep to be counted", SWEPT_WITHIN, || {
            Ok((self.usage()?.get("complete_until").cloned() == complete_until).then_some(()))
        })?;
        let published = source.pointer("/status/last_sweep/executions_published").and_then(Value::as_u64);
        Ok(published.unwrap_or_default())
    }

    /// The tenant's usage.
    pub fn usage(&self) -> Result<Value> {
        self.gateway.get(&format!("/v1/usage/{TENANT}"))
    }

    /// Counted executions of this period.
    pub fn counted(&self) -> Result<u64> {
        Ok(counted(&self.usage()?))
    }

    /// Every execution that was recorded, one by one, from the aggregator's own table. Its key has more than the
    /// pair that identifies a run, so a run that was counted twice appears twice.
    pub fn recorded(&self) -> Result<Vec<Run>> {
        let rows = database::ask(
            &self.database_url,
            r#"SELECT execution_id, to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
               FROM aggregator.executions ORDER BY 1, 2"#,
        )?;
        rows.lines().map(Run::parse).collect()
    }

    /// The ids of [`Self::recorded`].
    pub fn recorded_ids(&self) -> Result<BTreeSet<u64>> {
        Ok(self.recorded()?.into_iter().map(|run| run.id).collect())
    }
}

/// The counted executions in a tenant's usage.
pub fn counted(usage: &Value) -> u64 {
    usage.get("counted").and_then(Value::as_u64).unwrap_or_default()
}
