//! Tenants near their limit: see [`crate::schedule::near_limit`].

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::TenantId;
use sqlx::PgExecutor;

/// Stores that the tenant is near its limit. Returns whether it was not before.
pub async fn comes_near(executor: impl PgExecutor<'_>, tenant: &TenantId) -> Result<bool, sqlx::Error> {
    let inserted =
        sqlx::query("INSERT INTO tenants_near_limit (tenant_id) VALUES ($1) ON CONFLICT DO NOTHING")
            .bind(tenant.as_str())
            .execute(executor)
            .await?;
    Ok(inserted.rows_affected() == 1)
}

/// Stores that the tenant is not near its limit, or has none.
pub async fn is_far(executor: impl PgExecutor<'_>, tenant: &TenantId) -> Result<(), sqlx::Error> {
    sqlx::query("DELETE FROM tenants_near_limit WHERE tenant_id = $1")
        .bind(tenant.as_str())
        .execute(executor)
        .await?;
    Ok(())
}

/// Whether one of these tenants is near its limit.
pub async fn is_any_near(executor: impl PgExecutor<'_>, tenants: &[&TenantId]) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM tenants_near_limit WHERE tenant_id = ANY($1))")
        .bind(tenants.iter().map(|tenant| tenant.as_str()).collect::<Vec<_>>())
        .fetch_one(executor)
        .await
}

/// Makes sources due at `at`, if they are not due earlier. A failing one keeps its pause.
pub async fn sweep_at(
    executor: impl PgExecutor<'_>,
    sources: &[&str],
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE sources SET next_sweep_at = least(next_sweep_at, $2), postponable_until = NULL,
             changes = changes + 1
         WHERE source_id = ANY($1) AND failures = 0",
    )
    .bind(sources)
    .bind(at.to_sqlx())
    .execute(executor)
    .await?;
    Ok(())
}
