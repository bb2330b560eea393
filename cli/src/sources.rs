//! `flowmeter sources`.

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};
use comfy_table::Table;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    audit::Audit,
    client::Client,
    damaged::{self, Damaged},
    table,
    unseen::Unseen,
    warning::{self, Warning},
};

/// Longest failure in the table, in characters; `--json` has all of it.
const DETAIL_CHARS_MAX: usize = 120;

/// Tenants of a shared source in the table.
const TENANTS_SHOWN_MAX: usize = 3;

/// Arguments of `flowmeter sources`.
#[derive(Debug, Args)]
pub struct Sources {
    /// Show the gateway's own answer.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    about: Option<About>,
}

/// What to show of one source.
#[derive(Debug, Subcommand)]
enum About {
    /// Lists executions that disappeared before they were seen, newest first.
    Gaps {
        /// The source's id.
        id: String,
    },
    /// Creates the token with which a source pushes its executions, and shows it once. An earlier one is
    /// refused from then on.
    PushToken(PushToken),
    /// Compares all that a source shows with what was counted, and lists the differences by id; exit code 1
    /// if there are any.
    Audit(Audit),
}

/// Arguments of `flowmeter sources push-token`.
#[derive(Debug, Args)]
struct PushToken {
    /// The source's id.
    id: String,
    /// Revoke the token instead. The source is still polled.
    #[arg(long)]
    revoke: bool,
}

#[derive(Debug, Deserialize)]
struct Made {
    token: String,
}

#[derive(Debug, Deserialize)]
struct SourceList {
    sources: Vec<Source>,
    #[serde(default)]
    damaged: Vec<Damaged>,
}

#[derive(Debug, Deserialize)]
struct Source {
    id: String,
    tenant: Option<String>,
    #[serde(default)]
    attributions: Vec<Attribution>,
    #[serde(default)]
    paused: bool,
    status: Status,
}

#[derive(Debug, Deserialize)]
struct Attribution {
    tenant: String,
}

#[derive(Debug, Deserialize)]
struct Status {
    complete_until: Option<String>,
    lag_seconds: Option<u64>,
    open_executions: Option<u64>,
    failing: Option<Failing>,
    loss_expected_at: Option<String>,
    #[serde(default)]
    unseen: Option<Unseen>,
    gaps: Option<Gaps>,
    clock_skew_ms: Option<i64>,
    #[serde(default)]
    warnings: Vec<Warning>,
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

#[derive(Debug, Deserialize)]
struct GapList {
    count: u64,
    gaps: Vec<Gap>,
}

#[derive(Debug, Deserialize)]
struct Gap {
    reason: String,
    epoch: u32,
    first_execution_id: String,
    last_execution_id: String,
    found_at: String,
}

impl Sources {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<ExitCode> {
        let path: &[&str] = match &self.about {
            None => &["sources"],
            Some(About::Gaps { id }) => &["sources", id, "gaps"],
            Some(About::PushToken(token)) => {
                token.run(client, out).await?;
                return Ok(ExitCode::SUCCESS);
            }
            Some(About::Audit(audit)) => return audit.run(client, self.json, out).await,
        };
        if self.json {
            let answer: Value = client.get(path).await?;
            writeln!(out, "{answer:#}")?;
            return Ok(ExitCode::SUCCESS);
        }
        match self.about {
            None => {
                let list: SourceList = client.get(path).await?;
                writeln!(out, "{}", table::or_none(&source_table(&list.sources), "No sources."))?;
                damaged::write(&list.damaged, "source", out)?;
                for source in &list.sources {
                    if let Some(unseen) = &source.status.unseen {
                        writeln!(out, "{}", unseen.sentence(&source.id))?;
                    }
                    for warning in &source.status.warnings {
                        writeln!(out, "{}", warning.sentence(&source.id))?;
                    }
                }
            }
            Some(About::PushToken(_) | About::Audit(_)) => {}
            Some(About::Gaps { .. }) => {
                let list: GapList = client.get(path).await?;
                writeln!(out, "{}", table::or_none(&gap_table(&list.gaps), "No gaps."))?;
                if let Some(more) = not_listed(&list) {
                    writeln!(out, "{more}")?;
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl PushToken {
    async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let path = ["sources", self.id.as_str(), "push-token"];
        if self.revoke {
            client.delete(&path).await?;
            writeln!(out, "revoked the push token of {}", self.id)?;
        } else {
            let made: Made = client.post(&path, &Value::Null).await?;
            writeln!(out, "token={}", made.token)?;
        }
        Ok(())
    }
}

fn gap_table(gaps: &[Gap]) -> Table {
    let mut table = table::new(&["found", "first execution", "last execution", "epoch", "reason"]);
    for gap in gaps {
        table.add_row([
            gap.found_at.clone(),
            id_or_unknown(&gap.first_execution_id),
            id_or_unknown(&gap.last_execution_id),
            gap.epoch.to_string(),
            gap_reason(&gap.reason).to_owned(),
        ]);
    }
    table::right(&mut table, &[1, 2, 3]);
    table
}

/// A range may have no known end.
fn id_or_unknown(id: &str) -> String {
    if id.is_empty() { "?".to_owned() } else { id.to_owned() }
}

fn gap_reason(reason: &str) -> &str {
    match reason {
        "open_execution_vanished" => "was running, and is gone: deleted, or not saved when it ended",
        "pruned_before_seen" => "pruned before it was seen",
        "epoch_ended" => "the database was restored or replaced",
        "unspecified" => "not known",
        newer => newer,
    }
}

fn not_listed(list: &GapList) -> Option<String> {
    let listed = u64::try_from(list.gaps.len()).unwrap_or(u64::MAX);
    let more = list.count.saturating_sub(listed);
    (more > 0).then(|| format!("{} older ones are not listed.", table::number(more)))
}

fn source_table(sources: &[Source]) -> Table {
    let mut table = table::new(&[
        "source",
        "tenant",
        "complete until",
        "behind",
        "clock",
        "open",
        "gaps",
        "unseen",
        "state",
    ]);
    for source in sources {
        let status = &source.status;
        table.add_row([
            source.id.clone(),
            whose(source),
            status.complete_until.clone().unwrap_or_else(|| "not swept yet".to_owned()),
            status.lag_seconds.map_or("-".to_owned(), table::lag),
            status.clock_skew_ms.map_or("-".to_owned(), clock),
            status.open_executions.map_or("-".to_owned(), table::number),
            status.gaps.as_ref().map_or("-".to_owned(), |gaps| table::number(gaps.count)),
            status.unseen.as_ref().map_or("-".to_owned(), |unseen| table::number(unseen.executions_max)),
            state(source),
        ]);
    }
    table::right(&mut table, &[3, 4, 5, 6, 7]);
    table
}

/// How far a source's clock is ahead, in seconds: `+300 s`. Less than one is within the accuracy.
fn clock(skew_ms: i64) -> String {
    match skew_ms / 1_000 {
        0 => "ok".to_owned(),
        seconds => format!("{seconds:+} s"),
    }
}

/// The tenants of a source; `--json` shows which parts are whose.
fn whose(source: &Source) -> String {
    let attributed = source.attributions.iter().map(|attribution| attribution.tenant.as_str());
    let mut tenants: Vec<&str> = source.tenant.as_deref().into_iter().chain(attributed).collect();
    tenants.sort_unstable();
    tenants.dedup();
    let named = tenants.iter().take(TENANTS_SHOWN_MAX).copied().collect::<Vec<_>>().join(", ");
    match tenants.len().saturating_sub(TENANTS_SHOWN_MAX) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn state(source: &Source) -> String {
    match &source.status.failing {
        _ if source.paused => "paused".to_owned(),
        Some(failing) => {
            let detail = table::shortened(&failing.detail, DETAIL_CHARS_MAX);
            format!("failing since {} ({}): {detail}", failing.since, failing.reason)
        }
        None => match &source.status.loss_expected_at {
            Some(at) => format!("n8n will prune executions before the next sweep, about {at}"),
            None if source.status.warnings.is_empty() => "ok".to_owned(),
            None => format!("warning ({})", warning::kinds(&source.status.warnings)),
        },
    }
}

#[cfg(test)]
crate::answers::reads!("list_sources" => SourceList, "list_gaps" => GapList, "create_push_token" => Made);

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_expected_loss_is_shown() {
        let source: Source = serde_json::from_value(json!({
            "id": "north-n8n", "tenant": "north",
            "status": {
                "complete_until": "2026-11-24T12:00:00Z", "lag_seconds": 4, "open_executions": 0, "failing": null,
                "loss_expected_at": "2026-11-24T12:07:00Z", "gaps": { "count": 1_204, "recent": [] },
            },
        }))
        .unwrap();
        let shown = source_table(&[source]).to_string();
        for part in ["about 2026-11-24T12:07:00Z", "1,204"] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
    }

    #[test]
    fn executions_that_were_never_shown_are_reported_with_the_remedy() {
        let source: Source = serde_json::from_value(json!({
            "id": "north-n8n", "tenant": "north",
            "status": {
                "complete_until": "2026-11-24T12:00:00Z",
                "unseen": { "executions_max": 1_040, "since": "2026-11-01T00:00:00Z", "unsaving_workflows": 2 },
            },
        }))
        .unwrap();
        let sentence = source.status.unseen.as_ref().unwrap().sentence(&source.id);
        for part in
            ["up to 1,040", "2026-11-01T00:00:00Z", "2 workflows", "EXECUTIONS_DATA_SAVE_ON_SUCCESS", "hook"]
        {
            assert!(sentence.contains(part), "{part} is missing: {sentence}");
        }
        assert!(source_table(&[source]).to_string().contains("1,040"));
    }

    #[test]
    fn a_warning_shows_the_remedy_and_the_clock_its_direction() {
        let source: Source = serde_json::from_value(json!({
            "id": "north-n8n", "tenant": "north",
            "status": {
                "complete_until": "2026-11-24T12:00:00Z", "clock_skew_ms": -300_400,
                "warnings": [{
                    "code": "clock", "detail": "The clock is behind. Set it by NTP.", "since": "2026-11-24T11:00:00Z",
                    "others": [],
                }],
            },
        }))
        .unwrap();
        let sentence = source.status.warnings[0].sentence(&source.id);
        for part in ["north-n8n: warning", "since 2026-11-24T11:00:00Z", "Set it by NTP"] {
            assert!(sentence.contains(part), "{part} is missing: {sentence}");
        }
        let shown = source_table(&[source]).to_string();
        assert!(shown.contains("-300 s") && shown.contains("warning (clock)"), "{shown}");
        assert_eq!((clock(999).as_str(), clock(1_000).as_str()), ("ok", "+1 s"));
    }

    #[test]
    fn a_shared_source_names_its_tenants_once() {
        let source: Source = serde_json::from_value(json!({
            "id": "shared", "tenant": null, "status": { "complete_until": null },
            "attributions": [{ "tenant": "south", "tag": "t" }, { "tenant": "north" }, { "tenant": "south" }],
        }))
        .unwrap();
        assert_eq!(whose(&source), "north, south");
    }

    #[test]
    fn gaps_are_listed_with_their_range_and_reason() {
        let list: GapList = serde_json::from_value(json!({
            "source": "north-n8n", "count": 1_500,
            "gaps": [{
                "reason": "epoch_ended", "epoch": 2, "first_execution_id": "120", "last_execution_id": "180",
                "found_at": "2026-11-24T12:00:00Z",
            }],
        }))
        .unwrap();
        let shown = gap_table(&list.gaps).to_string();
        for part in ["120", "180", "restored or replaced", "2026-11-24T12:00:00Z"] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
        assert_eq!(not_listed(&list).as_deref(), Some("1,499 older ones are not listed."));
    }

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
