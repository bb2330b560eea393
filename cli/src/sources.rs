//! `flowmeter sources`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use serde::Deserialize;
use serde_json::Value;

use crate::{client::Client, table};

/// Longest failure in the table, in characters; `--json` has all of it.
const DETAIL_CHARS_MAX: usize = 120;

/// Arguments of `flowmeter sources`.
#[derive(Debug, Args)]
pub struct Sources {
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct SourceList {
    sources: Vec<Source>,
}

#[derive(Debug, Deserialize)]
struct Source {
    id: String,
    tenant: String,
    #[serde(default)]
    paused: bool,
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Status {
    complete_until: Option<String>,
    lag_seconds: Option<u64>,
    open_executions: Option<u64>,
    failing: Option<Failing>,
    gaps: Option<Gaps>,
}

#[derive(Debug, Deserialize)]
struct Failing {
    reason: String,
    detail: String,
    since: String,
}

#[derive(Debug, Deserialize)]
struct Gaps {
    count: u64,
}

impl Sources {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        if self.json {
            let answer: Value = client.get(&["sources"]).await?;
            writeln!(out, "{answer:#}")?;
        } else {
            let list: SourceList = client.get(&["sources"]).await?;
            let table = source_table(&list.sources);
            writeln!(out, "{}", table::or_none(&table, "No sources."))?;
        }
        Ok(())
    }
}

fn source_table(sources: &[Source]) -> Table {
    let mut table = table::new(&["source", "tenant", "complete until", "behind", "open", "gaps", "state"]);
    for source in sources {
        let status = &source.status;
        table.add_row([
            source.id.clone(),
            source.tenant.clone(),
            status.complete_until.clone().unwrap_or_else(|| "not swept yet".to_owned()),
            status.lag_seconds.map_or("-".to_owned(), table::lag),
            status.open_executions.map_or("-".to_owned(), table::number),
            status.gaps.as_ref().map_or("-".to_owned(), |gaps| table::number(gaps.count)),
            state(source),
        ]);
    }
    table::right(&mut table, &[3, 4, 5]);
    table
}

fn state(source: &Source) -> String {
    match &source.status.failing {
        _ if source.paused => "paused".to_owned(),
        Some(failing) => {
            let detail = table::shortened(&failing.detail, DETAIL_CHARS_MAX);
            format!("failing since {} ({}): {detail}", failing.since, failing.reason)
        }
        None => "ok".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_failing_source_says_why() {
        let source: Source = serde_json::from_value(json!({
            "id": "north-n8n", "revision": 3, "tenant": "north", "kind": "n8n", "paused": false,
            "status": {
                "complete_until": "2026-11-24T12:00:00Z", "lag_seconds": 600, "open_executions": 2,
                "failing": {
                    "reason": "unauthorized", "detail": "n8n refuses the key: set a new one",
                    "since": "2026-11-24T12:10:00Z", "consecutive_failures": 3,
                },
                "gaps": { "count": 1, "recent": [] },
            },
        }))
        .unwrap();
        let shown = source_table(&[source]).to_string();
        for part in ["10 min", "unauthorized", "set a new one", "2026-11-24T12:10:00Z"] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }
}
