//! `flowmeter void`, `flowmeter adjust` and `flowmeter corrections`: what an operator changes by hand.

use std::{fmt, io::Write};

use anyhow::Result;
use clap::Args;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{attempt::unless_definite, client::Client, table};

/// Arguments of `flowmeter void`.
#[derive(Debug, Args)]
pub struct Void {
    /// The tenant.
    tenant: String,
    /// The source that ran the execution.
    source: String,
    /// The execution's id there.
    execution: u64,
    /// Which life of the source's ids, as `flowmeter explain` shows it.
    #[arg(long, default_value_t = 1)]
    epoch: u32,
    #[command(flatten)]
    because: Because,
}

/// Arguments of `flowmeter adjust`.
#[derive(Debug, Args)]
pub struct Adjust {
    /// The tenant.
    tenant: String,
    /// Added to the count; negative to subtract: `-3`, `+3`, `-1,000`.
    #[arg(allow_hyphen_values = true, value_parser = quantity)]
    quantity: i64,
    /// An instant (RFC 3339) or date in the period; otherwise the current one.
    #[arg(long)]
    period: Option<String>,
    #[command(flatten)]
    because: Because,
}

/// Arguments of `flowmeter corrections`.
#[derive(Debug, Args)]
pub struct Corrections {
    /// The tenant.
    tenant: String,
    /// An instant (RFC 3339) or date in the period; otherwise the current one.
    #[arg(long)]
    period: Option<String>,
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

/// A quantity as people type and paste it: with a sign, the minus of a text editor, and commas or underscores between digits.
fn quantity(text: &str) -> Result<i64, String> {
    let (sign, digits) = match text.strip_prefix(['-', '\u{2212}', '\u{2013}']) {
        Some(digits) => ("-", digits),
        None => ("", text.strip_prefix('+').unwrap_or(text)),
    };
    let is_plain = digits.starts_with(|c: char| c.is_ascii_digit());
    let plain: String = digits.chars().filter(|c| !matches!(c, ',' | '_')).collect();
    match format!("{sign}{plain}").parse() {
        Ok(0) => Err("0 changes nothing".to_owned()),
        Ok(quantity) if is_plain => Ok(quantity),
        _ => Err("use a whole number, such as 3 or -3".to_owned()),
    }
}

/// Who corrects, and why: kept for ever.
#[derive(Debug, Args)]
struct Because {
    /// Why.
    #[arg(long)]
    reason: String,
    /// Who does it.
    #[arg(long, env = "FLOWMETER_AUTHOR")]
    author: String,
    /// The correction's id; the same one again changes nothing.
    #[arg(long)]
    id: Option<String>,
    /// Lets the tenant read the reason. Otherwise it sees the correction without it.
    #[arg(long)]
    public: bool,
}

/// A correction that was made. A tenant is not shown all of it.
#[derive(Debug, Deserialize)]
pub struct Correction {
    id: Option<String>,
    author: Option<String>,
    reason: Option<String>,
    corrected_at: Timestamp,
    void: Option<Voided>,
    adjusted: Option<i64>,
}

#[derive(Debug, Deserialize)]
struct Voided {
    source: String,
    epoch: u32,
    execution: String,
}

#[derive(Debug, Deserialize)]
struct CorrectionList {
    corrections: Vec<Correction>,
}

impl Void {
    /// Voids the execution.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let Self { tenant, source, epoch, execution, because } = self;
        // The execution's own key: voiding it twice is one correction.
        let id = because.id.clone().unwrap_or_else(|| format!("void:{source}:{epoch}:{execution}"));
        let void = json!({ "source": source, "epoch": epoch, "execution": execution });
        because.correct(client, tenant, &id, ("void", void), out).await
    }
}

impl Adjust {
    /// Adjusts the period's count.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let id = self.because.id.clone().unwrap_or_else(|| Uuid::new_v4().to_string());
        let adjust = json!({ "period": self.period, "quantity": self.quantity });
        self.because.correct(client, &self.tenant, &id, ("adjust", adjust), out).await
    }
}

impl Corrections {
    /// Lists a period's corrections.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let query: Vec<_> = self.period.as_deref().map(|period| ("period", period)).into_iter().collect();
        let path = ["tenants", self.tenant.as_str(), "corrections"];
        if self.json {
            let answer: Value = client.get_with(&path, &query).await?;
            writeln!(out, "{answer:#}")?;
            return Ok(());
        }
        let list: CorrectionList = client.get_with(&path, &query).await?;
        if list.corrections.is_empty() {
            writeln!(out, "No corrections in that period.")?;
        }
        for correction in list.corrections {
            writeln!(out, "{correction}")?;
        }
        Ok(())
    }
}

impl Because {
    async fn correct(
        &self,
        client: &Client,
        tenant: &str,
        id: &str,
        (kind, change): (&str, Value),
        out: &mut dyn Write,
    ) -> Result<()> {
        let mut body = json!({ "id": id, "author": self.author, "reason": self.reason, kind: change });
        if self.public {
            body["public"] = true.into();
        }
        let outcome = client.post(&["tenants", tenant, "corrections"], &body).await;
        let repeat = format!("the correction may not have been made; repeat it with --id {id}");
        let made: Correction = unless_definite(outcome, repeat)?;
        writeln!(out, "{made}")?;
        Ok(())
    }
}

impl fmt::Display for Correction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, author, reason, corrected_at, void, adjusted } = self;
        match (void, adjusted) {
            (Some(Voided { source, epoch, execution }), _) => {
                write!(f, "voided execution {execution} of {source} (epoch {epoch})")?;
            }
            (None, quantity) => write!(f, "count adjusted by {:+}", quantity.unwrap_or_default())?,
        }
        write!(f, ", {corrected_at}")?;
        if let Some(author) = author {
            write!(f, ", by {author}")?;
        }
        if let Some(reason) = reason {
            write!(f, ": {}", table::shortened(reason, 200))?;
        }
        id.as_ref().map_or(Ok(()), |id| write!(f, " [{id}]"))
    }
}

#[cfg(test)]
crate::answers::reads!("list_corrections" => CorrectionList, "correct_usage" => Correction);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_read_as_people_type_it() {
        for (typed, read) in
            [("-3", -3), ("+3", 3), ("3", 3), ("\u{2212}3", -3), ("-1,000", -1_000), ("2_500", 2_500)]
        {
            assert_eq!(quantity(typed), Ok(read), "{typed}");
        }
        for bad in ["", "-", "--3", "0", "-0", "3.5", "-,3", "three", "--reason", "9223372036854775808"] {
            assert!(quantity(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_correction_says_what_who_and_why() {
        let correction = |void: Value, adjusted: Value| -> Correction {
            serde_json::from_value(json!({
                "id": "c1", "author": "operator", "reason": "a test run", "corrected_at": "2026-11-24T12:00:00Z",
                "void": void, "adjusted": adjusted,
            }))
            .unwrap()
        };
        let adjusted = correction(Value::Null, json!(-5)).to_string();
        assert_eq!(adjusted, "count adjusted by -5, 2026-11-24T12:00:00Z, by operator: a test run [c1]");
        let for_tenant = json!({ "id": null, "author": null, "reason": null, "adjusted": 2,
                                 "corrected_at": "2026-11-24T12:00:00Z", "void": null });
        let for_tenant: Correction = serde_json::from_value(for_tenant).unwrap();
        assert_eq!(for_tenant.to_string(), "count adjusted by +2, 2026-11-24T12:00:00Z");
        let void = json!({ "source": "north-n8n", "epoch": 1, "execution": "7" });
        assert!(
            correction(void, Value::Null)
                .to_string()
                .starts_with("voided execution 7 of north-n8n (epoch 1)")
        );
    }
}
