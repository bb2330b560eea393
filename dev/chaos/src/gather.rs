//! Collects the results: figures, mails, crossings, dead letters, Stripe.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use prost::Message;
use proto::{streams::Stream, subjects::PARTITIONS, v1};
use serde_json::Value;
use stack::database;

use crate::{
    cast::{Month, SOURCES, TENANTS},
    play::Scene,
    truth::{self, Figures, Key},
};

/// The figures of each workflow, as the aggregator keeps them.
const WORKFLOWS: &str = "SELECT s.source_id, w.workflow_id, u.period_start AT TIME ZONE 'UTC', u.counted,
    u.uncounted, u.success, u.error, u.crashed, u.canceled, u.duration_ms, u.late
    FROM aggregator.workflow_usage u JOIN aggregator.workflows w ON w.number = u.workflow_number
    JOIN aggregator.sources s ON s.number = w.source_number";

/// A mail in the sink.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the words of the protocol")]
pub struct Mail {
    pub message_id: String,
    pub to: String,
    pub subject: String,
}

/// Both sides of the comparison.
#[derive(Debug, Default)]
pub struct Found {
    /// The truth.
    pub truth: BTreeMap<Key, Figures>,
    /// Executions that the instances have.
    pub executions: u64,
    /// The aggregator's figures.
    pub workflows: BTreeMap<Key, Figures>,
    /// Closed months of each tenant, as the gateway shows them.
    pub closed: BTreeMap<(String, Month), Figures>,
    /// The current period of each tenant, as the gateway shows it.
    pub current: BTreeMap<String, u64>,
    /// Stripe's total of each customer.
    pub stripe: BTreeMap<String, u64>,
    /// Mails, repeats included.
    pub mails: Vec<Mail>,
    /// Crossings: tenant, month, percent, id.
    pub crossings: BTreeSet<(String, Month, u32, String)>,
    /// Dead letters: service, payload, reason.
    pub letters: Vec<(String, Vec<u8>, String)>,
    /// What must not happen: gaps, failed reports, drift.
    pub troubles: Vec<String>,
    /// Executions on the stream, and how many different ones.
    pub delivered: (u64, u64),
}

/// Reads everything.
pub fn gather(scene: &Scene, database_url: &str) -> Result<Found> {
    let mut found = Found { workflows: workflows(database_url)?, ..Found::default() };
    for source in SOURCES {
        let all = scene.sandbox.get(&format!("/control/n8n/{}/executions", source.id))?;
        let late = |id: &str| scene.made().late.contains(&(source.id.to_owned(), id.to_owned()));
        let rows = all.as_array().context("a list of executions")?;
        found.executions += truth::tally(&mut found.truth, source.id, rows, late)?;
    }
    for guest in &scene.guests {
        let all = scene.sandbox.get(&format!("/control/n8n/{}/executions", guest.source))?;
        let rows = all.as_array().context("a list of executions")?;
        found.executions += truth::tally(&mut found.truth, guest.source, rows, |_| false)?;
    }
    let guests = scene.guests.iter().map(|guest| guest.tenant);
    for tenant in TENANTS.iter().map(|tenant| tenant.id).chain(guests) {
        let periods = scene.ask(&format!("/v1/usage/{tenant}/periods"))?;
        for (month, figures) in truth::closed(&periods)? {
            found.closed.insert((tenant.to_owned(), month), figures);
        }
        if let Some(counted) = scene.counted(tenant) {
            found.current.insert(tenant.to_owned(), counted);
        }
    }
    for total in list(&scene.sandbox.get("/control/stripe/totals")?)? {
        let value = total.get("value").and_then(Value::as_u64).unwrap_or_default();
        found.stripe.insert(text(total, "customer"), value);
    }
    for mail in list(&scene.sandbox.get("/control/mail")?)? {
        let to = mail.pointer("/to/0").and_then(Value::as_str).unwrap_or_default().to_owned();
        found.mails.push(Mail { message_id: text(mail, "message_id"), to, subject: text(mail, "subject") });
    }
    streams(scene, &mut found)?;
    Ok(found)
}

fn streams(scene: &Scene, found: &mut Found) -> Result<()> {
    for payload in scene.read(Stream::Thresholds, "usage.threshold")? {
        // Planted messages do not decode.
        let Ok(crossing) = v1::ThresholdCrossed::decode(payload.as_slice()) else { continue };
        let start = crossing.period.and_then(|period| proto::instant(period.start.as_ref(), "start").ok()?);
        let Some(month) = start.and_then(Month::beginning) else {
            found.troubles.push(format!("a crossing of another period: {crossing:?}"));
            continue;
        };
        let of = (crossing.tenant_id, month, crossing.threshold_percent, crossing.crossing_id);
        found.crossings.insert(of);
    }
    for payload in scene.read(Stream::Dead, "dead")? {
        let letter = v1::DeadLetter::decode(payload.as_slice())?;
        found.letters.push((letter.service, letter.original_payload.to_vec(), letter.reason));
    }
    for payload in scene.read(Stream::SourceEvents, "source.gap")? {
        found.troubles.push(format!("a gap: {:?}", v1::SourceGap::decode(payload.as_slice())?));
    }
    for payload in scene.read(Stream::Billing, "billing")? {
        match v1::BillingEvent::decode(payload.as_slice())?.event {
            None | Some(v1::billing_event::Event::Reported(_)) => {}
            Some(trouble) => found.troubles.push(format!("{trouble:?}")),
        }
    }
    let mut different = BTreeSet::new();
    for partition in 0..PARTITIONS {
        for payload in scene.read(Stream::Executions(partition), "executions")? {
            let Ok(batch) = v1::ExecutionBatch::decode(payload.as_slice()) else { continue };
            for execution in batch.executions {
                found.delivered.0 += 1;
                different.insert((batch.source_id.clone(), batch.epoch, execution.execution_id));
            }
        }
    }
    found.delivered.1 = different.len() as u64;
    Ok(())
}

fn workflows(database_url: &str) -> Result<BTreeMap<Key, Figures>> {
    let mut figures = BTreeMap::new();
    for row in database::ask(database_url, WORKFLOWS)?.lines() {
        let columns: Vec<&str> = row.split('|').collect();
        let [source, workflow, start, numbers @ ..] = columns.as_slice() else { continue };
        let start = format!("{}Z", start.replace(' ', "T")).parse()?;
        let Some(month) = Month::beginning(start) else { continue };
        let numbers = numbers.iter().map(|it| it.parse()).collect::<Result<Vec<u64>, _>>()?;
        let &[counted, uncounted, success, error, crashed, canceled, duration_ms, late] = numbers.as_slice()
        else {
            continue;
        };
        let of = Figures { counted, uncounted, success, error, crashed, canceled, duration_ms, late };
        figures.insert((month, (*source).to_owned(), (*workflow).to_owned()), of);
    }
    Ok(figures)
}

fn list(answer: &Value) -> Result<&Vec<Value>> {
    answer.as_array().context("a list")
}

fn text(value: &Value, field: &str) -> String {
    value.get(field).and_then(Value::as_str).unwrap_or_default().to_owned()
}
