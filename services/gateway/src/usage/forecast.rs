//! Forecasts a period's final count, and when it reaches the limit. Pure.
//!
//! A coming day adds the median of the same weekday's figures in the last four weeks or, if fewer than two of
//! those are known, the median of all known days: one day of a runaway workflow or an outage changes it
//! little. The current day adds its remaining part. With fewer than three known days there is no forecast.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, civil};
use metering::{Calendar, Period};

/// How far back days are considered: four of each weekday.
pub const LOOK_BACK: SignedDuration = SignedDuration::from_hours(28 * 24);

/// A forecast needs this many known days.
const DAYS_MIN: usize = 3;

/// A weekday's own median needs this many figures.
const SAME_WEEKDAY_MIN: usize = 2;

/// Days of the longest period, with a margin: bounds the loops over days.
const DAYS_AHEAD_MAX: usize = 40;

/// From a day's first instant to its middle.
const HALF_A_DAY: SignedDuration = SignedDuration::from_hours(12);

/// What is known.
pub struct Known<'a> {
    /// The tenant's calendar.
    pub calendar: &'a Calendar,
    /// The current period.
    pub period: Period,
    /// Executions counted in it so far.
    pub counted: u64,
    /// Until when the count is complete.
    pub complete_until: Timestamp,
    /// Counted executions by the first instant of their day; a missing day had none.
    pub days: &'a BTreeMap<Timestamp, u64>,
    /// The limit, if there is one.
    pub limit: Option<u64>,
}

/// A forecast for a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// Counted executions at the period's end.
    pub counted_at_end: u64,
    /// The date in the tenant's time zone on which the limit is reached; `None` if it is not reached in this
    /// period, or was reached already.
    pub limit_reached_on: Option<civil::Date>,
    /// How many days it is based on.
    pub days_observed: usize,
}

/// Forecasts the period; `None` if too little is known, or the period is over.
pub fn forecast(known: &Known<'_>) -> Option<Forecast> {
    let observed = observed_days(known);
    if observed.len() < DAYS_MIN || known.complete_until >= known.period.end {
        return None;
    }
    let mut counted = known.counted;
    let mut reached = None;
    let mut from = known.complete_until.max(known.period.start);
    for _ in 0..DAYS_AHEAD_MAX {
        if from >= known.period.end {
            break;
        }
        let day = known.calendar.day_of(from);
        let date = known.calendar.date_of(from);
        let before = counted;
        counted = counted.saturating_add(part_of(expected(date, &observed), day, from));
        let passes = |limit: u64| before < limit && counted >= limit;
        if reached.is_none() && known.limit.is_some_and(passes) {
            reached = Some(date);
        }
        from = day.end;
    }
    Some(Forecast { counted_at_end: counted, limit_reached_on: reached, days_observed: observed.len() })
}

/// Completely metered whole days, from the first one with executions, at most four weeks back.
fn observed_days(known: &Known<'_>) -> Vec<(civil::Date, u64)> {
    let earliest = known.complete_until.saturating_sub(LOOK_BACK).unwrap_or(Timestamp::MIN);
    let Some((first, _)) = known.days.range(earliest..).next() else { return Vec::new() };
    let mut days = Vec::new();
    let middle = |start: Timestamp| start.saturating_add(HALF_A_DAY).unwrap_or(start);
    let before = |instant: Timestamp| instant.saturating_sub(HALF_A_DAY).unwrap_or(instant);
    let mut day = known.calendar.day_of(middle(*first));
    while day.end <= known.complete_until && days.len() < DAYS_AHEAD_MAX {
        // A day cut by the tenant's former calendar belongs to the day in which most of it lies.
        let counted: u64 =
            known.days.range(before(day.start)..before(day.end)).map(|(_, counted)| counted).sum();
        days.push((known.calendar.date_of(day.start), counted));
        day = known.calendar.day_of(day.end);
    }
    days
}

fn expected(date: civil::Date, observed: &[(civil::Date, u64)]) -> u64 {
    let same_weekday: Vec<u64> = observed
        .iter()
        .filter(|(day, _)| day.weekday() == date.weekday())
        .map(|(_, counted)| *counted)
        .collect();
    if same_weekday.len() >= SAME_WEEKDAY_MIN {
        return median(same_weekday);
    }
    median(observed.iter().map(|(_, counted)| *counted).collect())
}

/// The median; of two middle values their mean, rounded down.
fn median(mut values: Vec<u64>) -> u64 {
    values.sort_unstable();
    let middle = values.len() / 2;
    let at = |place: usize| values.get(place).copied().unwrap_or_default();
    if values.len().is_multiple_of(2) {
        at(middle.saturating_sub(1)).midpoint(at(middle))
    } else {
        at(middle)
    }
}

/// The share of a day's figure that falls after `from`.
fn part_of(figure: u64, day: Period, from: Timestamp) -> u64 {
    let seconds = |from: Timestamp| u128::try_from(day.end.duration_since(from).as_secs()).unwrap_or(0);
    let part = (u128::from(figure) * seconds(from)).checked_div(seconds(day.start)).unwrap_or(0);
    u64::try_from(part).unwrap_or(figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    /// Days of November 2026, which begins on a Sunday: 100 on a working day, 10 at the weekend.
    fn november(days: i8) -> BTreeMap<Timestamp, u64> {
        let weekend = |day: i8| matches!(day % 7, 0 | 1);
        (1..=days)
            .map(|day| (at(&format!("2026-11-{day:02}T00:00:00Z")), if weekend(day) { 10 } else { 100 }))
            .collect()
    }

    fn known<'a>(
        calendar: &'a Calendar,
        days: &'a BTreeMap<Timestamp, u64>,
        until: &str,
        limit: Option<u64>,
    ) -> Known<'a> {
        let counted = days.values().sum();
        let complete_until = at(until);
        Known { calendar, period: calendar.period_of(complete_until), counted, complete_until, days, limit }
    }

    #[test]
    fn weekends_and_working_days_are_forecast_separately() {
        let (calendar, days) = (Calendar::utc(), november(20));
        let forecast = forecast(&known(&calendar, &days, "2026-11-21T00:00:00Z", None)).unwrap();
        // Left: 21, 22, 28 and 29 at the weekend, and six working days.
        assert_eq!(forecast.counted_at_end, days.values().sum::<u64>() + 4 * 10 + 6 * 100);
        assert_eq!((forecast.days_observed, forecast.limit_reached_on), (20, None));
    }

    #[test]
    fn the_day_of_the_limit_is_given_only_if_it_lies_ahead() {
        let (calendar, days) = (Calendar::utc(), november(20));
        let so_far: u64 = days.values().sum();
        let on = |limit| {
            let known = known(&calendar, &days, "2026-11-21T00:00:00Z", Some(limit));
            forecast(&known).unwrap().limit_reached_on.map(|date| date.to_string())
        };
        assert_eq!(on(so_far + 20 + 150).as_deref(), Some("2026-11-24"));
        assert_eq!(on(so_far), None);
        assert_eq!(on(so_far + 100_000), None);
    }

    #[test]
    fn only_the_rest_of_the_current_day_is_added() {
        let (calendar, days) = (Calendar::utc(), november(29));
        let forecast = forecast(&known(&calendar, &days, "2026-11-30T18:00:00Z", None)).unwrap();
        assert_eq!(forecast.counted_at_end, days.values().sum::<u64>() + 25);
    }

    #[test]
    fn one_runaway_day_hardly_changes_the_forecast() {
        let calendar = Calendar::utc();
        let mut days = november(20);
        let calm = forecast(&known(&calendar, &days, "2026-11-21T00:00:00Z", None)).unwrap().counted_at_end;
        days.insert(at("2026-11-11T00:00:00Z"), 50_000);
        let after = forecast(&known(&calendar, &days, "2026-11-21T00:00:00Z", None)).unwrap().counted_at_end;
        assert_eq!(after, calm + 49_900);
    }

    #[test]
    fn there_is_no_forecast_from_fewer_than_three_days() {
        let (calendar, two, none) = (Calendar::utc(), november(2), BTreeMap::new());
        assert_eq!(forecast(&known(&calendar, &two, "2026-11-03T12:00:00Z", None)), None);
        assert_eq!(forecast(&known(&calendar, &none, "2026-11-21T00:00:00Z", None)), None);
    }

    #[test]
    fn days_of_the_tenants_former_time_zone_are_used_too() {
        let (calendar, days) = (Calendar::new("America/New_York", 1).unwrap(), november(20));
        let forecast = forecast(&known(&calendar, &days, "2026-11-21T05:00:00Z", None)).unwrap();
        assert_eq!(forecast.counted_at_end, days.values().sum::<u64>() + 4 * 10 + 6 * 100);
        assert_eq!(forecast.days_observed, 20);
    }

    #[test]
    fn a_day_without_executions_counts_as_zero() {
        let calendar = Calendar::utc();
        let days: BTreeMap<_, _> = november(20).into_iter().filter(|(_, counted)| *counted == 100).collect();
        let forecast = forecast(&known(&calendar, &days, "2026-11-21T00:00:00Z", None)).unwrap();
        assert_eq!(forecast.counted_at_end, days.values().sum::<u64>() + 6 * 100);
    }
}
