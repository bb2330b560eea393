//! What becomes of the executions of a batch: new, known better, or a repeat. Pure: what has to be known is in the
//! worker's memory by now.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::HashMap;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use metering::{Execution, Period, Status};

use crate::{
    directory::{Card, Directory},
    memory::Remembered,
    parcel::Parcel,
    record::RecordError,
    store::Key,
    tally::{Decided, Ended, Placed, replaces},
};

/// What a transaction will write.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) fresh: Vec<Decided>,
    /// Executions that are kept as crashed and are known better now.
    pub(crate) better: BTreeMap<Key, Ended>,
    /// The tenants of the fresh ones.
    pub(crate) cards: BTreeMap<i32, Arc<Card>>,
    /// The trace that brought the first news of a tenant.
    pub(crate) traces: HashMap<i32, String>,
    /// Places in `fresh` of those that crashed: a later message of the batch may know better.
    crashed: HashMap<Key, usize>,
    /// The last period of each tenant and the last month: a batch asks for the same ones again and again.
    periods: HashMap<i32, Period>,
    month: Option<(Date, Timestamp, Timestamp)>,
}

impl Decisions {
    /// With room for so many executions.
    pub(crate) fn with_room(executions: usize) -> Self {
        Self { fresh: Vec::with_capacity(executions), ..Self::default() }
    }

    /// Decides about all executions of one message, or about none where one of them cannot be placed.
    pub(crate) fn add(
        &mut self,
        parcel: &Parcel,
        source: i32,
        memory: &mut Remembered,
        directory: &Directory,
        trace: Option<&str>,
    ) -> Result<(), RecordError> {
        let mut placed = Vec::with_capacity(parcel.executions.len());
        for (id, execution) in &parcel.executions {
            placed.push(if memory.knows(parcel.epoch, *id) {
                None
            } else {
                card_of(memory, directory, execution)?
            });
        }
        for ((id, execution), card) in parcel.executions.iter().zip(placed) {
            let ended = Ended {
                status: execution.status,
                started_at: execution.started_at,
                stopped_at: execution.stopped_at,
            };
            let key = (source, parcel.epoch, *id);
            if memory.knows(parcel.epoch, *id) {
                self.repeat(key, ended, memory);
            } else {
                self.first(key, execution, ended, card, memory);
                if let (Some(card), Some(trace)) = (card, trace) {
                    self.traces.entry(card.number).or_insert_with(|| trace.to_owned());
                }
            }
        }
        Ok(())
    }

    fn first(
        &mut self,
        key: Key,
        execution: &Execution,
        ended: Ended,
        card: Option<&Arc<Card>>,
        memory: &mut Remembered,
    ) {
        let (source, epoch, number) = key;
        let crashed = ended.status == Status::Crashed;
        memory.add(epoch, number, crashed);
        if crashed {
            self.crashed.insert(key, self.fresh.len());
        }
        let counted = card.and_then(|card| card.plan.as_ref());
        let counted = counted.is_some_and(|plan| plan.counting.counts(execution.mode, ended.status));
        let placed =
            card.map(|card| Placed { tenant: card.number, period: self.period(card, ended.stopped_at) });
        let decided = Decided {
            source,
            epoch,
            number,
            month: self.month(ended.stopped_at),
            workflow: memory.workflows.get(&execution.workflow).map_or(0, |workflow| workflow.number),
            mode: execution.mode,
            ended,
            placed,
            counted,
            late: false,
            voided: false,
        };
        self.fresh.push(decided);
    }

    fn repeat(&mut self, key: Key, ended: Ended, memory: &mut Remembered) {
        let (_, epoch, number) = key;
        if !replaces(Status::Crashed, ended.status) || !memory.is_crashed(epoch, number) {
            return;
        }
        memory.resolve(epoch, number);
        match self.crashed.remove(&key).and_then(|place| self.fresh.get_mut(place)) {
            Some(fresh) => fresh.ended = ended,
            None => {
                self.better.insert(key, ended);
            }
        }
    }

    fn period(&mut self, card: &Arc<Card>, stopped_at: Timestamp) -> Period {
        match self.periods.get(&card.number) {
            Some(period) if period.contains(stopped_at) => *period,
            _ => {
                self.cards.entry(card.number).or_insert_with(|| card.clone());
                let period = card.timeline.period_of(stopped_at);
                self.periods.insert(card.number, period);
                period
            }
        }
    }

    fn month(&mut self, stopped_at: Timestamp) -> Date {
        match self.month {
            Some((month, start, end)) if start <= stopped_at && stopped_at < end => month,
            _ => {
                let month = month_of(stopped_at);
                let next = month_after(month);
                self.month = Some((month, start_of(month), start_of(next)));
                month
            }
        }
    }
}

/// The first day of the UTC month of an instant.
pub(crate) fn month_of(instant: Timestamp) -> Date {
    instant.to_zoned(TimeZone::UTC).date().first_of_month()
}

/// The first day of the month after.
pub(crate) fn month_after(month: Date) -> Date {
    month.saturating_add(jiff::Span::new().months(1))
}

/// The first instant of a date in UTC.
pub(crate) fn start_of(date: Date) -> Timestamp {
    date.to_zoned(TimeZone::UTC).map(|zoned| zoned.timestamp()).unwrap_or(Timestamp::MAX)
}

/// The tenant of an execution, with its plan; nothing where no attribution matches.
fn card_of<'a>(
    memory: &Remembered,
    directory: &'a Directory,
    execution: &Execution,
) -> Result<Option<&'a Arc<Card>>, RecordError> {
    let Some(tenant) = memory.tenant_of(&execution.workflow, execution.stopped_at) else { return Ok(None) };
    let card = directory.card(tenant).ok_or_else(|| RecordError::UnknownTenant(tenant.clone()))?;
    match card.plan {
        Some(_) => Ok(Some(card)),
        None => Err(RecordError::UnknownPlan(card.tenant.plan.clone())),
    }
}
