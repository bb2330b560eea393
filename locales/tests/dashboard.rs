//! The dashboard's phrases. It has no build step and its checks run without Rust, so its table is a file of the
//! repository, made of the Fluent files.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail the test")]

use std::{env, fmt::Write as _, fs, path::Path};

use fluent_syntax::{
    ast::{Entry, Expression, InlineExpression, Pattern, PatternElement, Variant, VariantKey},
    parser,
};

/// Set to write the table.
const WRITE: &str = "FLOWMETER_WRITE_PHRASES";

#[test]
fn the_dashboard_has_the_phrases_of_the_fluent_files() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../services/gateway/dashboard/phrases.js");
    let table = table();
    if env::var_os(WRITE).is_some() {
        fs::write(&path, &table).unwrap();
    }
    let stored = fs::read_to_string(&path).unwrap_or_default();
    assert!(stored == table, "{} is stale: {WRITE}=1 cargo test -p locales", path.display());
}

fn table() -> String {
    let mut table = format!(
        "// @ts-check\n// Made of locales/*/dashboard.ftl by `{WRITE}=1 cargo test -p locales`. A test compares the two.\n\n\
         export const WORDS = {{\n"
    );
    for language in ["en", "es"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(language).join("dashboard.ftl");
        let text = fs::read_to_string(path).unwrap();
        let resource = parser::parse(text.as_str()).unwrap_or_else(|(_, errors)| panic!("{errors:?}"));
        writeln!(table, "  {language}: {{").unwrap();
        for entry in &resource.body {
            if let Entry::Message(message) = entry {
                let id = message.id.name;
                let value = message.value.as_ref().unwrap_or_else(|| panic!("{id} is no text"));
                writeln!(table, "    {id}: {},", value_of(id, value)).unwrap();
            }
        }
        table.push_str("  },\n");
    }
    table + "};\n"
}

/// A text, or one for each plural.
fn value_of(id: &str, pattern: &Pattern<&str>) -> String {
    let [PatternElement::Placeable { expression: Expression::Select { selector, variants } }] =
        pattern.elements.as_slice()
    else {
        return quoted(id, pattern);
    };
    let is_by_count = matches!(selector, InlineExpression::VariableReference { id } if id.name == "count");
    assert!(is_by_count, "{id}: only $count chooses among texts");
    let form = |Variant { key, value, .. }: &Variant<&str>| match key {
        VariantKey::Identifier { name } => format!("{name}: {}", quoted(id, value)),
        VariantKey::NumberLiteral { .. } => panic!("{id}: a plural is one, other and the like, not a number"),
    };
    format!("{{ {} }}", variants.iter().map(form).collect::<Vec<_>>().join(", "))
}

/// A text as a literal of JavaScript, its values as `{name}`.
fn quoted(id: &str, pattern: &Pattern<&str>) -> String {
    let element = |element: &PatternElement<&str>| match element {
        PatternElement::TextElement { value } => value.to_string(),
        PatternElement::Placeable {
            expression: Expression::Inline(InlineExpression::VariableReference { id }),
        } => format!("{{{}}}", id.name),
        PatternElement::Placeable { .. } => panic!("{id}: the page knows only values inside a text"),
    };
    let text: String = pattern.elements.iter().map(element).collect();
    assert!(!text.contains(['\n', '\\']), "{id}: one line, without backslashes");
    format!("\"{}\"", text.replace('"', "\\\""))
}
