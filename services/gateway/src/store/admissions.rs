//! The ledger of admissions.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::TenantId;
use sqlx::{PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::{from_db, instant_from_db, instant_to_db, to_db};
use crate::{admission::Marks, admit::REPEAT_HORIZON, loops::Rate};

/// How much time one row of `tallies` stands for. The migration and the statements name it as a number.
const SLOT_SECONDS: i64 = 5;

/// A verdict as the ledger keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The caller's id of the run.
    pub id: String,
    /// When it was decided.
    pub admitted_at: Timestamp,
    /// Whether the run may start.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// Executions that stand against the limit, this one included where allowed.
    pub used: Option<u64>,
    /// Runs allowed and not yet counted, this one included where allowed.
    pub reserved: u64,
    /// The limit that held.
    pub limit: Option<u64>,
    /// The end of the period.
    pub resets_at: Timestamp,
    /// When the figures behind it were read.
    pub as_of: Option<Timestamp>,
    /// All sources were counted up to here.
    pub complete_until: Option<Timestamp>,
    /// The workflow, where the request names one.
    pub workflow: Option<String>,
    /// What starts the run, where the request says so.
    pub mode: Option<String>,
    /// What it would have been refused for, where the plan only watches.
    pub shadow_reason: Option<String>,
    /// When a refusal may end.
    pub retry_at: Option<Timestamp>,
}

/// The verdicts that were given for these ids.
pub async fn find(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    ids: &[String],
) -> Result<Vec<Entry>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT id, admitted_at, allowed, reason, used_units, reserved_units, limit_units, resets_at, as_of,
                complete_until, workflow, mode, shadow_reason, retry_at
         FROM admissions WHERE tenant = $1 AND id = ANY($2)",
    )
    .bind(tenant.as_str())
    .bind(ids)
    .fetch_all(executor)
    .await?;
    rows.iter().map(entry).collect()
}

fn entry(row: &PgRow) -> Result<Entry, sqlx::Error> {
    Ok(Entry {
        id: row.try_get("id")?,
        admitted_at: row.try_get::<jiff_sqlx::Timestamp, _>("admitted_at")?.to_jiff(),
        allowed: row.try_get("allowed")?,
        reason: row.try_get("reason")?,
        used: row.try_get::<Option<i64>, _>("used_units")?.map(from_db),
        reserved: from_db(row.try_get("reserved_units")?),
        limit: row.try_get::<Option<i64>, _>("limit_units")?.map(from_db),
        resets_at: row.try_get::<jiff_sqlx::Timestamp, _>("resets_at")?.to_jiff(),
        as_of: instant_from_db(row.try_get("as_of")?),
        complete_until: instant_from_db(row.try_get("complete_until")?),
        workflow: row.try_get("workflow")?,
        mode: row.try_get("mode")?,
        shadow_reason: row.try_get("shadow_reason")?,
        retry_at: instant_from_db(row.try_get("retry_at")?),
    })
}

/// Every tenant that ever asked.
pub async fn tenants(executor: impl PgExecutor<'_>) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT tenant FROM ledgers ORDER BY tenant").fetch_all(executor).await
}

/// Deletes at most `rows_max` verdicts given before `before`. Returns how many.
pub async fn purge(
    executor: impl PgExecutor<'_>,
    tenant: &str,
    before: Timestamp,
    rows_max: u64,
) -> Result<u64, sqlx::Error> {
    let outcome = sqlx::query(
        "DELETE FROM admissions WHERE tenant = $1 AND id IN
             (SELECT id FROM admissions WHERE tenant = $1 AND admitted_at < $2 ORDER BY admitted_at LIMIT $3)",
    )
    .bind(tenant)
    .bind(before.to_sqlx())
    .bind(to_db(rows_max))
    .execute(executor)
    .await?;
    Ok(outcome.rows_affected())
}

/// What the ledger holds of a tenant beside its rows.
#[derive(Debug, Clone, Copy)]
pub struct Ledger {
    /// What only the ledger knows of the limit.
    pub marks: Marks,
    /// Whether this replica has decided all that is remembered, or all since the instant.
    pub sole: Sole,
}

/// Since when no other replica has decided for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sole {
    /// Since the ledger began.
    Always,
    /// Since then.
    Since(Timestamp),
}

impl Sole {
    /// Whether that is so long that an id which memory does not know is new.
    pub fn is_long(self, now: Timestamp) -> bool {
        match self {
            Self::Always => true,
            Self::Since(instant) => now.duration_since(instant) >= REPEAT_HORIZON,
        }
    }
}

/// Locks the tenant's ledger until the transaction ends, and says that `replica` decides.
pub async fn open(
    connection: &mut PgConnection,
    tenant: &TenantId,
    replica: Uuid,
    now: Timestamp,
) -> Result<Ledger, sqlx::Error> {
    let row = sqlx::query(
        "INSERT INTO ledgers (tenant, decider) VALUES ($1, $2)
         ON CONFLICT (tenant) DO UPDATE SET decider = excluded.decider, decider_since =
             CASE WHEN ledgers.decider = excluded.decider THEN ledgers.decider_since ELSE $3 END
         RETURNING decider_since, reached_at, blind_since",
    )
    .bind(tenant.as_str())
    .bind(replica)
    .bind(now.to_sqlx())
    .fetch_one(connection)
    .await?;
    let since = instant_from_db(row.try_get("decider_since")?);
    let marks = Marks {
        reached_at: instant_from_db(row.try_get("reached_at")?),
        blind_since: instant_from_db(row.try_get("blind_since")?),
    };
    Ok(Ledger { marks, sole: since.map_or(Sole::Always, Sole::Since) })
}

/// Keeps the marks.
pub async fn mark(executor: impl PgExecutor<'_>, tenant: &TenantId, marks: Marks) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE ledgers SET reached_at = $2, blind_since = $3 WHERE tenant = $1")
        .bind(tenant.as_str())
        .bind(instant_to_db(marks.reached_at))
        .bind(instant_to_db(marks.blind_since))
        .execute(executor)
        .await?;
    Ok(())
}

/// Units that stand against the limit since `since`: runs written down, and units of leases that may have been spent
/// since. Both in one statement, so that a unit that is being written down is in one of them. Units that `without`
/// holds are left out.
pub async fn charged(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    since: Timestamp,
    without: Option<Uuid>,
) -> Result<u64, sqlx::Error> {
    let units: i64 = sqlx::query_scalar(
        "SELECT (coalesce((SELECT sum(units) FROM tallies WHERE tenant = $1 AND slot >= $2), 0)
               + coalesce((SELECT sum(outstanding) FROM leases
                           WHERE tenant = $1 AND expires_at >= $3 AND replica IS DISTINCT FROM $4), 0))::bigint",
    )
    .bind(tenant.as_str())
    .bind(slot(since))
    .bind(since.to_sqlx())
    .bind(without)
    .fetch_one(executor)
    .await?;
    Ok(from_db(units))
}

/// Runs that one workflow was allowed since `since`.
pub async fn admitted_of(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    workflow: &str,
    since: Timestamp,
) -> Result<u64, sqlx::Error> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM admissions WHERE tenant = $1 AND workflow = $2 AND admitted_at >= $3 AND reserved",
    )
    .bind(tenant.as_str())
    .bind(workflow)
    .bind(since.to_sqlx())
    .fetch_one(executor)
    .await?;
    Ok(from_db(count))
}

/// Says how many units the replica holds, or has spent and not written down.
pub async fn lease(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    replica: Uuid,
    outstanding: u64,
    expires_at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO leases (tenant, replica, outstanding, expires_at) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, workflow, replica) DO UPDATE
         SET outstanding = excluded.outstanding, expires_at = excluded.expires_at",
    )
    .bind(tenant.as_str())
    .bind(replica)
    .bind(to_db(outstanding))
    .bind(expires_at.to_sqlx())
    .execute(executor)
    .await?;
    Ok(())
}

/// Writes verdicts down. Those of ids that are there already change nothing, except that a run that was allowed stands
/// against the limit from then on. Each is tallied once.
pub async fn write_down(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    entries: &[Entry],
) -> Result<(), sqlx::Error> {
    fn column<T>(entries: &[Entry], of: impl Fn(&Entry) -> T) -> Vec<T> {
        entries.iter().map(of).collect()
    }
    let instants = |of: fn(&Entry) -> Option<Timestamp>| -> Vec<Option<jiff_sqlx::Timestamp>> {
        entries.iter().map(|entry| instant_to_db(of(entry))).collect()
    };
    sqlx::query(
        "WITH fresh AS (
             INSERT INTO admissions (tenant, id, admitted_at, reserved, allowed, reason, workflow, mode, used_units,
                 reserved_units, limit_units, resets_at, as_of, complete_until, shadow_reason, retry_at)
             SELECT $1, * FROM unnest($2::text[], $3::timestamptz[], $4::boolean[], $5::boolean[], $6::text[],
                 $7::text[], $8::text[], $9::bigint[], $10::bigint[], $11::bigint[], $12::timestamptz[],
                 $13::timestamptz[], $14::timestamptz[], $15::text[], $16::timestamptz[])
             ON CONFLICT (tenant, id) DO UPDATE SET reserved = true, admitted_at = excluded.admitted_at
             WHERE excluded.reserved AND NOT admissions.reserved
             RETURNING admitted_at, reserved
         )
         INSERT INTO tallies (tenant, slot, units)
         SELECT $1, floor(extract(epoch FROM admitted_at) / 5)::bigint, count(*) FROM fresh WHERE reserved GROUP BY 2
         ON CONFLICT (tenant, slot) DO UPDATE SET units = tallies.units + excluded.units",
    )
    .bind(tenant.as_str())
    .bind(column(entries, |entry| entry.id.clone()))
    .bind(instants(|entry| Some(entry.admitted_at)))
    .bind(column(entries, |entry| entry.allowed))
    .bind(column(entries, |entry| entry.allowed))
    .bind(column(entries, |entry| entry.reason.clone()))
    .bind(column(entries, |entry| entry.workflow.clone()))
    .bind(column(entries, |entry| entry.mode.clone()))
    .bind(column(entries, |entry| entry.used.map(to_db)))
    .bind(column(entries, |entry| to_db(entry.reserved)))
    .bind(column(entries, |entry| entry.limit.map(to_db)))
    .bind(instants(|entry| Some(entry.resets_at)))
    .bind(instants(|entry| entry.as_of))
    .bind(instants(|entry| entry.complete_until))
    .bind(column(entries, |entry| entry.shadow_reason.clone()))
    .bind(instants(|entry| entry.retry_at))
    .execute(executor)
    .await?;
    Ok(())
}

/// The state of a tenant's caps: (workflow or empty, window, arrival).
pub async fn caps(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
) -> Result<Vec<(String, String, u64)>, sqlx::Error> {
    let rows: Vec<(String, String, i64)> =
        sqlx::query_as("SELECT workflow, kind, arrival_ns FROM caps WHERE tenant = $1")
            .bind(tenant.as_str())
            .fetch_all(executor)
            .await?;
    Ok(rows.into_iter().map(|(workflow, kind, arrival)| (workflow, kind, from_db(arrival))).collect())
}

/// Keeps the state of a cap.
pub async fn keep_cap(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    workflow: &str,
    kind: &str,
    arrival_ns: u64,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO caps (tenant, workflow, kind, arrival_ns) VALUES ($1, $2, $3, $4)
         ON CONFLICT (tenant, workflow, kind) DO UPDATE SET arrival_ns = excluded.arrival_ns",
    )
    .bind(tenant.as_str())
    .bind(workflow)
    .bind(kind)
    .bind(to_db(arrival_ns))
    .execute(executor)
    .await?;
    Ok(())
}

/// The history of a workflow's rate, locked.
pub async fn rate(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    workflow: &str,
) -> Result<Rate, sqlx::Error> {
    let row = sqlx::query(
        "SELECT minute, asked, usual, looping_since FROM workflows WHERE tenant = $1 AND workflow = $2 FOR UPDATE",
    )
    .bind(tenant.as_str())
    .bind(workflow)
    .fetch_optional(executor)
    .await?;
    let Some(row) = row else { return Ok(Rate::default()) };
    Ok(Rate {
        minute: row.try_get("minute")?,
        asked: from_db(row.try_get("asked")?),
        usual: row.try_get("usual")?,
        looping_since: instant_from_db(row.try_get("looping_since")?),
    })
}

/// Keeps the history of a workflow's rate.
pub async fn keep_rate(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    workflow: &str,
    rate: &Rate,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO workflows (tenant, workflow, minute, asked, usual, looping_since) VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant, workflow) DO UPDATE SET minute = excluded.minute, asked = excluded.asked,
             usual = excluded.usual, looping_since = excluded.looping_since",
    )
    .bind(tenant.as_str())
    .bind(workflow)
    .bind(rate.minute)
    .bind(to_db(rate.asked))
    .bind(rate.usual)
    .bind(instant_to_db(rate.looping_since))
    .execute(executor)
    .await?;
    Ok(())
}

/// The catalog's version, and which of these tenants another replica decides for.
pub async fn contact(
    pool: &PgPool,
    replica: Uuid,
    tenants: &[String],
) -> Result<(i64, Vec<String>), sqlx::Error> {
    let version = sqlx::query_scalar("SELECT version FROM catalog_version").fetch_one(pool).await?;
    let shared = sqlx::query_scalar("SELECT tenant FROM ledgers WHERE tenant = ANY($1) AND decider <> $2")
        .bind(tenants)
        .bind(replica)
        .fetch_all(pool)
        .await?;
    Ok((version, shared))
}

/// What would have been refused since `since`: (reason, workflow, runs), the most first, at most `rows_max`.
pub async fn shadowed(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    since: Timestamp,
    rows_max: u64,
) -> Result<Vec<(String, Option<String>, u64)>, sqlx::Error> {
    let rows: Vec<(String, Option<String>, i64)> = sqlx::query_as(
        "SELECT shadow_reason, workflow, count(*) FROM admissions
         WHERE tenant = $1 AND admitted_at >= $2 AND shadow_reason IS NOT NULL
         GROUP BY 1, 2 ORDER BY 3 DESC, 1, 2 LIMIT $3",
    )
    .bind(tenant.as_str())
    .bind(since.to_sqlx())
    .bind(to_db(rows_max))
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|(reason, workflow, runs)| (reason, workflow, from_db(runs))).collect())
}

/// Deletes tallies, and leases of replicas that are gone, from before `before`.
pub async fn purge_leases(pool: &PgPool, tenant: &str, before: Timestamp) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM tallies WHERE tenant = $1 AND slot < $2")
        .bind(tenant)
        .bind(slot(before))
        .execute(pool)
        .await?;
    sqlx::query("DELETE FROM leases WHERE tenant = $1 AND expires_at < $2")
        .bind(tenant)
        .bind(before.to_sqlx())
        .execute(pool)
        .await?;
    Ok(())
}

/// The row of `tallies` that holds the instant.
fn slot(instant: Timestamp) -> i64 {
    instant.as_second().div_euclid(SLOT_SECONDS)
}
