//! Stored sums of tallies from an instant on, so that a decision under the tenant's lock costs the same on
//! the last day of a period as on the first.
//!
//! Triggers keep an existing sum up to date (migration 1045). The first decision that needs a sum creates it
//! while holding the lock of the tenant's ledger. Everyone who tallies holds it too, so nothing is missed.

use jiff::Timestamp;
use metering::TenantId;
use sqlx::{PgConnection, PgExecutor};

use crate::admission::tallies::slot;

/// The instant from which a sum is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Span {
    /// The start of the period.
    Period,
    /// Since the watermark, with its margin.
    Since,
}

impl Span {
    /// The span's name in the ledger.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Period => "period",
            Self::Since => "since",
        }
    }
}

/// Creates the sum of the tenant's runs since `since`, if it does not exist. The caller holds the lock of the
/// tenant's ledger.
pub async fn keep_of_tenant(
    executor: impl PgExecutor<'_>,
    tenant: &TenantId,
    since: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO tally_sums (tenant, span, since_slot, units)
         SELECT $1, $2, $3, coalesce((SELECT sum(units) FROM tallies WHERE tenant = $1 AND slot >= $3), 0)
         WHERE NOT EXISTS (
             SELECT FROM tally_sums WHERE tenant = $1 AND workflow = '' AND span = $2 AND since_slot = $3)
         ON CONFLICT (tenant, workflow, span) DO UPDATE SET since_slot = excluded.since_slot, units = excluded.units",
    )
    .bind(tenant.as_str())
    .bind(Span::Since.as_str())
    .bind(slot(since))
    .execute(executor)
    .await?;
    Ok(())
}

/// Creates missing sums of these workflows; a workflow without a run gets none. The caller holds the lock of
/// the tenant's ledger.
pub async fn keep_of_workflows(
    connection: &mut PgConnection,
    tenant: &TenantId,
    workflows: &[&str],
    spans: [(Span, Timestamp); 2],
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH missing AS MATERIALIZED (
             SELECT workflow, span, since_slot
             FROM unnest($2::text[]) AS asked (workflow)
             CROSS JOIN unnest($3::text[], $4::bigint[]) AS wanted (span, since_slot)
             WHERE NOT EXISTS (
                 SELECT FROM tally_sums AS kept
                 WHERE kept.tenant = $1 AND kept.workflow = asked.workflow AND kept.span = wanted.span
                   AND kept.since_slot = wanted.since_slot)
         )
         INSERT INTO tally_sums (tenant, workflow, span, since_slot, units)
         SELECT $1, workflow, span, since_slot, tallied.units
         FROM missing CROSS JOIN LATERAL (
             SELECT sum(units) AS units FROM workflow_tallies AS own
             WHERE own.tenant = $1 AND own.workflow = missing.workflow AND own.slot >= missing.since_slot) AS tallied
         WHERE tallied.units IS NOT NULL
         ON CONFLICT (tenant, workflow, span) DO UPDATE SET since_slot = excluded.since_slot, units = excluded.units",
    )
    .bind(tenant.as_str())
    .bind(workflows)
    .bind(spans.map(|(span, _)| span.as_str()))
    .bind(spans.map(|(_, since)| slot(since)))
    .execute(connection)
    .await?;
    Ok(())
}
