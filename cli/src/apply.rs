//! `flowmeter apply`.

use std::{fmt, io::Write, path::PathBuf};

use anyhow::{Context, Result, bail};
use catalog::CatalogKind;
use clap::Args;
use secrecy::ExposeSecret;
use serde_json::Value;

use crate::{
    client::{Client, ClientError},
    manifest::{self, Item},
};

/// Arguments of `flowmeter apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// A YAML file with the lists `plans`, `tenants` and `sources`; `-` for standard input. `${NAME}` in
    /// `api_key` and `base_url` is replaced by the environment variable of that name.
    #[arg(short, long)]
    file: PathBuf,
    /// Only say what would be done.
    #[arg(long)]
    dry_run: bool,
    /// A removed tenant of this id is the same customer: it comes back, with its figures. May be given several times.
    /// Otherwise the id of a removed tenant is refused, because what was metered under it stays.
    #[arg(long, value_name = "TENANT")]
    restore: Vec<String>,
}

/// What becomes of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Updated,
    Unchanged,
    /// The gateway cannot tell whether a sealed key is the same, so it is sent again.
    KeyRenewed,
}

impl Apply {
    /// Sends what differs. Stops at the first item that is refused; the ones before it stay applied.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let items = manifest::read(&self.file, &|name| std::env::var(name).ok())?;
        let is_there =
            |id: &String| items.iter().any(|item| item.kind == CatalogKind::Tenant && item.id == *id);
        if let Some(unknown) = self.restore.iter().find(|id| !is_there(id)) {
            bail!("{}: --restore {unknown}: there is no such tenant in the file", self.file.display());
        }
        for item in &items {
            let named = format!("{} {}", item.kind.as_str(), item.id);
            let outcome = self
                .apply(client, item)
                .await
                .with_context(|| format!("{}: {named} was not applied", self.file.display()))?;
            writeln!(out, "{named:<40} {outcome}")?;
        }
        if self.dry_run {
            writeln!(out, "Nothing was sent (--dry-run).")?;
        }
        Ok(())
    }

    async fn apply(&self, client: &Client, item: &Item) -> Result<Outcome, ClientError> {
        let path = [collection(item.kind), item.id.as_str()];
        let kept: Option<Value> = client.find(&path).await?;
        let outcome = judge(item, kept.as_ref());
        if outcome != Outcome::Unchanged && !self.dry_run {
            let is_restored = item.kind == CatalogKind::Tenant && self.restore.contains(&item.id);
            let query: &[(&str, &str)] = if is_restored { &[("restore", "true")] } else { &[] };
            client.put::<Value>(&path, query, &with_secret(item)).await?;
        }
        Ok(outcome)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::KeyRenewed => "unchanged (API key set again)",
        })
    }
}

fn collection(kind: CatalogKind) -> &'static str {
    match kind {
        CatalogKind::Plan => "plans",
        CatalogKind::Tenant => "tenants",
        CatalogKind::Source => "sources",
    }
}

fn judge(item: &Item, kept: Option<&Value>) -> Outcome {
    let Some(kept) = kept else { return Outcome::Created };
    let wanted = item.body.as_object().into_iter().flatten();
    let differs = wanted.into_iter().any(|(field, value)| !same(field, value, kept.get(field)));
    match (differs, &item.api_key) {
        (true, _) => Outcome::Updated,
        (false, Some(_)) => Outcome::KeyRenewed,
        (false, None) => Outcome::Unchanged,
    }
}

/// Durations, which have several spellings: `60s` and `1m`.
const DURATIONS: [&str; 3] = ["poll_interval", "grace", "open_at_most"];

/// Whether the gateway holds what is wanted. It may show more than that.
fn same(field: &str, wanted: &Value, kept: Option<&Value>) -> bool {
    let kept = kept.unwrap_or(&Value::Null);
    if let (Some(wanted), Some(kept)) = (wanted.as_object(), kept.as_object()) {
        return wanted.iter().all(|(field, value)| same(field, value, kept.get(field)));
    }
    let duration = |value: &Value| value.as_str()?.parse::<jiff::SignedDuration>().ok();
    wanted == kept
        || (DURATIONS.contains(&field) && duration(wanted).is_some() && duration(wanted) == duration(kept))
}

/// The body with the source's key: made only to be sent, and shown nowhere.
fn with_secret(item: &Item) -> Value {
    let mut body = item.body.clone();
    if let (Some(fields), Some(key)) = (body.as_object_mut(), &item.api_key) {
        fields.insert("api_key".to_owned(), key.expose_secret().into());
    }
    body
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn item(api_key: Option<&str>) -> Item {
        Item {
            kind: CatalogKind::Source,
            id: "north-n8n".into(),
            body: json!({ "tenant": "north", "poll_interval": "60s", "paused": false }),
            api_key: api_key.map(Into::into),
        }
    }

    #[test]
    fn only_what_differs_is_an_update() {
        let kept = json!({ "id": "north-n8n", "tenant": "north", "poll_interval": "1m", "paused": false });
        assert_eq!(judge(&item(None), None), Outcome::Created);
        assert_eq!(judge(&item(None), Some(&kept)), Outcome::Unchanged);
        assert_eq!(judge(&item(Some("k")), Some(&kept)), Outcome::KeyRenewed);
        let paused = json!({ "tenant": "north", "poll_interval": "1m", "paused": true });
        assert_eq!(judge(&item(None), Some(&paused)), Outcome::Updated);
    }

    #[test]
    fn what_is_inside_is_compared_too() {
        let plan = |grace: &str| Item {
            kind: CatalogKind::Plan,
            body: json!({ "name": "Pro", "admission": { "shadow": false, "grace": grace } }),
            ..item(None)
        };
        let kept = json!({ "name": "Pro", "admission": { "shadow": false, "grace": "1h", "later": null } });
        assert_eq!(judge(&plan("60m"), Some(&kept)), Outcome::Unchanged);
        assert_eq!(judge(&plan("2h"), Some(&kept)), Outcome::Updated);
    }

    #[test]
    fn a_key_is_in_what_is_sent_only() {
        let item = item(Some("key-north"));
        assert_eq!(with_secret(&item)["api_key"], "key-north");
        assert!(!format!("{item:?}").contains("key-north"));
    }
}
