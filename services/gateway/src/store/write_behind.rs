//! Stores verdicts in the ledger.

use std::collections::HashSet;

use chassis::CopyBuffer;
use jiff::Timestamp;
use metering::{Mode, TenantId, WorkflowId};
use sqlx::{PgExecutor, PgPool};
use uuid::Uuid;

use super::{instant_to_db, to_db};
use crate::admission::{
    decision::Reason,
    run_key::RunKey,
    verdict::{Request, Verdict},
};

/// Approximate size of a row in a copy, with its field lengths.
const ROW_BYTES: usize = 220;

/// A verdict and its run.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The tenant whose run it is.
    pub tenant: TenantId,
    /// The run's key.
    pub key: RunKey,
    /// The workflow, if the request names one.
    pub workflow: Option<WorkflowId>,
    /// What starts it, if the request says so.
    pub mode: Option<Mode>,
    /// When it was decided.
    pub admitted_at: Timestamp,
    /// The verdict.
    pub verdict: Verdict,
}

impl Entry {
    /// The verdict on a request.
    pub fn of(request: &Request, verdict: Verdict, admitted_at: Timestamp) -> Self {
        let Request { tenant, key, workflow, mode } = request.clone();
        Self { tenant, key, workflow, mode, admitted_at, verdict }
    }
}

/// Stores verdicts that were decided under the tenant's lock, and tallies each allowed run once. A verdict
/// that is already stored is left unchanged, except that a run allowed now counts against the limit from now
/// on. Returns the runs that were new or changed.
pub async fn write_decided(
    executor: impl PgExecutor<'_>,
    entries: &[Entry],
) -> Result<HashSet<RunKey>, sqlx::Error> {
    let fresh = insert(executor, &sorted(entries), true).await?;
    Ok(fresh.into_iter().map(RunKey::from_uuid).collect())
}

/// Stores verdicts that were given from leased units; their replica tallies them. Returns the runs that were
/// already stored: another replica has decided them as well, or they are written again after a commit with an
/// unknown outcome.
pub async fn write_spent(pool: &PgPool, entries: &[Entry]) -> Result<HashSet<RunKey>, sqlx::Error> {
    let rows = sorted(entries);
    match copy(pool, &rows).await {
        Ok(()) => return Ok(HashSet::new()),
        Err(error) if !is_known_key(&error) => return Err(error),
        Err(_) => {}
    }
    let fresh: HashSet<Uuid> = insert(pool, &rows, false).await?.into_iter().collect();
    Ok(rows.iter().map(|entry| entry.key).filter(|key| !fresh.contains(&key.as_uuid())).collect())
}

/// Sorted, so that all writers lock in the same order. Only the first verdict on a run: a statement cannot
/// take two rows of one key, and a replica that has forgotten a verdict which it could not store yet may
/// decide the run again.
fn sorted(entries: &[Entry]) -> Vec<&Entry> {
    let mut rows: Vec<_> = entries.iter().collect();
    rows.sort_by_key(|entry| entry.key);
    rows.dedup_by_key(|entry| entry.key);
    rows
}

/// A unique violation.
fn is_known_key(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(sqlx::error::DatabaseError::is_unique_violation)
}

/// Assumes that all runs are new, because a copy cannot check. Fails if one is already stored.
///
/// `sqlx` does not set `TCP_NODELAY`, so over TCP the end of a copy waits until the kernel acknowledges its data, up to
/// 40 ms. It costs no processor time, and nobody waits for it.
async fn copy(pool: &PgPool, rows: &[&Entry]) -> Result<(), sqlx::Error> {
    let mut buffer = CopyBuffer::for_rows(rows.len(), ROW_BYTES);
    for Entry { tenant, key, workflow, mode, admitted_at, verdict } in rows {
        buffer.begin_row(16);
        buffer.uuid(key.bytes());
        buffer.instant(Some(*admitted_at));
        buffer.bigint(verdict.used.map(to_db));
        buffer.bigint(Some(to_db(verdict.reserved)));
        buffer.bigint(verdict.limit.map(to_db));
        buffer.instant(Some(verdict.resets_at));
        buffer.instant(verdict.as_of);
        buffer.instant(verdict.complete_until);
        buffer.instant(verdict.retry_at);
        buffer.boolean(verdict.allowed);
        buffer.boolean(verdict.allowed);
        buffer.text(Some(tenant.as_str()));
        buffer.text(Some(verdict.reason.as_str()));
        buffer.text(workflow.as_ref().map(WorkflowId::as_str));
        buffer.text(mode.map(Mode::as_str));
        buffer.text(verdict.shadow.map(Reason::as_str));
    }
    let mut connection = pool.acquire().await?;
    let mut copy = connection
        .copy_in_raw(
            "COPY admissions (key, admitted_at, used_units, reserved_units, limit_units, resets_at, as_of,
                 complete_until, retry_at, allowed, reserved, tenant, reason, workflow, mode, shadow_reason)
             FROM STDIN (FORMAT binary)",
        )
        .await?;
    copy.send(buffer.finish()).await?;
    copy.finish().await?;
    Ok(())
}

/// Returns the keys that were new, or count against the limit from now on.
async fn insert(
    executor: impl PgExecutor<'_>,
    rows: &[&Entry],
    is_tallied: bool,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let text = |of: for<'a> fn(&'a Entry) -> Option<&'a str>| -> Vec<Option<&str>> {
        rows.iter().map(|entry| of(entry)).collect()
    };
    let figures = |of: fn(&Verdict) -> Option<u64>| -> Vec<Option<i64>> {
        rows.iter().map(|entry| of(&entry.verdict).map(to_db)).collect()
    };
    let instants = |of: fn(&Entry) -> Option<Timestamp>| -> Vec<Option<jiff_sqlx::Timestamp>> {
        rows.iter().map(|entry| instant_to_db(of(entry))).collect()
    };
    let keys: Vec<Uuid> = rows.iter().map(|entry| entry.key.as_uuid()).collect();
    let allowed: Vec<bool> = rows.iter().map(|entry| entry.verdict.allowed).collect();
    sqlx::query_scalar(
        "WITH fresh AS (
             INSERT INTO admissions (key, admitted_at, used_units, reserved_units, limit_units, resets_at, as_of,
                 complete_until, retry_at, allowed, reserved, tenant, reason, workflow, mode, shadow_reason)
             SELECT key, admitted_at, used_units, reserved_units, limit_units, resets_at, as_of,
                 complete_until, retry_at, allowed, allowed, tenant, reason, workflow, mode, shadow_reason
             FROM unnest($1::uuid[], $2::timestamptz[], $3::bigint[], $4::bigint[], $5::bigint[], $6::timestamptz[],
                 $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::boolean[], $11::text[], $12::text[],
                 $13::text[], $14::text[], $15::text[])
                 AS given (key, admitted_at, used_units, reserved_units, limit_units, resets_at, as_of,
                     complete_until, retry_at, allowed, tenant, reason, workflow, mode, shadow_reason)
             ON CONFLICT (key) DO UPDATE SET reserved = true, admitted_at = excluded.admitted_at
             WHERE excluded.reserved AND NOT admissions.reserved
             RETURNING key, tenant, workflow, floor(extract(epoch FROM admitted_at) / 5)::bigint AS slot, reserved
         ), tallied AS (
             INSERT INTO tallies (tenant, slot, replica, units)
             SELECT tenant, slot, $16, count(*) FROM fresh WHERE reserved AND $17 GROUP BY 1, 2 ORDER BY 1, 2
             ON CONFLICT (tenant, slot, replica) DO UPDATE SET units = tallies.units + excluded.units
         ), tallied_by_workflow AS (
             INSERT INTO workflow_tallies (tenant, workflow, slot, replica, units)
             SELECT tenant, workflow, slot, $16, count(*) FROM fresh WHERE reserved AND $17 AND workflow IS NOT NULL
             GROUP BY 1, 2, 3 ORDER BY 1, 2, 3
             ON CONFLICT (tenant, workflow, slot, replica) DO UPDATE SET units = workflow_tallies.units + excluded.units
         )
         SELECT key FROM fresh",
    )
    .bind(keys)
    .bind(instants(|entry| Some(entry.admitted_at)))
    .bind(figures(|verdict| verdict.used))
    .bind(figures(|verdict| Some(verdict.reserved)))
    .bind(figures(|verdict| verdict.limit))
    .bind(instants(|entry| Some(entry.verdict.resets_at)))
    .bind(instants(|entry| entry.verdict.as_of))
    .bind(instants(|entry| entry.verdict.complete_until))
    .bind(instants(|entry| entry.verdict.retry_at))
    .bind(allowed)
    .bind(text(|entry| Some(entry.tenant.as_str())))
    .bind(text(|entry| Some(entry.verdict.reason.as_str())))
    .bind(text(|entry| entry.workflow.as_ref().map(WorkflowId::as_str)))
    .bind(text(|entry| entry.mode.map(Mode::as_str)))
    .bind(text(|entry| entry.verdict.shadow.map(Reason::as_str)))
    .bind(Uuid::nil())
    .bind(is_tallied)
    .fetch_all(executor)
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::verdict::tests::entry;

    #[test]
    fn a_run_that_was_decided_again_is_stored_once() {
        let again = Entry { verdict: Verdict { reserved: 2, ..entry(1).verdict }, ..entry(1) };
        let entries = [entry(2), entry(1), again, entry(3)];
        let rows = sorted(&entries);
        assert_eq!(rows.len(), 3);
        assert!(rows.is_sorted_by_key(|row| row.key));
        assert!(rows.iter().all(|row| row.verdict.reserved == 1), "the first verdict stays");
    }
}
