//! Compares a period with the previous one, up to the same elapsed time. Pure.
//!
//! Figures of a part of a period are sums by hour, so both parts end on a whole hour of the tenant's clock.
//! The answer names both ends: the periods may differ in length, and their days in hours.

use jiff::{SignedDuration, Timestamp};
use metering::{Calendar, Money, Period, Price};
use proto::v1;

/// The instant up to which a period is compared, if its figures are complete until `known_until`.
pub fn reach(period: Period, known_until: Timestamp, calendar: &Calendar) -> Timestamp {
    if known_until >= period.end {
        return period.end;
    }
    calendar.hour_of(known_until).start.max(period.start)
}

/// The same point in the previous period. Whole periods are compared as a whole.
pub fn same_point(previous: Period, current: Period, until: Timestamp, calendar: &Calendar) -> Timestamp {
    if until >= current.end {
        return previous.end;
    }
    let elapsed: SignedDuration = until.duration_since(current.start);
    let point = previous.start.saturating_add(elapsed).unwrap_or(previous.end).min(previous.end);
    // A period may end within an hour.
    if point == previous.end { point } else { calendar.hour_of(point).start.max(previous.start) }
}

/// The figures that are compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Figures {
    /// Counted executions, without adjustments.
    pub executions: u64,
    /// Those that succeeded.
    pub success: u64,
    /// Their run time.
    pub duration_ms: u64,
    /// The operator's adjustment; only for a whole period.
    pub adjusted: Option<i64>,
    /// The cost of both.
    pub cost: Option<Money>,
}

impl Figures {
    /// Figures of a part of a period, which has no adjustments.
    pub fn of_part(totals: &v1::Totals, price: Option<Price>) -> Self {
        Self::of(totals, None, price)
    }

    /// Figures of a whole period.
    pub fn of_whole(totals: &v1::Totals, price: Option<Price>) -> Self {
        Self::of(totals, Some(totals.adjusted), price)
    }

    fn of(totals: &v1::Totals, adjusted: Option<i64>, price: Option<Price>) -> Self {
        let ended = [totals.success, totals.error, totals.crashed, totals.canceled];
        let executions = ended.into_iter().fold(0, u64::saturating_add);
        let charged = executions.saturating_add_signed(adjusted.unwrap_or(0));
        Self {
            executions,
            success: totals.success,
            duration_ms: totals.duration_ms,
            adjusted,
            cost: price.map(|price| price.cost(charged)),
        }
    }

    /// success / executions; `None` if there are none.
    pub fn success_rate(&self) -> Option<f64> {
        (self.executions > 0).then(|| self.success as f64 / self.executions as f64)
    }

    /// The mean run time; `None` if there are no executions.
    pub fn mean_duration_ms(&self) -> Option<u64> {
        self.duration_ms.checked_div(self.executions)
    }
}

/// How much one figure differs from another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    /// The difference.
    pub absolute: i64,
    /// The difference in percent of the earlier figure, to a tenth; `None` if that is zero.
    pub percent: Option<f64>,
}

/// The change from `before` to `now`.
pub fn change(now: i64, before: i64) -> Change {
    let absolute = now.saturating_sub(before);
    let percent = (before != 0).then(|| (absolute as f64 / before as f64 * 1_000.0).round() / 10.0);
    Change { absolute, percent }
}

/// The same for figures without a sign.
pub fn change_of(now: u64, before: u64) -> Change {
    let signed = |figure| i64::try_from(figure).unwrap_or(i64::MAX);
    change(signed(now), signed(before))
}

/// The change of a success rate in percentage points, to a hundredth.
pub fn points(now: Option<f64>, before: Option<f64>) -> Option<f64> {
    Some(((now? - before?) * 10_000.0).round() / 100.0)
}

#[cfg(test)]
mod tests {
    use metering::Currency;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn period(start: &str, end: &str) -> Period {
        Period { start: at(start), end: at(end) }
    }

    #[test]
    fn both_parts_are_equally_long_and_end_on_a_whole_hour() {
        let utc = Calendar::utc();
        let november = period("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        let october = period("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z");
        let until = reach(november, at("2026-11-24T11:59:59Z"), &utc);
        assert_eq!(until, at("2026-11-24T11:00:00Z"));
        assert_eq!(same_point(october, november, until, &utc), at("2026-10-24T11:00:00Z"));
        assert_eq!(reach(november, at("2026-10-31T23:00:00Z"), &utc), november.start, "nothing is known");
    }

    #[test]
    fn a_shorter_period_ends_early_and_an_ended_period_is_compared_as_a_whole() {
        let utc = Calendar::utc();
        let february = period("2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z");
        let march = period("2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z");
        assert_eq!(same_point(february, march, at("2026-03-30T09:00:00Z"), &utc), february.end);
        assert_eq!(reach(march, at("2026-05-01T00:00:00Z"), &utc), march.end);
        let january = period("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
        assert_eq!(same_point(january, february, february.end, &utc), january.end, "31 days beside 28");
    }

    #[test]
    fn periods_that_begin_within_an_hour_are_cut_at_the_tenants_hours() {
        let calendar = Calendar::new("Asia/Kolkata", 1).unwrap();
        let current = period("2026-11-10T10:17:33Z", "2026-12-10T10:17:33Z");
        let previous = period("2026-10-10T10:17:33Z", "2026-11-10T10:17:33Z");
        let until = reach(current, at("2026-11-24T11:59:59Z"), &calendar);
        assert_eq!(until, at("2026-11-24T11:30:00Z"), "hours of the clock in Kolkata");
        assert_eq!(same_point(previous, current, until, &calendar), at("2026-10-24T11:30:00Z"));
        assert_eq!(reach(current, at("2026-11-10T10:20:00Z"), &calendar), current.start);
    }

    #[test]
    fn a_change_from_zero_has_no_percentage() {
        assert_eq!(change_of(1_234, 1_000), Change { absolute: 234, percent: Some(23.4) });
        assert_eq!(change_of(0, 3), Change { absolute: -3, percent: Some(-100.0) });
        assert_eq!(change_of(5, 0), Change { absolute: 5, percent: None });
        assert_eq!(change_of(u64::MAX, 1).absolute, i64::MAX - 1);
        assert_eq!(points(Some(0.985), Some(0.99)), Some(-0.5));
        assert_eq!(points(None, Some(0.99)), None);
    }

    #[test]
    fn only_a_whole_period_is_charged_for_adjustments() {
        let price = Price {
            currency: Currency::parse("eur").unwrap(),
            base_fee_minor: 100,
            included_executions: 0,
            overage_per_thousand_minor: 1_000,
        };
        let totals = v1::Totals { success: 9, error: 1, adjusted: -4, counted: 6, ..v1::Totals::default() };
        let cost = |figures: Figures| figures.cost.map(|cost| cost.amount_minor);
        let (part, whole) = (Figures::of_part(&totals, Some(price)), Figures::of_whole(&totals, Some(price)));
        assert_eq!((cost(part), cost(whole)), (Some(110), Some(106)));
        assert_eq!((whole.executions, whole.success_rate(), whole.adjusted), (10, Some(0.9), Some(-4)));
        assert_eq!(Figures::of_part(&v1::Totals::default(), None).success_rate(), None);
    }
}
