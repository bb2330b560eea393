//! What must be true of the Fluent files, whatever they say.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use fluent_syntax::{
    ast::{Attribute, Entry, Expression, InlineExpression, Pattern, PatternElement, Resource},
    parser,
};

/// Where phrases are used.
const USERS: [&str; 2] = ["services/alerts/src", "services/gateway/src"];

/// Values that only one language needs: what to do about a failure, for which English has the collector's own sentence.
const SPANISH_ONLY: [(&str, &str); 2] = [("failing.next", "cause"), ("failing.next_with_detail", "advice")];

/// The page's phrases are embedded with the page, and its own checks look for unused ones.
const DASHBOARD: &str = "dashboard";

/// A phrase's values, by its name: `gap`, `gap.subject`.
type Phrases = BTreeMap<String, BTreeSet<String>>;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn files(language: &str) -> BTreeMap<String, String> {
    let entries = fs::read_dir(root().join("locales").join(language)).unwrap();
    let paths = entries.map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap())
        })
        .collect()
}

fn parsed(text: &str) -> Resource<&str> {
    parser::parse(text).unwrap_or_else(|(_, errors)| panic!("{errors:?}"))
}

/// Every phrase of a file. Fails if one stands there twice: the first would never be seen.
fn phrases(text: &str) -> Phrases {
    let mut found = Phrases::new();
    let mut insert = |name: String, pattern: &Pattern<&str>| {
        let mut values = BTreeSet::new();
        values_of(pattern, &mut values);
        assert!(found.insert(name.clone(), values).is_none(), "{name} stands twice");
    };
    for entry in parsed(text).body {
        let Entry::Message(message) = entry else { continue };
        let id = message.id.name;
        if let Some(pattern) = &message.value {
            insert(id.to_owned(), pattern);
        }
        for Attribute { id: part, value } in &message.attributes {
            insert(format!("{id}.{}", part.name), value);
        }
    }
    found
}

/// The values in a pattern. An instant in a list and after a verb (`since`, `on_since`) count as the same, because
/// languages differ in it.
fn values_of(pattern: &Pattern<&str>, values: &mut BTreeSet<String>) {
    let mut inline = |expression: &InlineExpression<&str>| {
        if let InlineExpression::VariableReference { id } = expression {
            values.insert(id.name.trim_start_matches("on_").to_owned());
        }
    };
    let mut branches = Vec::new();
    for element in &pattern.elements {
        match element {
            PatternElement::Placeable { expression: Expression::Inline(expression) } => inline(expression),
            PatternElement::Placeable { expression: Expression::Select { selector, variants } } => {
                inline(selector);
                branches.extend(variants.iter().map(|variant| &variant.value));
            }
            PatternElement::TextElement { .. } => {}
        }
    }
    for branch in branches {
        values_of(branch, values);
    }
}

#[test]
fn both_languages_have_the_same_phrases_with_the_same_values() {
    let (english, spanish) = (files("en"), files("es"));
    assert_eq!(english.keys().collect::<Vec<_>>(), spanish.keys().collect::<Vec<_>>());
    for (area, text) in &english {
        let mut spanish = phrases(&spanish[area]);
        for (name, value) in SPANISH_ONLY {
            if let Some(values) = spanish.get_mut(name) {
                assert!(values.remove(value), "{name} does not use {value}");
            }
        }
        assert_eq!(phrases(text), spanish, "{area}.ftl: left is English, right is Spanish");
    }
}

#[test]
fn every_phrase_is_used() {
    let mut sources = String::new();
    let mut folders: Vec<PathBuf> = USERS.iter().map(|user| root().join(user)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|extension| extension.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("rs") => sources += &fs::read_to_string(path).unwrap(),
                _ => {}
            }
        }
    }
    for (area, text) in files("en").into_iter().filter(|(area, _)| area != DASHBOARD) {
        for name in phrases(&text).keys().flat_map(|name| name.split('.')) {
            let spellings = [format!("\"{name}\""), format!("\"{name}."), format!(".{name}\"")];
            let is_named = spellings.iter().any(|spelling| sources.contains(spelling));
            assert!(is_named, "{area}.ftl: nothing uses {name}");
        }
    }
}

#[test]
fn every_file_is_embedded() {
    let library = fs::read_to_string(root().join("locales/src/lib.rs")).unwrap();
    for area in files("en").into_keys().filter(|area| area != DASHBOARD) {
        assert!(library.contains(&format!("area!(\"{area}\")")), "{area}.ftl is not embedded");
    }
}
