//! Metering periods: one month each, in the tenant's time zone, from the tenant's anchor day.

use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};

/// Seconds of an hour.
const HOUR_SECONDS: i64 = 3_600;

/// Start inclusive, end exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Period {
    /// The first instant of the period.
    pub start: Timestamp,
    /// The first instant after the period.
    pub end: Timestamp,
}

impl Period {
    /// Whether the instant lies in the period.
    pub fn contains(&self, instant: Timestamp) -> bool {
        self.start <= instant && instant < self.end
    }
}

/// How a tenant's periods are cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calendar {
    time_zone: TimeZone,
    anchor_day: i8,
}

/// The calendar cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCalendar {
    /// No such time zone.
    #[error("{0:?} is not a time zone: use an IANA name such as `Europe/Madrid`, or `UTC`")]
    TimeZone(String),
    /// No such day.
    #[error("{0} is not an anchor day: use 1 to 31")]
    AnchorDay(u32),
}

impl Calendar {
    /// A calendar whose periods start at midnight of `anchor_day` (in shorter months: of the last day) in
    /// the time zone named `time_zone`.
    pub fn new(time_zone: &str, anchor_day: u32) -> Result<Self, InvalidCalendar> {
        let day = match i8::try_from(anchor_day) {
            Ok(day @ 1..=31) => day,
            _ => return Err(InvalidCalendar::AnchorDay(anchor_day)),
        };
        let time_zone = TimeZone::get(time_zone)
            .map_err(|_| InvalidCalendar::TimeZone(time_zone.chars().take(64).collect()))?;
        Ok(Self { time_zone, anchor_day: day })
    }

    /// A calendar that was accepted once, as it was stored. A zone that is no longer known is read as UTC:
    /// stored periods stay, and no tenant's periods stop.
    pub fn stored(time_zone: &str, anchor_day: u32) -> Self {
        let time_zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
        let anchor_day = i8::try_from(anchor_day).unwrap_or(1).clamp(1, 31);
        Self { time_zone, anchor_day }
    }

    /// Calendar months in UTC.
    pub fn utc() -> Self {
        Self { time_zone: TimeZone::UTC, anchor_day: 1 }
    }

    /// The time zone's IANA name.
    pub fn time_zone_name(&self) -> &str {
        self.time_zone.iana_name().unwrap_or("UTC")
    }

    /// The day on which periods start, 1 to 31.
    pub fn anchor_day(&self) -> u32 {
        u32::from(self.anchor_day.unsigned_abs())
    }

    /// The period that holds the instant.
    pub fn period_of(&self, instant: Timestamp) -> Period {
        let date = instant.to_zoned(self.time_zone.clone()).date();
        let this_month = self.start_in(date);
        // A midnight that a clock change skips starts later in the day, so instants are compared, not dates.
        if self.instant(this_month) <= instant {
            Period { start: self.instant(this_month), end: self.instant(self.start_in(next_month(date))) }
        } else {
            let before = self.start_in(previous_month(date));
            Period { start: self.instant(before), end: self.instant(this_month) }
        }
    }

    /// The day that holds the instant, from midnight to midnight in the calendar's time zone: 23 or 25 hours long where
    /// the clocks change.
    pub fn day_of(&self, instant: Timestamp) -> Period {
        let date = self.date_of(instant);
        let tomorrow = date.saturating_add(jiff::Span::new().days(1));
        Period { start: self.instant(date), end: self.instant(tomorrow) }
    }

    /// The clock hour that holds the instant, in the calendar's time zone. It is cut where the clocks change:
    /// on Lord Howe Island, where they change by half an hour, one hour of that day lasts 30 minutes.
    pub fn hour_of(&self, instant: Timestamp) -> Period {
        let offset = self.time_zone.to_offset(instant);
        let shift = i64::from(offset.seconds());
        let local = instant.as_second().saturating_add(shift);
        let whole = local.saturating_sub(local.rem_euclid(HOUR_SECONDS)).saturating_sub(shift);
        let second = |second: i64, out_of_range| Timestamp::from_second(second).unwrap_or(out_of_range);
        let mut hour = Period {
            start: second(whole, Timestamp::MIN),
            end: second(whole.saturating_add(HOUR_SECONDS), Timestamp::MAX),
        };
        let changed = self
            .time_zone
            .preceding(instant.saturating_add(SignedDuration::from_nanos(1)).unwrap_or(instant));
        if self.time_zone.to_offset(hour.start) != offset
            && let Some(change) = changed.into_iter().next()
        {
            hour.start = hour.start.max(change.timestamp());
        }
        if self.time_zone.to_offset(hour.end) != offset
            && let Some(change) = self.time_zone.following(instant).next()
        {
            hour.end = hour.end.min(change.timestamp());
        }
        hour
    }

    /// The date of the instant in the calendar's time zone.
    pub fn date_of(&self, instant: Timestamp) -> civil::Date {
        instant.to_zoned(self.time_zone.clone()).date()
    }

    /// The first instant of a date in the calendar's time zone.
    pub fn start_of(&self, date: civil::Date) -> Timestamp {
        self.instant(date)
    }

    /// The period after `period`.
    pub fn next(&self, period: Period) -> Period {
        self.period_of(period.end)
    }

    /// The period that holds the instant, if the calendar applies from `previous_end` on: the end of the last
    /// known period. The first one runs from there to the calendar's next boundary.
    pub fn continue_from(&self, previous_end: Timestamp, instant: Timestamp) -> Period {
        let period = self.period_of(instant);
        Period { start: period.start.max(previous_end.min(instant)), end: period.end }
    }

    /// The day on which a period starts in the month of `date`.
    fn start_in(&self, date: civil::Date) -> civil::Date {
        let day = self.anchor_day.min(date.days_in_month());
        date.with().day(day).build().unwrap_or(date)
    }

    fn instant(&self, date: civil::Date) -> Timestamp {
        date.to_zoned(self.time_zone.clone()).map(|zoned| zoned.timestamp()).unwrap_or(Timestamp::MAX)
    }
}

fn next_month(date: civil::Date) -> civil::Date {
    date.first_of_month().saturating_add(jiff::Span::new().months(1))
}

fn previous_month(date: civil::Date) -> civil::Date {
    date.first_of_month().saturating_sub(jiff::Span::new().months(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn period(zone: &str, day: u32, instant: &str) -> (String, String) {
        let period = Calendar::new(zone, day).unwrap().period_of(at(instant));
        (period.start.to_string(), period.end.to_string())
    }

    fn pair(start: &str, end: &str) -> (String, String) {
        (start.to_owned(), end.to_owned())
    }

    #[test]
    fn the_default_is_the_calendar_month_in_utc() {
        let month = pair("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
        assert_eq!(period("UTC", 1, "2026-11-01T00:00:00Z"), month);
        assert_eq!(period("UTC", 1, "2026-11-30T23:59:59.999Z"), month);
    }

    #[test]
    fn a_late_anchor_takes_the_last_day_of_short_months() {
        assert_eq!(
            period("UTC", 31, "2026-02-27T00:00:00Z"),
            pair("2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z")
        );
        assert_eq!(
            period("UTC", 31, "2026-02-28T00:00:00Z"),
            pair("2026-02-28T00:00:00Z", "2026-03-31T00:00:00Z")
        );
        assert_eq!(
            period("UTC", 30, "2028-02-29T12:00:00Z"),
            pair("2028-02-29T00:00:00Z", "2028-03-30T00:00:00Z")
        );
    }

    #[test]
    fn the_tenants_midnight_decides_also_across_clock_changes() {
        // Madrid: summer time ends on 2026-10-25, so October is an hour longer.
        assert_eq!(
            period("Europe/Madrid", 1, "2026-09-30T22:00:00Z"),
            pair("2026-09-30T22:00:00Z", "2026-10-31T23:00:00Z")
        );
        // Santiago skips midnight on 2026-09-06: the day begins at 01:00.
        assert_eq!(period("America/Santiago", 6, "2026-09-06T04:00:00Z").0, "2026-09-06T04:00:00Z");
        assert_eq!(period("America/Santiago", 6, "2026-09-06T03:59:59Z").1, "2026-09-06T04:00:00Z");
    }

    /// The local dates on which periods start, from the one that holds `instant` on.
    fn starts(calendar: &Calendar, instant: &str, count: usize) -> Vec<String> {
        let mut period = calendar.period_of(at(instant));
        let mut starts = Vec::new();
        for _ in 0..count {
            starts.push(calendar.date_of(period.start).to_string());
            period = calendar.next(period);
        }
        starts
    }

    #[test]
    fn an_anchor_at_the_months_end_comes_back_after_short_months() {
        let last_days = Calendar::new("Europe/Madrid", 31).unwrap();
        assert_eq!(
            starts(&last_days, "2028-01-31T12:00:00Z", 6),
            ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31", "2028-06-30"]
        );
        assert_eq!(
            starts(&last_days, "2026-12-31T12:00:00Z", 4),
            ["2026-12-31", "2027-01-31", "2027-02-28", "2027-03-31"]
        );
        let leap_days = Calendar::new("UTC", 29).unwrap();
        assert_eq!(starts(&leap_days, "2027-01-29T00:00:00Z", 3), ["2027-01-29", "2027-02-28", "2027-03-29"]);
        assert_eq!(starts(&leap_days, "2028-01-29T00:00:00Z", 3), ["2028-01-29", "2028-02-29", "2028-03-29"]);
        // No leap day in 2100.
        assert_eq!(starts(&leap_days, "2100-01-29T00:00:00Z", 2), ["2100-01-29", "2100-02-28"]);
    }

    #[test]
    fn a_leap_days_edges_are_the_tenants_midnights() {
        let february = pair("2028-01-30T23:00:00Z", "2028-02-28T23:00:00Z");
        let march = pair("2028-02-28T23:00:00Z", "2028-03-30T22:00:00Z");
        assert_eq!(period("Europe/Madrid", 31, "2028-02-28T22:59:59.999999999Z"), february);
        assert_eq!(period("Europe/Madrid", 31, "2028-02-28T23:00:00Z"), march);
        assert_eq!(period("Europe/Madrid", 31, "2028-03-30T21:59:59.999999999Z"), march);
        let new_york = pair("2028-02-29T05:00:00Z", "2028-03-31T04:00:00Z");
        assert_eq!(period("America/New_York", 31, "2028-03-12T07:00:00Z"), new_york);
    }

    #[test]
    fn days_are_an_hour_shorter_or_longer_where_the_clocks_change() {
        let hours = |zone: &str, instant: &str| {
            let day = Calendar::new(zone, 1).unwrap().day_of(at(instant));
            (day.start.to_string(), day.end.duration_since(day.start).as_hours())
        };
        assert_eq!(hours("Europe/Madrid", "2026-03-29T12:00:00Z"), ("2026-03-28T23:00:00Z".to_owned(), 23));
        assert_eq!(hours("Europe/Madrid", "2026-10-25T12:00:00Z"), ("2026-10-24T22:00:00Z".to_owned(), 25));
        // Midnight comes twice in Havana on 2026-11-01; the day, and the month, begin with the first one.
        assert_eq!(hours("America/Havana", "2026-11-01T04:30:00Z"), ("2026-11-01T04:00:00Z".to_owned(), 25));
        assert_eq!(hours("America/Havana", "2026-11-01T05:30:00Z").0, "2026-11-01T04:00:00Z");
        assert_eq!(period("America/Havana", 1, "2026-11-01T04:00:00Z").0, "2026-11-01T04:00:00Z");
        assert_eq!(period("America/Havana", 1, "2026-11-01T03:59:59Z").1, "2026-11-01T04:00:00Z");
        // In Santiago the last hour before midnight of 2026-04-05 comes twice.
        assert_eq!(
            hours("America/Santiago", "2026-04-05T03:30:00Z"),
            ("2026-04-04T03:00:00Z".to_owned(), 25)
        );
        assert_eq!(period("America/Santiago", 5, "2026-04-05T03:30:00Z").1, "2026-04-05T04:00:00Z");
    }

    #[test]
    fn bad_calendars_are_refused() {
        assert!(Calendar::new("Mars/Olympus", 1).is_err());
        assert!(Calendar::new("UTC", 0).is_err() && Calendar::new("UTC", 32).is_err());
    }

    proptest! {
        #[test]
        fn periods_tile_time(
            second in 0_i64..4_000_000_000,
            day in 1_u32..=31,
            zone in prop::sample::select(vec![
                "UTC", "Europe/Madrid", "America/New_York", "America/Havana", "America/Santiago", "Asia/Kathmandu",
                "Pacific/Apia",
            ]),
        ) {
            let calendar = Calendar::new(zone, day).unwrap();
            let instant = Timestamp::from_second(second).unwrap();
            let period = calendar.period_of(instant);
            prop_assert!(period.contains(instant));
            prop_assert_eq!(calendar.period_of(period.start), period);
            let next = calendar.next(period);
            prop_assert_eq!(next.start, period.end);
            prop_assert!(next.end > next.start);
            let today = calendar.day_of(instant);
            prop_assert!(today.contains(instant));
            prop_assert_eq!(calendar.day_of(today.start), today);
            prop_assert_eq!(calendar.day_of(today.end).start, today.end);
            prop_assert!(period.start <= today.start && today.end <= period.end);
            let first_day = calendar.date_of(period.start);
            // Samoa left out a whole day, 2011-12-30: a period that would start on it starts on the next.
            if zone != "Pacific/Apia" {
                prop_assert_eq!(i32::from(first_day.day()), day.cast_signed().min(first_day.days_in_month().into()));
            }
            let hours = period.end.duration_since(period.start).as_hours();
            prop_assert!((27 * 24..=32 * 24).contains(&hours), "{} hours", hours);
        }
    }

    #[test]
    fn hours_are_those_of_the_clock_and_follow_each_other() {
        for (zone, from, lengths) in [
            // Minutes of the hours from an instant on.
            ("UTC", "2026-11-24T00:00:00Z", [60, 60, 60, 60]),
            ("Asia/Kolkata", "2026-11-23T18:30:00Z", [60, 60, 60, 60]),
            ("Asia/Kathmandu", "2026-11-23T18:15:00Z", [60, 60, 60, 60]),
            // 02:00 comes twice; 02:00 does not come.
            ("Europe/Madrid", "2026-10-24T23:00:00Z", [60, 60, 60, 60]),
            ("Europe/Madrid", "2026-03-28T23:00:00Z", [60, 60, 60, 60]),
            // Half an hour back at 02:00 to 01:30, and forward at 02:00 to 02:30.
            ("Australia/Lord_Howe", "2026-04-04T14:00:00Z", [60, 30, 60, 60]),
            ("Australia/Lord_Howe", "2026-10-03T14:30:00Z", [60, 30, 60, 60]),
        ] {
            let calendar = Calendar::new(zone, 1).unwrap();
            let mut start: Timestamp = from.parse().unwrap();
            for minutes in lengths {
                let end = start + SignedDuration::from_mins(minutes);
                let expected = Period { start, end };
                let last = end - SignedDuration::from_nanos(1);
                assert_eq!((calendar.hour_of(start), calendar.hour_of(last)), (expected, expected), "{zone}");
                start = end;
            }
        }
    }
}
