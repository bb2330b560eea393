//! Figures over a set of executions.

use std::ops::AddAssign;

use jiff::SignedDuration;
use metering::Status;

/// Figures, or a change of figures: signed, because a correction subtracts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, sqlx::FromRow)]
pub(crate) struct Totals {
    /// Executions that the plan counts.
    pub(crate) counted: i64,
    /// Executions that it does not count.
    pub(crate) uncounted: i64,
    /// Counted ones by status.
    pub(crate) success: i64,
    pub(crate) error: i64,
    pub(crate) crashed: i64,
    pub(crate) canceled: i64,
    /// Sum over counted ones.
    pub(crate) duration_ms: i64,
    /// Counted ones that came after their period had closed.
    pub(crate) late: i64,
    /// Ones that an operator has voided: in none of the figures above.
    #[sqlx(default)]
    pub(crate) voided: i64,
    /// Adjustments by hand, included in `counted`.
    #[sqlx(default)]
    pub(crate) adjusted: i64,
}

impl Totals {
    /// The share of an execution that an operator has voided, whatever its status.
    pub(crate) const VOIDED: Self = Self { voided: 1, ..Self::ZERO };

    /// No executions.
    pub(crate) const ZERO: Self = Self {
        counted: 0,
        uncounted: 0,
        success: 0,
        error: 0,
        crashed: 0,
        canceled: 0,
        duration_ms: 0,
        late: 0,
        voided: 0,
        adjusted: 0,
    };

    /// The share of an execution with this outcome.
    pub(crate) fn ended(status: Status, duration: SignedDuration, counted: bool, late: bool) -> Self {
        if !counted {
            return Self { uncounted: 1, ..Self::default() };
        }
        let duration_ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        let mut totals = Self { counted: 1, duration_ms, late: i64::from(late), ..Self::default() };
        *totals.of_status(status) = 1;
        totals
    }

    fn of_status(&mut self, status: Status) -> &mut i64 {
        match status {
            Status::Success => &mut self.success,
            Status::Error => &mut self.error,
            Status::Crashed => &mut self.crashed,
            Status::Canceled => &mut self.canceled,
        }
    }

    /// The opposite change.
    pub(crate) fn negated(self) -> Self {
        Self {
            counted: -self.counted,
            uncounted: -self.uncounted,
            success: -self.success,
            error: -self.error,
            crashed: -self.crashed,
            canceled: -self.canceled,
            duration_ms: self.duration_ms.saturating_neg(),
            late: -self.late,
            voided: -self.voided,
            adjusted: -self.adjusted,
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.counted += other.counted;
        self.uncounted += other.uncounted;
        self.success += other.success;
        self.error += other.error;
        self.crashed += other.crashed;
        self.canceled += other.canceled;
        // Durations come from a source's clock, so their sum must survive absurd values.
        self.duration_ms = self.duration_ms.saturating_add(other.duration_ms);
        self.late += other.late;
        self.voided += other.voided;
        self.adjusted += other.adjusted;
    }
}
