//! Decides whether each execution of a batch is new, changed, or a repeat. Pure: everything needed is in the
//! worker's memory by now.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::HashMap;
use jiff::{Timestamp, civil::Date, tz::TimeZone};
use metering::{Execution, Period, Status};

use crate::{
    figures::tally::{Decided, Ended, Placed, replaces},
    recording::{
        batch::Batch,
        error::RecordError,
        source_cache::Remembered,
        tenant_cache::{Directory, TenantTerms},
        word::Word,
    },
    store::Key,
};

/// What a transaction will write.
#[derive(Debug, Default)]
pub(crate) struct Decisions {
    pub(crate) fresh: Vec<Decided>,
    /// Observations of executions that were recorded before and may change, in order of arrival.
    pub(crate) observed: BTreeMap<Key, Vec<Word>>,
    /// The tenants of the fresh executions, and those that an observation assigns an execution to.
    pub(crate) cards: BTreeMap<i32, Arc<TenantTerms>>,
    /// The trace of the message that first affected a tenant.
    pub(crate) traces: HashMap<i32, String>,
    /// Tenants of recorded executions whose time of admission became known only now.
    pub(crate) settled: Vec<i32>,
    /// Indexes in `fresh` of executions that a later message of the batch may still change.
    open: HashMap<Key, usize>,
    /// The last period of each tenant and the last month: a batch needs the same ones again and again.
    periods: HashMap<i32, Period>,
    month: Option<(Date, Timestamp, Timestamp)>,
}

impl Decisions {
    /// With capacity for this many executions.
    pub(crate) fn with_room(executions: usize) -> Self {
        Self { fresh: Vec::with_capacity(executions), ..Self::default() }
    }

    /// Decides about all executions of one message, or about none if one of them cannot be placed.
    pub(crate) fn add(
        &mut self,
        batch: &Batch,
        source: i32,
        memory: &mut Remembered,
        directory: &Directory,
        trace: Option<&str>,
    ) -> Result<(), RecordError> {
        let (epoch, polled) = (batch.epoch, batch.polled);
        // A pushed execution of a shared source has no tenant until a poll has shown it.
        let may_place = polled || !memory.ownership.is_shared();
        let mut placed = Vec::with_capacity(batch.executions.len());
        for (id, execution) in &batch.executions {
            let is_placed = !memory.knows(epoch, *id) || (polled && memory.is_only_pushed(epoch, *id));
            placed.push(if may_place && is_placed { card_of(memory, directory, execution)? } else { None });
        }
        for ((id, execution), terms_of_tenant) in batch.executions.iter().zip(placed) {
            if memory.knows(epoch, *id) && !may_change(memory, epoch, *id, execution.status, polled) {
                continue;
            }
            let word = self.word(execution, terms_of_tenant, memory, polled);
            let key = (source, epoch, *id);
            if memory.knows(epoch, *id) {
                self.again(key, word, memory);
            } else {
                self.first(key, word, memory);
            }
            if let (Some(terms_of_tenant), Some(trace)) = (terms_of_tenant, trace) {
                self.traces.entry(terms_of_tenant.number).or_insert_with(|| trace.to_owned());
            }
        }
        Ok(())
    }

    /// One observation of an execution, and where that places it.
    fn word(
        &mut self,
        execution: &Execution,
        terms_of_tenant: Option<&Arc<TenantTerms>>,
        memory: &Remembered,
        polled: bool,
    ) -> Word {
        let plan = terms_of_tenant.and_then(|terms_of_tenant| terms_of_tenant.plan.as_ref());
        Word {
            polled,
            workflow: memory.number_of(&execution.workflow),
            mode: execution.mode,
            ended: Ended {
                status: execution.status,
                started_at: execution.started_at,
                stopped_at: execution.stopped_at,
            },
            placed: terms_of_tenant.map(|terms_of_tenant| Placed {
                tenant: terms_of_tenant.number,
                period: self.period(terms_of_tenant, execution.stopped_at),
            }),
            counted: plan.is_some_and(|plan| plan.counting.counts(execution.mode, execution.status)),
        }
    }

    fn first(&mut self, (source, epoch, number): Key, word: Word, memory: &mut Remembered) {
        let Word { polled, workflow, mode, ended, placed, counted } = word;
        let month = self.month(ended.stopped_at);
        let crashed = ended.status == Status::Crashed;
        memory.note(epoch, number, crashed, !polled);
        if crashed || !polled {
            self.open.insert((source, epoch, number), self.fresh.len());
        }
        self.fresh.push(Decided {
            source,
            epoch,
            number,
            month,
            workflow,
            mode,
            ended,
            placed,
            counted,
            late: false,
            voided: false,
            confirmed: polled,
        });
    }

    fn again(&mut self, key: Key, word: Word, memory: &mut Remembered) {
        let (_, epoch, number) = key;
        let is_pushed = !word.polled;
        memory.note(epoch, number, word.ended.status == Status::Crashed, is_pushed);
        match self.open.get(&key).and_then(|place| self.fresh.get_mut(*place)) {
            Some(fresh) => {
                if let Some(after) = word.applied_to(fresh) {
                    *fresh = after;
                }
            }
            None => self.observed.entry(key).or_default().push(word),
        }
    }

    fn period(&mut self, terms_of_tenant: &Arc<TenantTerms>, stopped_at: Timestamp) -> Period {
        match self.periods.get(&terms_of_tenant.number) {
            Some(period) if period.contains(stopped_at) => *period,
            _ => {
                self.cards.entry(terms_of_tenant.number).or_insert_with(|| terms_of_tenant.clone());
                let period = terms_of_tenant.timeline.period_of(stopped_at);
                self.periods.insert(terms_of_tenant.number, period);
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

/// Whether this observation may change a recorded execution: [`Word::applied_to`] as far as memory knows, so
/// that repeats cost nothing more.
fn may_change(memory: &Remembered, epoch: i32, id: i64, status: Status, polled: bool) -> bool {
    let only_pushed = memory.is_only_pushed(epoch, id);
    if polled && only_pushed {
        return true;
    }
    polled != only_pushed && memory.is_crashed(epoch, id) && replaces(Status::Crashed, status)
}

/// The tenant of an execution, with its plan; `None` if no attribution matches.
fn card_of<'a>(
    memory: &Remembered,
    directory: &'a Directory,
    execution: &Execution,
) -> Result<Option<&'a Arc<TenantTerms>>, RecordError> {
    let Some(tenant) = memory.tenant_of(&execution.workflow, execution.stopped_at) else { return Ok(None) };
    let terms_of_tenant =
        directory.terms_of_tenant(tenant).ok_or_else(|| RecordError::UnknownTenant(tenant.clone()))?;
    match terms_of_tenant.plan {
        Some(_) => Ok(Some(terms_of_tenant)),
        None => Err(RecordError::UnknownPlan(terms_of_tenant.tenant.plan.clone())),
    }
}
