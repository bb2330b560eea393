//! The ledger of admissions.

use std::collections::HashMap;

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::TenantId;
use sqlx::{PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};
use uuid::Uuid;

use super::{from_db, instant_from_db, instant_to_db, to_db};
use crate::{
    admission::{
        decision::LimitState,
        loop_detection::Rate,
        run_key::RunKey,
        tallies::{Tallies, slot},
        verdict::REPEAT_HORIZON,
    },
    store::sums::{self, Span},
};

/// A verdict as stored in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredVerdict {
    /// The run's key.
    pub key: RunKey,
    /// Whether the run may start.
    pub allowed: bool,
    /// Why.
    pub reason: String,
    /// Executions that count against the limit, this one included if allowed.
    pub used: Option<u64>,
    /// Runs allowed and not yet counted, this one included if allowed.
    pub reserved: u64,
    /// The limit at the decision.
    pub limit: Option<u64>,
    /// The end of the period.
    pub resets_at: Timestamp,
    /// When the figures behind it were read.
    pub as_of: Option<Timestamp>,
    /// All sources were counted up to here.
    pub complete_until: Option<Timestamp>,
    /// Why it would have been refused, if the plan is in shadow mode.
    pub shadow_reason: Option<String>,
    /// When a refusal may end.
    pub retry_at: Option<Timestamp>,
    /// When the run's unit was taken.
    pub admitted_at: Option<Timestamp>,
}

/// The verdicts on these runs, for those that have one.
pub async fn find(executor: impl PgExecutor<'_>, keys: &[RunKey]) -> Result<Vec<StoredVerdict>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT key, allowed, reason, used_units, reserved_units, limit_units, resets_at, as_of, complete_until,
                shadow_reason, retry_at, CASE WHEN reserved THEN admitted_at END AS admitted_at
         FROM find_admissions($1)",
    )
    .bind(keys.iter().map(|key| key.as_uuid()).collect::<Vec<_>>())
    .fetch_all(executor)
    .await?;
    rows.iter().map(kept).collect()
}

fn kept(row: &PgRow) -> Result<StoredVerdict, sqlx::Error> {
    Ok(StoredVerdict {
        key: RunKey::from_uuid(row.try_get("key")?),
        allowed: row.try_get("allowed")?,
        reason: row.try_get("reason")?,
        used: row.try_get::<Option<i64>, _>("used_units")?.map(from_db),
        reserved: from_db(row.try_get("reserved_units")?),
        limit: row.try_get::<Option<i64>, _>("limit_units")?.map(from_db),
        resets_at: row.try_get::<jiff_sqlx::Timestamp, _>("resets_at")?.to_jiff(),
        as_of: instant_from_db(row.try_get("as_of")?),
        complete_until: instant_from_db(row.try_get("complete_until")?),
        shadow_reason: row.try_get("shadow_reason")?,
        retry_at: instant_from_db(row.try_get("retry_at")?),
        admitted_at: instant_from_db(row.try_get("admitted_at")?),
    })
}

/// A tenant's row in the ledger.
#[derive(Debug, Clone, Copy)]
pub struct Ledger {
    /// What only the ledger knows about the limit.
    pub marks: LimitState,
    /// Since when this replica has been the only one to decide.
    pub sole: Exclusivity,
}

/// Since when no other replica has decided for a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exclusivity {
    /// Since the ledger began.
    Always,
    /// Since this instant.
    Since(Timestamp),
}

impl Exclusivity {
    /// Whether that is long enough that an id which memory does not know must be new.
    pub fn is_long(self, now: Timestamp) -> bool {
        match self {
            Self::Always => true,
            Self::Since(instant) => now.duration_since(instant) >= REPEAT_HORIZON,
        }
    }
}

/// Locks the tenant's ledger until the transaction ends, and records that `replica` decides.
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
    let marks = LimitState {
        reached_at: instant_from_db(row.try_get("reached_at")?),
        blind_since: instant_from_db(row.try_get("blind_since")?),
    };
    Ok(Ledger { marks, sole: since.map_or(Exclusivity::Always, Exclusivity::Since) })
}

/// Stores the marks.
pub async fn mark(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    marks: LimitState,
) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE ledgers SET reached_at = $2, blind_since = $3 WHERE tenant = $1")
        .bind(tenant.as_str())
        .bind(instant_to_db(marks.reached_at))
        .bind(instant_to_db(marks.blind_since))
        .execute(executor)
        .await?;
    Ok(())
}

/// Units in the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Charged {
    /// Runs allowed, and units that may have been spent.
    pub units: u64,
    /// Of the runs, those that are counted.
    pub settled: u64,
    /// Units from the earlier instant to `since` that are not known to be counted.
    pub unsettled_between: u64,
}

/// Units that count against the limit since `since`: tallied runs, and leased units that may have been spent
/// since. Both in one statement, so that a unit that is being tallied is in one of them. Units that the
/// replica `without` holds are left out. With `earlier`, also units from then to `since` that are not known
/// to be counted.
pub async fn charged(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    (earlier, since): (Option<Timestamp>, Timestamp),
    without: Option<Uuid>,
    settled: &[(i64, u64)],
) -> Result<Charged, sqlx::Error> {
    let (slots, executions): (Vec<_>, Vec<_>) =
        settled.iter().map(|(slot, executions)| (*slot, to_db(*executions))).unzip();
    let earlier = earlier.unwrap_or(since);
    let (units, settled, between): (i64, i64, i64) = sqlx::query_as(
        "SELECT (coalesce((SELECT units FROM tally_sums
                           WHERE tenant = $1 AND workflow = '' AND span = $5 AND since_slot = $2),
                          (SELECT sum(units) FROM tallies WHERE tenant = $1 AND slot >= $2), 0)
               + coalesce((SELECT sum(outstanding) FROM leases
                           WHERE tenant = $1 AND expires_at >= $3 AND replica IS DISTINCT FROM $4), 0))::bigint,
             (SELECT coalesce(sum(least(executions, coalesce(
                  (SELECT sum(units) FROM tallies WHERE tenant = $1 AND tallies.slot = counted.slot), 0))), 0)
              FROM unnest($6::bigint[], $7::bigint[]) AS counted (slot, executions) WHERE slot >= $2)::bigint,
             ((SELECT coalesce(sum(greatest(units - coalesce(executions, 0), 0)), 0)
               FROM (SELECT slot, sum(units) AS units FROM tallies
                     WHERE tenant = $1 AND slot >= $8 AND slot < $2 GROUP BY slot) AS tallied
               LEFT JOIN unnest($6::bigint[], $7::bigint[]) AS counted (slot, executions) USING (slot))
              + coalesce((SELECT sum(outstanding) FROM leases
                          WHERE tenant = $1 AND expires_at >= $9 AND expires_at < $3
                            AND replica IS DISTINCT FROM $4), 0))::bigint",
    )
    .bind(tenant.as_str())
    .bind(slot(since))
    .bind(since.to_sqlx())
    .bind(without)
    .bind(Span::Since.as_str())
    .bind(slots)
    .bind(executions)
    .bind(slot(earlier))
    .bind(earlier.to_sqlx())
    .fetch_one(executor)
    .await?;
    let unsettled_between = from_db(between);
    Ok(Charged { units: from_db(units), settled: from_db(settled), unsettled_between })
}

/// Whether a run that is not known to be counted was tallied as allowed from `since` to `until`, including
/// the whole rows of both instants.
pub async fn any_between(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    since: Timestamp,
    until: Timestamp,
    settled: &[(i64, u64)],
) -> Result<bool, sqlx::Error> {
    let (slots, executions): (Vec<_>, Vec<_>) =
        settled.iter().map(|(slot, executions)| (*slot, to_db(*executions))).unzip();
    sqlx::query_scalar(
        "SELECT EXISTS (
             SELECT FROM (SELECT slot, sum(units) AS units FROM tallies
                          WHERE tenant = $1 AND slot BETWEEN $2 AND $3 GROUP BY slot) AS tallied
             LEFT JOIN unnest($4::bigint[], $5::bigint[]) AS counted (slot, executions) USING (slot)
             WHERE units > coalesce(executions, 0))",
    )
    .bind(tenant.as_str())
    .bind(slot(since))
    .bind(slot(until))
    .bind(slots)
    .bind(executions)
    .fetch_one(executor)
    .await
}

/// Writes the replica's own tally rows with absolute figures. In the transaction that records its outstanding
/// units, so that a unit is in one of the two.
pub async fn tally(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    replica: Uuid,
    tallies: &Tallies,
) -> Result<(), sqlx::Error> {
    let (slots, units): (Vec<_>, Vec<_>) =
        tallies.rows().map(|(slot, tally)| (slot, to_db(tally.units))).unzip();
    let by_workflow = tallies.rows().flat_map(|(slot, tally)| {
        tally.workflows.iter().map(move |(workflow, units)| (workflow.as_str(), slot, to_db(*units)))
    });
    let mut by_workflow: Vec<_> = by_workflow.collect();
    // All writers lock in the same order.
    by_workflow.sort_unstable();
    sqlx::query(
        "WITH tallied AS (
             INSERT INTO tallies (tenant, slot, replica, units)
             SELECT $1, slot, $2, units FROM unnest($3::bigint[], $4::bigint[]) AS own (slot, units)
             ON CONFLICT (tenant, slot, replica) DO UPDATE SET units = excluded.units
         )
         INSERT INTO workflow_tallies (tenant, workflow, slot, replica, units)
         SELECT $1, workflow, slot, $2, units
         FROM unnest($5::text[], $6::bigint[], $7::bigint[]) AS own (workflow, slot, units)
         ON CONFLICT (tenant, workflow, slot, replica) DO UPDATE SET units = excluded.units",
    )
    .bind(tenant.as_str())
    .bind(replica)
    .bind(slots)
    .bind(units)
    .bind(by_workflow.iter().map(|(workflow, ..)| *workflow).collect::<Vec<_>>())
    .bind(by_workflow.iter().map(|(_, slot, _)| *slot).collect::<Vec<_>>())
    .bind(by_workflow.iter().map(|(.., units)| *units).collect::<Vec<_>>())
    .execute(executor)
    .await?;
    Ok(())
}

/// The sum of all units that were tallied since each tenant's instant.
pub async fn tallied_since(
    executor: impl PgExecutor<'_>,
    counted_until: &[(&str, Timestamp)],
) -> Result<u64, sqlx::Error> {
    let slots = counted_until.iter().map(|(_, until)| slot(*until));
    let units: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(units), 0)::bigint
         FROM tallies JOIN unnest($1::text[], $2::bigint[]) AS counted (tenant, until) USING (tenant)
         WHERE slot > until",
    )
    .bind(counted_until.iter().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(slots.collect::<Vec<_>>())
    .fetch_one(executor)
    .await?;
    Ok(u64::try_from(units).unwrap_or_default())
}

/// Runs of each of these workflows that were allowed in the period, and those of them since `since`. Units
/// that another replica has spent and not tallied yet are in neither. The caller holds the lock of the
/// tenant's ledger.
pub async fn admitted_of(
    connection: &mut PgConnection,
    tenant: &TenantId,
    workflows: &[&str],
    period_start: Timestamp,
    since: Timestamp,
) -> Result<HashMap<String, (u64, u64)>, sqlx::Error> {
    let spans = [(Span::Period, period_start), (Span::Since, since)];
    sums::keep_of_workflows(connection, tenant, workflows, spans).await?;
    let rows: Vec<(String, i64, i64)> = sqlx::query_as(
        "SELECT workflow, coalesce(sum(units) FILTER (WHERE span = $3 AND since_slot = $4), 0)::bigint,
                coalesce(sum(units) FILTER (WHERE span = $5 AND since_slot = $6), 0)::bigint
         FROM tally_sums WHERE tenant = $1 AND workflow = ANY($2) GROUP BY 1",
    )
    .bind(tenant.as_str())
    .bind(workflows)
    .bind(Span::Period.as_str())
    .bind(slot(period_start))
    .bind(Span::Since.as_str())
    .bind(slot(since))
    .fetch_all(connection)
    .await?;
    Ok(rows
        .into_iter()
        .map(|(workflow, period, since)| (workflow, (from_db(period), from_db(since))))
        .collect())
}

/// Tallied runs of the workflow that were allowed since the instant, which must be the start of a tally row.
pub async fn started_since(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    workflow: &str,
    since: Timestamp,
) -> Result<u64, sqlx::Error> {
    let units: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(units), 0)::bigint FROM workflow_tallies
         WHERE tenant = $1 AND workflow = $2 AND slot >= $3",
    )
    .bind(tenant.as_str())
    .bind(workflow)
    .bind(slot(since))
    .fetch_one(executor)
    .await?;
    Ok(from_db(units))
}

/// Reads what only the ledger knows about a tenant's limit. `locks` prevents changes until the transaction
/// ends.
pub async fn marks(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    locks: bool,
) -> Result<LimitState, sqlx::Error> {
    let sql = match locks {
        true => "SELECT reached_at, blind_since FROM ledgers WHERE tenant = $1 FOR UPDATE",
        false => "SELECT reached_at, blind_since FROM ledgers WHERE tenant = $1",
    };
    let Some(row) = sqlx::query(sql).bind(tenant.as_str()).fetch_optional(executor).await? else {
        return Ok(LimitState::default());
    };
    Ok(LimitState {
        reached_at: instant_from_db(row.try_get("reached_at")?),
        blind_since: instant_from_db(row.try_get("blind_since")?),
    })
}

/// Records how many units the replica holds, or has spent and not tallied.
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

/// The state of the tenant's own caps and of these workflows' caps: (workflow or empty, window, arrival).
pub async fn caps(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    workflows: &[&str],
) -> Result<Vec<(String, String, u64)>, sqlx::Error> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT workflow, kind, arrival_ns FROM caps WHERE tenant = $1 AND workflow = ANY($2 || ARRAY[''])",
    )
    .bind(tenant.as_str())
    .bind(workflows)
    .fetch_all(executor)
    .await?;
    Ok(rows.into_iter().map(|(workflow, kind, arrival)| (workflow, kind, from_db(arrival))).collect())
}

/// Stores the states of caps: (workflow or empty, window, arrival).
pub async fn keep_caps(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    caps: &[(&str, &str, u64)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO caps (tenant, workflow, kind, arrival_ns)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::bigint[])
         ON CONFLICT (tenant, workflow, kind) DO UPDATE SET arrival_ns = excluded.arrival_ns
         WHERE caps.arrival_ns <> excluded.arrival_ns",
    )
    .bind(tenant.as_str())
    .bind(caps.iter().map(|(workflow, ..)| *workflow).collect::<Vec<_>>())
    .bind(caps.iter().map(|(_, kind, _)| *kind).collect::<Vec<_>>())
    .bind(caps.iter().map(|(.., arrival_ns)| to_db(*arrival_ns)).collect::<Vec<_>>())
    .execute(executor)
    .await?;
    Ok(())
}

/// The rates of these workflows, for those that have one. The caller holds the lock of the tenant's ledger.
pub async fn rates(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    workflows: &[&str],
) -> Result<Vec<(String, Rate)>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT workflow, minute, asked, usual, looping_since FROM workflows
         WHERE tenant = $1 AND workflow = ANY($2)",
    )
    .bind(tenant.as_str())
    .bind(workflows)
    .fetch_all(executor)
    .await?;
    let rate = |row: &PgRow| {
        let rate = Rate {
            minute: row.try_get("minute")?,
            asked: from_db(row.try_get("asked")?),
            usual: row.try_get("usual")?,
            looping_since: instant_from_db(row.try_get("looping_since")?),
        };
        Ok((row.try_get("workflow")?, rate))
    };
    rows.iter().map(rate).collect()
}

/// Stores the rates of workflows.
pub async fn keep_rates(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    rates: &[(&str, Rate)],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO workflows (tenant, workflow, minute, asked, usual, looping_since)
         SELECT $1, * FROM unnest($2::text[], $3::bigint[], $4::bigint[], $5::double precision[], $6::timestamptz[])
         ON CONFLICT (tenant, workflow) DO UPDATE SET minute = excluded.minute, asked = excluded.asked,
             usual = excluded.usual, looping_since = excluded.looping_since",
    )
    .bind(tenant.as_str())
    .bind(rates.iter().map(|(workflow, _)| *workflow).collect::<Vec<_>>())
    .bind(rates.iter().map(|(_, rate)| rate.minute).collect::<Vec<_>>())
    .bind(rates.iter().map(|(_, rate)| to_db(rate.asked)).collect::<Vec<_>>())
    .bind(rates.iter().map(|(_, rate)| rate.usual).collect::<Vec<_>>())
    .bind(rates.iter().map(|(_, rate)| instant_to_db(rate.looping_since)).collect::<Vec<_>>())
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

/// Runs that would have been refused since `since`: (reason, workflow, runs), the most first, at most
/// `rows_max`.
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
