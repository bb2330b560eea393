//! Sources over HTTP. The API key goes in and never comes out.

use jiff::Timestamp;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A source as it is written: `PUT /v1/sources/{id}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceInput {
    /// The id of the tenant whose executions it runs, which must exist.
    pub tenant: String,
    /// What software it runs.
    pub kind: SourceKindJson,
    /// Without the API's path, e.g. `https://n8n.example.com`.
    pub base_url: String,
    /// Needed for a new source and where `base_url` moves to another host; the sealed key is kept otherwise.
    #[serde(default)]
    #[schema(value_type = Option<String>, write_only)]
    pub api_key: Option<SecretString>,
    /// Time between sweeps, e.g. `10m`; null for the collector's default.
    #[serde(default)]
    pub poll_interval: Option<String>,
    /// Not swept while paused.
    #[serde(default)]
    pub paused: bool,
}

/// A source and how its metering goes.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceJson {
    /// The operator's word for it.
    pub id: String,
    /// Grows with every change.
    pub revision: u64,
    /// The id of its tenant.
    pub tenant: String,
    /// What software it runs.
    pub kind: SourceKindJson,
    /// Without the API's path.
    pub base_url: String,
    /// Whether a key is kept; the key itself is never shown.
    pub has_api_key: bool,
    /// Time between sweeps, e.g. `10m`.
    pub poll_interval: Option<String>,
    /// Not swept while paused.
    pub paused: bool,
    /// How its metering goes.
    pub status: SourceStatusJson,
}

/// How the metering of a source goes.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct SourceStatusJson {
    /// Every execution that stopped before this instant has been collected; null before the first sweep.
    pub complete_until: Option<Timestamp>,
    /// Time since `complete_until`.
    pub lag_seconds: Option<u64>,
    /// Executions that were running at `complete_until`.
    pub open_executions: Option<u64>,
    /// The last sweep that ended well.
    pub last_sweep: Option<SweepJson>,
    /// Why it cannot be swept now; null where it can.
    pub failing: Option<FailingJson>,
    /// Executions that were gone before they were seen.
    pub gaps: GapsJson,
}

/// A sweep that ended well.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SweepJson {
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Final executions that it published, repeats included.
    pub executions_published: u32,
    /// The life of the source's id sequence.
    pub epoch: u32,
}

/// Why a source cannot be swept.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FailingJson {
    /// For programs: `unreachable`, `unauthorized`, `rate_limited`, `unreadable`, `too_large`,
    /// `secret_unreadable`, `internal`, `unspecified`.
    pub reason: &'static str,
    /// For a person: what happened and what to do.
    pub detail: String,
    /// Since when.
    pub since: Timestamp,
    /// Failures in a row.
    pub consecutive_failures: u32,
}

/// Executions that were gone before they were seen.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct GapsJson {
    /// How many gaps are kept (90 days).
    pub count: u64,
    /// The latest ones, newest first, at most 20.
    pub recent: Vec<GapJson>,
}

/// A range of executions that the source no longer shows and that were never collected.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct GapJson {
    /// `open_execution_vanished`, `pruned_before_seen` or `unspecified`.
    pub reason: String,
    /// First id of the range.
    pub first_execution_id: String,
    /// Last id of the range, inclusive.
    pub last_execution_id: String,
    /// When it was found.
    pub found_at: Timestamp,
}

/// All sources, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceList {
    /// The sources.
    pub sources: Vec<SourceJson>,
}

/// What software a source runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKindJson {
    /// n8n.
    N8n,
}
