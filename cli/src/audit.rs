//! `flowmeter source audit`: starts an audit, follows it to its end, and lists what differs.

use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Result, bail};
use clap::Args;
use comfy_table::Table;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::sleep;

use crate::{client::Client, table, terminal, unseen::Unseen};

/// Interval for asking the gateway for the progress.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// An audit ends within an hour, or fails; this is well past it.
const LOOKS_MAX: u32 = 2 * 60 * 60;

/// Arguments of `flowmeter source audit`.
#[derive(Debug, Args)]
pub struct Audit {
    /// The source's id.
    id: String,
    /// Show the last audit instead of starting one.
    #[arg(long)]
    last: bool,
}

#[derive(Debug, Deserialize)]
struct Progress {
    id: String,
    state: String,
    updated_at: String,
    listed: u64,
    equal: u64,
    differences: Vec<Difference>,
    differences_total: u64,
    #[serde(default)]
    unseen: Option<Unseen>,
    failure: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Difference {
    epoch: u32,
    execution: String,
    finding: String,
    detail: String,
}

impl Audit {
    /// Exit code 0 if nothing differs, 1 if something does. An audit that fails is an error.
    pub async fn run(&self, client: &Client, json: bool, out: &mut dyn Write) -> Result<ExitCode> {
        let path = ["sources", self.id.as_str(), "audit"];
        let answer: Value =
            if self.last { client.get(&path).await? } else { client.post(&path, &Value::Null).await? };
        let answer = self.follow(client, answer).await?;
        let progress: Progress = serde_json::from_value(answer.clone())?;
        if json {
            writeln!(out, "{answer:#}")?;
        } else {
            writeln!(out, "{}", table::or_none(&difference_table(&progress.differences), "No differences."))?;
            writeln!(out, "{}", summary(&progress))?;
            if let Some(unseen) = &progress.unseen {
                writeln!(out, "{}", unseen.sentence(&self.id))?;
            }
        }
        match progress.state.as_str() {
            "done" if progress.differences_total == 0 => Ok(ExitCode::SUCCESS),
            "done" => Ok(ExitCode::FAILURE),
            "stalled" => bail!(
                "no progress of the audit since {}: the collector was stopped. Start another",
                progress.updated_at
            ),
            _ => bail!(
                "the audit ended before everything was compared: {}",
                progress.failure.as_deref().unwrap_or("no reason was given")
            ),
        }
    }

    /// Polls until the audit has ended, and shows its progress.
    async fn follow(&self, client: &Client, begun: Value) -> Result<Value> {
        let path = ["sources", self.id.as_str(), "audit"];
        let id = serde_json::from_value::<Progress>(begun.clone())?.id;
        let mut answer = begun;
        let on_terminal = io::stderr().is_terminal();
        for _ in 0..LOOKS_MAX {
            let progress: Progress = serde_json::from_value(answer.clone())?;
            if progress.id != id {
                bail!("another audit of {} has started; `--last` follows it", self.id);
            }
            if on_terminal {
                eprint!("\r{}", terminal::safe(&summary(&progress)));
            }
            if progress.state != "running" {
                if on_terminal {
                    eprintln!();
                }
                return Ok(answer);
            }
            sleep(LOOK_INTERVAL).await;
            answer = client.get(&path).await?;
        }
        bail!("the audit has not ended in time; `flowmeter source audit {} --last` shows it", self.id)
    }
}

fn summary(progress: &Progress) -> String {
    let [listed, equal, differences] =
        [progress.listed, progress.equal, progress.differences_total].map(table::number);
    format!("{listed} executions listed, {equal} equal, {differences} differences")
}

fn difference_table(differences: &[Difference]) -> Table {
    let mut table = table::new(&["execution", "epoch", "finding", "detail"]);
    for difference in differences {
        table.add_row([
            difference.execution.clone(),
            difference.epoch.to_string(),
            difference.finding.replace('_', " "),
            difference.detail.clone(),
        ]);
    }
    table::right(&mut table, &[0, 1]);
    table
}

#[cfg(test)]
crate::answers::reads!("begin_audit" => Progress, "get_audit" => Progress);
