//! How figures look in a table.

use comfy_table::{CellAlignment, Table, presets::UTF8_BORDERS_ONLY};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// An empty table.
pub fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_BORDERS_ONLY).set_header(header);
    table
}

/// The table, or a sentence if it has no rows.
pub fn or_none(table: &Table, none: &str) -> String {
    if table.is_empty() { none.to_owned() } else { table.to_string() }
}

/// Aligns columns of numbers, given by their place, to the right.
pub fn right(table: &mut Table, columns: &[usize]) {
    for place in columns {
        if let Some(column) = table.column_mut(*place) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
}

/// A number with thousands separators: `1,234,567`.
pub fn number(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// A number that may be negative: `-3`, `+12`.
pub fn signed(value: i64) -> String {
    let sign = if value < 0 { "-" } else { "+" };
    format!("{sign}{}", number(value.unsigned_abs()))
}

/// A success rate. Cut, not rounded: a single failure in many runs still shows.
pub fn rate(rate: Option<f64>) -> String {
    rate.map_or("-".to_owned(), |rate| format!("{:.1} %", (rate * 1_000.0).floor() / 10.0))
}

/// A time span in its two largest units: `1 min 15 s`.
pub fn lag(seconds: u64) -> String {
    let units = [(86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")];
    let mut left = seconds;
    let mut parts = Vec::new();
    for (size, unit) in units {
        if left >= size {
            parts.push(format!("{} {unit}", left / size));
            left %= size;
        }
    }
    parts.truncate(2);
    if parts.is_empty() { "0 s".to_owned() } else { parts.join(" ") }
}

/// First and last day of a period whose end is exclusive, in its tenant's time zone (IANA name; UTC if it is
/// not known here).
pub fn days(start: Timestamp, end: Timestamp, time_zone: &str) -> String {
    let zone = TimeZone::get(time_zone).unwrap_or(TimeZone::UTC);
    let date = |instant: Timestamp| instant.to_zoned(zone.clone()).date();
    format!("{} .. {}", date(start), date(end.saturating_sub(SignedDuration::from_nanos(1)).unwrap_or(end)))
}

/// The text on one line, cut to `chars_max` characters.
pub fn shortened(text: &str, chars_max: usize) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(chars_max).collect();
    if chars.next().is_some() {
        short.push_str("...");
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_table_is_a_sentence() {
        let mut table = new(&["tenant"]);
        assert_eq!(or_none(&table, "No tenants."), "No tenants.");
        table.add_row(["north"]);
        assert!(or_none(&table, "No tenants.").contains("north"));
    }

    #[test]
    fn numbers_are_grouped() {
        let grouped = [0, 999, 1_000, 1_234_567].map(number);
        assert_eq!(grouped, ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn a_lag_is_shown_in_two_units() {
        assert_eq!([0, 75, 600, 90_061].map(lag), ["0 s", "1 min 15 s", "10 min", "1 d 1 h"]);
    }

    #[test]
    fn a_period_shows_the_days_of_its_tenant() {
        let days = |start: &str, end: &str, zone| days(start.parse().unwrap(), end.parse().unwrap(), zone);
        let november = "2026-11-01 .. 2026-11-30";
        assert_eq!(days("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z", "UTC"), november);
        assert_eq!(days("2026-10-31T23:00:00Z", "2026-11-30T23:00:00Z", "Europe/Madrid"), november);
    }

    #[test]
    fn a_reason_stays_on_its_line() {
        assert_eq!(shortened("a\nb", 10), "a b");
        assert_eq!(shortened("abcdef", 3), "abc...");
    }
}
