//! Audits over HTTP: `POST /v1/sources/{id}/audit` starts one, `GET` returns the progress of the last one.

use std::time::Duration;

use axum::{Json, extract::State, http::StatusCode};
use catalog::Source;
use jiff::{SignedDuration, Timestamp};
use messaging::follow::Listen;
use metering::SourceId;
use proto::{InvalidMessage, subjects::Question, v1};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::PathId,
    questions::ask,
    responses::{Conflict, Invalid, NotFound},
    schema::{FindingText, SourceIdText},
    unseen::UnseenJson,
};
use crate::sources::audits::Audit;

/// The collector answers as soon as the audit has started.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The collector reports on an audit every few seconds; after this time without a report it is not running
/// any more.
const STALLED_AFTER: SignedDuration = SignedDuration::from_secs(60);

/// The comparison of a source with the counted executions.
#[derive(Debug, Serialize, ToSchema)]
pub struct AuditJson {
    /// The source's id.
    #[schema(value_type = SourceIdText)]
    pub source: String,
    /// The audit's id.
    pub id: String,
    /// Its state.
    pub state: AuditState,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended; null while it is running.
    pub ended_at: Option<Timestamp>,
    /// When the collector last reported it.
    pub updated_at: Timestamp,
    /// Final executions that the source has shown so far.
    pub listed: u64,
    /// Those that were recorded with the same status and end.
    pub equal: u64,
    /// The first differences, at most 1,000.
    pub differences: Vec<DifferenceJson>,
    /// The number of all differences.
    pub differences_total: u64,
    /// Executions that the source has numbered but never showed, so that no audit can compare them; null if
    /// there are none.
    pub unseen: Option<UnseenJson>,
    /// Why it ended before everything was compared; null if it did not.
    pub failure: Option<String>,
}

/// The state of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuditState {
    /// It is running.
    Running,
    /// The collector has not reported it for a minute, because it has stopped. Start another.
    Stalled,
    /// It ended before everything was compared.
    Failed,
    /// Everything was compared.
    Done,
}

/// One execution on which the source and the count differ.
#[derive(Debug, Serialize, ToSchema)]
pub struct DifferenceJson {
    /// The epoch of the source's id sequence that the id belongs to.
    pub epoch: u32,
    /// Its id there.
    pub execution: String,
    /// `not_recorded`, `different`, `not_shown` or `unspecified`.
    #[schema(value_type = FindingText)]
    pub finding: &'static str,
    /// For a person: the execution at the source, and as counted.
    pub detail: String,
}

impl AuditJson {
    fn new(audit: &Audit, now: Timestamp) -> Self {
        let published = &audit.published;
        Self {
            source: published.source_id.clone(),
            id: published.audit_id.clone(),
            state: state(audit, now),
            started_at: audit.started_at,
            ended_at: audit.ended_at,
            updated_at: audit.updated_at,
            listed: published.listed,
            equal: published.equal,
            differences: published.differences.iter().map(DifferenceJson::from).collect(),
            differences_total: published.differences_total,
            unseen: UnseenJson::of(audit.unseen),
            failure: (!published.failure.is_empty()).then(|| published.failure.clone()),
        }
    }
}

fn state(audit: &Audit, now: Timestamp) -> AuditState {
    match audit.ended_at {
        Some(_) if audit.published.failure.is_empty() => AuditState::Done,
        Some(_) => AuditState::Failed,
        None if now.duration_since(audit.updated_at) > STALLED_AFTER => AuditState::Stalled,
        None => AuditState::Running,
    }
}

impl From<&v1::AuditDifference> for DifferenceJson {
    fn from(difference: &v1::AuditDifference) -> Self {
        Self {
            epoch: difference.epoch,
            execution: difference.execution_id.to_string(),
            finding: match difference.finding() {
                v1::AuditFinding::Unspecified => "unspecified",
                v1::AuditFinding::NotRecorded => "not_recorded",
                v1::AuditFinding::Different => "different",
                v1::AuditFinding::NotShown => "not_shown",
            },
            detail: difference.detail.clone(),
        }
    }
}

/// Starts to compare all executions that a source shows with the counted ones.
#[utoipa::path(post, path = "/v1/sources/{id}/audit", operation_id = "begin_audit", tag = "catalog", params(("id" = SourceIdText, Path)), responses(
    (status = 202, body = AuditJson),
    NotFound, Conflict, Invalid,
))]
pub async fn begin(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<(StatusCode, Json<AuditJson>), ApiError> {
    let source = app.editor.find::<Source>(&id).await?.value.id;
    let question = v1::AuditQuestion { source_id: source.to_string() };
    let begun: v1::SourceAudit = ask(&app, &caller, Question::Audit, &question, ANSWER_WITHIN).await?;
    let audit = Audit::try_from(begun.clone()).map_err(ApiError::unavailable)?;
    app.audits.apply(begun).map_err(ApiError::unavailable)?;
    Ok((StatusCode::ACCEPTED, Json(AuditJson::new(&audit, app.clock.now()))))
}

/// The progress of a source's last audit.
#[utoipa::path(get, path = "/v1/sources/{id}/audit", operation_id = "get_audit", tag = "catalog", params(("id" = SourceIdText, Path)), responses(
    (status = 200, body = AuditJson),
    NotFound, Invalid,
))]
pub async fn get(State(app): State<App>, PathId(id): PathId) -> Result<Json<AuditJson>, ApiError> {
    let id = SourceId::parse(&id)?;
    let none = || ApiError::NotFound(format!("there is no audit of a source {id}"));
    let audit = app.audits.of(&id).ok_or_else(none)?;
    Ok(Json(AuditJson::new(&audit, app.clock.now())))
}

/// Applies `SourceAudit` to the view.
pub struct AuditListener(pub App);

impl Listen for AuditListener {
    type Message = v1::SourceAudit;

    fn apply_message(&self, message: v1::SourceAudit) -> Result<(), InvalidMessage> {
        self.0.audits.apply(message)
    }
}

#[cfg(test)]
mod tests {
    use proto::timestamp;

    use super::*;

    #[test]
    fn an_unreported_audit_has_stalled_and_one_with_a_reason_has_failed() {
        let at = |text: &str| Some(timestamp(text.parse().unwrap()));
        let running = v1::SourceAudit { started_at: at("2026-11-24T12:00:00Z"), ..Default::default() };
        let ended = v1::SourceAudit { ended_at: at("2026-11-24T12:00:30Z"), ..running.clone() };
        let failed = v1::SourceAudit { failure: "n8n is unreachable".into(), ..ended.clone() };
        for (wire, now, expected) in [
            (&running, "2026-11-24T12:01:00Z", AuditState::Running),
            (&running, "2026-11-24T12:01:01Z", AuditState::Stalled),
            (&ended, "2026-11-24T13:00:00Z", AuditState::Done),
            (&failed, "2026-11-24T13:00:00Z", AuditState::Failed),
        ] {
            let audit = Audit::try_from(wire.clone()).unwrap();
            assert_eq!(state(&audit, now.parse().unwrap()), expected, "{now}");
        }
    }
}
