//! What metering knows of a tenant's current period, and how many executions count against its limit.
//!
//! The check is the reservation: runs that were allowed here and are not counted yet count against the limit.
//! With the watermark `W`, the instant up to which all sources are counted,
//!
//! ```text
//! used = max(counted, counted before W + running at W + allowed here since W)
//! ```
//!
//! A run that was allowed before W either ended before W, and is counted, or was running at W, and is listed.
//! One that was allowed just before W may begin just after it, by another machine's clock: `allowed since W`
//! therefore begins [`START_MARGIN`] before W. Runs within that margin may be counted twice until the next
//! sweep, but are never missed; where that may have refused a run, the next sweep comes soon (`resweeps`). An
//! earlier watermark would not count them twice, but would miss executions that stopped before it and were
//! counted since (mapped later, of a new source, added by hand): only the latest one is used.
//!
//! Where executions carry `admitted_at` (n8n's hook passes it from the verdict to the push), a reservation is
//! settled by its execution, and nothing is counted twice:
//!
//! ```text
//! used <= counted + running at W and not counted since + sum over slots since W of max(0, tallied - counted of the slot)
//! ```
//!
//! Each run is counted, or its unit is tallied and not settled, or it was allowed before W and running at W.
//! A push frees a unit only by adding a counted execution, so a forged one gains nothing. The same bound
//! holds for the previous watermark, with the runs that were running then and allowed since: a run that spans
//! W is counted twice by one bound and once by the other. All bounds hold; the smallest decides (ADR 0021).
//!
//! When a period begins, W is still in the previous one. Nothing is counted yet, but runs that were running
//! at W or were allowed since may end in the new period: they count against its limit until W reaches it.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metering::{Calendar, Period};

use crate::usage::live::{Counted, period_at};

/// Longest time between the verdict and the start of the run, clock skew included.
pub const START_MARGIN: SignedDuration = SignedDuration::from_secs(5);

/// What metering knows of the tenant's current period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// The current period.
    pub period: Period,
    /// Executions counted in it; `None` if no figures have come for the tenant.
    pub counted: Option<u64>,
    /// Those of them that stopped before `complete_until`, plus the executions that were running then.
    pub accounted_for: u64,
    /// Runs that were allowed from here on are in none of the figures above.
    pub reserved_since: Timestamp,
    /// When the figures were read.
    pub as_of: Option<Timestamp>,
    /// All sources are counted up to here.
    pub complete_until: Option<Timestamp>,
    /// When metering was last up to date.
    pub fresh_at: Option<Timestamp>,
    /// Whether the figures are too old to decide with.
    pub stale: bool,
    /// Executions that were running at `complete_until` and are not counted yet; `None` if the figures are
    /// those of an earlier period.
    pub still_open: Option<u64>,
    /// Of the runs allowed since `reserved_since`, those that are counted, by the `admitted_at` of their
    /// executions.
    pub settled: u64,
    /// The previous watermark; `None` if it is not known what was running then.
    pub earlier: Option<Earlier>,
}

/// What is known of the previous watermark.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// Runs allowed from here on were not running at that watermark.
    pub reserved_since: Timestamp,
    /// Executions that were running at that watermark and are not counted.
    pub still_open: u64,
    /// Runs allowed between this `reserved_since` and that of the last watermark, and not known to be
    /// counted. `None` until the ledger is read.
    pub unsettled_between: Option<u64>,
}

impl Known {
    /// What is known at `now`. Figures of an earlier period mean that nothing is counted in this one yet.
    pub fn at(now: Timestamp, counted: Option<&Counted>, calendar: &Calendar, stale_after: Duration) -> Self {
        let current = counted.filter(|counted| counted.is_current(now));
        let period = period_at(counted, calendar, now);
        let complete_until = counted.and_then(|counted| counted.complete_until);
        // Without a watermark nothing is accounted for: every run since the period began may be a
        // reservation.
        let accounted_for = counted.filter(|_| complete_until.is_some()).map_or(0, |counted| {
            let complete = if current.is_some() { counted.counted_complete } else { 0 };
            complete.saturating_add(counted.open_executions)
        });
        let mut known = Self {
            period,
            counted: counted.map(|_| current.map_or(0, |counted| counted.totals.counted)),
            accounted_for,
            reserved_since: complete_until
                .map_or(period.start, |instant| instant.saturating_sub(START_MARGIN).unwrap_or(instant)),
            as_of: counted.map(|counted| counted.as_of),
            complete_until,
            fresh_at: complete_until.or(counted.map(|counted| counted.as_of)),
            stale: true,
            still_open: current
                .filter(|counted| counted.complete_until.is_some())
                .map(|counted| counted.open_executions.saturating_sub(counted.open_and_counted)),
            settled: 0,
            earlier: current.and_then(|counted| {
                let earlier =
                    counted.earlier_complete_until.filter(|instant| Some(*instant) < complete_until)?;
                Some(Earlier {
                    reserved_since: earlier.saturating_sub(START_MARGIN).unwrap_or(earlier),
                    still_open: counted.earlier_open,
                    unsettled_between: None,
                })
            }),
        };
        known.stale = known.is_stale(now, stale_after);
        known
    }

    /// Whether the figures are too old to decide with at `now`.
    pub fn is_stale(&self, now: Timestamp, stale_after: Duration) -> bool {
        let patience = SignedDuration::try_from(stale_after).unwrap_or(SignedDuration::MAX);
        self.fresh_at.is_none_or(|instant| now.duration_since(instant) > patience)
    }

    /// The instants from which the ledger's units matter: for the previous watermark, and for the last one.
    pub fn since(&self) -> (Option<Timestamp>, Timestamp) {
        (self.earlier.map(|earlier| earlier.reserved_since), self.reserved_since)
    }

    /// Applies the ledger's figures since [`Self::since`]: units that are counted, and uncounted units
    /// between the two.
    pub fn settle(&mut self, settled: u64, unsettled_between: u64) {
        self.settled = settled;
        if let Some(earlier) = &mut self.earlier {
            earlier.unsettled_between = Some(unsettled_between);
        }
    }

    /// Executions that count against the limit, with `reserved` runs allowed since `reserved_since`.
    pub fn used(&self, reserved: u64) -> Option<u64> {
        let counted = self.counted?;
        let by_time = counted.max(self.accounted_for.saturating_add(reserved));
        let by_execution =
            self.still_open.map(|open| counted.saturating_add(open).saturating_add(self.unsettled(reserved)));
        let by_earlier = self.earlier.and_then(|earlier| {
            let open = earlier.still_open.saturating_add(earlier.unsettled_between?);
            Some(counted.saturating_add(open).saturating_add(self.unsettled(reserved)))
        });
        // All are upper bounds, so the smallest one is the best.
        [by_execution, by_earlier].into_iter().flatten().fold(by_time, u64::min).into()
    }

    /// Of `reserved` runs, those that are not known to be counted.
    pub fn unsettled(&self, reserved: u64) -> u64 {
        reserved.saturating_sub(self.settled)
    }

    /// Runs that may be in progress: accounted for or allowed since, and not counted. Never too few: a run
    /// that ended uncounted is included until the watermark passes it.
    pub fn running(&self, reserved: u64) -> u64 {
        let used = self.used(reserved).unwrap_or_else(|| self.accounted_for.saturating_add(reserved));
        used.saturating_sub(self.counted.unwrap_or(0))
    }
}
