//! The limit check over HTTP: `POST /v1/admissions` before a run, `POST /v1/admissions/batch` for many,
//! `GET /v1/admissions/{tenant}` for a preview.
//!
//! A refusal is an answer, not an error: HTTP 200 with `allowed: false`, or 429 or 402 if the caller asks for
//! it with `?status=429` or `?status=402`. If there is a limit, the headers `RateLimit-Limit`,
//! `RateLimit-Remaining` and `RateLimit-Reset` (seconds) give the same figures; `Retry-After` is when a
//! refusal may end.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use catalog::{OutageRule, Placement};
use futures_util::future::try_join_all;
use jiff::Timestamp;
use metering::{Mode, SourceId, TenantId, WorkflowId};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{Object, ObjectBuilder, Type},
};

use super::{
    App,
    asker::{Asker, Asking},
    authenticate::Caller,
    error::ApiError,
    extract::{JsonBody, PathId, QueryOf},
    meters,
    plans::OutageRuleJson,
    responses::{Invalid, NotFound},
    schema::{
        AdmissionReasonText, NOT_ATTRIBUTED, PlainText, RefusedOrError, RunIdText, SourceIdText,
        TenantIdText, UNKNOWN_TENANT, WorkflowIdText,
    },
    shapes::seconds_since,
    usage::is_shared,
};
use crate::{
    admission::{
        decision::Reason,
        known::Known,
        message,
        run_key::{ID_CHARS_MAX, RunKey, is_admission_id},
        verdict::{Request, Verdict},
    },
    directory::snapshot::Snapshot,
    store,
};

/// Requests in one batch.
const BATCH_MAX: usize = 100;

/// Tags that one request may name.
const TAGS_MAX: usize = 100;

/// Rows in the report of runs that would have been refused.
const SHADOW_ROWS_MAX: u64 = 1_000;

/// Stands for an unnamed workflow. No n8n id has this value, so it matches no attribution by workflow.
const UNNAMED: &str = "-";

/// May this run start?
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdmissionInput {
    /// The tenant's id. Give either the tenant or the source.
    #[serde(default)]
    #[schema(value_type = Option<TenantIdText>)]
    pub tenant: Option<String>,
    /// The source of the run; its attributions determine the tenant. Not needed with a push token.
    #[serde(default)]
    #[schema(value_type = Option<SourceIdText>)]
    pub source: Option<String>,
    /// Identifies the run, so that a repeated request gets the same answer: 1 to 200 printable characters.
    #[schema(value_type = RunIdText)]
    pub id: String,
    /// The workflow that wants to run.
    #[serde(default)]
    #[schema(value_type = Option<WorkflowIdText>)]
    pub workflow: Option<String>,
    /// What starts the run, as n8n names it (`webhook`, `trigger`, `manual`, ...). A run without a mode
    /// counts.
    #[serde(default)]
    #[schema(value_type = Option<PlainText>)]
    pub mode: Option<String>,
    /// Names of the workflow's tags, for attributions by tag. Used only while the workflow is not in the
    /// source's own list.
    #[serde(default)]
    #[schema(value_type = Vec<PlainText>, max_items = 100)]
    pub tags: Vec<String>,
    /// The workflow's project, for attributions by project. Used under the same condition as the tags.
    #[serde(default)]
    #[schema(value_type = Option<PlainText>)]
    pub project: Option<String>,
}

/// May these runs start?
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchInput {
    /// At most 100.
    #[schema(max_items = 100)]
    pub admissions: Vec<AdmissionInput>,
}

/// The verdicts, in the order of the requests.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BatchJson {
    /// One for each request.
    pub verdicts: Vec<AdmissionJson>,
}

/// The run to preview.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct LookQuery {
    /// The workflow that would run: its caps, its share and its loops are checked too.
    #[serde(default)]
    #[param(value_type = Option<WorkflowIdText>)]
    workflow: Option<String>,
    /// What would start it, as n8n names it. A run without a mode counts.
    #[serde(default)]
    #[param(value_type = Option<PlainText>)]
    mode: Option<String>,
}

/// How the verdict is returned.
#[derive(Debug, Clone, Copy, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AdmissionQuery {
    /// 429 (or 1) or 402: a refusal has this status instead of 200. One that may be false (`limit_unsettled`)
    /// never gets 402.
    #[serde(default)]
    #[param(schema_with = refused_status)]
    pub status: u16,
}

/// The values of `status`: 0 and 200 mean the same as none.
fn refused_status() -> Object {
    let status = ObjectBuilder::new().schema_type(Type::Integer);
    status.enum_values(Some([0, 1, 402, 429])).default(Some(0.into())).build()
}

/// The verdict.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct AdmissionJson {
    /// The tenant's id; null if no attribution of the source matches.
    #[schema(value_type = Option<TenantIdText>)]
    pub tenant: Option<String>,
    /// The request's id; null in a preview.
    #[schema(value_type = Option<RunIdText>)]
    pub id: Option<String>,
    /// Whether the run may start.
    pub allowed: bool,
    /// Why, for programs: `within_limit`, `no_limit`, `over_soft_limit`, `grace`, `not_counted`, `error_workflow`,
    /// `shadow`, `not_attributed`; refused: `limit_reached`, `limit_unsettled` (some runs may be counted
    /// twice for a moment: try again at `retry_at`), `overage_reached`, `tenant_minute_cap`, `tenant_day_cap`,
    /// `tenant_concurrent_cap`, `workflow_minute_cap`, `workflow_day_cap`,
    /// `workflow_concurrent_cap`, `workflow_share_used`, `loop_detected`, `unknown_tenant`; `metering_stale` for both.
    #[schema(value_type = AdmissionReasonText)]
    pub reason: &'static str,
    /// Why, for a person, in the tenant's language and time zone.
    pub message: String,
    /// Whether a soft limit is exceeded.
    pub over_limit: bool,
    /// Executions that count against the limit, this run included if it was allowed; null if nothing is known
    /// of the period yet.
    pub used: Option<u64>,
    /// Runs that were allowed here and are not counted yet, this one included.
    pub reserved: u64,
    /// Counted executions allowed in the period; null for no limit.
    pub limit: Option<u64>,
    /// `limit` - `used`; null without a limit or if `used` is not known.
    pub remaining: Option<u64>,
    /// When the period ends and the limit resets; null for an unknown tenant.
    pub resets_at: Option<Timestamp>,
    /// When a refusal may end; null if the run is allowed or that is not known.
    pub retry_at: Option<Timestamp>,
    /// The same for a person, in the tenant's language and time zone.
    pub hint: Option<String>,
    /// When the run was allowed and reserved; null if it was not. Push it with the execution as
    /// `admitted_at`, and the reservation ends as soon as the execution is counted.
    pub admitted_at: Option<Timestamp>,
    /// Why the run would have been refused, if the plan were not in shadow mode; null if it would not.
    pub shadow: Option<ShadowJson>,
    /// What to do while the limit check cannot be reached; null for an unknown tenant.
    pub outage: Option<OutageJson>,
    /// When the usage behind the verdict was read; null if there is none yet.
    pub as_of: Option<Timestamp>,
    /// Time since the instant up to which all sources are counted; null until each has been swept once.
    pub lag_seconds: Option<u64>,
}

/// Why a run would have been refused.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ShadowJson {
    /// For programs.
    #[schema(value_type = AdmissionReasonText)]
    pub reason: &'static str,
    /// For a person.
    pub message: String,
}

/// What to do while the limit check cannot be reached.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct OutageJson {
    /// `open`: let runs start. `closed`: do not.
    #[schema(value_type = OutageRuleJson)]
    pub rule: &'static str,
    /// How long `open` holds; null for no limit.
    pub open_at_most_seconds: Option<u64>,
    /// The message for a run that is refused meanwhile, in the tenant's language.
    pub message: String,
}

/// Runs that would have been refused in the current period.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ShadowReportJson {
    /// The tenant's id.
    pub tenant: String,
    /// The period's first instant.
    pub period_start: Timestamp,
    /// By reason and workflow, the most first, at most 1,000.
    pub refusals: Vec<ShadowRowJson>,
}

/// Runs that would have been refused for one reason.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ShadowRowJson {
    /// Why.
    pub reason: String,
    /// The workflow; null if the requests name none.
    pub workflow: Option<String>,
    /// How many.
    pub runs: u64,
}

impl AdmissionInput {
    /// The request with its tenant; `None` if no attribution matches.
    async fn into_request(
        self,
        app: &App,
        asker: &Asker,
        catalog: &Snapshot,
    ) -> Result<Option<Request>, ApiError> {
        if !is_admission_id(&self.id) {
            let reason = format!("use 1 to {ID_CHARS_MAX} printable characters without spaces");
            return Err(ApiError::field("id", reason));
        }
        if self.tags.len() > TAGS_MAX {
            return Err(ApiError::field("tags", format!("at most {TAGS_MAX}")));
        }
        let workflow = self.workflow.as_deref().map(WorkflowId::parse).transpose();
        let workflow = workflow.map_err(|error| ApiError::field("workflow", error))?;
        let tenant = self.tenant_of(app, asker, catalog, workflow.as_ref()).await?;
        let Some(tenant) = tenant else { return Ok(None) };
        let mode = self.mode.as_deref().map(Mode::parse);
        let key = RunKey::of(&tenant, &self.id);
        Ok(Some(Request { tenant, key, workflow, mode }))
    }

    async fn tenant_of(
        &self,
        app: &App,
        asker: &Asker,
        catalog: &Snapshot,
        workflow: Option<&WorkflowId>,
    ) -> Result<Option<TenantId>, ApiError> {
        let parse_source =
            |text: &str| SourceId::parse(text).map_err(|error| ApiError::field("source", error));
        let source = match (asker, &self.tenant, &self.source) {
            (Asker::Caller(caller), Some(tenant), None) => {
                let tenant = TenantId::parse(tenant).map_err(|error| ApiError::field("tenant", error))?;
                caller.check_may_see(&tenant)?;
                return Ok(Some(tenant));
            }
            (Asker::Caller(_), None, Some(source)) => parse_source(source)?,
            (Asker::Caller(_), _, _) => {
                return Err(ApiError::field("tenant", "name the tenant or the source, one of them"));
            }
            (Asker::Source(own), None, None) => own.clone(),
            (Asker::Source(own), None, Some(source)) if parse_source(source)? == *own => own.clone(),
            (Asker::Source(_), _, _) => return Err(ApiError::Forbidden),
        };
        let Some(known) = catalog.sources_by_id.get(&source) else {
            return match asker {
                // Who may not see it does not learn whether it exists.
                Asker::Caller(caller) if caller.principal.tenant().is_some() => Err(ApiError::Forbidden),
                _ => Err(ApiError::field("source", format!("there is no source {source}"))),
            };
        };
        let unnamed = WorkflowId::parse(UNNAMED)?;
        // The source's own list decides. The request's tags and project are a hint only for a workflow that
        // is not listed yet: otherwise a caller could charge another tenant, or evade its own limit.
        let listed = match workflow {
            Some(workflow) => Box::pin(app.placements.of(known, workflow)).await,
            None => None,
        };
        let (tags, project) = match &listed {
            Some(place) => (&place.tags, place.project.as_deref()),
            None => (&self.tags, self.project.as_deref()),
        };
        let placement = Placement { workflow: workflow.unwrap_or(&unnamed), tags, project };
        let tenant = known.tenant_of(placement, app.clock.now()).cloned();
        match (asker, &tenant) {
            (Asker::Caller(caller), Some(tenant)) => caller.check_may_see(tenant)?,
            (Asker::Caller(caller), None) if caller.principal.tenant().is_some() => {
                return Err(ApiError::Forbidden);
            }
            _ => {}
        }
        Ok(tenant)
    }
}

impl AdmissionJson {
    fn new(
        tenant: &TenantId,
        id: Option<String>,
        verdict: &Verdict,
        catalog: &Snapshot,
        now: Timestamp,
    ) -> Self {
        let terms = catalog.terms(tenant);
        let shadow = terms.and_then(|(tenant, _)| verdict.shadow_message(tenant)).zip(verdict.shadow);
        Self {
            tenant: Some(tenant.to_string()),
            id,
            allowed: verdict.allowed,
            reason: verdict.reason.as_str(),
            message: terms.map(|(tenant, _)| verdict.message(tenant)).unwrap_or_default(),
            over_limit: verdict.reason == Reason::OverSoftLimit,
            used: verdict.used,
            reserved: verdict.reserved,
            limit: verdict.limit,
            remaining: verdict.used.zip(verdict.limit).map(|(used, limit)| limit.saturating_sub(used)),
            resets_at: Some(verdict.resets_at),
            retry_at: verdict.retry_at,
            hint: terms.and_then(|(tenant, _)| verdict.hint(tenant)),
            admitted_at: verdict.admitted_at,
            shadow: shadow.map(|(message, reason)| ShadowJson { reason: reason.as_str(), message }),
            outage: terms.map(|(tenant, plan)| OutageJson {
                rule: match plan.outage_rule {
                    OutageRule::Open => "open",
                    OutageRule::Closed => "closed",
                },
                open_at_most_seconds: plan.admission.open_at_most.map(|length| length.as_secs()),
                message: message::unavailable(tenant.language),
            }),
            as_of: verdict.as_of,
            lag_seconds: verdict.complete_until.map(|instant| seconds_since(instant, now)),
        }
    }

    fn without_terms(
        tenant: Option<&TenantId>,
        id: Option<String>,
        allowed: bool,
        reason: &'static str,
        message: String,
    ) -> Self {
        Self {
            tenant: tenant.map(ToString::to_string),
            id,
            allowed,
            reason,
            message,
            over_limit: false,
            used: None,
            reserved: 0,
            limit: None,
            remaining: None,
            resets_at: None,
            retry_at: None,
            hint: None,
            admitted_at: None,
            shadow: None,
            outage: None,
            as_of: None,
            lag_seconds: None,
        }
    }

    /// The verdict for a tenant that does not exist or has no plan.
    fn unknown(tenant: &TenantId, id: Option<String>) -> Self {
        let message = format!("Refused: there is no tenant {tenant}.");
        Self::without_terms(Some(tenant), id, false, UNKNOWN_TENANT, message)
    }

    /// A run that belongs to no tenant yet counts against no limit; its executions wait for an attribution.
    fn not_attributed(id: String) -> Self {
        let message = "Allowed: no attribution of the source says whose run this is.".to_owned();
        Self::without_terms(None, Some(id), true, NOT_ATTRIBUTED, message)
    }

    fn into_response(self, refused: StatusCode, now: Timestamp) -> Response {
        let status = if self.allowed { StatusCode::OK } else { refused };
        let headers = self.headers(now);
        (status, headers, Json(self)).into_response()
    }

    fn headers(&self, now: Timestamp) -> HeaderMap {
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
        if let Some(retry_at) = self.retry_at.filter(|_| !self.allowed) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds_since(now, retry_at).max(1)));
        }
        headers
    }
}

/// The verdict as the tenant itself may see it. For a source that it shares with others, `used` includes all
/// running executions, also those of others: the tenant sees only its counted and reserved runs. A refusal
/// for the limit still shows the limit as used, which reveals no more than the refusal.
fn for_tenant(app: &App, catalog: &Snapshot, tenant: &TenantId, mut verdict: Verdict) -> Verdict {
    if !catalog.sources_of(tenant).iter().any(is_shared) {
        return verdict;
    }
    let counted = app.usage.of(tenant).filter(|counted| counted.is_current(app.clock.now()));
    let (counted, complete) =
        counted.map_or((0, 0), |counted| (counted.totals.counted, counted.counted_complete));
    let own = counted.max(complete.saturating_add(verdict.reserved));
    let is_for_the_limit =
        matches!(verdict.reason, Reason::LimitReached | Reason::LimitUnsettled | Reason::OverageReached);
    let reached = verdict.limit.filter(|_| is_for_the_limit).unwrap_or(0);
    verdict.used = verdict.used.map(|_| own.max(reached));
    verdict
}

async fn decide(app: &App, asker: &Asker, input: AdmissionInput) -> Result<AdmissionJson, ApiError> {
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    let id = input.id.clone();
    let Some(request) = input.into_request(app, asker, &catalog).await? else {
        meters::decided(true, NOT_ATTRIBUTED);
        return Ok(AdmissionJson::not_attributed(id));
    };
    let tenant = request.tenant.clone();
    let json = match app.admissions.admit(request, &catalog).await? {
        Some(verdict) => {
            let verdict =
                if asker.is_operator() { verdict } else { for_tenant(app, &catalog, &tenant, verdict) };
            AdmissionJson::new(&tenant, Some(id), &verdict, &catalog, app.clock.now())
        }
        None => AdmissionJson::unknown(&tenant, Some(id)),
    };
    meters::decided(json.allowed, json.reason);
    Ok(json)
}

/// May this run start? An allowed run is reserved; the same id gets the same answer.
#[utoipa::path(post, path = "/v1/admissions", operation_id = "admit", tag = "limit check", params(AdmissionQuery),
    request_body = AdmissionInput, responses(
    (status = 200, body = AdmissionJson, headers(
        ("RateLimit-Limit" = u64, description = "`limit`, if there is one."),
        ("RateLimit-Remaining" = u64, description = "`remaining`, if there is a limit."),
        ("RateLimit-Reset" = u64, description = "Seconds until `resets_at`, if there is a limit."),
        ("Retry-After" = u64, description = "Seconds until `retry_at`, if the run is refused."),
    )),
    (status = 402, body = AdmissionJson, description = "Refused, if `status=402` asks for it."),
    (status = 429, body = RefusedOrError, description = "Refused, if `status=429` asks for it; or the caller has too many requests in progress."),
    Invalid,
))]
pub async fn admit(
    State(app): State<App>,
    asking: Asking,
    QueryOf(query): QueryOf<AdmissionQuery>,
    JsonBody(input): JsonBody<AdmissionInput>,
) -> Result<Response, ApiError> {
    let refused = match query.status {
        0 => StatusCode::OK,
        1 | 429 => StatusCode::TOO_MANY_REQUESTS,
        402 => StatusCode::PAYMENT_REQUIRED,
        _ => return Err(ApiError::InvalidRequest("`status` is 429 or 402".to_owned())),
    };
    let json = decide(&app, &asking.asker, input).await?;
    // 402 would ask for payment although the next check may allow the run.
    let is_unsettled = json.reason == Reason::LimitUnsettled.as_str();
    let refused = if is_unsettled && refused == StatusCode::PAYMENT_REQUIRED {
        StatusCode::TOO_MANY_REQUESTS
    } else {
        refused
    };
    Ok(json.into_response(refused, app.clock.now()))
}

/// May these runs start? At most 100; each is decided separately.
#[utoipa::path(post, path = "/v1/admissions/batch", operation_id = "admit_batch", tag = "limit check",
    request_body = BatchInput, responses(
    (status = 200, body = BatchJson),
    Invalid,
))]
pub async fn admit_batch(
    State(app): State<App>,
    asking: Asking,
    JsonBody(input): JsonBody<BatchInput>,
) -> Result<Json<BatchJson>, ApiError> {
    if input.admissions.len() > BATCH_MAX {
        return Err(ApiError::field("admissions", format!("at most {BATCH_MAX}")));
    }
    let decisions = input.admissions.into_iter().map(|admission| decide(&app, &asking.asker, admission));
    Ok(Json(BatchJson { verdicts: try_join_all(decisions).await? }))
}

/// What `POST /v1/admissions` would answer now. Reserves nothing.
#[utoipa::path(get, path = "/v1/admissions/{tenant}", operation_id = "look_at_limit", tag = "limit check", params(
        ("tenant" = TenantIdText, Path), LookQuery,
    ), responses(
    (status = 200, body = AdmissionJson),
    NotFound, Invalid,
))]
pub async fn look(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<LookQuery>,
) -> Result<Response, ApiError> {
    let tenant = TenantId::parse(&id)?;
    caller.check_may_see(&tenant)?;
    let workflow = query.workflow.as_deref().map(WorkflowId::parse).transpose();
    let workflow = workflow.map_err(|error| ApiError::field("workflow", error))?;
    let mode = query.mode.as_deref().map(Mode::parse);
    let verdict =
        app.admissions.look(&tenant, workflow, mode).await?.ok_or_else(|| ApiError::no_tenant(&tenant))?;
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    let now = app.clock.now();
    let is_tenant = caller.principal.tenant().is_some();
    let verdict = if is_tenant { for_tenant(&app, &catalog, &tenant, verdict) } else { verdict };
    Ok(AdmissionJson::new(&tenant, None, &verdict, &catalog, now).into_response(StatusCode::OK, now))
}

/// Runs that would have been refused in the current period, for a plan in shadow mode.
#[utoipa::path(get, path = "/v1/tenants/{id}/admissions/shadow", operation_id = "shadow_report", tag = "limit check", params(("id" = TenantIdText, Path)), responses(
    (status = 200, body = ShadowReportJson),
    NotFound, Invalid,
))]
pub async fn shadow(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<ShadowReportJson>, ApiError> {
    let tenant = TenantId::parse(&id)?;
    caller.check_may_see(&tenant)?;
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    let (known, _) = catalog.terms(&tenant).ok_or_else(|| ApiError::no_tenant(&tenant))?;
    let now = app.clock.now();
    let Known { period, .. } = app.admissions.resources.known(known, now);
    let rows = store::admissions::shadowed(&app.pool, &tenant, period.start, SHADOW_ROWS_MAX).await;
    let rows = rows.map_err(ApiError::unavailable)?.into_iter();
    Ok(Json(ShadowReportJson {
        tenant: tenant.to_string(),
        period_start: period.start,
        refusals: rows.map(|(reason, workflow, runs)| ShadowRowJson { reason, workflow, runs }).collect(),
    }))
}
