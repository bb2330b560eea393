//! Writes verdicts into the ledger.

use std::collections::BTreeMap;

use chassis::CopyBuffer;
use jiff::Timestamp;
use metering::{Mode, TenantId, WorkflowId};
use sqlx::{PgConnection, PgExecutor, PgPool};
use uuid::Uuid;

use super::{admissions::slot, instant_to_db, to_db};
use crate::{admission::Reason, admit::Verdict};

/// Of a row in a copy, about, with the lengths of its fields.
const ROW_BYTES: usize = 240;

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
    let mut rows: Vec<_> = entries.iter().map(|entry| (tenant.as_str(), entry)).collect();
    rows.sort_unstable_by_key(|(_, entry)| entry.id.as_str());
    write(executor, &rows, &[], Uuid::nil()).await
}

/// Writes down what was spent, of many tenants, and takes it from what `replica` has outstanding: in one transaction, so
/// that whoever reads both sees each unit in one of them. One that is given up is never committed later, when the desk
/// has written another figure.
pub async fn write_down_all(pool: &PgPool, replica: Uuid, spent: &[Spent]) -> Result<(), sqlx::Error> {
    let mut rows: Vec<_> = spent
        .iter()
        .flat_map(|part| part.entries.iter().map(|entry| (part.tenant.as_str(), entry)))
        .collect();
    // Whoever writes locks in the same order.
    rows.sort_unstable_by_key(|(tenant, entry)| (*tenant, entry.id.as_str()));
    match copy_all(pool, replica, &rows, spent).await {
        Err(error) if is_known_id(&error) => {}
        outcome => return outcome,
    }
    // Rare: an id was decided by another replica as well, or is written again after a commit that was not heard of.
    let leases = outstanding(spent);
    let mut transaction = pool.begin().await?;
    write(&mut *transaction, &rows, &leases, replica).await?;
    transaction.commit().await
}

/// As if all ids were new: a copy asks for none of them. Fails where one is there.
///
/// `sqlx` does not set `TCP_NODELAY`, so over TCP the end of a copy waits until the kernel acknowledges its data, up to
/// 40 ms. It costs no processor time, and only a desk that needs the ledger meanwhile waits for it.
async fn copy_all(
    pool: &PgPool,
    replica: Uuid,
    rows: &[(&str, &Entry)],
    spent: &[Spent],
) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    copy(&mut transaction, rows).await?;
    let mut tallies: BTreeMap<(&str, i64), i64> = BTreeMap::new();
    for (tenant, entry) in rows.iter().filter(|(_, entry)| entry.verdict.allowed) {
        *tallies.entry((tenant, slot(entry.admitted_at))).or_default() += 1;
    }
    let leases = outstanding(spent);
    sqlx::query(
        "WITH tallied AS (
             INSERT INTO tallies (tenant, slot, units) SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
             ON CONFLICT (tenant, slot) DO UPDATE SET units = tallies.units + excluded.units
         )
         UPDATE leases SET outstanding = held.units
         FROM unnest($4::text[], $5::bigint[]) AS held (tenant, units)
         WHERE leases.tenant = held.tenant AND leases.workflow = '' AND leases.replica = $6",
    )
    .bind(tallies.keys().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(tallies.keys().map(|(_, slot)| *slot).collect::<Vec<_>>())
    .bind(tallies.values().copied().collect::<Vec<_>>())
    .bind(leases.iter().map(|(tenant, _)| *tenant).collect::<Vec<_>>())
    .bind(leases.iter().map(|(_, units)| to_db(*units)).collect::<Vec<_>>())
    .bind(replica)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await
}

fn outstanding(spent: &[Spent]) -> Vec<(&str, u64)> {
    spent.iter().map(|part| (part.tenant.as_str(), part.outstanding)).collect()
}

/// A unique violation.
fn is_known_id(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

async fn copy(connection: &mut PgConnection, rows: &[(&str, &Entry)]) -> Result<(), sqlx::Error> {
    let mut buffer = CopyBuffer::for_rows(rows.len(), ROW_BYTES);
    for (tenant, Entry { id, workflow, mode, admitted_at, verdict }) in rows {
        buffer.begin_row(16);
        buffer.text(Some(tenant));
        buffer.text(Some(id));
        buffer.instant(Some(*admitted_at));
        buffer.boolean(verdict.allowed);
        buffer.boolean(verdict.allowed);
        buffer.text(Some(verdict.reason.as_str()));
        buffer.text(workflow.as_ref().map(WorkflowId::as_str));
        buffer.text(mode.map(Mode::as_str));
        buffer.bigint(verdict.used.map(to_db));
        buffer.bigint(Some(to_db(verdict.reserved)));
        buffer.bigint(verdict.limit.map(to_db));
        buffer.instant(Some(verdict.resets_at));
        buffer.instant(verdict.as_of);
        buffer.instant(verdict.complete_until);
        buffer.text(verdict.shadow.map(Reason::as_str));
        buffer.instant(verdict.retry_at);
    }
    let mut copy = connection
        .copy_in_raw(
            "COPY admissions (tenant, id, admitted_at, allowed, reserved, reason, workflow, mode, used_units,
                 reserved_units, limit_units, resets_at, as_of, complete_until, shadow_reason, retry_at)
             FROM STDIN (FORMAT binary)",
        )
        .await?;
    copy.send(buffer.finish()).await?;
    copy.finish().await?;
    Ok(())
}

async fn write(
    executor: impl PgExecutor<'_>,
    rows: &[(&str, &Entry)],
    leases: &[(&str, u64)],
    replica: Uuid,
) -> Result<(), sqlx::Error> {
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
