//! The outbox: a transaction writes messages into it, a relay publishes them.
//!
//! After a crash between the broker's acknowledgement and the removal of the row, a message is published
//! again under the same message id; subscribers tolerate repeats.
//!
//! Messages of one subject are published in the order of their rows, also by several relays and after a
//! failure: in a topic that keeps the last message of each subject, an older state must not come last. A row
//! waits for every earlier one of its subject, whichever relay holds it. Rows are numbered before their
//! transactions commit, so transactions that write to one subject must wait for each other, as those of the
//! catalog do.

use std::{collections::HashSet, time::Duration};

use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use sqlx::{
    PgConnection, PgPool,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::{Bus, Dispose, Disposition, Outgoing, PublishError, error_chain};

/// Rows that one transaction relays.
const BATCH_ROWS: i64 = 200;

/// Interval for polling rows if no notification comes.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// A row that failed waits this long, times its attempts, before it is tried again; others go on.
const RETRY_SECONDS: i32 = 2;

/// Attempts beyond this no longer lengthen the wait, and later messages of the subject no longer wait for
/// this one: the broker accepts others meanwhile, and will not accept it.
const ATTEMPTS_COUNTED_MAX: i32 = 30;

/// The subjects with messages that are not published yet.
pub async fn pending_subjects(connection: &mut PgConnection) -> Result<HashSet<String>, sqlx::Error> {
    let subjects: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT subject FROM outbox").fetch_all(connection).await?;
    Ok(subjects.into_iter().collect())
}

/// Adds messages to the caller's transaction. They are published if and only if it commits.
pub async fn enqueue(connection: &mut PgConnection, messages: &[Outgoing]) -> Result<(), sqlx::Error> {
    if messages.is_empty() {
        return Ok(());
    }
    let text = |of: fn(&Outgoing) -> &str| messages.iter().map(of).collect::<Vec<_>>();
    sqlx::query(
        "INSERT INTO outbox (subject, message_id, payload, traceparent, occurred_at)
         SELECT * FROM UNNEST($1::text[], $2::text[], $3::bytea[], $4::text[], $5::timestamptz[])",
    )
    .bind(text(|message| &message.subject))
    .bind(text(|message| &message.message_id))
    .bind(messages.iter().map(|message| message.payload.as_ref()).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.traceparent.as_deref()).collect::<Vec<_>>())
    .bind(messages.iter().map(|message| message.occurred_at.to_sqlx()).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    // Wakes the relay when the transaction commits. Only a wake-up: the relay also polls.
    sqlx::query("SELECT pg_notify('outbox_' || current_schema(), '')").execute(connection).await?;
    Ok(())
}

/// Publishes rows until `shutdown`. Several relays may run: each takes rows that no other holds, and whose
/// subject no other is publishing.
pub async fn relay(pool: PgPool, bus: Bus, shutdown: CancellationToken) {
    let mut listener = None;
    while !shutdown.is_cancelled() {
        match relay_batch(&pool, &bus).await {
            // A full batch: there is more.
            Ok(relayed) if relayed == usize::try_from(BATCH_ROWS).unwrap_or(usize::MAX) => continue,
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(error = error_chain(&error), "cannot publish from the outbox; trying again")
            }
        }
        if listener.is_none() {
            listener = listen(&pool).await.ok();
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = wait(&mut listener) => {}
        }
    }
}

async fn listen(pool: &PgPool) -> Result<PgListener, sqlx::Error> {
    let channel: String = sqlx::query_scalar("SELECT 'outbox_' || current_schema()").fetch_one(pool).await?;
    // A listener holds its connection for as long as it listens, so it gets its own instead of one of the
    // pool's.
    let options = pool.connect_options().as_ref().clone();
    let own = PgPoolOptions::new().max_connections(1).max_lifetime(None).idle_timeout(None);
    let mut listener = PgListener::connect_with(&own.connect_lazy_with(options)).await?;
    listener.listen(&channel).await?;
    Ok(listener)
}

async fn wait(listener: &mut Option<PgListener>) {
    match listener {
        Some(open) => {
            if let Ok(Err(_)) = timeout(POLL_INTERVAL, open.recv()).await {
                *listener = None;
            }
        }
        None => tokio::time::sleep(POLL_INTERVAL).await,
    }
}

type Row = (i64, String, String, Vec<u8>, Option<String>, jiff_sqlx::Timestamp);

async fn relay_batch(pool: &PgPool, bus: &Bus) -> Result<usize, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let rows: Vec<Row> = sqlx::query_as(
        "WITH taken AS (
             SELECT id, subject, message_id, payload, traceparent, occurred_at FROM outbox
             WHERE not_before <= now() ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED
         )
         SELECT * FROM taken WHERE NOT EXISTS (
             SELECT FROM outbox AS earlier
             WHERE earlier.subject = taken.subject AND earlier.id < taken.id AND earlier.attempts < $2
               AND earlier.id NOT IN (SELECT id FROM taken))
         ORDER BY id",
    )
    .bind(BATCH_ROWS)
    .bind(ATTEMPTS_COUNTED_MAX)
    .fetch_all(&mut *transaction)
    .await?;
    let taken = rows.len();
    let (mut sent, mut failed, mut held_up) = (Vec::new(), Vec::new(), HashSet::new());
    for row in rows {
        let (id, subject) = (row.0, row.1.clone());
        if held_up.contains(&subject) {
            continue;
        }
        match publish(bus, row).await {
            Ok(()) => sent.push(id),
            Err(error) => {
                tracing::warn!(
                    outbox_id = id,
                    error = error_chain(&error),
                    "cannot publish a message of the outbox; trying again"
                );
                failed.push(id);
                held_up.insert(subject);
                // The broker is unavailable, so the others would fail too: leave them as they are.
                if error.disposition() == Disposition::Wait {
                    break;
                }
            }
        }
    }
    sqlx::query("DELETE FROM outbox WHERE id = ANY($1)").bind(&sent).execute(&mut *transaction).await?;
    sqlx::query(
        "UPDATE outbox SET attempts = least(attempts + 1, $2),
                not_before = now() + make_interval(secs => $3 * least(attempts + 1, $2))
         WHERE id = ANY($1)",
    )
    .bind(&failed)
    .bind(ATTEMPTS_COUNTED_MAX)
    .bind(RETRY_SECONDS)
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(taken)
}

async fn publish(bus: &Bus, row: Row) -> Result<(), PublishError> {
    let (_, subject, message_id, payload, traceparent, occurred_at) = row;
    let occurred_at: Timestamp = occurred_at.to_jiff();
    let message = Outgoing { subject, message_id, payload: payload.into(), traceparent, occurred_at };
    bus.publish(message).await.map(|_| ())
}
