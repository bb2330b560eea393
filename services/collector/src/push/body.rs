//! The forms in which executions are pushed: plain JSON, and CloudEvents 1.0 one by one or batched.

use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};

use super::{EXECUTIONS_MAX, answer::Refusal};
use crate::{
    checks::{instances::InstanceId, senders::Sender},
    n8n::json,
};

/// The type of an event that holds a finished execution.
const EVENT_TYPE: &str = "io.flowmeter.execution.finished.v1";

/// The version of CloudEvents that is read.
const SPEC_VERSION: &str = "1.0";

const OTHER_TYPE: &str = "the event's type is not io.flowmeter.execution.finished.v1";
const OTHER_VERSION: &str = "the event's specversion is not 1.0";

/// The only encoding of a body that is read: a compressed one could expand to a thousand times the limit.
const IDENTITY: &str = "identity";

/// Attributes that every event must have; `data` is required only by us.
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
    /// A CloudEvent in binary mode: its attributes are headers, and the body is its data.
    Data,
    /// A CloudEvent in binary mode that is not one of ours.
    Foreign(&'static str),
}

/// Prefix of the headers of an event in binary mode.
const BINARY_PREFIX: &str = "ce-";

/// An attribute of an event in binary mode.
fn binary<'a>(headers: &'a HeaderMap, attribute: &str) -> Option<&'a str> {
    headers.get(format!("{BINARY_PREFIX}{attribute}"))?.to_str().ok()
}

impl Form {
    /// The form by the content type.
    pub fn of(headers: &HeaderMap) -> Result<Self, Refusal> {
        let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != IDENTITY) {
            return Err(Refusal::Encoding);
        }
        let media_type = value.unwrap_or_default().split(';').next().unwrap_or_default();
        match media_type.trim().to_ascii_lowercase().as_str() {
            "application/json" if is_binary(headers) => Ok(Self::of_binary(headers)),
            "application/json" => Ok(Self::Plain),
            "application/cloudevents+json" => Ok(Self::Event),
            "application/cloudevents-batch+json" => Ok(Self::Events),
            _ => Err(Refusal::MediaType),
        }
    }

    /// By the same rules as [`data`].
    fn of_binary(headers: &HeaderMap) -> Self {
        let attribute = |name| binary(headers, name).filter(|text| !text.is_empty());
        match (attribute("specversion"), attribute("type")) {
            (Some(SPEC_VERSION), Some(EVENT_TYPE)) => {}
            (Some(SPEC_VERSION), _) => return Self::Foreign(OTHER_TYPE),
            _ => return Self::Foreign(OTHER_VERSION),
        }
        match (attribute("id"), attribute("source")) {
            (None, _) => Self::Foreign("the event has no id"),
            (_, None) => Self::Foreign("the event has no source"),
            _ => Self::Data,
        }
    }
}

/// Whether one of the headers says that the body is an event's data: then it is no plain execution, whatever it holds.
fn is_binary(headers: &HeaderMap) -> bool {
    ["specversion", "type"].into_iter().any(|name| headers.contains_key(format!("{BINARY_PREFIX}{name}")))
}

/// A parsed body.
#[derive(Debug)]
pub struct Body {
    /// The executions, still to be parsed; for one that cannot even be found, why.
    pub items: Vec<Result<Value, String>>,
    /// What it says about its sender.
    pub sender: Sender,
}

/// Parses a body.
pub fn read(form: Form, bytes: &[u8]) -> Result<Body, Refusal> {
    let mut sender = Sender::default();
    if let Form::Foreign(reason) = form {
        return Ok(Body { items: vec![Err(reason.to_owned())], sender });
    }
    let body: Value = json::read(bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
    let malformed = |what: &str| Err(Refusal::Malformed(what.to_owned()));
    let items: Vec<Result<Value, String>> = match (form, body) {
        (Form::Plain, Value::Object(mut object)) => match object.remove("executions") {
            Some(Value::Array(executions)) => {
                sender = sender_of(&object);
                executions.into_iter().map(Ok).collect()
            }
            Some(_) => return malformed("`executions` is not an array"),
            None => vec![Ok(Value::Object(object))],
        },
        (Form::Data, Value::Object(execution)) => vec![Ok(Value::Object(execution))],
        (Form::Event, Value::Object(event)) => vec![data(event)],
        (Form::Events, Value::Array(events)) => events
            .into_iter()
            .map(|event| match event {
                Value::Object(event) => data(event),
                _ => Err("the event is not an object".to_owned()),
            })
            .collect(),
        (Form::Plain | Form::Event | Form::Data | Form::Foreign(_), _) => {
            return malformed("it is not an object");
        }
        (Form::Events, _) => return malformed("a batch of events is an array"),
    };
    if items.len() > EXECUTIONS_MAX { Err(Refusal::TooMany) } else { Ok(Body { items, sender }) }
}

/// The fields beside the executions. Unreadable ones are left out: the executions are what matters.
fn sender_of(object: &Map<String, Value>) -> Sender {
    let text = |name: &str| object.get(name).and_then(Value::as_str);
    Sender {
        sent_at: text("sent_at").and_then(|at| at.parse().ok()),
        instance: text("instance").and_then(InstanceId::parse),
    }
}

/// The data of an event. Extension attributes are ignored.
fn data(mut event: Map<String, Value>) -> Result<Value, String> {
    if event.get("specversion").and_then(Value::as_str) != Some(SPEC_VERSION) {
        return Err(OTHER_VERSION.to_owned());
    }
    for attribute in ATTRIBUTES {
        if event.get(attribute).and_then(Value::as_str).is_none_or(str::is_empty) {
            return Err(format!("the event has no {attribute}"));
        }
    }
    if event.get("type").and_then(Value::as_str) != Some(EVENT_TYPE) {
        return Err(OTHER_TYPE.to_owned());
    }
    event.remove("data").ok_or_else(|| "the event has no data as JSON".to_owned())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn items(form: Form, bytes: &[u8]) -> Result<Vec<Result<Value, String>>, Refusal> {
        super::read(form, bytes).map(|body| body.items)
    }

    fn read(form: Form, body: &Value) -> Vec<Result<Value, String>> {
        items(form, body.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn the_sender_is_read_from_beside_the_executions() {
        let sender = |body: Value| super::read(Form::Plain, body.to_string().as_bytes()).unwrap().sender;
        let said =
            sender(json!({"executions": [], "sent_at": "2026-11-24T12:00:00.250Z", "instance": "1f2e"}));
        assert_eq!(said.sent_at, "2026-11-24T12:00:00.25Z".parse().ok());
        assert_eq!(said.instance, InstanceId::parse("1f2e"));
        let odd = json!({"executions": [], "sent_at": "noon", "instance": {"id": 7}});
        assert_eq!(sender(odd), Sender::default(), "and the executions are accepted all the same");
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
    fn a_body_that_is_not_of_its_form_is_refused_as_a_whole() {
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
    fn the_content_type_decides_the_form() {
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

    #[test]
    fn an_event_in_binary_mode_is_read_by_its_headers() {
        let ours = [("specversion", "1.0"), ("type", EVENT_TYPE), ("id", "1"), ("source", "/n8n")];
        let form = |change: Option<(&str, &str)>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
            for (name, value) in ours {
                let value = change.filter(|(changed, _)| *changed == name).map_or(value, |(_, value)| value);
                let name: axum::http::HeaderName = format!("ce-{name}").parse().unwrap();
                headers.insert(name, value.parse().unwrap());
            }
            Form::of(&headers).unwrap()
        };
        assert_eq!(form(None), Form::Data);
        for (name, value, word) in [
            ("type", "com.example.other", "type"),
            ("type", "", "type"),
            ("specversion", "0.3", "specversion"),
            ("id", "", "no id"),
            ("source", "", "no source"),
        ] {
            let form = form(Some((name, value)));
            let items = items(form, br#"{"id": "1"}"#).unwrap();
            assert!(matches!(&items[..], [Err(reason)] if reason.contains(word)), "{items:?}");
        }
        assert!(matches!(items(Form::Data, b"[]"), Err(Refusal::Malformed(_))));
    }
}
