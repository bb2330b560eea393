//! `flowmeter period end`: ends a tenant's current period before its time.

use std::io::Write;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::{attempt::unless_definite, client::Client};

/// What to do with a period.
#[derive(Debug, Subcommand)]
pub enum Period {
    /// Ends the current period within a minute, so that a changed calendar applies at once. Cannot be undone.
    End(End),
}

/// Arguments of `flowmeter period end`.
#[derive(Debug, Args)]
pub struct End {
    /// The tenant.
    tenant: String,
    /// Why.
    #[arg(long)]
    reason: String,
    /// Who does it.
    #[arg(long, env = "FLOWMETER_AUTHOR")]
    author: String,
    /// The end's id; the same one again changes nothing.
    #[arg(long)]
    id: Option<String>,
    /// Confirms the end. Without it nothing is done: an ended period cannot be reopened.
    #[arg(long)]
    yes: bool,
}

#[derive(Debug, Deserialize)]
struct Ended {
    period_start: Timestamp,
    period_end: Timestamp,
    next_end: Timestamp,
}

impl Period {
    /// Runs the subcommand.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let Self::End(End { tenant, reason, author, id, yes }) = self;
        if !yes {
            bail!("the current period of {tenant} would end for good; confirm with --yes");
        }
        let id = id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let body = json!({ "id": id, "author": author, "reason": reason });
        let outcome = client.post(&["tenants", tenant, "periods", "end"], &body).await;
        let repeat = format!("the period may not have been ended; repeat it with --id {id}");
        let ended: Ended = unless_definite(outcome, repeat)?;
        let Ended { period_start, period_end, next_end } = ended;
        writeln!(
            out,
            "The period from {period_start} ends at {period_end}; the next one runs to {next_end} [{id}]"
        )?;
        Ok(())
    }
}

#[cfg(test)]
crate::answers::reads!("end_period" => Ended);
