//! Corrections by an operator: `POST` and `GET /v1/tenants/{id}/corrections`. A correction cannot be deleted;
//! another one reverses it.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use axum::{Json, extract::State};
use jiff::Timestamp;
use metering::Period;
use proto::{
    InvalidMessage, required_instant, subjects::Question, timestamp, v1, v1::correction_question::Change,
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::{JsonBody, PathId, QueryOf},
    figures::{ANSWER_WITHIN, answered_period, instant_in, metered_tenant},
    questions::ask,
    responses::{Conflict, Invalid, NotFound},
    schema::{MomentText, QuantityNumber, ReasonText, ShortText, SourceIdText, TenantIdText},
    shapes::PeriodJson,
};

/// A new correction. Either `void` or `adjust`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CorrectionInput {
    /// Chosen by the caller; a repeat of the same id changes nothing.
    #[schema(value_type = ShortText)]
    pub id: String,
    /// Who makes the correction.
    #[schema(value_type = ShortText)]
    pub author: String,
    /// Why.
    #[schema(value_type = ReasonText)]
    pub reason: String,
    /// Whether the tenant may read the reason. The author is never shown to it.
    #[serde(default)]
    pub public: bool,
    /// An execution that no longer counts.
    #[serde(default)]
    pub void: Option<VoidInput>,
    /// A change of a period's count.
    #[serde(default)]
    pub adjust: Option<AdjustInput>,
}

/// An execution, by its key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VoidInput {
    /// The source that ran it.
    #[schema(value_type = SourceIdText)]
    pub source: String,
    /// The epoch of the source's id sequence, as `explain` shows it.
    pub epoch: u32,
    /// Its id there.
    pub execution: u64,
}

/// A change of a period's count.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdjustInput {
    /// An instant (RFC 3339) or date in the period; by default the current period.
    #[serde(default)]
    #[schema(value_type = Option<MomentText>)]
    pub period: Option<String>,
    /// Added to the count; negative to subtract.
    #[schema(value_type = QuantityNumber)]
    pub quantity: i64,
}

/// A correction that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectionJson {
    /// Chosen by the author; null for the tenant if the reason is not public.
    pub id: Option<String>,
    /// Who made it; null for the tenant.
    pub author: Option<String>,
    /// Why; null for the tenant if it is not public.
    pub reason: Option<String>,
    /// Whether the tenant may read the reason.
    pub public: bool,
    /// When.
    pub corrected_at: Timestamp,
    /// The start of the corrected period, inclusive.
    pub period_start: Timestamp,
    /// The end of the corrected period, exclusive.
    pub period_end: Timestamp,
    /// The execution that no longer counts.
    pub void: Option<VoidedJson>,
    /// The number added to the count.
    pub adjusted: Option<i64>,
}

/// An execution that no longer counts.
#[derive(Debug, Serialize, ToSchema)]
pub struct VoidedJson {
    /// The source that ran it.
    pub source: String,
    /// The epoch of the source's id sequence.
    pub epoch: u32,
    /// Its id there.
    pub execution: String,
}

/// Which corrections.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct CorrectionsQuery {
    /// An instant (RFC 3339) or date in the period; by default the current period.
    #[param(value_type = Option<MomentText>)]
    period: Option<String>,
}

/// The corrections of a period, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct CorrectionList {
    /// The tenant's id.
    pub tenant: String,
    /// The period.
    pub period: PeriodJson,
    /// The corrections.
    pub corrections: Vec<CorrectionJson>,
}

impl TryFrom<v1::Correction> for CorrectionJson {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Correction) -> Result<Self, InvalidMessage> {
        let made = wire.correction.ok_or(InvalidMessage::Missing("correction"))?;
        let period = Period::try_from(wire.period.ok_or(InvalidMessage::Missing("period"))?)?;
        let (void, adjusted) = match made.change.ok_or(InvalidMessage::Missing("change"))? {
            Change::VoidExecution(void) => {
                let execution = void.execution_id.to_string();
                (Some(VoidedJson { source: void.source_id, epoch: void.epoch, execution }), None)
            }
            Change::AdjustCount(adjust) => (None, Some(adjust.quantity)),
        };
        Ok(Self {
            id: Some(made.correction_id),
            author: Some(made.author),
            reason: Some(made.reason),
            public: made.reason_is_public,
            corrected_at: required_instant(wire.corrected_at.as_ref(), "corrected_at")?,
            period_start: period.start,
            period_end: period.end,
            void,
            adjusted,
        })
    }
}

impl CorrectionJson {
    /// As the tenant itself may see it: that its figures were corrected, when and by how much. The author is
    /// the operator's own matter, and so are id and reason unless the reason is public.
    #[must_use]
    pub fn for_tenant(mut self) -> Self {
        self.author = None;
        if !self.public {
            (self.id, self.reason) = (None, None);
        }
        self
    }
}

/// Voids an execution, or adjusts a period's count.
#[utoipa::path(post, path = "/v1/tenants/{id}/corrections", operation_id = "correct_usage", tag = "usage", params(("id" = TenantIdText, Path)), request_body = CorrectionInput, responses(
    (status = 200, body = CorrectionJson),
    NotFound, Conflict, Invalid,
))]
pub async fn create(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    JsonBody(input): JsonBody<CorrectionInput>,
) -> Result<Json<CorrectionJson>, ApiError> {
    let (metered, _) = metered_tenant(&app, &caller, &id).await?;
    let (now, tenant) = (metered.now(&app), metered.tenant);
    let change = match (input.void, input.adjust) {
        (Some(void), None) => Change::VoidExecution(v1::VoidExecution {
            source_id: void.source,
            epoch: void.epoch,
            execution_id: void.execution,
        }),
        (None, Some(adjust)) => {
            let instant = instant_in(adjust.period.as_deref(), &tenant.calendar, now)?;
            Change::AdjustCount(v1::AdjustCount {
                // For an aggregator of the previous version.
                period_start: Some(timestamp(tenant.calendar.period_of(instant).start)),
                period_at: Some(timestamp(instant)),
                quantity: adjust.quantity,
            })
        }
        _ => return Err(ApiError::field("void", "say either `void` or `adjust`")),
    };
    let question = v1::CorrectionQuestion {
        correction_id: input.id,
        tenant_id: tenant.id.to_string(),
        author: input.author,
        reason: input.reason,
        reason_is_public: input.public,
        change: Some(change),
    };
    let made: v1::Correction = ask(&app, &caller, Question::Correct, &question, ANSWER_WITHIN).await?;
    CorrectionJson::try_from(made).map(Json).map_err(ApiError::unavailable)
}

/// The corrections of a period, oldest first.
#[utoipa::path(get, path = "/v1/tenants/{id}/corrections", operation_id = "list_corrections", tag = "usage", params(("id" = TenantIdText, Path), CorrectionsQuery), responses(
    (status = 200, body = CorrectionList),
    NotFound, Invalid,
))]
pub async fn list(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<CorrectionsQuery>,
) -> Result<Json<CorrectionList>, ApiError> {
    let (metered, _) = metered_tenant(&app, &caller, &id).await?;
    let (now, tenant) = (metered.now(&app), metered.tenant);
    let instant = instant_in(query.period.as_deref(), &tenant.calendar, now)?;
    // They come with the first page of an explanation; a page has at least one execution.
    let question = v1::ExplainQuestion {
        tenant_id: tenant.id.to_string(),
        // For an aggregator of the previous version.
        period_start: Some(timestamp(tenant.calendar.period_of(instant).start)),
        period_at: Some(timestamp(instant)),
        count_max: 1,
        ..v1::ExplainQuestion::default()
    };
    let answer: v1::ExplainAnswer = ask(&app, &caller, Question::Explain, &question, ANSWER_WITHIN).await?;
    let period = answered_period(answer.period, &tenant.calendar, instant)?;
    let corrections = answer.corrections.into_iter().map(CorrectionJson::try_from).collect::<Result<_, _>>();
    Ok(Json(CorrectionList {
        tenant: tenant.id.to_string(),
        period: PeriodJson::new(period, Some(&answer.time_zone), &tenant.calendar),
        corrections: corrections.map_err(ApiError::unavailable)?,
    }))
}
