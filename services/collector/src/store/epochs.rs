//! Epochs, and the latest start that was published: see [`crate::sweep::epochs`] for why these keep executions from
//! being counted twice.

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::SourceId;
use sqlx::{PgExecutor, PgPool, Row};

use super::Claim;
use crate::sweep::{cursor::Begin, epochs::Epochs, failure::SweepError};

/// The source's epochs.
pub async fn of(executor: impl PgExecutor<'_>, source: &SourceId) -> Result<Epochs, sqlx::Error> {
    let rows = sqlx::query("SELECT epoch, starts_from FROM epochs WHERE source_id = $1 ORDER BY epoch")
        .bind(source.as_str())
        .fetch_all(executor)
        .await?;
    let begins = rows.iter().map(|row| {
        let epoch = row.try_get::<i32, _>("epoch")?.unsigned_abs();
        Ok((epoch, row.try_get::<jiff_sqlx::Timestamp, _>("starts_from")?.to_jiff()))
    });
    begins.collect::<Result<_, sqlx::Error>>().map(Epochs::new)
}

/// To be called before a sweep publishes executions that started as late as this. Until it is committed, the
/// sweep is unfinished.
pub async fn announce(pool: &PgPool, claim: &Claim, latest_start: Timestamp) -> Result<(), SweepError> {
    let announced = sqlx::query(
        "UPDATE sources SET latest_start = greatest(latest_start, $3), unfinished = true
         WHERE source_id = $1 AND lease = $2",
    )
    .bind(claim.source.as_str())
    .bind(claim.lease)
    .bind(latest_start.to_sqlx())
    .execute(pool)
    .await?;
    if announced.rows_affected() == 1 { Ok(()) } else { Err(SweepError::LeaseLost) }
}

/// To be called before anybody else publishes executions that started as late as this. Returns the epochs to
/// publish them under.
pub async fn raise_latest_start(
    pool: &PgPool,
    source: &SourceId,
    latest_start: Timestamp,
) -> Result<Epochs, sqlx::Error> {
    // Locks the row: an epoch that begins at the same time begins either after this start or before the
    // epochs are read.
    sqlx::query("UPDATE sources SET latest_start = greatest(latest_start, $2) WHERE source_id = $1")
        .bind(source.as_str())
        .bind(latest_start.to_sqlx())
        .execute(pool)
        .await?;
    of(pool, source).await
}

/// Begins a new epoch, after every start that may have been published.
pub async fn begin(pool: &PgPool, claim: &Claim, begin: Begin) -> Result<(), SweepError> {
    let mut transaction = pool.begin().await?;
    let row = sqlx::query(
        "UPDATE sources SET epoch = epoch + 1, unfinished = false,
             floor           = CASE WHEN $3 THEN NULL ELSE floor END,
             backlog         = CASE WHEN $3 THEN NULL ELSE backlog END,
             unseen_firsts   = CASE WHEN $3 THEN '{}' ELSE unseen_firsts END,
             unseen_lasts    = CASE WHEN $3 THEN '{}' ELSE unseen_lasts END,
             left_out_before = CASE WHEN $4 THEN complete_until ELSE left_out_before END,
             base_url        = CASE WHEN $4 THEN NULL ELSE base_url END
         WHERE source_id = $1 AND lease = $2
         RETURNING epoch, latest_start",
    )
    .bind(claim.source.as_str())
    .bind(claim.lease)
    .bind(begin != Begin::Doubtful)
    .bind(begin == Begin::Moved)
    .fetch_optional(&mut *transaction)
    .await?
    .ok_or(SweepError::LeaseLost)?;
    let latest_start = row.try_get::<Option<jiff_sqlx::Timestamp>, _>("latest_start")?;
    let latest_start = latest_start.map_or(Timestamp::UNIX_EPOCH, jiff_sqlx::Timestamp::to_jiff);
    sqlx::query("INSERT INTO epochs (source_id, epoch, starts_from) VALUES ($1, $2, $3)")
        .bind(claim.source.as_str())
        .bind(row.try_get::<i32, _>("epoch")?)
        .bind(Epochs::begin_after(latest_start).to_sqlx())
        .execute(&mut *transaction)
        .await?;
    let tracked = if begin == Begin::Doubtful {
        "UPDATE tracked_executions SET started_at = NULL WHERE source_id = $1 AND state = 'open'"
    } else {
        // Ended executions are read again; open ones must be found again, or are reported as lost.
        "DELETE FROM tracked_executions WHERE source_id = $1 AND state <> 'open'"
    };
    sqlx::query(tracked).bind(claim.source.as_str()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}
