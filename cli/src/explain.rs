//! `flowmeter explain`: from a period's figure to its executions.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use jiff::Timestamp;
use serde::Deserialize;

use crate::{client::Client, corrections::Correction, table};

/// Executions that one request fetches; the most that the gateway returns.
const PAGE_EXECUTIONS: &str = "1000";

/// Arguments of `flowmeter explain`.
#[derive(Debug, Args)]
pub struct Explain {
    /// The tenant.
    tenant: String,
    /// An instant (RFC 3339) or date in the period; otherwise the current one.
    #[arg(long)]
    period: Option<String>,
    /// Only this workflow, by its id at its source.
    #[arg(long)]
    workflow: Option<String>,
    /// The workflow's source, if the tenant has several.
    #[arg(long, requires = "workflow")]
    source: Option<String>,
    /// Print at most this many executions.
    #[arg(long, default_value_t = 10_000)]
    limit: usize,
}

#[derive(Debug, Deserialize)]
struct Explanation {
    period: Period,
    totals: Totals,
    corrections: Vec<Correction>,
    executions: Vec<Execution>,
    next_page: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Period {
    start: Timestamp,
    end: Timestamp,
    time_zone: String,
}

#[derive(Debug, Deserialize)]
struct Totals {
    counted: u64,
    uncounted: u64,
    voided: u64,
    adjusted: i64,
}

#[derive(Debug, Deserialize)]
struct Execution {
    source: String,
    epoch: u32,
    execution: String,
    workflow: String,
    name: Option<String>,
    status: String,
    mode: String,
    stopped_at: Timestamp,
    counted: bool,
    late: bool,
    voided: bool,
}

impl Explain {
    /// Asks page by page and prints each as it comes.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let path = ["tenants", &self.tenant, "usage", "explain"];
        let (mut page, mut shown, mut counted) = (None::<String>, 0, 0_u64);
        loop {
            let answer: Explanation = client.get_with(&path, &self.query(page.as_deref())).await?;
            if page.is_none() {
                writeln!(out, "{}", answer.heading())?;
                for correction in &answer.corrections {
                    writeln!(out, "{correction}")?;
                }
            }
            let left = self.limit.saturating_sub(shown);
            let listed: Vec<&Execution> = answer.executions.iter().take(left).collect();
            if !listed.is_empty() {
                writeln!(out, "{}", execution_table(&listed))?;
            }
            shown += listed.len();
            counted += listed.iter().filter(|execution| execution.counted).map(|_| 1).sum::<u64>();
            match answer.next_page {
                Some(next) if shown < self.limit => page = Some(next),
                Some(_) => {
                    writeln!(out, "There are more; --limit shows them.")?;
                    break;
                }
                None => {
                    writeln!(out, "{} executions, {} of them counted.", shown, table::number(counted))?;
                    break;
                }
            }
        }
        Ok(())
    }

    fn query<'a>(&'a self, page: Option<&'a str>) -> Vec<(&'static str, &'a str)> {
        let given = [
            ("period", self.period.as_deref()),
            ("workflow", self.workflow.as_deref()),
            ("source", self.source.as_deref()),
            ("limit", Some(PAGE_EXECUTIONS)),
            ("page", page),
        ];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

impl Explanation {
    fn heading(&self) -> String {
        let Totals { counted, uncounted, voided, adjusted } = &self.totals;
        let days = table::days(self.period.start, self.period.end, &self.period.time_zone);
        let counted = table::number(*counted);
        format!("{days}: {counted} counted ({adjusted:+} by hand), {uncounted} not counted, {voided} voided")
    }
}

fn execution_table(executions: &[&Execution]) -> Table {
    let header = ["stopped at", "source", "epoch", "execution", "workflow", "status", "mode", "counted"];
    let mut table = table::new(&header);
    for execution in executions {
        let counted = match (execution.voided, execution.counted, execution.late) {
            (true, ..) => "voided",
            (_, true, true) => "yes, late",
            (_, true, false) => "yes",
            (_, false, _) => "no",
        };
        table.add_row([
            execution.stopped_at.to_string(),
            execution.source.clone(),
            execution.epoch.to_string(),
            execution.execution.clone(),
            execution.name.clone().unwrap_or_else(|| execution.workflow.clone()),
            execution.status.clone(),
            execution.mode.clone(),
            counted.to_owned(),
        ]);
    }
    table::right(&mut table, &[2, 3]);
    table
}

#[cfg(test)]
crate::answers::reads!("explain_usage" => Explanation);
