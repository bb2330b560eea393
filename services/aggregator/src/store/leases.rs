//! Which replica reads which partitions. All times are the database's.

use sqlx::PgPool;
use uuid::Uuid;

/// Renews a replica's leases, takes free partitions up to its fair share, and releases those beyond it.
/// Returns the partitions that it may read from now on.
pub(crate) async fn renew(
    pool: &PgPool,
    replica: Uuid,
    partitions: i32,
    lease_seconds: f64,
) -> Result<Vec<i32>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    // One at a time: the fair share depends on how many replicas there are.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.partitions'))")
        .execute(&mut *transaction)
        .await?;
    sqlx::query("DELETE FROM replicas WHERE alive_until < now()").execute(&mut *transaction).await?;
    sqlx::query(
        "INSERT INTO replicas (replica_id, alive_until) VALUES ($1, now() + make_interval(secs => $2))
         ON CONFLICT (replica_id) DO UPDATE SET alive_until = excluded.alive_until",
    )
    .bind(replica)
    .bind(lease_seconds)
    .execute(&mut *transaction)
    .await?;
    let fair: i64 = sqlx::query_scalar("SELECT ceil($1::numeric / count(*))::bigint FROM replicas")
        .bind(partitions)
        .fetch_one(&mut *transaction)
        .await?;
    let held: Vec<i32> = sqlx::query_scalar(
        "WITH taken AS (
             SELECT partition FROM generate_series(0, $2 - 1) AS partition LEFT JOIN partition_leases USING (partition)
             WHERE replica_id IS NULL OR replica_id = $1 OR leased_until < now()
             ORDER BY (replica_id = $1) DESC NULLS LAST, partition LIMIT $3)
         INSERT INTO partition_leases (partition, replica_id, leased_until)
         SELECT partition, $1, now() + make_interval(secs => $4) FROM taken
         ON CONFLICT (partition) DO UPDATE
         SET replica_id = excluded.replica_id, leased_until = excluded.leased_until
         RETURNING partition",
    )
    .bind(replica)
    .bind(partitions)
    .bind(fair)
    .bind(lease_seconds)
    .fetch_all(&mut *transaction)
    .await?;
    sqlx::query(
        "UPDATE partition_leases SET replica_id = NULL WHERE replica_id = $1 AND NOT partition = ANY($2)",
    )
    .bind(replica)
    .bind(&held)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(held)
}

/// Releases all leases: others may take them at once.
pub(crate) async fn release(pool: &PgPool, replica: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH gone AS (DELETE FROM replicas WHERE replica_id = $1)
         UPDATE partition_leases SET replica_id = NULL WHERE replica_id = $1",
    )
    .bind(replica)
    .execute(pool)
    .await?;
    Ok(())
}
