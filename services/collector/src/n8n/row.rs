//! A parsed row of a source's list.

use std::fmt;

use jiff::Timestamp;
use metering::{
    Execution, ExecutionId, Implausible, InvalidId, Mode, NAME_CHARS_MAX, SafeText, Status, WorkflowId,
    check_instants,
};
use serde::Deserialize;
use serde_json::Value;

/// A row may carry its workflow's data if somebody asked for it, so what a dead letter keeps is bounded.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// The fields that matter, kept if a row is too large to be kept whole.
const KEPT_FIELDS: [&str; 10] = [
    "id",
    "finished",
    "mode",
    "retryOf",
    "retrySuccessId",
    "status",
    "startedAt",
    "stoppedAt",
    "workflowId",
    "waitTill",
];

/// An execution's number in its source: what its list is ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RunId(u64);

impl RunId {
    /// Below every id that n8n hands out.
    pub const LOWEST: Self = Self(0);

    /// The id with this number. Databases keep 63 bits of it.
    pub fn new(number: u64) -> Option<Self> {
        i64::try_from(number).is_ok().then_some(Self(number))
    }

    /// The number.
    pub fn number(self) -> u64 {
        self.0
    }

    /// The id `count` below this one, or the lowest.
    pub fn below(self, count: u64) -> Self {
        Self(self.0.saturating_sub(count))
    }

    /// The id after this one.
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a row says about its execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Row {
    /// It has ended.
    Final(RunId, Execution),
    /// It has not: `new`, `running`, `waiting`, or n8n's own `unknown`. Its `stoppedAt` means nothing.
    Open(RunId, Option<Timestamp>),
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Its id, if at least that can be read.
    pub id: Option<RunId>,
    /// Why.
    pub error: RowError,
}

/// Why a row cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// Not JSON of the right shape.
    #[error("not an execution: {0}")]
    Shape(String),
    /// The id is missing or not a number.
    #[error("the id is missing or not a decimal number of 63 bits")]
    Id,
    /// The id is a text of another kind. All ids of a source are of one kind, so this is no fault of one row.
    #[error(
        "execution id {0:?} is not a decimal number; Flowmeter cannot meter a source whose ids are of another kind"
    )]
    ForeignId(SafeText),
    /// An instant that no execution can have.
    #[error(transparent)]
    Implausible(#[from] Implausible),
    /// A status that no known version has.
    #[error("unknown status {0:?}")]
    Status(String),
    /// A final execution that does not say when it stopped belongs to no period.
    #[error("status {0:?} without stoppedAt")]
    NotStopped(&'static str),
    /// A time cannot be parsed.
    #[error("{field} is not a time: {text:?}")]
    Time {
        /// The row's field.
        field: &'static str,
        /// Its text.
        text: String,
    },
    /// Another id is malformed.
    #[error(transparent)]
    Reference(#[from] InvalidId),
}

/// Unknown fields are ignored: every version adds some.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    #[serde(default)]
    mode: String,
    #[serde(default)]
    status: Option<String>,
    started_at: Option<String>,
    stopped_at: Option<String>,
    workflow_id: Option<Value>,
    retry_of: Option<Value>,
}

impl Row {
    /// Reads one element of a list, or the answer for a single execution, at `now`.
    pub fn parse(row: &Value, now: Timestamp) -> Result<Self, Unreadable> {
        let id = number(row.get("id"));
        read(id, row, now).map_err(|error| Unreadable { id, error })
    }

    /// The execution's number.
    pub fn id(&self) -> RunId {
        match self {
            Self::Final(id, _) | Self::Open(id, _) => *id,
        }
    }

    /// When the execution started; missing if it has not.
    pub fn started_at(&self) -> Option<Timestamp> {
        match self {
            Self::Final(_, execution) => execution.started_at,
            Self::Open(_, started_at) => *started_at,
        }
    }
}

/// What decides the epoch of an execution: its start, or its end if it never started.
pub fn born_at(execution: &Execution) -> Timestamp {
    execution.started_at.unwrap_or(execution.stopped_at)
}

fn read(id: Option<RunId>, row: &Value, now: Timestamp) -> Result<Row, RowError> {
    if let Some(foreign) = foreign_id(row.get("id")) {
        return Err(RowError::ForeignId(foreign));
    }
    let fields = Fields::deserialize(row).map_err(|error| RowError::Shape(error.to_string()))?;
    let id = id.ok_or(RowError::Id)?;
    let started_at = time("startedAt", fields.started_at)?;
    let status = fields.status.unwrap_or_default();
    let Some(status) = final_status(&status)? else {
        check_instants(started_at, None, now)?;
        return Ok(Row::Open(id, started_at));
    };
    let stopped_at = time("stoppedAt", fields.stopped_at)?.ok_or(RowError::NotStopped(status.as_str()))?;
    check_instants(started_at, Some(stopped_at), now)?;
    let retry_of = match fields.retry_of {
        None | Some(Value::Null) => None,
        Some(retried) => Some(ExecutionId::parse(&text(&retried))?),
    };
    let execution = Execution {
        id: ExecutionId::parse(&id.to_string())?,
        workflow: WorkflowId::parse(&fields.workflow_id.as_ref().map(text).unwrap_or_default())?,
        workflow_name: None,
        status,
        mode: Mode::parse(&fields.mode),
        started_at,
        stopped_at,
        retry_of,
        admitted_at: None,
    };
    Ok(Row::Final(id, execution))
}

/// The final status of this name; `None` for one that is not final.
fn final_status(name: &str) -> Result<Option<Status>, RowError> {
    match name {
        "new" | "running" | "waiting" | "unknown" => Ok(None),
        name => match Status::ALL.into_iter().find(|status| status.as_str() == name) {
            Some(status) => Ok(Some(status)),
            None => Err(RowError::Status(name.chars().take(80).collect())),
        },
    }
}

fn time(field: &'static str, text: Option<String>) -> Result<Option<Timestamp>, RowError> {
    text.map(|text| text.parse().map_err(|_| RowError::Time { field, text: text.chars().take(80).collect() }))
        .transpose()
}

fn number(value: Option<&Value>) -> Option<RunId> {
    match value? {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    }
    .and_then(RunId::new)
}

/// An id that is neither a number nor missing: of an engine that numbers its executions in another way.
fn foreign_id(value: Option<&Value>) -> Option<SafeText> {
    let text = value?.as_str()?;
    let is_foreign = !text.is_empty() && !text.chars().all(|c| c.is_ascii_digit());
    is_foreign.then(|| SafeText::clean(text, NAME_CHARS_MAX))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// The row as a dead letter keeps it: whole, or only the fields that matter if it is too large to publish.
pub fn kept(row: &Value) -> Vec<u8> {
    let whole = row.to_string().into_bytes();
    if whole.len() <= KEPT_BYTES_MAX {
        return whole;
    }
    let fields: serde_json::Map<String, Value> = KEPT_FIELDS
        .iter()
        .filter_map(|name| row.get(name).map(|value| ((*name).to_owned(), value.clone())))
        .filter(|(_, value)| {
            value.as_str().is_none_or(|text| text.len() < KEPT_BYTES_MAX / KEPT_FIELDS.len())
        })
        .filter(|(_, value)| !value.is_object() && !value.is_array())
        .collect();
    Value::Object(fields).to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use serde_json::json;

    use super::*;

    /// The recorded answer of a real n8n: see the README beside the recordings.
    fn recorded(name: &str) -> Value {
        let shared = std::env::var("FLOWMETER_SHARED").map_or_else(
            |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"),
            PathBuf::from,
        );
        let text = std::fs::read_to_string(shared.join("data/n8n").join(name)).expect(name);
        serde_json::from_str::<Value>(&text).expect(name)["body"].clone()
    }

    fn parse(row: &Value) -> Result<Row, Unreadable> {
        Row::parse(row, "2026-11-25T00:00:00Z".parse().unwrap())
    }

    fn recorded_rows(name: &str) -> Vec<Row> {
        let body = recorded(name);
        let rows = body["data"].as_array().expect(name);
        rows.iter().map(|row| parse(row).unwrap_or_else(|bad| panic!("{name}: {bad:?}"))).collect()
    }

    fn finished(name: &str) -> Execution {
        match parse(&recorded(name)) {
            Ok(Row::Final(_, execution)) => execution,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn every_recorded_list_is_read() {
        for name in [
            "list-limit2.json",
            "list-limit250.json",
            "list-retry.json",
            "list-last-page.json",
            "list-status-error-3.json",
            "list-includeData-1.json",
            "v1-list-limit3.json",
            "queue-default-list-running-shown.json",
        ] {
            assert!(!recorded_rows(name).is_empty(), "{name}");
        }
    }

    #[test]
    fn final_executions_are_read_as_they_are() {
        let success = finished("exec-success.json");
        assert_eq!((success.status, success.mode), (Status::Success, Mode::Webhook));
        assert_eq!(success.workflow.as_str(), "fBUhacu27uqiL8Xb");
        assert_eq!(success.stopped_at, "2026-11-24T01:33:32.543Z".parse().unwrap());

        let retry = finished("exec-retry-failed.json");
        assert_eq!((retry.status, retry.mode), (Status::Error, Mode::Retry));
        assert_eq!(retry.retry_of.unwrap().as_str(), "3");

        assert_eq!(finished("exec-crashed.json").status, Status::Crashed);
        assert_eq!(finished("exec-canceled-running.json").status, Status::Canceled);
        assert_eq!(finished("exec-child.json").mode, Mode::Integrated);
        assert_eq!(finished("exec-error-handler.json").mode, Mode::Error);
        assert_eq!(finished("v1-exec-success.json").status, Status::Success);
    }

    #[test]
    fn a_waiting_execution_is_open_although_it_has_stopped() {
        for name in ["exec-waiting.json", "exec-new.json", "exec-running.json"] {
            assert!(matches!(parse(&recorded(name)), Ok(Row::Open(..))), "{name}");
        }
        for name in ["list-status-waiting.json", "list-status-running.json", "list-status-new.json"] {
            assert!(recorded_rows(name).iter().all(|row| matches!(row, Row::Open(..))), "{name}");
        }
    }

    fn good() -> Value {
        json!({"id": "7", "status": "success", "mode": "webhook", "workflowId": "w",
               "startedAt": "2026-11-24T01:00:00.000Z", "stoppedAt": "2026-11-24T01:00:01.000Z"})
    }

    fn with(field: &str, value: Value) -> Value {
        let mut row = good();
        row[field] = value;
        row
    }

    #[test]
    fn an_id_is_a_number_or_its_text() {
        assert_eq!(parse(&good()).unwrap().id(), RunId(7));
        assert_eq!(parse(&with("id", json!(7))).unwrap().id(), RunId(7));
        for bad in
            [json!(null), json!(""), json!(-1), json!(u64::MAX), json!("18446744073709551615"), json!(1.5)]
        {
            assert_eq!(parse(&with("id", bad)).unwrap_err().error, RowError::Id);
        }
    }

    #[test]
    fn an_id_of_another_kind_is_distinguished_from_a_broken_one() {
        for id in ["0198f0aa-7c1e-7b3a-9d2e-1f2e3d4c5b6a", "v2_01J8ZQ4Y", "-1", "+1"] {
            let error = parse(&with("id", json!(id))).unwrap_err().error;
            assert!(matches!(error, RowError::ForeignId(_)), "{error}");
            assert!(error.to_string().contains(id), "{error}");
        }
    }

    #[test]
    fn both_instants_are_bounded_whether_it_has_ended_or_not() {
        for (field, value, words) in [
            (
                "startedAt",
                "-004713-01-01T00:00:00Z",
                "started at -004713-01-01T00:00:00Z, before there was n8n",
            ),
            ("startedAt", "0001-01-01T00:00:00Z", "before there was n8n"),
            ("startedAt", "2999-01-01T00:00:00Z", "more than a day ahead"),
            ("stoppedAt", "0001-01-01T00:00:00Z", "before there was n8n"),
            ("stoppedAt", "2999-01-01T00:00:00Z", "more than a day ahead"),
        ] {
            let error = parse(&with(field, json!(value))).unwrap_err().error.to_string();
            assert!(error.contains(words), "{error}");
        }
        let mut open = with("startedAt", json!("-004713-01-01T00:00:00Z"));
        open["status"] = json!("running");
        assert!(parse(&open).is_err(), "its start would be kept as well");
        open["startedAt"] = good()["startedAt"].take();
        open["stoppedAt"] = json!("2999-01-01T00:00:00Z");
        assert!(parse(&open).is_ok(), "an open execution has no stop");
    }

    #[test]
    fn an_unreadable_row_keeps_its_id_and_says_why() {
        for (field, value, words) in [
            ("status", json!("foo"), "unknown status \"foo\""),
            ("status", json!(null), "unknown status \"\""),
            ("stoppedAt", json!("soon"), "stoppedAt is not a time: \"soon\""),
            ("stoppedAt", json!(null), "status \"success\" without stoppedAt"),
            ("workflowId", json!(null), "workflow id"),
            ("mode", json!(3), "not an execution"),
        ] {
            let bad = parse(&with(field, value)).unwrap_err();
            assert_eq!(bad.id, Some(RunId(7)));
            assert!(bad.error.to_string().contains(words), "{}", bad.error);
        }
        assert!(parse(&json!([1])).is_err());
    }

    #[test]
    fn a_row_with_an_unknown_mode_is_read() {
        let Ok(Row::Final(_, execution)) = parse(&with("mode", json!("chat"))) else { panic!() };
        assert_eq!(execution.mode, Mode::Other);
    }

    #[test]
    fn a_large_row_is_kept_by_its_fields() {
        assert_eq!(kept(&good()), good().to_string().into_bytes());
        let large = with("data", json!("x".repeat(KEPT_BYTES_MAX)));
        assert_eq!(parse(&serde_json::from_slice(&kept(&large)).unwrap()), parse(&good()));
    }
}
