//! Writes verdicts into the ledger.

use jiff::Timestamp;
use metering::{Mode, TenantId, WorkflowId};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::{instant_to_db, to_db};
use crate::{admission::Reason, admit::Verdict};

/// A verdict and the run that it is about.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The caller's id of the run.
    pub id: String,
    /// The workflow, where the request names one.
    pub workflow: Option<WorkflowId>,
    /// What starts the run, where the request says so.
    pub mode: Option<Mode>,
    /// When it was decided.
    pub admitted_at: Timestamp,
    /// The verdict.
    pub verdict: Verdict,
}

/// Verdicts of one tenant that were given from units in hand.
#[derive(Debug)]
pub struct Spent {
    /// Whose runs they are.
    pub tenant: TenantId,
    /// The verdicts.
    pub entries: Vec<Entry>,
    /// Units that the replica still holds once these are written down.
    pub outstanding: u64,
}

/// Writes verdicts of one tenant down. Those of ids that are there already change nothing, except that a run that was
/// allowed stands against the limit from then on. Each is tallied once.
pub async fn write_down(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    entries: &[Entry],
) -> Result<(), sqlx::Error> {
    let rows: Vec<_> = entries.iter().map(|entry| (tenant.as_str(), entry)).collect();
    write(executor, rows, &[], Uuid::nil()).await
}

/// The same for many tenants, and takes what is written from what `replica` has outstanding: in one statement, so that
/// whoever reads both sees each unit in one of them. In a transaction, because one that is given up is never committed
/// later, when the desk has written another figure.
pub async fn write_down_all(pool: &PgPool, replica: Uuid, spent: &[Spent]) -> Result<(), sqlx::Error> {
    let rows = spent
        .iter()
        .flat_map(|part| part.entries.iter().map(|entry| (part.tenant.as_str(), entry)))
        .collect();
    let leases: Vec<_> = spent.iter().map(|part| (part.tenant.as_str(), part.outstanding)).collect();
    let mut transaction = pool.begin().await?;
    write(&mut *transaction, rows, &leases, replica).await?;
    transaction.commit().await
}

async fn write(
    executor: impl PgExecutor<'_>,
    mut rows: Vec<(&str, &Entry)>,
    leases: &[(&str, u64)],
    replica: Uuid,
) -> Result<(), sqlx::Error> {
    // Whoever writes locks in the same order.
    rows.sort_unstable_by_key(|(tenant, entry)| (*tenant, entry.id.as_str()));
    let text = |of: for<'a> fn(&'a Entry) -> Option<&'a str>| -> Vec<Option<&str>> {
        rows.iter().map(|(_, entry)| of(entry)).collect()
    };
    let figures = |of: fn(&Verdict) -> Option<u64>| -> Vec<Option<i64>> {
        rows.iter().map(|(_, entry)| of(&entry.verdict).map(to_db)).collect()
    };
    let instants = |of: fn(&Entry) -> Option<Timestamp>| -> Vec<Option<jiff_sqlx::Timestamp>> {
        rows.iter().map(|(_, entry)| instant_to_db(of(entry))).collect()
    };
    let allowed: Vec<bool> = rows.iter().map(|(_, entry)| entry.verdict.allowed).collect();
    sqlx::query(
        "WITH fresh AS (
             INSERT INTO admissions (tenant, id, admitted_at, allowed, reserved, reason, workflow, mode, used_units,
                 reserved_units, limit_units, resets_at, as_of, complete_until, shadow_reason, retry_at)
             SELECT tenant, id, admitted_at, allowed, allowed, reason, workflow, mode, used_units,
                 reserved_units, limit_units, resets_at, as_of, complete_until, shadow_reason, retry_at
             FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::boolean[], $5::text[], $6::text[], $7::text[],
                 $8::bigint[], $9::bigint[], $10::bigint[], $11::timestamptz[], $12::timestamptz[],
                 $13::timestamptz[], $14::text[], $15::timestamptz[])
                 AS given (tenant, id, admitted_at, allowed, reason, workflow, mode, used_units, reserved_units,
                     limit_units, resets_at, as_of, complete_until, shadow_reason, retry_at)
             ON CONFLICT (tenant, id) DO UPDATE SET reserved = true, admitted_at = excluded.admitted_at
             WHERE excluded.reserved AND NOT admissions.reserved
             RETURNING tenant, admitted_at, reserved
         ), tallied AS (
             INSERT INTO tallies (tenant, slot, units)
             SELECT tenant, floor(extract(epoch FROM admitted_at) / 5)::bigint, count(*)
             FROM fresh WHERE reserved GROUP BY 1, 2 ORDER BY 1, 2
             ON CONFLICT (tenant, slot) DO UPDATE SET units = tallies.units + excluded.units
         )
         UPDATE leases SET outstanding = held.units
         FROM unnest($16::text[], $17::bigint[]) AS held (tenant, units)
         WHERE leases.tenant = held.tenant AND leases.workflow = '' AND leases.replica = $18",
    )
    .bind(rows.iter().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(text(|entry| Some(&entry.id)))
    .bind(instants(|entry| Some(entry.admitted_at)))
    .bind(&allowed)
    .bind(text(|entry| Some(entry.verdict.reason.as_str())))
    .bind(text(|entry| entry.workflow.as_ref().map(WorkflowId::as_str)))
    .bind(text(|entry| entry.mode.map(Mode::as_str)))
    .bind(figures(|verdict| verdict.used))
    .bind(figures(|verdict| Some(verdict.reserved)))
    .bind(figures(|verdict| verdict.limit))
    .bind(instants(|entry| Some(entry.verdict.resets_at)))
    .bind(instants(|entry| entry.verdict.as_of))
    .bind(instants(|entry| entry.verdict.complete_until))
    .bind(text(|entry| entry.verdict.shadow.map(Reason::as_str)))
    .bind(instants(|entry| entry.verdict.retry_at))
    .bind(leases.iter().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(leases.iter().map(|(_, units)| to_db(*units)).collect::<Vec<_>>())
    .bind(replica)
    .execute(executor)
    .await?;
    Ok(())
}
