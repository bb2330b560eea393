//! Figures as CSV (RFC 4180) that is safe to open in a spreadsheet.

use axum::{
    http::header::{CONTENT_DISPOSITION, CONTENT_TYPE},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use utoipa::ToSchema;

use super::shapes::MoneyJson;

/// The format of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FormatJson {
    /// JSON.
    #[default]
    Json,
    /// CSV (RFC 4180), with a header line.
    Csv,
}

/// A spreadsheet reads a cell that starts with one of these as a formula.
const FORMULA_STARTS: [char; 11] = ['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠'];

/// A text as a cell that no spreadsheet reads as a formula: text that looks like one is prefixed with an
/// apostrophe.
pub fn cell(text: &str) -> String {
    let looks_like_one = text.starts_with(FORMULA_STARTS) || text.trim_start().starts_with(FORMULA_STARTS);
    if looks_like_one { format!("'{text}") } else { text.to_owned() }
}

/// An amount in whole units of its currency: `-0.05`.
pub fn decimal(money: &MoneyJson) -> String {
    let sign = if money.amount_minor < 0 { "-" } else { "" };
    let places = usize::try_from(money.exponent).unwrap_or(0);
    let digits = format!("{:0>width$}", money.amount_minor.unsigned_abs(), width = places + 1);
    let (whole, part) = digits.split_at(digits.len().saturating_sub(places));
    if places == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{part}") }
}

/// Lines of text cells as CSV.
pub fn to_csv(header: &[&str], lines: &[Vec<String>]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    writer.write_record(header)?;
    for line in lines {
        writer.write_record(line)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// An answer that a browser saves as a file with this name.
pub fn file(name: &str, csv: Vec<u8>) -> Response {
    let headers = [
        (CONTENT_TYPE, "text/csv; charset=utf-8; header=present".to_owned()),
        (CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
    ];
    (headers, csv).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_a_formula() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\tx", "\r=1", " =1", "＝1"] {
            assert_eq!(cell(text), format!("'{text}"));
        }
        assert_eq!(cell("Order sync = fast"), "Order sync = fast");
    }

    #[test]
    fn an_amount_has_the_decimal_places_of_its_currency() {
        let shown =
            |amount_minor, exponent| decimal(&MoneyJson { amount_minor, currency: "x".into(), exponent });
        assert_eq!(
            [shown(-5, 2), shown(1_234, 2), shown(7, 0), shown(1_234, 3)],
            ["-0.05", "12.34", "7", "1.234"]
        );
        assert_eq!(shown(i64::MIN, 2), "-92233720368547758.08");
    }
}
