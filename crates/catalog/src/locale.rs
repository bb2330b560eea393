//! Numbers and dates as each language writes them.

use std::time::Duration;

use jiff::{RoundMode, Timestamp, TimestampRound, ToSpan, Unit, Zoned, civil::Date, tz::TimeZone};
use metering::Period;

use crate::Language;

const ENGLISH_MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const SPANISH_MONTHS: [&str; 12] = [
    "enero",
    "febrero",
    "marzo",
    "abril",
    "mayo",
    "junio",
    "julio",
    "agosto",
    "septiembre",
    "octubre",
    "noviembre",
    "diciembre",
];

/// A count, in groups of three digits: `1,234`, in Spanish `1.234`.
pub fn number(language: Language, value: u64) -> String {
    let separator = match language {
        Language::English => ',',
        Language::Spanish => '.',
    };
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(separator);
        }
        grouped.push(digit);
    }
    grouped
}

/// A day: `24 November 2026`, `24 de noviembre de 2026`.
pub fn date(language: Language, date: Date) -> String {
    match language {
        Language::English => format!("{} {} {}", date.day(), month(language, date), date.year()),
        Language::Spanish => format!("{} de {} de {}", date.day(), month(language, date), date.year()),
    }
}

/// An instant in a list: `24 November 2026, 13:05`.
pub fn moment(language: Language, instant: Timestamp, zone: &TimeZone) -> String {
    let local = instant.to_zoned(zone.clone());
    format!("{}, {}", date(language, local.date()), clock_time(&local))
}

/// An instant in a sentence, after a verb: `on 24 November 2026 at 13:05`, `el 24 de noviembre de 2026 a las 13:05`.
pub fn on_moment(language: Language, instant: Timestamp, zone: &TimeZone) -> String {
    let local = instant.to_zoned(zone.clone());
    let (day, time) = (date(language, local.date()), clock_time(&local));
    match language {
        Language::English => format!("on {day} at {time}"),
        // Spanish says one o'clock in the singular.
        Language::Spanish if local.hour() == 1 => format!("el {day} a la {time}"),
        Language::Spanish => format!("el {day} a las {time}"),
    }
}

/// Like [`on_moment`], with the seconds unless they are zero, and with the time zone: `on 24 November 2026 at
/// 13:05:30 (Europe/Madrid)`. Never before the instant.
pub fn on_instant(language: Language, instant: Timestamp, zone: &TimeZone) -> String {
    let round = TimestampRound::new().smallest(Unit::Second).mode(RoundMode::Ceil);
    let instant = instant.round(round).unwrap_or(instant);
    let local = instant.to_zoned(zone.clone());
    let seconds = Some(local.second()).filter(|second| *second > 0);
    let seconds = seconds.map(|second| format!(":{second:02}")).unwrap_or_default();
    let name = zone.iana_name().unwrap_or("UTC");
    format!("{}{seconds} ({name})", on_moment(language, instant, zone))
}

/// A length of time in its largest whole unit: `24 hours`, `3 days`, `90 minutes`.
pub fn length(language: Language, length: Duration) -> String {
    const UNITS: [(u64, [&str; 2], [&str; 2]); 4] = [
        (86_400, ["day", "days"], ["día", "días"]),
        (3_600, ["hour", "hours"], ["hora", "horas"]),
        (60, ["minute", "minutes"], ["minuto", "minutos"]),
        (1, ["second", "seconds"], ["segundo", "segundos"]),
    ];
    let seconds = length.as_secs();
    // A single day is written in hours.
    let fits = |unit: u64| seconds.is_multiple_of(unit) && (unit != 86_400 || seconds > unit);
    let unit = UNITS.into_iter().find(|(unit, ..)| seconds > 0 && fits(*unit)).unwrap_or(UNITS[3]);
    let (unit, english, spanish) = unit;
    let count = seconds / unit;
    let [one, many] = if language == Language::English { english } else { spanish };
    format!("{} {}", number(language, count), if count == 1 { one } else { many })
}

/// The time zone with this name; UTC, which is named beside every date, if a newer time zone database has
/// dropped the name since it was accepted.
pub fn time_zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap_or(TimeZone::UTC)
}

/// A period, as a name: `November 2026`; `15 November to 14 December 2026` if it is not a calendar month.
pub fn period(language: Language, period: Period, zone: &TimeZone) -> String {
    let (first, last) = days(period, zone);
    let whole_month = first == first.first_of_month() && last == first.last_of_month();
    match (language, whole_month) {
        (Language::English, true) => format!("{} {}", month(language, first), first.year()),
        (Language::Spanish, true) => format!("{} de {}", month(language, first), first.year()),
        (Language::English, false) => {
            format!("{} to {}", start_day(language, first, last), date(language, last))
        }
        (Language::Spanish, false) => {
            format!("{} al {}", start_day(language, first, last), date(language, last))
        }
    }
}

/// A period, as it follows a usage: `for November 2026`, `de noviembre de 2026`.
pub fn of_period(language: Language, value: Period, zone: &TimeZone) -> String {
    let name = period(language, value, zone);
    match language {
        Language::English => format!("for {name}"),
        Language::Spanish if name.starts_with(|first: char| first.is_ascii_digit()) => format!("del {name}"),
        Language::Spanish => format!("de {name}"),
    }
}

/// The first and the last day of a period.
fn days(period: Period, zone: &TimeZone) -> (Date, Date) {
    let first = period.start.to_zoned(zone.clone()).date();
    // The end is the first instant after the period; if a clock change skips midnight, it is later that day.
    let after = period.end.to_zoned(zone.clone()).date();
    (first, after.saturating_sub(1.day()).max(first))
}

/// The first day of a range, with its year only if the last day has another.
fn start_day(language: Language, first: Date, last: Date) -> String {
    match language {
        _ if first.year() != last.year() => date(language, first),
        Language::English => format!("{} {}", first.day(), month(language, first)),
        Language::Spanish => format!("{} de {}", first.day(), month(language, first)),
    }
}

fn clock_time(local: &Zoned) -> String {
    format!("{:02}:{:02}", local.hour(), local.minute())
}

fn month(language: Language, date: Date) -> &'static str {
    let names = match language {
        Language::English => &ENGLISH_MONTHS,
        Language::Spanish => &SPANISH_MONTHS,
    };
    let index = usize::from(date.month().unsigned_abs()).saturating_sub(1);
    names.get(index).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use metering::Calendar;

    use Language::{English, Spanish};

    use super::*;

    fn named(language: Language, zone: &str, anchor_day: u32, instant: &str) -> String {
        let calendar = Calendar::new(zone, anchor_day).unwrap();
        let value = calendar.period_of(instant.parse().unwrap());
        of_period(language, value, &TimeZone::get(zone).unwrap())
    }

    #[test]
    fn numbers_are_grouped() {
        let cases =
            [(0, "0"), (999, "999"), (1_234, "1,234"), (100_000, "100,000"), (1_234_567, "1,234,567")];
        for (value, english) in cases {
            assert_eq!(number(English, value), english);
            assert_eq!(number(Spanish, value), english.replace(',', "."));
        }
        assert_eq!(number(English, u64::MAX), "18,446,744,073,709,551,615");
    }

    #[test]
    fn dates_follow_the_tenants_zone_and_language() {
        let instant = "2026-11-30T23:30:00Z".parse().unwrap();
        let madrid = TimeZone::get("Europe/Madrid").unwrap();
        assert_eq!(moment(English, instant, &TimeZone::UTC), "30 November 2026, 23:30");
        assert_eq!(moment(Spanish, instant, &madrid), "1 de diciembre de 2026, 00:30");
        assert_eq!(on_moment(English, instant, &madrid), "on 1 December 2026 at 00:30");
        assert_eq!(on_moment(Spanish, instant, &madrid), "el 1 de diciembre de 2026 a las 00:30");
        let one = "2026-11-24T00:05:00Z".parse().unwrap();
        assert_eq!(on_moment(Spanish, one, &madrid), "el 24 de noviembre de 2026 a la 01:05");
    }

    #[test]
    fn lengths_are_written_in_whole_units() {
        for (seconds, english, spanish) in [
            (86_400, "24 hours", "24 horas"),
            (259_200, "3 days", "3 días"),
            (5_400, "90 minutes", "90 minutos"),
            (3_600, "1 hour", "1 hora"),
            (1, "1 second", "1 segundo"),
        ] {
            assert_eq!(length(English, Duration::from_secs(seconds)), english);
            assert_eq!(length(Spanish, Duration::from_secs(seconds)), spanish);
        }
    }

    #[test]
    fn an_instant_is_named_with_its_seconds_and_its_zone() {
        let madrid = time_zone("Europe/Madrid");
        let said = |text: &str| on_instant(English, text.parse().unwrap(), &madrid);
        assert_eq!(said("2026-11-30T23:00:00Z"), "on 1 December 2026 at 00:00 (Europe/Madrid)");
        assert_eq!(said("2026-11-24T12:00:29.5Z"), "on 24 November 2026 at 13:00:30 (Europe/Madrid)");
        let unknown = time_zone("Mars/Olympus");
        let spanish = on_instant(Spanish, "2026-11-24T12:00:00Z".parse().unwrap(), &unknown);
        assert_eq!(spanish, "el 24 de noviembre de 2026 a las 12:00 (UTC)");
    }

    #[test]
    fn a_calendar_month_is_named_by_the_month() {
        // In UTC this November begins on the last evening of October.
        assert_eq!(named(English, "Europe/Madrid", 1, "2026-11-10T12:00:00Z"), "for November 2026");
        assert_eq!(named(Spanish, "Europe/Madrid", 1, "2026-11-10T12:00:00Z"), "de noviembre de 2026");
        assert_eq!(named(Spanish, "UTC", 1, "2028-02-10T12:00:00Z"), "de febrero de 2028");
    }

    #[test]
    fn another_period_is_named_by_its_days() {
        let instant = "2026-11-20T12:00:00Z";
        assert_eq!(named(English, "UTC", 15, instant), "for 15 November to 14 December 2026");
        assert_eq!(named(Spanish, "UTC", 15, instant), "del 15 de noviembre al 14 de diciembre de 2026");
        let instant = "2026-12-20T12:00:00Z";
        assert_eq!(named(English, "UTC", 15, instant), "for 15 December 2026 to 14 January 2027");
        assert_eq!(named(Spanish, "UTC", 15, instant), "del 15 de diciembre de 2026 al 14 de enero de 2027");
    }
}
