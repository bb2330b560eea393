//! What a file removes by leaving it out: a setting that is in force and missing in the file's item.

use std::fmt;

use serde_json::Value;

use super::same;
use crate::manifest::Item;

/// Longest value that is shown, in characters.
const SHOWN_CHARS_MAX: usize = 80;

/// A setting that gets its default because the file does not have it.
#[derive(Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// Its path, e.g. `admission.grace`.
    path: String,
    /// What is in force.
    was: Value,
    /// The default; null for nothing.
    default: Value,
}

/// The settings at the gateway that `item` removes.
pub fn of(item: &Item, kept: &Value) -> Vec<LeftOut> {
    let mut found = Vec::new();
    compare(item, "", &item.body, kept, &mut found);
    found
}

fn compare(item: &Item, path: &str, wanted: &Value, kept: &Value, found: &mut Vec<LeftOut>) {
    for (field, wanted) in wanted.as_object().into_iter().flatten() {
        let path = if path.is_empty() { field.clone() } else { format!("{path}.{field}") };
        let kept = kept.get(field).unwrap_or(&Value::Null);
        if wanted.is_object() && kept.is_object() {
            compare(item, &path, wanted, kept, found);
        } else if !item.keys.contains(&path) && !kept.is_null() && !same(field, wanted, Some(kept)) {
            found.push(LeftOut { path, was: kept.clone(), default: wanted.clone() });
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, was, default } = self;
        write!(f, "{path} (was {}", shown(was))?;
        if is_nothing(default) { f.write_str(")") } else { write!(f, ", then {})", shown(default)) }
    }
}

fn is_nothing(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn shown(value: &Value) -> String {
    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    crate::table::shortened(&text, SHOWN_CHARS_MAX)
}

#[cfg(test)]
mod tests {
    use catalog::CatalogKind;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_setting_in_force_that_the_file_does_not_have_is_found() {
        let item = |keys: &[&str]| Item {
            kind: CatalogKind::Plan,
            id: "pro".into(),
            body: json!({
                "name": "Pro", "monthly_limit": null, "price": null, "thresholds_percent": [80, 100],
                "admission": { "grace": null, "shadow": false, "tenant_caps": { "per_minute": null } },
            }),
            api_key: None,
            keys: keys.iter().map(|key| (*key).to_owned()).collect(),
        };
        let kept = json!({
            "name": "Old", "monthly_limit": 100, "price": { "currency": "eur" }, "thresholds_percent": [50],
            "admission": { "grace": "24h", "shadow": false, "tenant_caps": { "per_minute": 6 } }, "revision": 3,
        });
        let found = |keys: &[&str]| -> Vec<String> {
            of(&item(keys), &kept).iter().map(LeftOut::to_string).collect()
        };
        let mut expected = [
            "admission.grace (was 24h)",
            "admission.tenant_caps.per_minute (was 6)",
            "monthly_limit (was 100)",
            "price (was {\"currency\":\"eur\"})",
            "thresholds_percent (was [50], then [80,100])",
        ];
        expected.sort_unstable();
        let mut all = found(&["name"]);
        all.sort();
        assert_eq!(all, expected);
        let rest = found(&["name", "monthly_limit", "price", "thresholds_percent", "admission.grace"]);
        assert_eq!(rest, ["admission.tenant_caps.per_minute (was 6)"]);
    }
}
