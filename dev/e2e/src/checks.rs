//! A table of checks with their figures.

use std::fmt::Display;

/// What was expected, what was found, and whether they agree.
#[derive(Debug, Default)]
pub struct Checks {
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    what: String,
    expected: String,
    found: String,
    passed: bool,
}

impl Checks {
    /// Two figures that must be equal.
    pub fn equal<T: PartialEq + Display>(&mut self, what: &str, expected: T, found: T) {
        let passed = expected == found;
        self.judged(what, &expected.to_string(), &found.to_string(), passed);
    }

    /// A figure that the caller has judged.
    pub fn judged(&mut self, what: &str, expected: &str, found: &str, passed: bool) {
        let row =
            Row { what: what.to_owned(), expected: expected.to_owned(), found: found.to_owned(), passed };
        println!("  {} {}: {}", if row.passed { "ok  " } else { "FAIL" }, row.what, row.found);
        self.rows.push(row);
    }

    /// Prints the table. Returns whether there were checks and all have passed.
    pub fn print(&self) -> bool {
        let width = |column: fn(&Row) -> &str, title: &str| {
            let longest = self.rows.iter().map(|row| column(row).chars().count()).max();
            longest.unwrap_or_default().max(title.len())
        };
        let (what, expected, found) = (
            width(|row| &row.what, "check"),
            width(|row| &row.expected, "expected"),
            width(|row| &row.found, "found"),
        );
        println!("\n{:what$}  {:>expected$}  {:>found$}", "check", "expected", "found");
        for row in &self.rows {
            let mark = if row.passed { "ok" } else { "FAIL" };
            println!("{:what$}  {:>expected$}  {:>found$}  {mark}", row.what, row.expected, row.found);
        }
        let failed = self.rows.iter().filter(|row| !row.passed).count();
        println!("\n{} checks, {failed} failed", self.rows.len());
        failed == 0 && !self.rows.is_empty()
    }
}
