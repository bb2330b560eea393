//! Prints what is stored, with the columns of `flowmeter usage` and `flowmeter usage TENANT --periods`.

use anyhow::Result;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rusqlite::{Result as SqlResult, Row};

use crate::store::Store;

pub fn print(store: &Store) -> Result<()> {
    println!("| tenant | plan | period | counted | adjusted | voided | limit | % | success |");
    let usage =
        "SELECT tenant, plan, starts, ends, zone, counted, adjusted, voided, quota, success, executions
                 FROM usage ORDER BY tenant";
    for cells in store.rows(usage, usage_cells)? {
        println!("| {} |", cells.join(" | "));
    }
    println!();
    println!(
        "| tenant | period | plan | counted | adjusted | voided | not counted | late | success | closed at | incomplete |"
    );
    let periods =
        "SELECT tenant, plan, starts, ends, zone, counted, adjusted, voided, uncounted, late, success,
                   executions, closed_at, incomplete FROM periods ORDER BY tenant, starts DESC";
    for cells in store.rows(periods, period_cells)? {
        println!("| {} |", cells.join(" | "));
    }
    println!();
    println!("| tenant | threshold | used | limit | crossed at |");
    let crossings =
        "SELECT tenant, percent, used, quota, crossed_at FROM crossings ORDER BY crossed_at, percent";
    for cells in store.rows(crossings, crossing_cells)? {
        println!("| {} |", cells.join(" | "));
    }
    Ok(())
}

fn usage_cells(row: &Row<'_>) -> SqlResult<Vec<String>> {
    let (counted, limit): (i64, Option<i64>) = (row.get("counted")?, row.get("quota")?);
    Ok(vec![
        row.get("tenant")?,
        row.get("plan")?,
        days(row)?,
        number(counted),
        signed(row.get("adjusted")?),
        number(row.get("voided")?),
        limit.map_or("no limit".to_owned(), number),
        limit.map_or("-".to_owned(), |limit| percent(counted, limit)),
        percent(row.get("success")?, row.get("executions")?),
    ])
}

fn period_cells(row: &Row<'_>) -> SqlResult<Vec<String>> {
    Ok(vec![
        row.get("tenant")?,
        days(row)?,
        row.get("plan")?,
        number(row.get("counted")?),
        signed(row.get("adjusted")?),
        number(row.get("voided")?),
        number(row.get("uncounted")?),
        number(row.get("late")?),
        percent(row.get("success")?, row.get("executions")?),
        row.get("closed_at")?,
        row.get("incomplete")?,
    ])
}

fn crossing_cells(row: &Row<'_>) -> SqlResult<Vec<String>> {
    let percent: i64 = row.get("percent")?;
    Ok(vec![
        row.get("tenant")?,
        format!("{percent} %"),
        number(row.get("used")?),
        number(row.get("quota")?),
        row.get("crossed_at")?,
    ])
}

/// The first and the last day of a period, in the time zone that cut it; its end is exclusive.
fn days(row: &Row<'_>) -> SqlResult<String> {
    let zone: String = row.get("zone")?;
    let zone = TimeZone::get(&zone).unwrap_or(TimeZone::UTC);
    let day = |column: &str, earlier: i64| -> SqlResult<String> {
        let text: String = row.get(column)?;
        let instant = text.parse::<Timestamp>().unwrap_or_default();
        let instant = instant.saturating_sub(SignedDuration::from_nanos(earlier)).unwrap_or(instant);
        Ok(instant.to_zoned(zone.clone()).date().to_string())
    };
    Ok(format!("{} .. {}", day("starts", 0)?, day("ends", 1)?))
}

/// Cut, not rounded: 100 % is shown only once it is reached.
fn percent(part: i64, whole: i64) -> String {
    match (part * 1_000).checked_div(whole) {
        Some(tenths) => format!("{}.{} %", tenths / 10, tenths % 10),
        None => "-".to_owned(),
    }
}

fn number(value: i64) -> String {
    let digits = value.unsigned_abs().to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

fn signed(value: i64) -> String {
    format!("{}{}", if value < 0 { '-' } else { '+' }, number(value))
}
