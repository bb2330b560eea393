//! The limit check over HTTP: `POST /v1/admissions` before a run, `GET /v1/admissions/{tenant}` to look only.
//!
//! A refusal is an answer, not an error: HTTP 200 with `allowed: false`, or 429 where the caller asks for it
//! with `?status=1`. Headers `RateLimit-Limit`, `RateLimit-Remaining` and `RateLimit-Reset` (seconds) say the
//! same where there is a limit.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode},
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use metering::{Mode, TenantId, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    authenticate::Caller,
    error::{ApiError, ErrorJson},
    extract::{JsonBody, PathId, QueryOf},
    usage::seconds_since,
};
use crate::{
    admission::Reason,
    admit::{Request, Verdict},
};

/// Longest id of a run.
const ID_CHARS_MAX: usize = 200;

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
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(deny_unknown_fields)]
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

impl AdmissionInput {
    fn into_request(self) -> Result<Request, ApiError> {
        let is_id = (1..=ID_CHARS_MAX).contains(&self.id.chars().count())
            && !self.id.chars().any(|c| c.is_control() || c.is_whitespace());
        if !is_id {
            let reason = format!("use 1 to {ID_CHARS_MAX} printable characters without spaces");
            return Err(ApiError::field("id", reason));
        }
        let workflow = self.workflow.as_deref().map(WorkflowId::parse).transpose();
        Ok(Request {
            tenant: TenantId::parse(&self.tenant).map_err(|error| ApiError::field("tenant", error))?,
            id: self.id,
            workflow: workflow.map_err(|error| ApiError::field("workflow", error))?,
            mode: self.mode.as_deref().map(Mode::parse),
        })
    }
}

impl From<Reason> for ReasonJson {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::WithinLimit => Self::WithinLimit,
            Reason::LimitReached => Self::LimitReached,
            Reason::NotCounted => Self::NotCounted,
            Reason::NoLimit => Self::NoLimit,
            Reason::OverSoftLimit => Self::OverSoftLimit,
            Reason::MeteringStale => Self::MeteringStale,
        }
    }
}

impl AdmissionJson {
    fn new(tenant: &TenantId, id: Option<String>, verdict: Verdict, now: Timestamp) -> Self {
        Self {
            tenant: tenant.to_string(),
            id,
            allowed: verdict.allowed,
            reason: verdict.reason.into(),
            message: verdict.message,
            over_limit: verdict.reason == Reason::OverSoftLimit,
            used: verdict.used,
            reserved: verdict.reserved,
            limit: verdict.limit,
            remaining: verdict.used.zip(verdict.limit).map(|(used, limit)| limit.saturating_sub(used)),
            resets_at: Some(verdict.resets_at),
            as_of: verdict.as_of,
            lag_seconds: verdict.complete_until.map(|instant| seconds_since(instant, now)),
        }
    }

    /// A tenant without a plan has nothing to run on.
    fn unknown(tenant: &TenantId, id: Option<String>) -> Self {
        Self {
            tenant: tenant.to_string(),
            id,
            allowed: false,
            reason: ReasonJson::UnknownTenant,
            message: format!("Refused: there is no tenant {tenant}."),
            over_limit: false,
            used: None,
            reserved: 0,
            limit: None,
            remaining: None,
            resets_at: None,
            as_of: None,
            lag_seconds: None,
        }
    }

    fn into_response(self, refused: StatusCode, now: Timestamp) -> Response {
        let status = if self.allowed { StatusCode::OK } else { refused };
        let headers = self.rate_limit_headers(now);
        (status, headers, Json(self)).into_response()
    }

    fn rate_limit_headers(&self, now: Timestamp) -> HeaderMap {
        let reset = self.resets_at.map(|end| seconds_since(now, end));
        let figures = [
            ("ratelimit-limit", self.limit),
            ("ratelimit-remaining", self.remaining),
            ("ratelimit-reset", reset),
        ];
        let mut headers = HeaderMap::new();
        if self.limit.is_some() {
            for (name, figure) in figures {
                if let Some(figure) = figure {
                    headers.insert(HeaderName::from_static(name), HeaderValue::from(figure));
                }
            }
        }
        headers
    }
}

/// May this run start? Allowing it reserves it; the same id gets the same answer.
#[utoipa::path(post, path = "/v1/admissions", operation_id = "admit", tag = "limit check", params(
        ("status" = Option<u8>, Query, description = "1: a refusal has the status 429 instead of 200."),
    ),
    request_body = AdmissionInput, responses(
    (status = 200, body = AdmissionJson),
    (status = 429, body = AdmissionJson, description = "Refused, where `status=1` asks for it."),
    (status = "default", body = ErrorJson),
))]
pub async fn admit(
    State(app): State<App>,
    caller: Caller,
    QueryOf(query): QueryOf<AdmissionQuery>,
    JsonBody(input): JsonBody<AdmissionInput>,
) -> Result<Response, ApiError> {
    let refused = match query.status {
        0 => StatusCode::OK,
        1 => StatusCode::TOO_MANY_REQUESTS,
        _ => return Err(ApiError::InvalidRequest("`status` is 0 or 1".to_owned())),
    };
    let request = input.into_request()?;
    caller.check_may_see(&request.tenant)?;
    let verdict = app.admissions.admit(&request).await?;
    let reason = verdict.as_ref().map_or("unknown_tenant", |verdict| verdict.reason.as_str());
    let outcome = if verdict.as_ref().is_some_and(|verdict| verdict.allowed) { "allowed" } else { "refused" };
    metrics::counter!("flowmeter_admissions_total", "verdict" => outcome, "reason" => reason).increment(1);
    let now = app.clock.now();
    let answer = match verdict {
        Some(verdict) => AdmissionJson::new(&request.tenant, Some(request.id), verdict, now),
        None => AdmissionJson::unknown(&request.tenant, Some(request.id)),
    };
    Ok(answer.into_response(refused, now))
}

/// What a run would be told now. Reserves nothing.
#[utoipa::path(get, path = "/v1/admissions/{tenant}", operation_id = "look_at_limit", tag = "limit check", params(("tenant" = String, Path)), responses(
    (status = 200, body = AdmissionJson),
    (status = "default", body = ErrorJson),
))]
pub async fn look(State(app): State<App>, caller: Caller, PathId(id): PathId) -> Result<Response, ApiError> {
    let tenant = TenantId::parse(&id)?;
    caller.check_may_see(&tenant)?;
    let verdict = app.admissions.look(&tenant).await?.ok_or_else(|| ApiError::no_tenant(&tenant))?;
    let now = app.clock.now();
    Ok(AdmissionJson::new(&tenant, None, verdict, now).into_response(StatusCode::OK, now))
}
