//! One pushed execution, read like the rows of a list: pushed and polled executions must be the same.

use jiff::Timestamp;
use metering::{Execution, NAME_CHARS_MAX, SafeText};
use serde_json::Value;

use crate::n8n::row::Row;

/// Both spellings of a field: ours, and n8n's own.
const SPELLINGS: [(&str, &str); 7] = [
    ("workflow_id", "workflowId"),
    ("workflow_name", "workflowName"),
    ("started_at", "startedAt"),
    ("stopped_at", "stoppedAt"),
    ("retry_of", "retryOf"),
    ("resumed_at", "resumedAt"),
    ("admitted_at", "admittedAt"),
];

/// A pushed execution that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// The execution.
    pub execution: Execution,
    /// When it resumed after its last wait. n8n before 2.x lists it with this start.
    pub resumed_at: Option<Timestamp>,
    /// Whether the source's hook says that it refused it before it started.
    pub refused: bool,
}

/// What one pushed execution is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// Ended.
    Final(Box<Pushed>),
    /// Not ended: comes again when it has.
    Open,
    /// Unreadable, and why.
    Unreadable(String),
}

impl Item {
    /// The execution, if it has ended.
    pub fn into_pushed(self) -> Option<Pushed> {
        match self {
            Self::Final(pushed) => Some(*pushed),
            Self::Open | Self::Unreadable(_) => None,
        }
    }
}

/// Reads one execution.
pub fn read(value: Result<Value, String>, now: Timestamp) -> Item {
    let mut value = match value {
        Ok(value) => value,
        Err(reason) => return Item::Unreadable(reason),
    };
    if let Value::Object(fields) = &mut value {
        for (ours, theirs) in SPELLINGS {
            if let Some(field) = fields.remove(ours) {
                fields.entry(theirs).or_insert(field);
            }
        }
    }
    match Row::parse(&value, now) {
        Ok(Row::Open(..)) => Item::Open,
        // Without a mode it would be taken for one that does not count.
        Ok(Row::Final(..)) if value.get("mode").is_none() => Item::Unreadable("mode is missing".to_owned()),
        Ok(Row::Final(_, execution)) => {
            let workflow_name = value.get("workflowName").and_then(Value::as_str);
            let workflow_name =
                workflow_name.and_then(|name| SafeText::clean(name, NAME_CHARS_MAX).non_empty());
            let resumed_at = value.get("resumedAt").and_then(Value::as_str).and_then(|at| at.parse().ok());
            let refused = value.get("refused").and_then(Value::as_bool).unwrap_or_default();
            let admitted_at = value.get("admittedAt").and_then(Value::as_str).and_then(|at| at.parse().ok());
            let execution = Execution { workflow_name, admitted_at, ..execution };
            Item::Final(Box::new(Pushed { execution, resumed_at, refused }))
        }
        Err(unreadable) => Item::Unreadable(reason(&unreadable.error.to_string())),
    }
}

/// Longest reason that is answered, in characters; it may quote what was pushed.
const REASON_CHARS_MAX: usize = 2 * NAME_CHARS_MAX;

fn reason(text: &str) -> String {
    SafeText::clean(text, REASON_CHARS_MAX).into()
}

#[cfg(test)]
mod tests {
    use metering::{Mode, Status};
    use serde_json::json;

    use super::*;

    fn read(value: Value) -> Item {
        super::read(Ok(value), "2026-11-24T01:00:00Z".parse().unwrap())
    }

    #[test]
    fn both_spellings_are_the_same_execution() {
        let ours = json!({"id": "7", "workflow_id": "w", "workflow_name": "Order sync", "status": "error",
            "mode": "retry", "started_at": "2026-11-24T01:00:00Z", "stopped_at": "2026-11-24T01:00:01Z",
            "retry_of": "3", "admitted_at": "2026-11-24T00:59:59.5Z"});
        let theirs = json!({"id": 7, "workflowId": "w", "workflowName": "Order sync", "status": "error",
            "mode": "retry", "startedAt": "2026-11-24T01:00:00.000Z", "stoppedAt": "2026-11-24T01:00:01.000Z",
            "retryOf": 3, "finished": false, "admittedAt": "2026-11-24T00:59:59.5Z"});
        let item = read(ours);
        assert_eq!(item, read(theirs));
        let Pushed { execution, resumed_at, refused } = item.into_pushed().unwrap();
        assert_eq!((resumed_at, refused), (None, false));
        assert_eq!(execution.id.as_str(), "7");
        assert_eq!((execution.status, execution.mode), (Status::Error, Mode::Retry));
        assert_eq!(execution.workflow_name.as_deref(), Some("Order sync"));
        assert_eq!(execution.retry_of.unwrap().as_str(), "3");
        assert_eq!(execution.admitted_at.unwrap().to_string(), "2026-11-24T00:59:59.5Z");
    }

    #[test]
    fn open_executions_are_left_and_unreadable_ones_say_why() {
        for status in ["waiting", "running", "new"] {
            let open = json!({"id": "7", "workflowId": "w", "status": status, "mode": "webhook",
                "stoppedAt": "2026-11-24T01:00:01Z"});
            assert_eq!(read(open), Item::Open, "{status}");
        }
        let final_without =
            json!({"id": "7", "workflowId": "w", "status": "success", "stoppedAt": "2026-11-24T01:00:01Z"});
        for (value, words) in [
            (json!({"status": "success"}), "id is missing"),
            (final_without, "mode is missing"),
            (json!({"id": "7", "status": "success", "mode": "cli"}), "without stoppedAt"),
            (
                json!({"id": "7", "workflowId": "w", "status": "success", "mode": "cli",
                    "stoppedAt": "2027-11-24T01:00:01Z"}),
                "stopped at 2027-11-24T01:00:01Z, which is more than a day ahead",
            ),
            (
                json!({"id": "7", "workflowId": "w", "status": "success", "mode": "cli",
                    "startedAt": "0001-01-01T00:00:00Z", "stoppedAt": "2026-11-24T01:00:01Z"}),
                "started at 0001-01-01T00:00:00Z, before there was n8n",
            ),
            (json!({"id": "a-b", "status": "success", "mode": "cli"}), "not a decimal number"),
            (json!(null), "not an execution"),
        ] {
            let item = read(value);
            assert!(matches!(&item, Item::Unreadable(reason) if reason.contains(words)), "{item:?}");
        }
    }
}
