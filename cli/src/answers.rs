//! For tests: answers of the gateway, made up from `docs/openapi.json`, so that the types here read what the document
//! promises.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// Which of the answers that a schema allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fill {
    /// Null where that is allowed, no elements, the first choice.
    Least,
    /// A value everywhere, one element, the last choice.
    Most,
}

/// Fails if the type does not read every example of the operation's answer.
pub fn read<T: DeserializeOwned>(operation: &str) {
    let document: Value = serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    let schema = answer_of(&document, operation);
    for fill in [Fill::Least, Fill::Most] {
        let example = example(&document, schema, fill);
        if let Err(error) = serde_json::from_value::<T>(example.clone()) {
            panic!("the answer of {operation} is not read: {error}\n{example:#}");
        }
    }
}

/// Declares the test that types read the answers of operations.
macro_rules! reads {
    ($($operation:literal => $type:ty),+ $(,)?) => {
        #[test]
        fn the_answers_of_the_document_are_read() {
            $($crate::answers::read::<$type>($operation);)+
        }
    };
}

pub(crate) use reads;

fn answer_of<'a>(document: &'a Value, operation: &str) -> &'a Value {
    let paths = document["paths"].as_object().unwrap();
    let mut operations = paths.values().flat_map(|item| item.as_object().unwrap().values());
    let found = operations.find(|found| found["operationId"] == operation);
    let responses =
        found.unwrap_or_else(|| panic!("there is no {operation}"))["responses"].as_object().unwrap();
    let (_, answer) = responses.iter().find(|(status, _)| status.starts_with('2')).unwrap();
    &answer["content"]["application/json"]["schema"]
}

fn example(document: &Value, schema: &Value, fill: Fill) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return example(document, document.pointer(reference.trim_start_matches('#')).unwrap(), fill);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = Map::new();
        for part in parts {
            let Value::Object(fields) = example(document, part, fill) else {
                panic!("a part is an object: {part}")
            };
            whole.extend(fields);
        }
        return Value::Object(whole);
    }
    if let Some(choices) = schema["oneOf"].as_array().or(schema["anyOf"].as_array()) {
        let is_null = |choice: &&Value| choice["type"] == "null";
        let chosen = match (fill, choices.iter().find(is_null)) {
            (Fill::Least, Some(null)) => null,
            _ => choices.iter().find(|choice| !is_null(choice)).unwrap(),
        };
        return example(document, chosen, fill);
    }
    if let Some(values) = schema["enum"].as_array() {
        let value = if fill == Fill::Least { values.first() } else { values.last() };
        return value.unwrap().clone();
    }
    let kinds: Vec<&str> = match &schema["type"] {
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        kind => kind.as_str().into_iter().collect(),
    };
    if kinds == ["null"] || (fill == Fill::Least && kinds.contains(&"null")) {
        return Value::Null;
    }
    match kinds.into_iter().find(|kind| *kind != "null") {
        Some("object") => {
            let fields = schema["properties"].as_object().into_iter().flatten();
            let is_there = |name: &str| {
                fill == Fill::Most
                    || schema["required"].as_array().is_some_and(|names| names.iter().any(|of| of == name))
            };
            let fields = fields.filter(|(name, _)| is_there(name));
            Value::Object(
                fields.map(|(name, field)| (name.clone(), example(document, field, fill))).collect(),
            )
        }
        Some("array") if fill == Fill::Least => json!([]),
        Some("array") => json!([example(document, &schema["items"], fill)]),
        Some("string") => match schema["format"].as_str() {
            Some("date-time") => json!("2026-11-24T12:00:00Z"),
            Some("date") => json!("2026-11-24"),
            Some("uuid") => json!("0198c5d2-0000-7000-8000-000000000000"),
            _ => schema["examples"].get(0).cloned().unwrap_or_else(|| json!("text")),
        },
        Some("integer") => match fill {
            Fill::Least => schema["minimum"].clone(),
            Fill::Most => schema["maximum"].clone(),
        },
        Some("number") => json!(0.5),
        Some("boolean") => json!(fill == Fill::Most),
        kind => panic!("no example of {kind:?}: {schema}"),
    }
}
