//! All SQL of the gateway, by subject.

pub mod admissions;
pub mod history;
pub mod originals;
pub mod purge;
pub mod refusals;
pub mod sums;
pub mod tokens;
pub mod write_behind;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;

/// Figures are unsigned; the database's integers are signed.
fn to_db(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// A figure from the database, where none is negative.
fn from_db(value: i64) -> u64 {
    value.try_into().unwrap_or_default()
}

fn instant_to_db(instant: Option<Timestamp>) -> Option<jiff_sqlx::Timestamp> {
    instant.map(ToSqlx::to_sqlx)
}

fn instant_from_db(instant: Option<jiff_sqlx::Timestamp>) -> Option<Timestamp> {
    instant.map(jiff_sqlx::Timestamp::to_jiff)
}
