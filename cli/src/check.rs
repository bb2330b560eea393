//! `flowmeter check`.

use std::{io::Write, process::ExitCode};

use anyhow::{Context as _, Result};
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::{client::Client, table};

/// The exit code of a refusal; 1 is a failure of the command itself.
const REFUSED: u8 = 3;

/// Arguments of `flowmeter check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The tenant that wants to run something.
    tenant: String,
    /// Reserve a run, as n8n's hook does before each one: it counts against the limit until metering sees it.
    #[arg(long)]
    reserve: bool,
    /// The workflow that is to run: its caps, its share and its loops are checked too.
    #[arg(long)]
    workflow: Option<String>,
    /// What starts the run: webhook, trigger, manual, ... Counted if missing.
    #[arg(long)]
    mode: Option<String>,
    /// The run's id, with --reserve: the same id gets the same answer. A new one if missing.
    #[arg(long, requires = "reserve")]
    id: Option<String>,
    /// The gateway's answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Admission<'a> {
    tenant: &'a str,
    id: &'a str,
    workflow: Option<&'a str>,
    mode: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct Verdict {
    allowed: bool,
    reason: String,
    message: String,
    used: Option<u64>,
    limit: Option<u64>,
    remaining: Option<u64>,
    resets_at: Option<Timestamp>,
    retry_at: Option<Timestamp>,
    #[serde(default)]
    shadow: Option<Shadow>,
    lag_seconds: Option<u64>,
}

/// Why a run would be refused if the plan were not in shadow mode.
#[derive(Debug, Deserialize)]
struct Shadow {
    reason: String,
    message: String,
}

impl Check {
    /// Prints the verdict; the exit code is for scripts.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<ExitCode> {
        let answer: Value = if self.reserve {
            let fresh = || format!("cli-{}", Uuid::new_v4());
            let admission = Admission {
                tenant: &self.tenant,
                id: &self.id.clone().unwrap_or_else(fresh),
                workflow: self.workflow.as_deref(),
                mode: self.mode.as_deref(),
            };
            client.post(&["admissions"], &admission).await?
        } else {
            let asked = [("workflow", self.workflow.as_deref()), ("mode", self.mode.as_deref())];
            let query: Vec<_> = asked.iter().filter_map(|(key, value)| Some((*key, (*value)?))).collect();
            client.get_with(&["admissions", &self.tenant], &query).await?
        };
        let verdict = Verdict::deserialize(&answer).context("cannot read the gateway's answer")?;
        if self.json {
            writeln!(out, "{}", serde_json::to_string_pretty(&answer)?)?;
        } else {
            write!(out, "{}", verdict.describe())?;
        }
        Ok(if verdict.allowed { ExitCode::SUCCESS } else { ExitCode::from(REFUSED) })
    }
}

impl Verdict {
    fn describe(&self) -> String {
        let word = if self.allowed { "allowed" } else { "refused" };
        let number = |value: Option<u64>, missing: &str| value.map_or(missing.to_owned(), table::number);
        let mut lines = vec![
            format!("{word} ({}): {}", self.reason, self.message),
            format!(
                "used {} of {}, {} left",
                number(self.used, "?"),
                number(self.limit, "no limit"),
                number(self.remaining, "?")
            ),
        ];
        if let Some(Shadow { reason, message }) = &self.shadow {
            lines.insert(1, format!("would be refused ({reason}): {message}"));
        }
        if let Some(retry_at) = self.retry_at.filter(|_| !self.allowed) {
            lines.push(format!("runs may start again at {retry_at}"));
        }
        if let Some(resets_at) = self.resets_at {
            lines.push(format!("the period ends at {resets_at}"));
        }
        lines.push(match self.lag_seconds {
            Some(lag) => format!("metering is {} behind", table::lag(lag)),
            None => "metering has not seen all sources yet".to_owned(),
        });
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
crate::answers::reads!("admit" => Verdict, "look_at_limit" => Verdict);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_refusal_says_why_and_until_when() {
        let verdict: Verdict = serde_json::from_value(json!({
            "tenant": "north", "id": null, "allowed": false, "reason": "limit_reached",
            "message": "The limit of 1,000 executions is reached.", "over_limit": false, "used": 1_000,
            "reserved": 2, "limit": 1_000, "remaining": 0, "resets_at": "2026-12-01T00:00:00Z",
            "retry_at": "2026-12-01T00:00:00Z", "as_of": null, "lag_seconds": 4,
        }))
        .unwrap();
        assert_eq!(
            verdict.describe(),
            "refused (limit_reached): The limit of 1,000 executions is reached.\n\
             used 1,000 of 1,000, 0 left\n\
             runs may start again at 2026-12-01T00:00:00Z\n\
             the period ends at 2026-12-01T00:00:00Z\n\
             metering is 4 s behind\n"
        );
    }

    #[test]
    fn a_plan_that_only_watches_says_what_it_would_refuse() {
        let verdict: Verdict = serde_json::from_value(json!({
            "allowed": true, "reason": "shadow", "message": "Allowed: the plan only watches.",
            "shadow": {"reason": "limit_reached", "message": "Refused: all is used."},
            "used": 7, "limit": 5, "remaining": 0, "resets_at": null, "retry_at": null, "lag_seconds": 4,
        }))
        .unwrap();
        assert_eq!(
            verdict.describe(),
            "allowed (shadow): Allowed: the plan only watches.\n\
             would be refused (limit_reached): Refused: all is used.\n\
             used 7 of 5, 0 left\n\
             metering is 4 s behind\n"
        );
    }
}
