//! The monthly tables that make up `executions`: created ahead of time, and dropped when they are old.

use jiff::{Timestamp, civil::Date};
use jiff_sqlx::ToSqlx;
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::recording::decide::month_after;

/// The names of the monthly tables, before their year and month.
const PREFIX: &str = "executions_";

/// The name of a month's table. It is built only from the numbers of a date, so it is safe in a statement.
fn table(month: Date) -> String {
    format!("{PREFIX}{:04}_{:02}", month.year(), month.month())
}

/// Creates the table of a month's executions if it does not exist. Outside of the recording transaction,
/// because it waits for others that create or drop months.
pub(crate) async fn ensure_month(connection: &mut PgConnection, month: Date) -> Result<(), sqlx::Error> {
    let (table, next) = (table(month), month_after(month));
    let mut transaction = connection.begin().await?;
    hold_months(&mut transaction).await?;
    let is_there: bool = sqlx::query_scalar("SELECT to_regclass($1) IS NOT NULL")
        .bind(&table)
        .fetch_one(&mut *transaction)
        .await?;
    if is_there {
        return Ok(());
    }
    // Created first and then attached. Creating it as a partition would wait for everybody who uses
    // executions, and everybody would queue behind it.
    for statement in [
        format!("CREATE TABLE {table} (LIKE executions INCLUDING ALL)"),
        format!("ALTER TABLE executions ATTACH PARTITION {table} FOR VALUES FROM ('{month}') TO ('{next}')"),
    ] {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *transaction).await?;
    }
    transaction.commit().await
}

/// Only one transaction at a time creates or drops months. Held for the rest of the transaction.
async fn hold_months(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.months'))")
        .execute(connection)
        .await
        .map(drop)
}

/// One replica at a time removes old data; the others try later. Held for the life of the connection.
pub(crate) async fn take_retention_turn(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtext(current_schema() || '.retention'))")
        .fetch_one(connection)
        .await
}

/// The months that have a table, oldest first.
pub(crate) async fn months(connection: &mut PgConnection) -> Result<Vec<Date>, sqlx::Error> {
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT relname::text FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
         WHERE inhparent = 'executions'::regclass",
    )
    .fetch_all(connection)
    .await?;
    let mut months: Vec<Date> = tables.iter().filter_map(|table| month_named(table)).collect();
    months.sort_unstable();
    Ok(months)
}

fn month_named(table: &str) -> Option<Date> {
    let (year, month) = table.strip_prefix(PREFIX)?.split_once('_')?;
    Date::new(year.parse().ok()?, month.parse().ok()?, 1).ok()
}

/// Where the next page of a month's ids begins: after this source, epoch and id.
pub(crate) type IdPlace = (i32, i32, i64);

/// Before all ids.
pub(crate) const FIRST_ID: IdPlace = (i32::MIN, i32::MIN, i64::MIN);

/// The next ids of a month, in the order of their keys, by source and epoch; at most `limit`.
pub(crate) async fn ids_of_month(
    connection: &mut PgConnection,
    month: Date,
    after: IdPlace,
    limit: i64,
) -> Result<Vec<(i32, i32, Vec<i64>)>, sqlx::Error> {
    let statement = format!(
        "SELECT source_number, epoch, array_agg(execution_id)
         FROM (SELECT source_number, epoch, execution_id FROM {}
               WHERE (source_number, epoch, execution_id) > ($1, $2, $3)
               ORDER BY source_number, epoch, execution_id LIMIT $4) AS page
         GROUP BY source_number, epoch",
        table(month)
    );
    sqlx::query_as(AssertSqlSafe(statement))
        .bind(after.0)
        .bind(after.1)
        .bind(after.2)
        .bind(limit)
        .fetch_all(connection)
        .await
}

/// Locks a month against writes for the rest of the transaction, which waits for no lock longer than
/// `wait_ms`. Reading continues.
pub(crate) async fn hold_month(
    connection: &mut PgConnection,
    month: Date,
    wait_ms: u32,
) -> Result<(), sqlx::Error> {
    for statement in
        [format!("SET LOCAL lock_timeout = {wait_ms}"), format!("LOCK TABLE {} IN SHARE MODE", table(month))]
    {
        sqlx::query(AssertSqlSafe(statement)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// How many executions a month holds: all of them, and those without a tenant.
pub(crate) async fn count_month(
    connection: &mut PgConnection,
    month: Date,
) -> Result<(i64, i64), sqlx::Error> {
    // Two statements, because each counts in an index of its own.
    let all = format!("SELECT count(*) FROM {}", table(month));
    let unmapped = format!("SELECT count(*) FROM {} WHERE tenant_number IS NULL", table(month));
    let all = sqlx::query_scalar(AssertSqlSafe(all)).fetch_one(&mut *connection).await?;
    let unmapped = sqlx::query_scalar(AssertSqlSafe(unmapped)).fetch_one(connection).await?;
    Ok((all, unmapped))
}

/// Whether a month holds executions of a period that is not closed.
pub(crate) async fn holds_open_period(
    connection: &mut PgConnection,
    month: Date,
    end: Timestamp,
) -> Result<bool, sqlx::Error> {
    let statement = format!(
        "SELECT EXISTS (SELECT FROM periods WHERE closed_at IS NULL AND period_start < $1 AND EXISTS (
             SELECT FROM {} AS held
             WHERE held.tenant_number = periods.tenant_number AND held.period_start = periods.period_start))",
        table(month)
    );
    sqlx::query_scalar(AssertSqlSafe(statement)).bind(end.to_sqlx()).fetch_one(connection).await
}

/// Whether a month holds executions without a tenant that may be mapped to one at any moment.
pub(crate) async fn is_being_mapped(connection: &mut PgConnection, month: Date) -> Result<bool, sqlx::Error> {
    let statement = format!(
        "SELECT EXISTS (SELECT FROM {} AS held JOIN sources ON number = source_number
             WHERE held.tenant_number IS NULL AND (map_again OR mapping))",
        table(month)
    );
    sqlx::query_scalar(AssertSqlSafe(statement)).fetch_one(connection).await
}

/// Those of a month's executions that turned out to have stopped after it: crashes that were resolved later.
const STRAYS: &str = "FROM tenants JOIN LATERAL (SELECT * FROM {month} AS held
     WHERE held.tenant_number = tenants.number AND held.stopped_at >= $1) AS stray ON true";

/// The later months in which executions of this month turned out to have stopped.
pub(crate) async fn stray_months(
    connection: &mut PgConnection,
    month: Date,
    end: Timestamp,
) -> Result<Vec<Date>, sqlx::Error> {
    let strays = STRAYS.replace("{month}", &table(month));
    let statement =
        format!("SELECT DISTINCT date_trunc('month', stopped_at AT TIME ZONE 'UTC')::date {strays}");
    let months: Vec<jiff_sqlx::Date> =
        sqlx::query_scalar(AssertSqlSafe(statement)).bind(end.to_sqlx()).fetch_all(connection).await?;
    Ok(months.into_iter().map(jiff_sqlx::Date::to_jiff).collect())
}

/// Copies those to the months in which they stopped, whose figures by hour and day include them. The caller
/// has locked the month and drops it.
pub(crate) async fn move_strays(
    connection: &mut PgConnection,
    month: Date,
    end: Timestamp,
) -> Result<(), sqlx::Error> {
    let strays = STRAYS.replace("{month}", &table(month));
    let columns = "execution_id, stopped_at, recorded_at, started_at, period_start, source_number, epoch,
         workflow_number, tenant_number, status, mode, counted, late, voided, confirmed";
    let statement = format!(
        "INSERT INTO executions ({columns}, month)
         SELECT {columns}, date_trunc('month', stopped_at AT TIME ZONE 'UTC')::date {strays}"
    );
    sqlx::query(AssertSqlSafe(statement)).bind(end.to_sqlx()).execute(connection).await.map(drop)
}

/// Drops a month's table, and records that executions are kept only since its end.
pub(crate) async fn drop_month(
    connection: &mut PgConnection,
    month: Date,
    end: Timestamp,
) -> Result<(), sqlx::Error> {
    hold_months(connection).await?;
    sqlx::query("UPDATE executions_kept SET since = greatest(since, $1)")
        .bind(end.to_sqlx())
        .execute(&mut *connection)
        .await?;
    // Last, because from here on everybody who uses executions waits.
    sqlx::query(AssertSqlSafe(format!("DROP TABLE {}", table(month)))).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn a_tables_name_is_made_from_its_month_and_parsed_back() {
        for month in [date(2026, 1, 1), date(2025, 12, 1), date(987, 3, 1)] {
            assert_eq!(month_named(&table(month)), Some(month));
        }
        assert_eq!(table(date(2025, 9, 1)), "executions_2025_09");
        assert_eq!(month_named("executions_before"), None);
    }
}
