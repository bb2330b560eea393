//! The API's document as it is committed.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use serde_json::Value;

/// Set this variable to write the file instead of comparing it.
const WRITE: &str = "FLOWMETER_WRITE_OPENAPI";

fn committed() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json")
}

#[test]
fn the_committed_document_is_the_served_one() {
    let mut document = serde_json::to_string_pretty(&gateway::openapi()).unwrap();
    document.push('\n');
    if env::var_os(WRITE).is_some() {
        fs::write(committed(), &document).unwrap();
    }
    let written = fs::read_to_string(committed()).unwrap_or_default();
    assert!(
        written == document,
        "docs/openapi.json differs from the document that the gateway serves. Write it anew, and the \
         dashboard's types from it: `{WRITE}=1 cargo xtask test the_committed_document`, \
         `cargo xtask verify --only types --fix`"
    );
}

/// Every object in the document, with its path.
fn objects<'a>(value: &'a Value, path: &str, found: &mut dyn FnMut(&str, &'a Value)) {
    match value {
        Value::Object(fields) => {
            found(path, value);
            for (name, field) in fields {
                objects(field, &format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                objects(item, &format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_input_is_bounded() {
    let document = serde_json::to_value(gateway::openapi()).unwrap();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let mut missing = BTreeSet::new();
    objects(&document, "", &mut |path, object| {
        let target = object.get("$ref").and_then(Value::as_str);
        if let Some(name) = target.and_then(|target| target.strip_prefix("#/components/schemas/"))
            && !schemas.contains_key(name)
        {
            missing.insert(format!("{path}: {name}"));
        }
    });
    assert!(missing.is_empty(), "{missing:#?}");

    // A text that is asked for has a pattern, a format or a list of values; a list has a length; an object no
    // other fields.
    let inputs: Vec<&String> = schemas.keys().filter(|name| name.ends_with("Input")).collect();
    assert!(inputs.len() >= 10, "{inputs:?}");
    let mut unbounded = BTreeSet::new();
    for name in inputs {
        objects(&schemas[name], name, &mut |path, object| {
            let is = |kind: &str| {
                object["type"] == kind
                    || object["type"].as_array().is_some_and(|types| types.iter().any(|of| of == kind))
            };
            let has = |rules: &[&str]| rules.iter().any(|rule| object.get(*rule).is_some());
            let is_bounded = (!is("string") || has(&["pattern", "format", "enum"]))
                && (!is("array") || has(&["maxItems"]))
                && (!is("object") || !has(&["properties"]) || object["additionalProperties"] == false)
                && (!is("integer") || has(&["maximum"]));
            if !is_bounded {
                unbounded.insert(path.to_owned());
            }
        });
    }
    assert!(unbounded.is_empty(), "{unbounded:#?}");
}

#[test]
fn every_operation_lists_its_failures_with_their_body() {
    let document = serde_json::to_value(gateway::openapi()).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let responses = operation["responses"].as_object().unwrap();
            for status in ["400", "401", "403", "429", "500", "503", "504"] {
                assert!(responses.contains_key(status), "{method} {path}: {status}");
            }
            assert_eq!(
                responses.contains_key("415"),
                operation.get("requestBody").is_some(),
                "{method} {path}"
            );
            for (status, response) in responses.iter().filter(|(status, _)| !status.starts_with('2')) {
                assert!(
                    response["content"]["application/json"]["schema"].is_object(),
                    "{method} {path}: {status}"
                );
            }
        }
    }
}
