//! Ends a tenant's current period early: `POST /v1/tenants/{id}/periods/end`.

use axum::{Json, extract::State};
use jiff::Timestamp;
use metering::Period;
use proto::{InvalidMessage, required_instant, subjects::Question, v1};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::{JsonBody, PathId},
    figures::{ANSWER_WITHIN, tenant_of},
    questions::ask,
    responses::{Conflict, Invalid, NotFound},
    schema::{ReasonText, ShortText, TenantIdText},
};

/// Who ends a period, and why.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PeriodEndInput {
    /// Chosen by the caller; a repeat of the same id changes nothing.
    #[schema(value_type = ShortText)]
    pub id: String,
    /// Who ends it.
    #[schema(value_type = ShortText)]
    pub author: String,
    /// Why.
    #[schema(value_type = ReasonText)]
    pub reason: String,
}

/// A period that an operator has ended. This cannot be undone.
#[derive(Debug, Serialize, ToSchema)]
pub struct PeriodEndJson {
    /// Chosen by the author.
    pub id: String,
    /// Who ended it.
    pub author: String,
    /// Why.
    pub reason: String,
    /// When it was requested.
    pub asked_at: Timestamp,
    /// The start of the ended period.
    pub period_start: Timestamp,
    /// Its new end, and the start of the next period: a whole minute, after everything that was counted in
    /// it.
    pub period_end: Timestamp,
    /// The end of the next period: the first boundary of the tenant's calendar.
    pub next_end: Timestamp,
}

impl TryFrom<v1::PeriodEnd> for PeriodEndJson {
    type Error = InvalidMessage;

    fn try_from(wire: v1::PeriodEnd) -> Result<Self, InvalidMessage> {
        let asked = wire.question.ok_or(InvalidMessage::Missing("question"))?;
        let ended = Period::try_from(wire.ended.ok_or(InvalidMessage::Missing("ended"))?)?;
        let next = Period::try_from(wire.next.ok_or(InvalidMessage::Missing("next"))?)?;
        Ok(Self {
            id: asked.end_id,
            author: asked.author,
            reason: asked.reason,
            asked_at: required_instant(wire.asked_at.as_ref(), "asked_at")?,
            period_start: ended.start,
            period_end: ended.end,
            next_end: next.end,
        })
    }
}

/// Ends the tenant's current period within a minute, so that a changed calendar takes effect. The next period
/// lasts until the calendar's first boundary.
#[utoipa::path(post, path = "/v1/tenants/{id}/periods/end", operation_id = "end_period", tag = "usage", params(("id" = TenantIdText, Path)), request_body = PeriodEndInput, responses(
    (status = 200, body = PeriodEndJson),
    NotFound, Conflict, Invalid,
))]
pub async fn end(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    JsonBody(input): JsonBody<PeriodEndInput>,
) -> Result<Json<PeriodEndJson>, ApiError> {
    let (tenant, _) = tenant_of(&app, &caller, &id).await?;
    let question = v1::PeriodEndQuestion {
        end_id: input.id,
        tenant_id: tenant.id.to_string(),
        author: input.author,
        reason: input.reason,
    };
    let made: v1::PeriodEnd = ask(&app, &caller, Question::EndPeriod, &question, ANSWER_WITHIN).await?;
    PeriodEndJson::try_from(made).map(Json).map_err(ApiError::unavailable)
}
