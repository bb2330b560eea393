//! Pushed executions that the poll has corrected: counted by kind, and reported to the operator if there are
//! too many for chance. Anyone with a source's push token can push runs that never happened; the figures
//! follow the poll, but somebody has to replace the token.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use messaging::{Bus, outbox};
use sqlx::PgConnection;

use crate::{
    events,
    figures::tally::Changed,
    recording::{
        error::RecordError,
        word::{Contradicted, Correction},
    },
    store::{self, Key},
};

/// The number of a source's contradictions in a UTC day at which the operator is notified. An honest hook
/// makes none, so a few come from a wrong clock or version; somebody who forges runs to save money forges
/// many.
const REPORTED_FROM: i64 = 10;

/// The next report of the day comes at this many times as many, so that a day has only a handful of reports.
const REPORTED_AGAIN: i64 = 10;

/// Counts what the poll has corrected, by kind, and puts reports into the outbox. The sources are locked.
pub(crate) async fn note(
    connection: &mut PgConnection,
    bus: &Bus,
    changed: &[Changed],
    now: Timestamp,
) -> Result<BTreeMap<&'static str, u64>, RecordError> {
    let mut by_kind: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut by_source: BTreeMap<i32, (i64, Key)> = BTreeMap::new();
    for Changed { before, after } in changed {
        let Some(correction) = Correction::between(before, after) else { continue };
        *by_kind.entry(correction.as_str()).or_default() += 1;
        if correction.is_contradiction() {
            by_source.entry(before.source).or_insert((0, before.key())).0 += 1;
        }
    }
    let day = now.to_zoned(TimeZone::UTC).date();
    let mut messages = Vec::new();
    for (source, (count, example)) in by_source {
        let (source_id, executions) = store::add_contradictions(connection, source, day, count).await?;
        tracing::warn!(
            source = source_id,
            count,
            today = executions,
            execution = example.2,
            "the poll contradicts pushed executions; the figures follow the poll"
        );
        if let Some(step) = step_reached(executions - count, executions) {
            let found = Contradicted { source_id, executions, step, example, found_at: now };
            messages.push(events::source_contradicted(bus.namespace(), &found));
        }
    }
    outbox::enqueue(connection, &messages).await?;
    Ok(by_kind)
}

/// The largest number to report that lies above `before` and not above `after`.
fn step_reached(before: i64, after: i64) -> Option<i64> {
    let steps = std::iter::successors(Some(REPORTED_FROM), |step| step.checked_mul(REPORTED_AGAIN));
    steps.take_while(|step| *step <= after).last().filter(|step| *step > before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_few_reports_however_many_contradictions() {
        for (before, after, expected) in [
            (0, 9, None),
            (9, 10, Some(10)),
            (10, 99, None),
            (0, 1_000, Some(1_000)),
            (1_000, 5_000, None),
            (0, i64::MAX, Some(1_000_000_000_000_000_000)),
        ] {
            assert_eq!(step_reached(before, after), expected, "{before} to {after}");
        }
    }
}
