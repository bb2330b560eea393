//! The database. Each message is one statement, which recognises repeats by the keys of docs/topics.md.

use proto::v1::{PeriodEvent, ThresholdCrossed, Totals, UsageCounted, period_event::Event};
use rusqlite::{Connection, Result, Row, params};

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS usage (
    tenant TEXT PRIMARY KEY, revision INTEGER, plan TEXT, starts TEXT, ends TEXT, zone TEXT,
    counted INTEGER, adjusted INTEGER, voided INTEGER, quota INTEGER, success INTEGER, executions INTEGER);
CREATE TABLE IF NOT EXISTS crossings (
    id TEXT PRIMARY KEY, tenant TEXT, percent INTEGER, used INTEGER, quota INTEGER, crossed_at TEXT);
CREATE TABLE IF NOT EXISTS periods (
    tenant TEXT, starts TEXT, ends TEXT, zone TEXT, revision INTEGER, plan TEXT,
    counted INTEGER, adjusted INTEGER, voided INTEGER, uncounted INTEGER, late INTEGER,
    success INTEGER, executions INTEGER, closed_at TEXT, incomplete TEXT, PRIMARY KEY (tenant, starts));
";

pub struct Store(Connection);

impl Store {
    pub fn open(path: &str) -> Result<Self> {
        let connection = Connection::open(path)?;
        // Several connections, one of which writes while the others wait for it.
        connection.pragma_update(None, "journal_mode", "wal")?;
        connection.execute_batch(SCHEMA)?;
        Ok(Self(connection))
    }

    /// The whole current period of a tenant: a larger revision replaces what is stored, any other is a repeat.
    pub fn usage(&mut self, usage: &UsageCounted) -> Result<()> {
        let totals = usage.totals.unwrap_or_default();
        let period = usage.period.unwrap_or_default();
        self.0.execute(
            "INSERT INTO usage VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (tenant) DO UPDATE SET revision = excluded.revision, plan = excluded.plan,
                 starts = excluded.starts, ends = excluded.ends, zone = excluded.zone, counted = excluded.counted,
                 adjusted = excluded.adjusted, voided = excluded.voided, quota = excluded.quota,
                 success = excluded.success, executions = excluded.executions
             WHERE excluded.revision > usage.revision",
            params![
                usage.tenant_id,
                integer(usage.revision),
                usage.plan_id,
                instant(period.start),
                instant(period.end),
                usage.time_zone,
                integer(totals.counted),
                totals.adjusted,
                integer(totals.voided),
                usage.limit.map(integer),
                integer(totals.success),
                executions(&totals),
            ],
        )?;
        Ok(())
    }

    /// Act once per id: here, one line. An action that needs the database belongs to the same transaction.
    pub fn crossing(&mut self, crossing: &ThresholdCrossed) -> Result<()> {
        let transaction = self.0.transaction()?;
        let is_new = transaction.execute(
            "INSERT INTO crossings VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
            params![
                crossing.crossing_id,
                crossing.tenant_id,
                crossing.threshold_percent,
                integer(crossing.used),
                integer(crossing.limit),
                instant(crossing.crossed_at),
            ],
        )?;
        transaction.commit()?;
        if is_new == 1 {
            println!("{} has used {} % of its limit", crossing.tenant_id, crossing.threshold_percent);
        }
        Ok(())
    }

    /// The final figures of a period. Late usage replaces them, never adds to them.
    pub fn period(&mut self, period: &PeriodEvent) -> Result<()> {
        match &period.event {
            Some(Event::Closed(closed)) => {
                let totals = closed.totals.unwrap_or_default();
                let period = closed.period.unwrap_or_default();
                self.0.execute(
                    "INSERT INTO periods VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
                     ON CONFLICT DO NOTHING",
                    params![
                        closed.tenant_id,
                        instant(period.start),
                        instant(period.end),
                        closed.time_zone,
                        integer(closed.revision),
                        closed.plan_id,
                        integer(totals.counted),
                        totals.adjusted,
                        integer(totals.voided),
                        integer(totals.uncounted),
                        integer(totals.late),
                        integer(totals.success),
                        executions(&totals),
                        instant(closed.closed_at),
                        closed.incomplete_sources.join(", "),
                    ],
                )?;
            }
            Some(Event::Late(late)) => {
                let totals = late.totals.unwrap_or_default();
                self.0.execute(
                    "UPDATE periods SET revision = ?3, counted = ?4, adjusted = ?5, voided = ?6, uncounted = ?7,
                         late = ?8, success = ?9, executions = ?10
                     WHERE tenant = ?1 AND starts = ?2 AND revision < ?3",
                    params![
                        late.tenant_id,
                        instant(late.period.unwrap_or_default().start),
                        integer(late.revision),
                        integer(totals.counted),
                        totals.adjusted,
                        integer(totals.voided),
                        integer(totals.uncounted),
                        integer(totals.late),
                        integer(totals.success),
                        executions(&totals),
                    ],
                )?;
            }
            // A period has begun, or an event of a newer kind.
            Some(Event::Opened(_)) | None => {}
        }
        Ok(())
    }

    /// The rows of a query.
    pub fn rows<T>(&self, query: &str, row: fn(&Row<'_>) -> Result<T>) -> Result<Vec<T>> {
        self.0.prepare(query)?.query_map([], row)?.collect()
    }
}

/// Counted executions; `counted` also has what was adjusted by hand.
fn executions(totals: &Totals) -> i64 {
    integer(totals.success + totals.error + totals.crashed + totals.canceled)
}

/// SQLite's integers are signed.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn instant(wire: Option<prost_types::Timestamp>) -> Option<String> {
    proto::instant(wire.as_ref(), "instant").ok().flatten().map(|instant| instant.to_string())
}
