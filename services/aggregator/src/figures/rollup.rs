//! Figures by hour, day and workflow, made of changes. Pure.
//!
//! A recording transaction collects its [`Changes`] and logs them in one row; [`crate::rollups::fold`] adds many such rows to
//! the stored [`Figures`] at once. Changes add up in any order, so the order of folding does not matter.

mod figures;

use std::{collections::BTreeMap, ops::AddAssign};

use foldhash::HashMap;
use jiff::{SignedDuration, Timestamp};
use metering::{Period, Timeline};
use prost::Message;

use crate::figures::{
    durations::{DamagedDurations, Durations},
    totals::Totals,
};

pub(crate) use figures::{Figures, PeriodHour, WorkflowDay, WorkflowPeriod};

/// UTC hours: the count since an instant is a sum of these.
const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// Time zone offsets are whole quarters of an hour, so an instant's quarter determines its day.
const QUARTER_SECONDS: i64 = 15 * 60;

/// Changes of the figures of any number of tenants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    cells: HashMap<CellKey, Cell>,
    /// Days and hours by tenant and quarter of an hour: a batch needs the same few again and again.
    places: HashMap<(i32, i64), Place>,
}

/// The tenant's day and hour that hold an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    day: Period,
    hour: Period,
}

impl Place {
    fn of(instant: Timestamp, timeline: &Timeline) -> Self {
        Self { day: timeline.day_of(instant), hour: timeline.hour_of(instant) }
    }
}

/// Where an execution is counted. The finest division: every figure is a sum of such cells.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct CellKey {
    pub(crate) tenant: i32,
    pub(crate) period_start: Timestamp,
    pub(crate) day_start: Timestamp,
    /// In UTC.
    pub(crate) hour_start: Timestamp,
    /// In the tenant's time zone: different only if the zone's offset is not whole hours.
    pub(crate) own_hour_start: Timestamp,
    /// The number of a source's workflow.
    pub(crate) workflow: i32,
}

impl CellKey {
    pub(crate) fn period_hour(&self) -> PeriodHour {
        PeriodHour { tenant: self.tenant, period_start: self.period_start, hour_start: self.hour_start }
    }

    pub(crate) fn workflow_period(&self) -> WorkflowPeriod {
        WorkflowPeriod { tenant: self.tenant, period_start: self.period_start, workflow: self.workflow }
    }
}

/// How many there were, and how long they took.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) totals: Totals,
    /// Of counted executions.
    pub(crate) durations: Durations,
}

impl Cell {
    /// A cell of zeros.
    pub(crate) fn is_empty(&self) -> bool {
        self.totals == Totals::ZERO && self.durations.is_empty()
    }
}

impl AddAssign<&Self> for Cell {
    fn add_assign(&mut self, other: &Self) {
        self.totals += other.totals;
        self.durations += &other.durations;
    }
}

/// An execution's share in the figures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Share {
    /// The tenant's number.
    pub(crate) tenant: i32,
    /// The workflow's number.
    pub(crate) workflow: i32,
    /// Decided when the execution was first seen.
    pub(crate) period_start: Timestamp,
    pub(crate) stopped_at: Timestamp,
    pub(crate) duration: SignedDuration,
    /// What it adds to the period's figures; negated to subtract it.
    pub(crate) totals: Totals,
}

/// A logged change cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DamagedChange {
    #[error("a logged change cannot be decoded")]
    Decode(#[from] prost::DecodeError),
    #[error("a logged change holds damaged durations")]
    Durations(#[from] DamagedDurations),
    #[error("a logged change has an instant out of range")]
    Instant(#[from] jiff::Error),
}

impl Changes {
    /// Adds an execution's share. `timeline` is its tenant's.
    pub(crate) fn add(&mut self, share: Share, timeline: &Timeline) {
        let quarter = share.stopped_at.as_second().div_euclid(QUARTER_SECONDS);
        let place = || Place::of(share.stopped_at, timeline);
        let known = self.places.entry((share.tenant, quarter)).or_insert_with(place);
        // Both are cut where a period was ended by hand, at any minute.
        if !(known.day.contains(share.stopped_at) && known.hour.contains(share.stopped_at)) {
            *known = place();
        }
        let key = CellKey {
            tenant: share.tenant,
            period_start: share.period_start,
            day_start: known.day.start,
            hour_start: hour_of(share.stopped_at),
            own_hour_start: known.hour.start,
            workflow: share.workflow,
        };
        let cell = self.cells.entry(key).or_default();
        cell.totals += share.totals;
        if share.totals.counted != 0 {
            cell.durations.add(share.duration, share.totals.counted);
        }
    }

    /// Only what concerns one tenant.
    pub(crate) fn of_tenant(mut self, tenant: i32) -> Self {
        self.cells.retain(|key, _| key.tenant == tenant);
        self
    }

    /// Whether nothing has changed.
    pub(crate) fn is_empty(&self) -> bool {
        self.cells.is_empty()
    }

    /// The cells, in no order.
    pub(crate) fn cells(&self) -> impl Iterator<Item = (&CellKey, &Cell)> {
        self.cells.iter()
    }

    /// What changes in the figures of workflows, by period.
    pub(crate) fn by_workflow(&self) -> BTreeMap<WorkflowPeriod, Totals> {
        let mut workflows: BTreeMap<WorkflowPeriod, Totals> = BTreeMap::new();
        for (key, cell) in &self.cells {
            *workflows.entry(key.workflow_period()).or_default() += cell.totals;
        }
        workflows
    }

    /// What changes in the counts of periods, by hour.
    pub(crate) fn by_hour(&self) -> BTreeMap<PeriodHour, i64> {
        let mut hours: BTreeMap<PeriodHour, i64> = BTreeMap::new();
        for (key, cell) in &self.cells {
            *hours.entry(key.period_hour()).or_default() += cell.totals.counted;
        }
        hours
    }

    /// Bytes for the log.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let cells = self.cells.iter().map(|(key, cell)| StoredCell::new(key, cell)).collect();
        StoredChanges { cells }.encode_to_vec()
    }

    /// Reads what [`Self::to_bytes`] has written.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Result<Self, DamagedChange> {
        let mut changes = Self::default();
        for stored in StoredChanges::decode(bytes)?.cells {
            let (key, cell) = stored.read()?;
            changes.cells.insert(key, cell);
        }
        Ok(changes)
    }
}

fn hour_of(instant: Timestamp) -> Timestamp {
    let into_hour = instant.as_second().rem_euclid(HOUR.as_secs());
    Timestamp::from_second(instant.as_second().saturating_sub(into_hour)).unwrap_or(instant)
}

/// The first hour that begins at the instant or after it.
pub(crate) fn hour_after(instant: Timestamp) -> Timestamp {
    let hour = hour_of(instant);
    if hour == instant { hour } else { hour.saturating_add(HOUR).unwrap_or(Timestamp::MAX) }
}

/// The log's bytes: protobuf, so that a field can be added while old rows are pending.
#[derive(Clone, PartialEq, prost::Message)]
struct StoredChanges {
    #[prost(message, repeated, tag = "1")]
    cells: Vec<StoredCell>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StoredCell {
    #[prost(int32, tag = "1")]
    tenant: i32,
    /// Seconds since 1970.
    #[prost(int64, tag = "2")]
    period_start: i64,
    /// Seconds after the period's start; negative if a run's end was corrected across it.
    #[prost(sint64, tag = "3")]
    day_offset: i64,
    /// Seconds after the day's start; negative if the day begins inside a UTC hour.
    #[prost(sint64, tag = "4")]
    hour_offset: i64,
    #[prost(int32, tag = "5")]
    workflow: i32,
    #[prost(sint64, tag = "6")]
    counted: i64,
    #[prost(sint64, tag = "7")]
    uncounted: i64,
    #[prost(sint64, tag = "8")]
    success: i64,
    #[prost(sint64, tag = "9")]
    error: i64,
    #[prost(sint64, tag = "10")]
    crashed: i64,
    #[prost(sint64, tag = "11")]
    canceled: i64,
    #[prost(sint64, tag = "12")]
    duration_ms: i64,
    #[prost(sint64, tag = "13")]
    late: i64,
    #[prost(sint64, tag = "14")]
    voided: i64,
    #[prost(bytes = "vec", tag = "15")]
    durations: Vec<u8>,
    /// Seconds from the UTC hour to the tenant's hour; 0 in changes logged before the tenant's hours were
    /// kept.
    #[prost(sint64, tag = "16")]
    own_hour_offset: i64,
}

impl StoredCell {
    fn new(key: &CellKey, cell: &Cell) -> Self {
        let totals = cell.totals;
        Self {
            tenant: key.tenant,
            period_start: key.period_start.as_second(),
            day_offset: key.day_start.as_second() - key.period_start.as_second(),
            hour_offset: key.hour_start.as_second() - key.day_start.as_second(),
            workflow: key.workflow,
            counted: totals.counted,
            uncounted: totals.uncounted,
            success: totals.success,
            error: totals.error,
            crashed: totals.crashed,
            canceled: totals.canceled,
            duration_ms: totals.duration_ms,
            late: totals.late,
            voided: totals.voided,
            durations: cell.durations.to_bytes(),
            own_hour_offset: key.own_hour_start.as_second() - key.hour_start.as_second(),
        }
    }

    fn read(self) -> Result<(CellKey, Cell), DamagedChange> {
        let day_start = self.period_start.saturating_add(self.day_offset);
        let hour_start = day_start.saturating_add(self.hour_offset);
        let key = CellKey {
            tenant: self.tenant,
            period_start: Timestamp::from_second(self.period_start)?,
            day_start: Timestamp::from_second(day_start)?,
            hour_start: Timestamp::from_second(hour_start)?,
            own_hour_start: Timestamp::from_second(hour_start.saturating_add(self.own_hour_offset))?,
            workflow: self.workflow,
        };
        let totals = Totals {
            counted: self.counted,
            uncounted: self.uncounted,
            success: self.success,
            error: self.error,
            crashed: self.crashed,
            canceled: self.canceled,
            duration_ms: self.duration_ms,
            late: self.late,
            voided: self.voided,
            adjusted: 0,
        };
        Ok((key, Cell { totals, durations: Durations::from_bytes(&self.durations)? }))
    }
}

#[cfg(test)]
mod tests;
