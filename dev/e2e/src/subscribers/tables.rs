//! Printed tables: those of the command line, and those of the examples.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde_json::Value;

/// Columns with an instant: libraries write it with a different number of digits.
const INSTANTS: [&str; 2] = ["closed at", "crossed at"];

/// One printed table: its rows by key, each with its cells by column.
#[derive(Debug, Default, PartialEq)]
pub struct Table(BTreeMap<String, BTreeMap<String, String>>);

/// All that a subscriber prints.
pub struct Printed {
    /// The current period of each tenant.
    pub usage: Table,
    /// Closed periods.
    pub periods: Table,
    /// Crossed thresholds.
    pub crossings: Table,
}

impl Printed {
    /// Reads what an example prints: three tables with a line between them.
    pub fn parse(text: &str) -> Result<Self> {
        let mut tables = text.split("\n\n").map(Table::piped);
        let mut next = || tables.next().context("a table is missing")?;
        let (usage, periods, crossings) = (next()?, next()?, next()?);
        Ok(Self { usage, periods, crossings })
    }

    /// What `printed` has otherwise than these tables, in the columns that it has.
    pub fn differences(&self, printed: &Self) -> Vec<String> {
        let pairs = [
            (&self.usage, &printed.usage),
            (&self.periods, &printed.periods),
            (&self.crossings, &printed.crossings),
        ];
        pairs.into_iter().flat_map(|(truth, printed)| truth.differences(printed)).collect()
    }

    /// How many fields are compared.
    pub fn fields(&self) -> usize {
        // What needs prices, and the present time, is in no topic.
        let cells = |table: &Table| {
            table.0.values().map(|row| row.keys().filter(|name| is_published(name)).count()).sum::<usize>()
        };
        [&self.usage, &self.periods, &self.crossings].into_iter().map(cells).sum()
    }
}

fn is_published(column: &str) -> bool {
    !["cost estimate", "freshness"].contains(&column)
}

impl Table {
    /// A table of the command line, whose columns are at least two spaces apart.
    pub fn bordered(text: &str) -> Result<Self> {
        let lines = text.lines().filter(|line| line.starts_with('│'));
        let rows = lines.map(|line| cells(line.trim_matches('│'), "  "));
        Self::of(rows)
    }

    /// A table with `|` between its columns.
    fn piped(text: &str) -> Result<Self> {
        Self::of(text.lines().filter(|line| line.starts_with('|')).map(|line| {
            let inner = line.strip_prefix("| ").unwrap_or(line);
            inner
                .strip_suffix(" |")
                .unwrap_or(inner)
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect()
        }))
    }

    fn of(mut rows: impl Iterator<Item = Vec<String>>) -> Result<Self> {
        let header = rows.next().context("the table has no header")?;
        let mut table = Self::default();
        for row in rows {
            let cells = header.iter().cloned().zip(row.into_iter().chain(std::iter::repeat(String::new())));
            table.insert(cells.map(|(column, cell)| normal(column, cell)).collect());
        }
        Ok(table)
    }

    fn insert(&mut self, row: BTreeMap<String, String>) {
        let key = ["tenant", "period", "threshold", "crossed at"].map(|column| row.get(column).cloned());
        let key = key.into_iter().flatten().collect::<Vec<_>>().join(" ");
        self.0.insert(key, row);
    }

    /// Adds a table whose rows belong to a tenant.
    pub fn extend(&mut self, tenant: &str, other: Self) {
        for mut row in other.0.into_values() {
            row.insert("tenant".to_owned(), tenant.to_owned());
            self.insert(row);
        }
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.0.len()
    }

    fn differences(&self, printed: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for key in self.0.keys().chain(printed.0.keys().filter(|key| !self.0.contains_key(*key))) {
            match (self.0.get(key), printed.0.get(key)) {
                (Some(truth), Some(printed)) => {
                    let columns = truth.iter().filter(|(column, _)| is_published(column));
                    differences.extend(
                        columns.filter(|(column, cell)| printed.get(*column) != Some(*cell)).map(
                            |(column, cell)| {
                                format!("{key}: {column} is {:?}, not {cell:?}", printed.get(column))
                            },
                        ),
                    );
                }
                (Some(_), None) => differences.push(format!("{key} is missing")),
                (None, _) => differences.push(format!("{key} should not be there")),
            }
        }
        differences
    }
}

fn cells(line: &str, gap: &str) -> Vec<String> {
    line.split(gap).map(str::trim).filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

fn normal(column: String, cell: String) -> (String, String) {
    let instant = INSTANTS.contains(&column.as_str()).then(|| cell.parse::<Timestamp>().ok()).flatten();
    let cell = instant.map_or(cell, |instant| instant.to_string());
    (column, cell)
}

/// The crossings that `flowmeter watch` prints, as the table of a subscriber.
pub fn crossings(events: &[Value]) -> Result<Table> {
    let mut table = Table::default();
    for event in events {
        let text = |name: &str| {
            event[name].as_str().map(str::to_owned).with_context(|| format!("{event} has no {name}"))
        };
        let number = |name: &str| event[name].as_u64().with_context(|| format!("{event} has no {name}"));
        let cells = [
            ("tenant", text("id")?),
            ("threshold", format!("{} %", number("threshold_percent")?)),
            ("used", grouped(number("used")?)),
            ("limit", grouped(number("limit")?)),
            ("crossed at", text("crossed_at")?),
        ];
        table.insert(cells.into_iter().map(|(column, cell)| normal(column.to_owned(), cell)).collect());
    }
    Ok(table)
}

/// With separators between thousands.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|group| str::from_utf8(group).ok()).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_both_kinds_are_compared_by_their_columns() {
        let theirs = "┌──┐\n│ tenant   plan    counted   cost estimate │\n│ north    starter   1,234   EUR 1.00      │\n└──┘";
        let truth = Table::bordered(theirs).unwrap();
        let ours = Table::piped("| tenant | plan | counted |\n| north | starter | 1,234 |").unwrap();
        assert_eq!(truth.differences(&ours), Vec::<String>::new());
        let wrong =
            Table::piped("| tenant | plan | counted |\n| north | starter | 1,235 |\n| x | y | 1 |").unwrap();
        assert_eq!(truth.differences(&wrong).len(), 2, "{:?}", truth.differences(&wrong));
        assert_eq!(truth.differences(&Table::default()).len(), 1);
    }

    #[test]
    fn an_empty_last_cell_is_empty() {
        let truth = Table::bordered("│ period   incomplete │\n│ May                 │").unwrap();
        let ours = Table::piped("| period | incomplete |\n| May |  |").unwrap();
        assert_eq!(truth.differences(&ours), Vec::<String>::new());
    }
}
