//! The YAML of the file before it is read as plans, tenants and sources: merge keys are resolved, and a key
//! without a value is refused.

use std::collections::BTreeSet;

use serde::de::DeserializeOwned;
use serde_norway::{Mapping, Value};

/// Merges another mapping's keys into its own, as YAML 1.1 defines it.
const MERGE: &str = "<<";

/// Top-level keys that begin with this belong to the author: a place for anchors.
const EXTENSION: &str = "x-";

/// Lists of items, in the order in which they can be sent.
const LISTS: [&str; 3] = ["plans", "tenants", "sources"];

/// The YAML cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDocument {
    /// Not YAML.
    #[error("it is not YAML")]
    Syntax(#[source] serde_norway::Error),
    /// `<<` has a value of another kind.
    #[error("{0}: `<<` takes a mapping or a list of mappings, as in `<<: *defaults`")]
    Merge(String),
    /// A key has no value.
    #[error("{path} has no value: {remedy}")]
    Blank {
        /// Where it is, e.g. `plans[0].monthly_limit`.
        path: String,
        /// What to write instead.
        remedy: &'static str,
    },
    /// An item has the wrong shape.
    #[error("{path}")]
    Item {
        /// Where, e.g. `plans[0]`.
        path: String,
        /// What was expected.
        source: serde_norway::Error,
    },
    /// The file has the wrong shape; the error says where.
    #[error("it is not a list of plans, tenants and sources")]
    Shape(#[source] serde_norway::Error),
}

/// The lists of a file.
pub struct Document<P, T, S> {
    /// The plans.
    pub plans: Vec<Written<P>>,
    /// The tenants.
    pub tenants: Vec<Written<T>>,
    /// The sources.
    pub sources: Vec<Written<S>>,
}

/// An item, and which of its keys the file has.
pub struct Written<I> {
    /// The item.
    pub item: I,
    /// Paths of its keys, merged ones among them, e.g. `admission.grace`.
    pub keys: BTreeSet<String>,
}

/// Reads the lists of a file. Errors name the line if the text was used unchanged, and the item if keys were
/// merged into it.
pub fn read<P, T, S>(text: &str) -> Result<Document<P, T, S>, InvalidDocument>
where
    P: DeserializeOwned,
    T: DeserializeOwned,
    S: DeserializeOwned,
{
    let mut value: Value = serde_norway::from_str(text).map_err(InvalidDocument::Syntax)?;
    let mut is_changed = drop_extensions(&mut value);
    is_changed |= merge(&mut value, "")?;
    for list in LISTS {
        match value.get(list) {
            // A list whose items are all commented out: it means none, and `apply` removes nothing.
            None | Some(Value::Null) => {}
            Some(items) => refuse_blank(items, list)?,
        }
    }
    let keys = LISTS.map(|list| keys_of(&value, list));
    let Lists { plans, tenants, sources } = if is_changed { from_value(value)? } else { from_text(text)? };
    let [of_plans, of_tenants, of_sources] = keys;
    Ok(Document {
        plans: written(plans, of_plans),
        tenants: written(tenants, of_tenants),
        sources: written(sources, of_sources),
    })
}

fn written<I>(items: Vec<I>, keys: Vec<BTreeSet<String>>) -> Vec<Written<I>> {
    items.into_iter().zip(keys).map(|(item, keys)| Written { item, keys }).collect()
}

/// The keys of each item of a list.
fn keys_of(value: &Value, list: &str) -> Vec<BTreeSet<String>> {
    let items = value.get(list).and_then(Value::as_sequence).into_iter().flatten();
    let keys = |item| {
        let mut keys = BTreeSet::new();
        add_keys(item, "", &mut keys);
        keys
    };
    items.map(keys).collect()
}

fn add_keys(value: &Value, path: &str, keys: &mut BTreeSet<String>) {
    for (key, inner) in value.as_mapping().into_iter().flatten() {
        let path = below(path, key);
        add_keys(inner, &path, keys);
        keys.insert(path);
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Lists<P, T, S> {
    #[serde(default = "Vec::new")]
    plans: Vec<P>,
    #[serde(default = "Vec::new")]
    tenants: Vec<T>,
    #[serde(default = "Vec::new")]
    sources: Vec<S>,
}

fn from_text<P, T, S>(text: &str) -> Result<Lists<P, T, S>, InvalidDocument>
where
    P: DeserializeOwned,
    T: DeserializeOwned,
    S: DeserializeOwned,
{
    serde_norway::from_str(text).map_err(InvalidDocument::Shape)
}

fn from_value<P, T, S>(mut value: Value) -> Result<Lists<P, T, S>, InvalidDocument>
where
    P: DeserializeOwned,
    T: DeserializeOwned,
    S: DeserializeOwned,
{
    if let Value::Mapping(mapping) = &mut value {
        mapping.retain(|_, list| !list.is_null());
    }
    let lists: Lists<Value, Value, Value> =
        serde_norway::from_value(value).map_err(InvalidDocument::Shape)?;
    let [plans, tenants, sources] = LISTS;
    Ok(Lists {
        plans: items(plans, lists.plans)?,
        tenants: items(tenants, lists.tenants)?,
        sources: items(sources, lists.sources)?,
    })
}

fn items<I: DeserializeOwned>(list: &str, values: Vec<Value>) -> Result<Vec<I>, InvalidDocument> {
    let item = |(index, value)| {
        serde_norway::from_value(value)
            .map_err(|source| InvalidDocument::Item { path: format!("{list}[{index}]"), source })
    };
    values.into_iter().enumerate().map(item).collect()
}

/// Returns whether there were any.
fn drop_extensions(value: &mut Value) -> bool {
    let Value::Mapping(mapping) = value else { return false };
    let before = mapping.len();
    mapping.retain(|key, _| !key.as_str().is_some_and(|key| key.starts_with(EXTENSION)));
    mapping.len() != before
}

/// Resolves merge keys everywhere: a mapping's own keys win, and of several mappings the first. Aliases have
/// been resolved by the parser, which also bounds the depth. Returns whether there were any.
fn merge(value: &mut Value, path: &str) -> Result<bool, InvalidDocument> {
    match value {
        Value::Mapping(mapping) => {
            let mut is_changed = false;
            for (key, inner) in mapping.iter_mut() {
                is_changed |= merge(inner, &below(path, key))?;
            }
            let Some(merged) = mapping.shift_remove(MERGE) else { return Ok(is_changed) };
            let bases = match merged {
                Value::Sequence(bases) => bases,
                base => vec![base],
            };
            for base in bases {
                let Value::Mapping(base) = base else { return Err(InvalidDocument::Merge(shown(path))) };
                add(mapping, base);
            }
            Ok(true)
        }
        Value::Sequence(values) => {
            let mut is_changed = false;
            for (index, inner) in values.iter_mut().enumerate() {
                is_changed |= merge(inner, &format!("{path}[{index}]"))?;
            }
            Ok(is_changed)
        }
        _ => Ok(false),
    }
}

fn add(mapping: &mut Mapping, base: Mapping) {
    for (key, value) in base {
        if !mapping.contains_key(&key) {
            mapping.insert(key, value);
        }
    }
}

/// `monthly_limit:` looks like an unfinished line. Read as null, it would mean "no limit".
fn refuse_blank(value: &Value, path: &str) -> Result<(), InvalidDocument> {
    match value {
        Value::Mapping(mapping) => {
            mapping.iter().try_for_each(|(key, inner)| refuse_blank(inner, &below(path, key)))
        }
        Value::Sequence(values) => {
            let mut numbered = values.iter().enumerate();
            numbered.try_for_each(|(index, inner)| refuse_blank(inner, &format!("{path}[{index}]")))
        }
        Value::Null => Err(blank(path)),
        Value::String(text) if text.trim().is_empty() => Err(blank(path)),
        _ => Ok(()),
    }
}

/// Bounds: without one, everything is allowed.
const BOUNDS: [&str; 5] = ["monthly_limit", "overage_max", "per_minute", "per_day", "concurrent"];

fn blank(path: &str) -> InvalidDocument {
    let key = path.rsplit('.').next().unwrap_or(path);
    let remedy = if BOUNDS.contains(&key) {
        "write a number, or `unlimited`"
    } else {
        "write a value, or leave the key out for its default"
    };
    InvalidDocument::Blank { path: path.to_owned(), remedy }
}

fn below(path: &str, key: &Value) -> String {
    let key = key.as_str().unwrap_or("?");
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn shown(path: &str) -> String {
    if path.is_empty() { "at the top".to_owned() } else { path.to_owned() }
}
