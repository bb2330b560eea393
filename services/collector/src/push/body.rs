//! The forms in which executions are pushed: plain JSON, and CloudEvents 1.0 one by one or batched.

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::{EXECUTIONS_MAX, answer::Refusal};

/// The type of an event that holds a finished execution.
const EVENT_TYPE: &str = "io.flowmeter.execution.finished.v1";

/// The version of CloudEvents that is read.
const SPEC_VERSION: &str = "1.0";

/// Attributes that every event must have; `data` is ours to ask for.
const ATTRIBUTES: [&str; 3] = ["id", "source", "type"];

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One execution, or `{"executions": [...]}`.
    Plain,
    /// One CloudEvent.
    Event,
    /// An array of CloudEvents.
    Events,
}

impl Form {
    /// The form that the content type says.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = value.unwrap_or_default().split(';').next().unwrap_or_default();
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/json" => Ok(Self::Plain),
            "application/cloudevents+json" => Ok(Self::Event),
            "application/cloudevents-batch+json" => Ok(Self::Events),
            _ => Err(Refusal::MediaType),
        }
    }
}

/// The executions of a body, still to be read; for one that cannot even be found, why.
pub fn items(form: Form, bytes: &[u8]) -> Result<Vec<Result<Value, String>>, Refusal> {
    let body: Value = serde_json::from_slice(bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let malformed = |what: &str| Err(Refusal::Malformed(what.to_owned()));
    let items: Vec<Result<Value, String>> = match (form, body) {
        (Form::Plain, Value::Object(mut object)) => match object.remove("executions") {
            Some(Value::Array(executions)) => executions.into_iter().map(Ok).collect(),
            Some(_) => return malformed("`executions` is not an array"),
            None => vec![Ok(Value::Object(object))],
        },
        (Form::Event, Value::Object(event)) => vec![data(event)],
        (Form::Events, Value::Array(events)) => events
            .into_iter()
            .map(|event| match event {
                Value::Object(event) => data(event),
                _ => Err("the event is not an object".to_owned()),
            })
            .collect(),
        (Form::Plain | Form::Event, _) => return malformed("it is not an object"),
        (Form::Events, _) => return malformed("a batch of events is an array"),
    };
    if items.len() > EXECUTIONS_MAX { Err(Refusal::TooMany) } else { Ok(items) }
}

/// What an event holds. Extension attributes are its sender's business.
fn data(mut event: Map<String, Value>) -> Result<Value, String> {
    if event.get("specversion").and_then(Value::as_str) != Some(SPEC_VERSION) {
        return Err(format!("the event's specversion is not {SPEC_VERSION}"));
    }
    for attribute in ATTRIBUTES {
        if event.get(attribute).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(format!("the event has no {attribute}"));
        }
    }
    if event.get("type").and_then(Value::as_str) != Some(EVENT_TYPE) {
        return Err(format!("the event's type is not {EVENT_TYPE}"));
    }
    event.remove("data").ok_or_else(|| "the event has no data as JSON".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(form: Form, body: &Value) -> Vec<Result<Value, String>> {
        items(form, body.to_string().as_bytes()).unwrap()
    }

    fn event(data: &Value) -> Value {
        json!({"specversion": "1.0", "id": "1", "source": "/n8n", "type": EVENT_TYPE, "data": data})
    }

    #[test]
    fn every_form_gives_its_executions() {
        let (one, two) = (json!({"id": "1"}), json!({"id": "2"}));
        assert_eq!(read(Form::Plain, &one), [Ok(one.clone())]);
        assert_eq!(read(Form::Plain, &json!({"executions": [one, two]})), [Ok(one.clone()), Ok(two.clone())]);
        assert_eq!(read(Form::Event, &event(&one)), [Ok(one.clone())]);
        assert_eq!(read(Form::Events, &json!([event(&one), event(&two)])), [Ok(one), Ok(two)]);
        assert!(read(Form::Events, &json!([])).is_empty());
    }

    #[test]
    fn an_event_of_another_kind_does_not_spoil_its_neighbours() {
        let good = event(&json!({"id": "1"}));
        let with = |name: &str, value: Value| {
            let mut event = good.clone();
            event[name] = value;
            event
        };
        let batch = json!([
            with("specversion", json!("0.3")),
            with("type", json!("com.example.other")),
            with("id", json!("")),
            7,
            good
        ]);
        let read = read(Form::Events, &batch);
        assert_eq!(read.iter().filter(|item| item.is_err()).count(), 4);
        assert!(read[4].is_ok() && read[1].as_ref().unwrap_err().contains(EVENT_TYPE), "{read:?}");
    }

    #[test]
    fn what_is_not_of_its_form_is_refused_whole() {
        for (form, body) in [
            (Form::Plain, "[]"),
            (Form::Plain, r#"{"executions": 3}"#),
            (Form::Event, "[]"),
            (Form::Events, "{}"),
            (Form::Plain, "{"),
        ] {
            assert!(matches!(items(form, body.as_bytes()), Err(Refusal::Malformed(_))), "{body}");
        }
        let many = json!({"executions": vec![json!({}); EXECUTIONS_MAX + 1]});
        assert!(matches!(items(Form::Plain, many.to_string().as_bytes()), Err(Refusal::TooMany)));
    }

    #[test]
    fn the_content_type_says_the_form() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, axum::http::HeaderValue::from_static(text));
            Form::of(&headers).ok()
        };
        assert_eq!(of("Application/JSON; charset=utf-8"), Some(Form::Plain));
        assert_eq!(of("application/cloudevents+json"), Some(Form::Event));
        assert_eq!(of("application/cloudevents-batch+json; charset=utf-8"), Some(Form::Events));
        assert_eq!(of("text/plain"), None);
    }
}
