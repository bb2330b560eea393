//! What is known of a source's clock and of who pushes for it: see [`crate::checks::standing`].

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::SourceId;
use sqlx::{PgPool, Row};

use super::instant;
use crate::checks::{
    clock_skew::Reading,
    instances::{INSTANCES_MAX, InstanceId, PUSHES_FOR, Seen},
    standing::Standing,
};

/// What is stored about a source.
#[derive(Debug, Default)]
pub struct Stored {
    /// The skew by the last poll that measured it.
    pub polled: Option<Reading>,
    /// The skew by the last pushes.
    pub pushed: Option<Reading>,
    /// Since when the clock is wrong.
    pub clock_wrong_since: Option<Timestamp>,
    /// Since when several instances share the token.
    pub token_shared_since: Option<Timestamp>,
    /// Since when the instance pushes for other sources too.
    pub doubled_since: Option<Timestamp>,
}

/// Reads what is stored.
pub async fn stored(pool: &PgPool, source: &SourceId) -> Result<Stored, sqlx::Error> {
    let row = sqlx::query(
        "SELECT polled_skew_ms, polled_at, pushed_skew_ms, pushed_at,
                clock_wrong_since, token_shared_since, doubled_since
         FROM source_checks WHERE source_id = $1",
    )
    .bind(source.as_str())
    .fetch_optional(pool)
    .await?;
    let Some(row) = row else { return Ok(Stored::default()) };
    let reading = |skew: &str, at: &str| -> Result<Option<Reading>, sqlx::Error> {
        let measured = row.try_get::<Option<i64>, _>(skew)?.zip(instant(&row, at)?);
        Ok(measured.map(|(skew_ms, at)| Reading { skew_ms, at }))
    };
    Ok(Stored {
        polled: reading("polled_skew_ms", "polled_at")?,
        pushed: reading("pushed_skew_ms", "pushed_at")?,
        clock_wrong_since: instant(&row, "clock_wrong_since")?,
        token_shared_since: instant(&row, "token_shared_since")?,
        doubled_since: instant(&row, "doubled_since")?,
    })
}

/// Stores the source's standing, and what this sweep has measured.
pub async fn keep(
    pool: &PgPool,
    source: &SourceId,
    polled: Option<Reading>,
    standing: &Standing,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO source_checks AS known (source_id, polled_skew_ms, polled_at, skew_ms,
             clock_wrong_since, token_shared_since, doubled_since)
         VALUES ($1, $2, $3, $4, $5, $6, $7)
         ON CONFLICT (source_id) DO UPDATE
         SET polled_skew_ms = coalesce(excluded.polled_skew_ms, known.polled_skew_ms),
             polled_at = coalesce(excluded.polled_at, known.polled_at),
             skew_ms = excluded.skew_ms,
             clock_wrong_since = excluded.clock_wrong_since,
             token_shared_since = excluded.token_shared_since,
             doubled_since = excluded.doubled_since",
    )
    .bind(source.as_str())
    .bind(polled.map(|polled| polled.skew_ms))
    .bind(polled.map(|polled| polled.at.to_sqlx()))
    .bind(standing.clock.map(|clock| clock.skew_ms))
    .bind(standing.clock_wrong_since.map(ToSqlx::to_sqlx))
    .bind(standing.token_shared_since.map(ToSqlx::to_sqlx))
    .bind(standing.doubled_since.map(ToSqlx::to_sqlx))
    .execute(pool)
    .await
    .map(drop)
}

/// Stores the skew that pushes have shown.
pub async fn note_skew(pool: &PgPool, source: &SourceId, pushed: Reading) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO source_checks (source_id, pushed_skew_ms, pushed_at) VALUES ($1, $2, $3)
         ON CONFLICT (source_id) DO UPDATE
         SET pushed_skew_ms = excluded.pushed_skew_ms, pushed_at = excluded.pushed_at",
    )
    .bind(source.as_str())
    .bind(pushed.skew_ms)
    .bind(pushed.at.to_sqlx())
    .execute(pool)
    .await
    .map(drop)
}

/// Stores that an instance has pushed for the source, and deletes the least recently seen ones if there are
/// too many.
pub async fn note_instance(
    pool: &PgPool,
    source: &SourceId,
    instance: &InstanceId,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "WITH seen AS (
             INSERT INTO source_instances AS known (source_id, instance_id, first_seen_at, last_seen_at)
             VALUES ($1, $2, $3, $3)
             ON CONFLICT (source_id, instance_id) DO UPDATE
             SET first_seen_at = CASE WHEN known.last_seen_at < $4 THEN excluded.first_seen_at
                                      ELSE known.first_seen_at END,
                 last_seen_at = greatest(known.last_seen_at, excluded.last_seen_at)
         )
         DELETE FROM source_instances WHERE source_id = $1 AND instance_id = ANY(ARRAY(
             SELECT instance_id FROM source_instances WHERE source_id = $1 AND instance_id <> $2
             ORDER BY last_seen_at DESC OFFSET $5))",
    )
    .bind(source.as_str())
    .bind(instance.as_str())
    .bind(now.to_sqlx())
    .bind(pushing_since(now).to_sqlx())
    .bind(i64::try_from(INSTANCES_MAX - 1).unwrap_or(i64::MAX))
    .execute(pool)
    .await
    .map(drop)
}

/// The instances that push for the source, by id.
pub async fn pushing(pool: &PgPool, source: &SourceId, now: Timestamp) -> Result<Vec<Seen>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT instance_id, first_seen_at, last_seen_at FROM source_instances
         WHERE source_id = $1 AND last_seen_at > $2 ORDER BY instance_id",
    )
    .bind(source.as_str())
    .bind(pushing_since(now).to_sqlx())
    .fetch_all(pool)
    .await?;
    let seen = rows.iter().map(|row| {
        Ok(Seen {
            instance: row.try_get("instance_id")?,
            first: row.try_get::<jiff_sqlx::Timestamp, _>("first_seen_at")?.to_jiff(),
            last: row.try_get::<jiff_sqlx::Timestamp, _>("last_seen_at")?.to_jiff(),
        })
    });
    seen.collect()
}

/// Other active sources for which an instance of this source pushes at the same time, at most `count_max`, by id. By the same
/// rule as [`crate::checks::instances::beside_each_other`].
pub async fn same_instance(
    pool: &PgPool,
    source: &SourceId,
    now: Timestamp,
    count_max: i64,
) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar(
        "SELECT DISTINCT other.source_id
         FROM source_instances AS own
         JOIN source_instances AS other
           ON other.instance_id = own.instance_id AND other.source_id <> own.source_id
         JOIN sources ON sources.source_id = other.source_id AND sources.active
         WHERE own.source_id = $1 AND own.last_seen_at > $2 AND other.last_seen_at > $2
           AND own.last_seen_at > other.first_seen_at AND other.last_seen_at > own.first_seen_at
         ORDER BY other.source_id LIMIT $3",
    )
    .bind(source.as_str())
    .bind(pushing_since(now).to_sqlx())
    .bind(count_max)
    .fetch_all(pool)
    .await
}

fn pushing_since(now: Timestamp) -> Timestamp {
    now.saturating_sub(PUSHES_FOR).unwrap_or(now)
}
