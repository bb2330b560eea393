//! The limit check over HTTP: `POST /v1/admissions` before a run, `GET /v1/admissions/{tenant}` to look only.
//!
//! A refusal is an answer, not an error: HTTP 200 with `allowed: false`, or 429 where the caller asks for it
//! with `?status=1`. Headers `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds) say the
//! same where there is a limit.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// May this run start?
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmissionInput {
    /// The tenant's id.
    pub tenant: String,
    /// Identifies the run, so that a repeated request gets the same answer: 1 to 200 printable characters.
    pub id: String,
    /// The workflow that wants to run.
    #[serde(default)]
    pub workflow: Option<String>,
    /// What starts the run, as n8n names it (`webhook`, `trigger`, `manual`, ...). Counted if missing.
    #[serde(default)]
    pub mode: Option<String>,
}

/// How the verdict is told.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AdmissionQuery {
    /// 1: a refusal has the status 429 instead of 200.
    #[serde(default)]
    pub status: u8,
}

/// The verdict.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AdmissionJson {
    /// The tenant's id.
    pub tenant: String,
    /// The request's id; null where nothing was asked to run.
    pub id: Option<String>,
    /// Whether the run may start.
    pub allowed: bool,
    /// Why, for programs.
    pub reason: ReasonJson,
    /// Why, for a person, in the tenant's language.
    pub message: String,
    /// Whether a soft limit is passed.
    pub over_limit: bool,
    /// Executions that stand against the limit, this run included where it was allowed; null where metering
    /// knows nothing of the period yet.
    pub used: Option<u64>,
    /// Runs that were allowed here and that metering has not seen yet, this one included.
    pub reserved: u64,
    /// Counted executions allowed in the period; null for no limit.
    pub limit: Option<u64>,
    /// `limit` - `used`; null without a limit or where `used` is not known.
    pub remaining: Option<u64>,
    /// When the period ends and the limit begins anew; null for an unknown tenant.
    pub resets_at: Option<Timestamp>,
    /// When the usage behind the verdict was read; null where there is none yet.
    pub as_of: Option<Timestamp>,
    /// Time since the instant up to which all sources are counted; null until each has been swept once.
    pub lag_seconds: Option<u64>,
}

/// Why a run may start, or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReasonJson {
    /// Allowed: the limit is not reached.
    WithinLimit,
    /// Refused: the limit is reached.
    LimitReached,
    /// Allowed: the plan does not count runs of this mode.
    NotCounted,
    /// Allowed: the plan has no limit.
    NoLimit,
    /// Allowed: the limit is passed, and it is a soft one.
    OverSoftLimit,
    /// Metering is too old to tell; the plan's outage rule decided.
    MeteringStale,
    /// Refused: there is no such tenant.
    UnknownTenant,
}
