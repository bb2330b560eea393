//! Sources over HTTP. The API key is write-only.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use axum::{Json, extract::State, http::StatusCode};
use catalog::{
    Entry, InvalidEntry, Source,
    sealing::{Sealed, SealingKey},
};
use jiff::Timestamp;
use metering::{SourceId, TenantId};
use proto::v1;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;
use utoipa::ToSchema;

use super::{
    App,
    attributions::AttributionJson,
    damaged::DamagedJson,
    duration,
    error::ApiError,
    extract::{JsonBody, PathId, QueryOf},
    gaps::{self, GapsJson},
    responses::{Conflict, Invalid, NotFound},
    schema::{
        API_KEY_CHARS_MAX, ApiKeyText, BaseUrlText, FailureReasonText, PollIntervalText, SourceIdText,
        TenantIdText,
    },
    shapes::seconds_since,
    tenants::PutQuery,
    unseen::UnseenJson,
    warnings::{self, WarningJson},
};
use crate::{
    directory::editor::Revised,
    sources::status::{Failing, SourceState, Synced},
};

/// The body of `PUT /v1/sources/{id}`.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceInput {
    /// The id of the tenant of executions that no attribution matches; it must exist. Null if only
    /// attributions name tenants: executions that none of them matches are kept, and belong to no tenant
    /// until one matches.
    #[serde(default)]
    #[schema(value_type = Option<TenantIdText>)]
    pub tenant: Option<String>,
    /// Executions that belong to other tenants; at most 1,000.
    #[serde(default)]
    #[schema(max_items = 1000)]
    pub attributions: Vec<AttributionJson>,
    /// The software that it runs.
    pub kind: SourceKindJson,
    /// Without the API's path, e.g. `https://n8n.example.com`.
    #[schema(value_type = BaseUrlText)]
    pub base_url: String,
    /// Needed for a new source and if `base_url` moves to another host; otherwise the sealed key is kept.
    #[serde(default)]
    #[schema(value_type = Option<ApiKeyText>, write_only)]
    pub api_key: Option<SecretString>,
    /// Time between sweeps, e.g. `10m`; null for the collector's default.
    #[serde(default)]
    #[schema(value_type = Option<PollIntervalText>)]
    pub poll_interval: Option<String>,
    /// A paused source is not swept.
    #[serde(default)]
    pub paused: bool,
}

/// A source and its metering state.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceJson {
    /// Chosen by the operator.
    #[schema(value_type = SourceIdText)]
    pub id: String,
    /// Grows with every change.
    pub revision: u64,
    /// The id of the tenant of executions that no attribution matches.
    #[schema(value_type = Option<TenantIdText>)]
    pub tenant: Option<String>,
    /// Executions that belong to other tenants.
    pub attributions: Vec<AttributionJson>,
    /// The software that it runs.
    pub kind: SourceKindJson,
    /// Without the API's path.
    pub base_url: String,
    /// Whether a key is stored; the key itself is never shown.
    pub has_api_key: bool,
    /// Whether it has a push token: `POST /v1/sources/{id}/push-token`.
    pub has_push_token: bool,
    /// Time between sweeps, e.g. `10m`.
    pub poll_interval: Option<String>,
    /// A paused source is not swept.
    pub paused: bool,
    /// Its metering state.
    pub status: SourceStatusJson,
}

/// The metering state of a source.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct SourceStatusJson {
    /// Every execution that stopped before this instant has been collected; null before the first sweep.
    pub complete_until: Option<Timestamp>,
    /// Time since `complete_until`.
    pub lag_seconds: Option<u64>,
    /// Executions that were running at `complete_until`.
    pub open_executions: Option<u64>,
    /// The last successful sweep.
    pub last_sweep: Option<SweepJson>,
    /// Why it cannot be swept now; null if it can.
    pub failing: Option<FailingJson>,
    /// When it is expected to prune executions that were not seen, at its current rate; null if sweeps come
    /// often enough.
    pub loss_expected_at: Option<Timestamp>,
    /// Executions that it has numbered but never showed; null if there are none.
    pub unseen: Option<UnseenJson>,
    /// Executions that disappeared before they were seen.
    pub gaps: GapsJson,
    /// How far its clock is ahead of Flowmeter's at the last measurement, negative if it is behind; null if
    /// not known.
    pub clock_skew_ms: Option<i64>,
    /// When that was measured.
    pub clock_measured_at: Option<Timestamp>,
    /// Problems that a person should fix.
    pub warnings: Vec<WarningJson>,
}

/// A successful sweep.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SweepJson {
    /// When it started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Final executions that it published, repeats included.
    pub executions_published: u32,
    /// The epoch of the source's id sequence.
    pub epoch: u32,
}

/// Why a source cannot be swept.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct FailingJson {
    /// For programs: `unreachable`, `unauthorized`, `rate_limited`, `unreadable`, `too_large`,
    /// `secret_unreadable`, `internal`, `unspecified`.
    #[schema(value_type = FailureReasonText)]
    pub reason: &'static str,
    /// For a person: what happened and what to do.
    pub detail: String,
    /// Since when.
    pub since: Timestamp,
    /// Consecutive failures.
    pub consecutive_failures: u32,
}

/// All sources, by id.
#[derive(Debug, Serialize, ToSchema)]
pub struct SourceList {
    /// The sources.
    pub sources: Vec<SourceJson>,
    /// Sources whose stored value cannot be read: put them again, with their key.
    pub damaged: Vec<DamagedJson>,
}

/// The software that a source runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceKindJson {
    /// n8n.
    N8n,
}

impl SourceInput {
    /// The source, checked as every service checks it. Takes the sealed key of `present` if none is given.
    fn into_source(
        self,
        id: &SourceId,
        sealing: &SealingKey,
        present: Option<&Source>,
    ) -> Result<Source, InvalidEntry> {
        let tenant = self.tenant.as_deref().map(TenantId::parse).transpose();
        let tenant = tenant.map_err(|error| InvalidEntry::field("tenant", error.to_string()))?;
        if tenant.is_none() && self.attributions.is_empty() {
            return Err(InvalidEntry::field("tenant", "name a tenant, or attributions"));
        }
        let attributions = self.attributions.into_iter().map(AttributionJson::into_wire);
        let given = self.api_key.as_ref().map(|key| sealed(key, sealing)).transpose()?;
        let source = Source::from_wire(v1::Source {
            source_id: id.to_string(),
            revision: 0,
            removed: false,
            tenant_id: tenant.map(|tenant| tenant.to_string()).unwrap_or_default(),
            kind: match self.kind {
                SourceKindJson::N8n => v1::SourceKind::N8n,
            }
            .into(),
            base_url: self.base_url,
            sealed_api_key: Default::default(),
            poll_interval: self
                .poll_interval
                .as_deref()
                .map(|text| duration::to_wire("poll_interval", text))
                .transpose()?,
            paused: self.paused,
            push_token_sha256: Default::default(),
            attributions: attributions.collect::<Result<_, _>>()?,
        })?;
        // People paste the page of the editor from the address bar.
        let source = match catalog::of_editor_page(&source.base_url) {
            Some(base_url) => Source { base_url, ..source },
            None => source,
        };
        let api_key = match (given, present) {
            (Some(key), _) => key,
            // Otherwise someone who may move a source could have its key sent to a machine of theirs.
            (None, Some(present)) if present.base_url.origin() == source.base_url.origin() => {
                present.api_key.clone()
            }
            (None, Some(_)) => {
                return Err(InvalidEntry::field("api_key", "is needed where base_url moves to another host"));
            }
            (None, None) => return Err(InvalidEntry::field("api_key", "is needed for a new source")),
        };
        // Created and revoked separately, so that a change of the source keeps it.
        let push_token_sha256 = present.and_then(|present| present.push_token_sha256);
        Ok(Source { api_key, push_token_sha256, ..source })
    }
}

fn sealed(key: &SecretString, sealing: &SealingKey) -> Result<Sealed, InvalidEntry> {
    let text = key.expose_secret();
    if (1..=API_KEY_CHARS_MAX).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
        Ok(sealing.seal(key))
    } else {
        Err(InvalidEntry::field(
            "api_key",
            format!("use 1 to {API_KEY_CHARS_MAX} printable characters without spaces"),
        ))
    }
}

/// As it was given: without the slash that the parser adds to an address without a path.
fn shown_url(url: &Url) -> String {
    match url.path() {
        "/" => url.as_str().trim_end_matches('/').to_owned(),
        _ => url.as_str().to_owned(),
    }
}

impl SourceJson {
    fn new(Revised { value: source, revision }: Revised<Source>, status: SourceStatusJson) -> Self {
        let key: Vec<u8> = source.api_key.to_bytes();
        Self {
            id: source.id.to_string(),
            revision,
            tenant: source.tenant.as_ref().map(ToString::to_string),
            attributions: source.attributions.iter().map(AttributionJson::from).collect(),
            kind: SourceKindJson::N8n,
            base_url: shown_url(&source.base_url),
            has_api_key: !key.is_empty(),
            has_push_token: source.push_token_sha256.is_some(),
            poll_interval: source.poll_interval.map(duration::text),
            paused: source.paused,
            status,
        }
    }
}

impl SourceStatusJson {
    fn new(state: &SourceState, gaps: GapsJson, warnings: Vec<WarningJson>, now: Timestamp) -> Self {
        let synced = state.synced.as_ref();
        Self {
            complete_until: synced.map(|synced| synced.complete_until),
            lag_seconds: synced.map(|synced| seconds_since(synced.complete_until, now)),
            open_executions: synced.map(|synced| synced.open_executions.into()),
            last_sweep: synced.map(SweepJson::from),
            failing: state.failing().map(FailingJson::from),
            loss_expected_at: state.loss_expected_at(),
            unseen: UnseenJson::of(state.unseen()),
            gaps,
            clock_skew_ms: state.checks().and_then(|checks| checks.clock_skew_ms),
            clock_measured_at: state.checks().and_then(|checks| checks.clock_measured_at),
            warnings,
        }
    }
}

impl From<&Synced> for SweepJson {
    fn from(synced: &Synced) -> Self {
        Self {
            started_at: synced.started_at,
            ended_at: synced.ended_at,
            executions_published: synced.executions_published,
            epoch: synced.epoch,
        }
    }
}

impl From<&Failing> for FailingJson {
    fn from(failing: &Failing) -> Self {
        Self {
            reason: match failing.reason {
                v1::FailureReason::Unspecified => "unspecified",
                v1::FailureReason::Unreachable => "unreachable",
                v1::FailureReason::Unauthorized => "unauthorized",
                v1::FailureReason::RateLimited => "rate_limited",
                v1::FailureReason::Unreadable => "unreadable",
                v1::FailureReason::TooLarge => "too_large",
                v1::FailureReason::SecretUnreadable => "secret_unreadable",
                v1::FailureReason::Internal => "internal",
            },
            detail: failing.detail.clone(),
            since: failing.since,
            consecutive_failures: failing.consecutive_failures,
        }
    }
}

/// Adds each source's metering state.
async fn with_status(app: &App, sources: Vec<Revised<Source>>) -> Result<Vec<SourceJson>, ApiError> {
    let ids: Vec<String> = sources.iter().map(|source| source.value.id.to_string()).collect();
    let mut gaps = gaps::shown(app, &ids).await?;
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    let now = app.clock.now();
    let shown = sources.into_iter().map(|source| {
        let gaps = gaps.remove(source.value.id.as_str()).unwrap_or_default();
        let state = app.sources.of(&source.value.id);
        let warnings = warnings::of_source(&catalog, &source.value.id, &state);
        let status = SourceStatusJson::new(&state, gaps, warnings, now);
        SourceJson::new(source, status)
    });
    Ok(shown.collect())
}

async fn one_with_status(app: &App, source: Revised<Source>) -> Result<Json<SourceJson>, ApiError> {
    let shown = with_status(app, vec![source]).await?.pop();
    shown.map(Json).ok_or_else(|| ApiError::NotFound("the source is gone".to_owned()))
}

/// All sources, with their metering state.
#[utoipa::path(get, path = "/v1/sources", operation_id = "list_sources", tag = "catalog", responses(
    (status = 200, body = SourceList),
))]
pub async fn list(State(app): State<App>) -> Result<Json<SourceList>, ApiError> {
    let listing = app.editor.list::<Source>().await?;
    Ok(Json(SourceList {
        sources: with_status(&app, listing.values).await?,
        damaged: listing.damaged.into_iter().map(DamagedJson::from).collect(),
    }))
}

/// One source, with its metering state.
#[utoipa::path(get, path = "/v1/sources/{id}", operation_id = "get_source", tag = "catalog", params(("id" = SourceIdText, Path)), responses(
    (status = 200, body = SourceJson),
    NotFound,
))]
pub async fn get(State(app): State<App>, PathId(id): PathId) -> Result<Json<SourceJson>, ApiError> {
    let source = app.editor.find::<Source>(&id).await?;
    one_with_status(&app, source).await
}

/// Creates or changes a source, which is then swept at once. With `api_key` it is a change even if the key is
/// the same, because a sealed key cannot be compared. The id of a removed source cannot be used for another
/// n8n.
#[utoipa::path(put, path = "/v1/sources/{id}", operation_id = "put_source", tag = "catalog", params(("id" = SourceIdText, Path), PutQuery),
    request_body = SourceInput, responses(
    (status = 200, body = SourceJson),
    Conflict, Invalid,
))]
pub async fn put(
    State(app): State<App>,
    PathId(id): PathId,
    QueryOf(query): QueryOf<PutQuery>,
    JsonBody(input): JsonBody<SourceInput>,
) -> Result<Json<SourceJson>, ApiError> {
    let id = SourceId::parse(&id)?;
    let make = |present: Option<&Source>| input.into_source(&id, &app.sealing, present);
    let source = match query.restore {
        true => app.editor.put_or_restore(id.as_str(), make).await?,
        false => app.editor.put(id.as_str(), make).await?,
    };
    one_with_status(&app, source).await
}

/// Removes a source. Its executions stay counted, and its id cannot be used for another n8n.
#[utoipa::path(delete, path = "/v1/sources/{id}", operation_id = "remove_source", tag = "catalog", params(("id" = SourceIdText, Path)), responses(
    (status = 204),
    NotFound,
))]
pub async fn remove(State(app): State<App>, PathId(id): PathId) -> Result<StatusCode, ApiError> {
    app.editor.remove::<Source>(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[cfg(test)]
mod tests {
    use catalog::sealing::{KeyPair, OpeningKey};

    use super::*;

    fn input(json: &str) -> SourceInput {
        serde_json::from_str(json).unwrap()
    }

    fn id() -> SourceId {
        SourceId::parse("north-n8n").unwrap()
    }

    #[test]
    fn an_editor_page_or_api_address_is_reduced_to_that_of_the_instance() {
        let sealing = SealingKey::parse(&KeyPair::generate().public).unwrap();
        let at = |base_url: &str| {
            let json =
                serde_json::json!({"tenant": "north", "kind": "n8n", "base_url": base_url, "api_key": "k"});
            input(&json.to_string())
                .into_source(&id(), &sealing, None)
                .map(|source| shown_url(&source.base_url))
        };
        for (pasted, instance) in [
            ("http://127.0.0.1:25430/plain/home/workflows", "http://127.0.0.1:25430/plain"),
            ("https://n8n.example/workflow/M9X5HgovH50n2vBc", "https://n8n.example"),
            ("https://n8n.example/projects/VmwOO9HeTEj20kxM/workflows", "https://n8n.example"),
            ("https://n8n.example/settings/community-nodes", "https://n8n.example"),
            ("https://n8n.example/api/v1", "https://n8n.example"),
            ("https://n8n.example/api/v1/executions", "https://n8n.example"),
        ] {
            assert_eq!(at(pasted).unwrap(), instance, "{pasted}");
        }
        assert!(at("n8n.example").unwrap_err().to_string().contains("https://n8n.example.com"));
    }

    #[test]
    fn a_key_is_sealed_kept_and_never_shown() {
        let pair = KeyPair::generate();
        let sealing = SealingKey::parse(&pair.public).unwrap();
        let first = input(
            r#"{"tenant": "north", "kind": "n8n", "base_url": "https://n8n.north.example", "api_key": "key-north",
                "poll_interval": "1m 30s"}"#,
        );
        let source = first.into_source(&id(), &sealing, None).unwrap();
        let opened = OpeningKey::parse(&pair.secret).unwrap().open(&source.api_key).unwrap();
        assert_eq!(opened.expose_secret(), "key-north");

        let second =
            input(r#"{"tenant": "north", "kind": "n8n", "base_url": "https://n8n.north.example/x"}"#);
        let moved = second.into_source(&id(), &sealing, Some(&source)).unwrap();
        assert_eq!(moved.api_key, source.api_key);

        let shown = SourceJson::new(Revised { value: source, revision: 1 }, SourceStatusJson::default());
        assert_eq!((shown.poll_interval.as_deref(), shown.has_api_key), (Some("1m 30s"), true));
        assert!(!serde_json::to_string(&shown).unwrap().contains("key-north"));
    }

    #[test]
    fn a_kept_key_does_not_move_to_another_host() {
        let sealing = SealingKey::parse(&KeyPair::generate().public).unwrap();
        let body =
            |url: &str| input(&format!(r#"{{"tenant": "north", "kind": "n8n", "base_url": "{url}"}}"#));
        let keyed = SourceInput { api_key: Some("key-north".into()), ..body("https://n8n.north.example") };
        let source = keyed.into_source(&id(), &sealing, None).unwrap();
        for url in ["https://elsewhere.example", "http://n8n.north.example", "https://n8n.north.example:8443"]
        {
            assert!(body(url).into_source(&id(), &sealing, Some(&source)).is_err(), "{url}");
        }
        assert!(body("https://n8n.north.example").into_source(&id(), &sealing, None).is_err());
    }

    #[test]
    fn debug_output_does_not_contain_the_key() {
        let input =
            input(r#"{"tenant": "north", "kind": "n8n", "base_url": "https://x", "api_key": "key-north"}"#);
        assert!(!format!("{input:?}").contains("key-north"));
    }
}
