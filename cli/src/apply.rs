//! `flowmeter apply`.

mod left_out;

use std::{
    fmt,
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use catalog::CatalogKind;
use clap::Args;
use secrecy::ExposeSecret;
use serde_json::Value;

use self::left_out::LeftOut;
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
    /// Only show what would be done.
    #[arg(long)]
    dry_run: bool,
    /// Remove the settings that the file leaves out of its items, such as a `limit_override` that was set before, without
    /// asking. Whole items that the file leaves out are never removed.
    #[arg(long)]
    prune: bool,
    /// Restore the removed tenant or source with this id, with its figures, because it is the same customer
    /// or the same n8n. May be given several times. Otherwise the id of a removed one is refused, because
    /// what was metered under it stays.
    #[arg(long, value_name = "ID")]
    restore: Vec<String>,
}

/// What happens to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Created,
    Updated,
    Unchanged,
    /// The gateway cannot tell whether a sealed key is the same, so it is sent again.
    KeyRenewed,
}

/// An item, and what happens to it.
struct Step<'a> {
    item: &'a Item,
    outcome: Outcome,
    left_out: Vec<LeftOut>,
}

impl Step<'_> {
    fn named(&self) -> String {
        format!("{} {}", self.item.kind.as_str(), self.item.id)
    }
}

impl Apply {
    /// Sends what differs, once everything is compared and removals are confirmed. Stops at the first item
    /// that is refused; the ones before it stay applied.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let items = manifest::read(&self.file, &|name| std::env::var(name).ok())?;
        let is_there = |id: &String| items.iter().any(|item| may_be_restored(item.kind) && item.id == *id);
        if let Some(unknown) = self.restore.iter().find(|id| !is_there(id)) {
            bail!(
                "{}: --restore {unknown}: there is no such tenant or source in the file",
                self.file.display()
            );
        }
        let mut steps = Vec::with_capacity(items.len());
        for item in &items {
            steps.push(look(client, item).await.with_context(|| self.not_applied(item))?);
        }
        let removes = write_left_out(&steps, out)?;
        if self.dry_run {
            for step in &steps {
                writeln!(out, "{:<40} {}", step.named(), step.outcome)?;
            }
            writeln!(out, "Nothing was sent (--dry-run).")?;
            return Ok(());
        }
        if removes && !self.prune {
            self.ask()?;
        }
        for step in &steps {
            self.send(client, step).await.with_context(|| self.not_applied(step.item))?;
            writeln!(out, "{:<40} {}", step.named(), step.outcome)?;
        }
        Ok(())
    }

    fn not_applied(&self, item: &Item) -> String {
        format!("{}: {} {} was not applied", self.file.display(), item.kind.as_str(), item.id)
    }

    /// A person is asked; a program has to pass `--prune`.
    fn ask(&self) -> Result<()> {
        let is_free = self.file != Path::new("-");
        if !(is_free && io::stdin().is_terminal() && io::stderr().is_terminal()) {
            bail!(
                "{}: nothing was applied: the file leaves out settings that are in force; write them into the file, or \
                 remove them with --prune",
                self.file.display()
            );
        }
        eprint!("Remove these settings? [y/N] ");
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).context("cannot read the answer")?;
        if matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        bail!("{}: nothing was applied", self.file.display())
    }

    async fn send(&self, client: &Client, step: &Step<'_>) -> Result<(), ClientError> {
        let item = step.item;
        if step.outcome == Outcome::Unchanged {
            return Ok(());
        }
        let is_restored = may_be_restored(item.kind) && self.restore.contains(&item.id);
        let query: &[(&str, &str)] = if is_restored { &[("restore", "true")] } else { &[] };
        client.put::<Value>(&path(item), query, &with_secret(item)).await.map(|_| ())
    }
}

/// Whether the id of a removed item of this kind stays reserved for it.
fn may_be_restored(kind: CatalogKind) -> bool {
    matches!(kind, CatalogKind::Tenant | CatalogKind::Source)
}

async fn look<'a>(client: &Client, item: &'a Item) -> Result<Step<'a>, ClientError> {
    let kept: Option<Value> = client.find(&path(item)).await?;
    let left_out = kept.as_ref().map(|kept| left_out::of(item, kept)).unwrap_or_default();
    Ok(Step { item, outcome: judge(item, kept.as_ref()), left_out })
}

fn path(item: &Item) -> [&str; 2] {
    [collection(item.kind), item.id.as_str()]
}

/// Returns whether there is any.
fn write_left_out(steps: &[Step<'_>], out: &mut dyn Write) -> Result<bool> {
    for step in steps {
        for left_out in &step.left_out {
            writeln!(out, "{:<40} removes {left_out}", step.named())?;
        }
    }
    Ok(steps.iter().any(|step| !step.left_out.is_empty()))
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

/// Whether the gateway has the wanted value. It may have more fields.
fn same(field: &str, wanted: &Value, kept: Option<&Value>) -> bool {
    let kept = kept.unwrap_or(&Value::Null);
    if let (Some(wanted), Some(kept)) = (wanted.as_object(), kept.as_object()) {
        return wanted.iter().all(|(field, value)| same(field, value, kept.get(field)));
    }
    let duration = |value: &Value| value.as_str()?.parse::<jiff::SignedDuration>().ok();
    wanted == kept
        || (DURATIONS.contains(&field) && duration(wanted).is_some() && duration(wanted) == duration(kept))
}

/// The body with the source's key: only for sending, never shown.
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
            keys: Default::default(),
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
    fn nested_fields_are_compared_too() {
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
    fn a_key_is_only_in_the_body_that_is_sent() {
        let item = item(Some("key-north"));
        assert_eq!(with_secret(&item)["api_key"], "key-north");
        assert!(!format!("{item:?}").contains("key-north"));
    }
}
