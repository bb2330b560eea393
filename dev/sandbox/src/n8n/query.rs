//! What a list call asks for, as each version of n8n reads it.

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::execution::{Execution, Status};
use super::instance::{Instance, Version};

const LIMIT_DEFAULT: usize = 100;
const LIMIT_MAX: usize = 250;

/// n8n decodes cursors leniently: with or without padding, with stray last bits.
const LENIENT_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A refused call; the text is n8n's own `message`.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum QueryError {
    #[error("request/query/limit Param `limit` must be a valid integer")]
    LimitNotAnInteger,
    #[error("request/query/limit Param `limit` must be a non-negative integer")]
    LimitNegative,
    #[error("request/query/limit must be number")]
    V1LimitNotANumber,
    #[error("request/query/limit must be <= 250")]
    V1LimitTooHigh,
    #[error(
        "request/query/status Invalid enum value. Expected 'canceled' | 'crashed' | 'error' | 'new' | 'running' \
         | 'success' | 'unknown' | 'waiting', received '{0}'"
    )]
    UnknownStatus(String),
    #[error(
        "request/query/status Expected 'canceled' | 'crashed' | 'error' | 'new' | 'running' | 'success' | \
         'unknown' | 'waiting', received array"
    )]
    StatusGivenTwice,
    #[error(
        "request/query/status must be equal to one of the allowed values: canceled, error, running, success, waiting"
    )]
    V1UnknownStatus,
    #[error("request/query/{0} Invalid datetime")]
    InvalidDatetime(&'static str),
    #[error("Unknown query parameter '{0}'")]
    V1UnknownParameter(String),
    #[error("An invalid cursor was provided")]
    InvalidCursor,
    #[error("Internal server error")]
    CursorIdNotANumber,
}

impl QueryError {
    /// n8n answers 400 to all but a cursor whose id its database cannot compare.
    pub(crate) fn status(&self) -> u16 {
        if *self == QueryError::CursorIdNotANumber { 500 } else { 400 }
    }
}

/// A parsed list call.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ListQuery {
    pub(crate) status: Option<Status>,
    pub(crate) workflow: Option<String>,
    pub(crate) started_after: Option<Timestamp>,
    pub(crate) started_before: Option<Timestamp>,
    pub(crate) below_id: Option<u64>,
    pub(crate) limit: usize,
    pub(crate) include_data: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct IdCursor {
    #[serde(rename = "lastId")]
    last_id: serde_json::Value,
    limit: Option<serde_json::Value>,
}

impl ListQuery {
    /// Reads the parameters of `GET /executions`.
    pub(crate) fn parse(version: Version, parameters: &[(String, String)]) -> Result<Self, QueryError> {
        let mut query = ListQuery { limit: LIMIT_DEFAULT, ..ListQuery::default() };
        let mut cursor = None;
        for (name, value) in parameters {
            match (name.as_str(), version) {
                ("limit", Version::V2_40) => query.limit = limit(value)?,
                ("limit", Version::V1_123) => query.limit = v1_limit(value)?,
                ("status", Version::V2_40) => {
                    if parameters.iter().filter(|(name, _)| name == "status").count() > 1 {
                        return Err(QueryError::StatusGivenTwice);
                    }
                    query.status = Some(status(value)?);
                }
                ("status", Version::V1_123) => query.status = Some(v1_status(value)?),
                ("startedAfter", Version::V2_40) => {
                    query.started_after = Some(instant("startedAfter", value)?);
                }
                ("startedBefore", Version::V2_40) => {
                    query.started_before = Some(instant("startedBefore", value)?);
                }
                ("workflowId", _) => query.workflow = Some(value.clone()),
                ("includeData", _) => query.include_data = value == "true",
                ("cursor", _) => cursor = Some(value.as_str()).filter(|cursor| !cursor.is_empty()),
                ("projectId", _) => {}
                (_, Version::V1_123) => return Err(QueryError::V1UnknownParameter(name.clone())),
                (_, Version::V2_40) => {}
            }
        }
        if let Some(cursor) = cursor {
            query.apply_cursor(cursor)?;
        }
        Ok(query)
    }

    /// The cursor's limit wins over the parameter; the cursor does not carry the filters.
    fn apply_cursor(&mut self, cursor: &str) -> Result<(), QueryError> {
        let cursor: IdCursor = decode(cursor)?;
        self.below_id = match cursor.last_id {
            serde_json::Value::Number(id) => id.as_u64(),
            serde_json::Value::String(id) => Some(id.parse().map_err(|_| QueryError::CursorIdNotANumber)?),
            _ => None,
        };
        if let Some(limit) = cursor.limit.and_then(|limit| limit.as_u64()) {
            self.limit = usize::try_from(limit).unwrap_or(LIMIT_MAX).clamp(1, LIMIT_MAX);
        }
        Ok(())
    }

    /// The cursor of the page after the one that ends with `last_id`.
    pub(crate) fn next_cursor(&self, last_id: u64) -> String {
        encode(&format!(r#"{{"lastId":"{last_id}","limit":{}}}"#, self.limit))
    }

    fn fits(&self, version: Version, row: &Execution) -> bool {
        let hidden = row.in_memory
            && self.status != Some(Status::Running)
            && (row.status == Status::Running
                || (version == Version::V1_123 && row.status == Status::Waiting));
        let status_fits = match (self.status, version) {
            (None, _) => true,
            // The 1.x line had no filter for crashed ones and showed them among the errors.
            (Some(Status::Error), Version::V1_123) => matches!(row.status, Status::Error | Status::Crashed),
            (Some(status), _) => row.status == status,
        };
        let within = |at: Option<Timestamp>| {
            (self.started_after.is_none() && self.started_before.is_none())
                || at.is_some_and(|at| {
                    self.started_after.is_none_or(|after| at >= after)
                        && self.started_before.is_none_or(|before| at <= before)
                })
        };
        row.is_shown()
            && !hidden
            && status_fits
            && self.workflow.as_ref().is_none_or(|workflow| *workflow == row.workflow)
            && within(row.started_at)
    }
}

impl Instance {
    /// The rows of one page, newest first, and whether there are more.
    pub(crate) fn page(&self, query: &ListQuery) -> (Vec<&Execution>, bool) {
        let below = query.below_id.unwrap_or(u64::MAX);
        let mut rows = self
            .rows
            .range(..below)
            .rev()
            .map(|(_, row)| row)
            .filter(|row| query.fits(self.config.version, row));
        // A limit of zero means "no limit" to n8n's database layer, which returns every row.
        let limit = if query.limit == 0 { usize::MAX } else { query.limit };
        let page: Vec<_> = rows.by_ref().take(limit).collect();
        let more = rows.next().is_some();
        (page, more)
    }
}

/// The page of `GET /workflows`: an offset cursor.
#[derive(Debug, Deserialize)]
pub(crate) struct OffsetPage {
    pub(crate) offset: usize,
    pub(crate) limit: usize,
}

impl OffsetPage {
    pub(crate) fn parse(version: Version, parameters: &[(String, String)]) -> Result<Self, QueryError> {
        let find = |wanted: &str| {
            parameters.iter().find(|(name, _)| name == wanted).map(|(_, value)| value.as_str())
        };
        if let Some(cursor) = find("cursor").filter(|cursor| !cursor.is_empty()) {
            return decode(cursor);
        }
        let limit = match (find("limit"), version) {
            (None, _) => LIMIT_DEFAULT,
            (Some(value), Version::V2_40) => limit(value)?,
            (Some(value), Version::V1_123) => v1_limit(value)?,
        };
        Ok(Self { offset: 0, limit })
    }

    pub(crate) fn next_cursor(&self, total: usize) -> Option<String> {
        let offset = self.offset.saturating_add(self.limit);
        (total > offset).then(|| encode(&format!(r#"{{"limit":{},"offset":{offset}}}"#, self.limit)))
    }
}

fn decode<T: serde::de::DeserializeOwned>(cursor: &str) -> Result<T, QueryError> {
    let json = LENIENT_BASE64.decode(cursor).map_err(|_| QueryError::InvalidCursor)?;
    serde_json::from_slice(&json).map_err(|_| QueryError::InvalidCursor)
}

fn encode(json: &str) -> String {
    base64::engine::general_purpose::STANDARD.encode(json)
}

/// Like JavaScript's `parseInt`: reads the leading digits and ignores the rest.
fn limit(value: &str) -> Result<usize, QueryError> {
    if value.is_empty() {
        return Ok(LIMIT_DEFAULT);
    }
    let value = value.trim_start();
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value.strip_prefix('+').unwrap_or(value)),
    };
    let digits = &digits[..digits.bytes().take_while(u8::is_ascii_digit).count()];
    if digits.is_empty() {
        return Err(QueryError::LimitNotAnInteger);
    }
    let magnitude = digits.parse().unwrap_or(usize::MAX);
    if negative && magnitude > 0 { Err(QueryError::LimitNegative) } else { Ok(magnitude.min(LIMIT_MAX)) }
}

fn v1_limit(value: &str) -> Result<usize, QueryError> {
    let limit: usize = value.parse().map_err(|_| QueryError::V1LimitNotANumber)?;
    if limit > LIMIT_MAX { Err(QueryError::V1LimitTooHigh) } else { Ok(limit) }
}

fn status(value: &str) -> Result<Status, QueryError> {
    Status::ALL
        .into_iter()
        .find(|status| status.as_str() == value)
        .ok_or_else(|| QueryError::UnknownStatus(value.to_owned()))
}

fn v1_status(value: &str) -> Result<Status, QueryError> {
    [Status::Canceled, Status::Error, Status::Running, Status::Success, Status::Waiting]
        .into_iter()
        .find(|status| status.as_str() == value)
        .ok_or(QueryError::V1UnknownStatus)
}

fn instant(name: &'static str, value: &str) -> Result<Timestamp, QueryError> {
    value.parse().map_err(|_| QueryError::InvalidDatetime(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(version: Version, query: &str) -> Result<ListQuery, QueryError> {
        let pairs: Vec<(String, String)> =
            url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        ListQuery::parse(version, &pairs)
    }

    #[test]
    fn the_new_line_clamps_what_the_old_one_refuses() {
        assert_eq!(parse(Version::V2_40, "limit=9999").map(|query| query.limit), Ok(250));
        assert_eq!(parse(Version::V1_123, "limit=9999"), Err(QueryError::V1LimitTooHigh));
        assert_eq!(parse(Version::V2_40, "limit=1.5").map(|query| query.limit), Ok(1));
        assert_eq!(parse(Version::V2_40, "limit=0").map(|query| query.limit), Ok(0));
        assert_eq!(parse(Version::V2_40, "limit=-1"), Err(QueryError::LimitNegative));
    }

    #[test]
    fn the_new_line_ignores_what_the_old_one_refuses() {
        assert!(parse(Version::V2_40, "stoppedAfter=2026-11-24T00:00:00Z").is_ok());
        assert_eq!(
            parse(Version::V1_123, "startedAfter=2026-11-24T00:00:00Z"),
            Err(QueryError::V1UnknownParameter("startedAfter".into()))
        );
    }

    #[test]
    fn the_limit_of_the_cursor_wins() {
        let query = parse(Version::V2_40, "limit=7&cursor=eyJsYXN0SWQiOiI5MDQiLCJsaW1pdCI6Mn0=").unwrap();
        assert_eq!((query.below_id, query.limit), (Some(904), 2));
        assert_eq!(query.next_cursor(902), "eyJsYXN0SWQiOiI5MDIiLCJsaW1pdCI6Mn0=");
    }

    #[test]
    fn a_bad_cursor_is_refused_and_a_strange_one_breaks_the_server() {
        assert_eq!(parse(Version::V2_40, "cursor=abc"), Err(QueryError::InvalidCursor));
        let strange = parse(Version::V2_40, "cursor=eyJsYXN0SWQiOiJ6enoiLCJsaW1pdCI6NX0=").unwrap_err();
        assert_eq!(strange.status(), 500);
    }

    #[test]
    fn times_need_an_offset() {
        assert!(parse(Version::V2_40, "startedAfter=2026-11-24T01:36:00Z").is_ok());
        assert!(parse(Version::V2_40, "startedAfter=2026-11-24").is_err());
        assert!(parse(Version::V2_40, "startedAfter=2026-11-24T01:36:00").is_err());
    }
}
