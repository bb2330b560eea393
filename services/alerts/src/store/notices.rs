//! Notices to the operator, from the first fact to the sealed notice.

use catalog::Language;
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::SafeText;
use sqlx::{PgConnection, PgExecutor, Row, postgres::PgRow};

use super::{REASON_CHARS_MAX, damaged, is_damage, unsigned};
use crate::{Fact, MessageId, Notice, State, Topic, notice::Sealed};

/// A notice that still gathers facts.
#[derive(Debug, Clone, PartialEq)]
pub struct OpenNotice {
    /// The key of its first fact.
    pub id: String,
    /// All of them in one.
    pub fact: Fact,
}

/// Whether the fact is in a notice already.
pub async fn is_known(executor: impl PgExecutor<'_>, key: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM facts WHERE fact_key = $1)")
        .bind(key)
        .fetch_one(executor)
        .await
}

/// Lets nobody else open a notice of this topic and subject until the transaction ends.
pub async fn lock_topic(
    connection: &mut PgConnection,
    topic: Topic,
    subject: &str,
) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1 || '/' || $2, 0))")
        .bind(topic.as_str())
        .bind(subject)
        .execute(connection)
        .await?;
    Ok(())
}

/// The notice of this topic and subject that still gathers facts, locked until the transaction ends.
pub async fn find_open(
    connection: &mut PgConnection,
    topic: Topic,
    subject: &str,
) -> Result<Option<OpenNotice>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT notice_id, topic, value FROM notices
         WHERE topic = $1 AND subject = $2 AND sealed_at IS NULL FOR UPDATE",
    )
    .bind(topic.as_str())
    .bind(subject)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    readable(connection, &row).await
}

/// When the last notice of this topic and subject was sealed.
pub async fn last_sealed_at(
    executor: impl PgExecutor<'_>,
    topic: Topic,
    subject: &str,
) -> Result<Option<Timestamp>, sqlx::Error> {
    let sealed_at: Option<jiff_sqlx::Timestamp> = sqlx::query_scalar(
        "SELECT max(sealed_at) FROM notices WHERE topic = $1 AND subject = $2 AND sealed_at IS NOT NULL",
    )
    .bind(topic.as_str())
    .bind(subject)
    .fetch_one(executor)
    .await?;
    Ok(sealed_at.map(|at| at.to_jiff()))
}

/// Opens a notice with its first fact, found `at`.
pub async fn open(
    connection: &mut PgConnection,
    key: &str,
    fact: &Fact,
    at: Timestamp,
    due_at: Timestamp,
    traceparent: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO notices (notice_id, topic, subject, facts, value, first_at, last_at, due_at, traceparent)
         VALUES ($1, $2, $3, 1, $4, $5, $5, $6, $7)",
    )
    .bind(key)
    .bind(fact.topic().as_str())
    .bind(fact.subject())
    .bind(fact.to_bytes())
    .bind(at.to_sqlx())
    .bind(due_at.to_sqlx())
    .bind(traceparent)
    .execute(&mut *connection)
    .await?;
    add_key(connection, key, key).await
}

/// Adds a fact that was found `at` to a notice; `all` is the notice's facts with it.
pub async fn add(
    connection: &mut PgConnection,
    notice: &str,
    key: &str,
    all: &Fact,
    at: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE notices SET facts = facts + 1, value = $1, first_at = least(first_at, $2),
                last_at = greatest(last_at, $2)
         WHERE notice_id = $3",
    )
    .bind(all.to_bytes())
    .bind(at.to_sqlx())
    .bind(notice)
    .execute(&mut *connection)
    .await?;
    add_key(connection, notice, key).await
}

async fn add_key(connection: &mut PgConnection, notice: &str, key: &str) -> Result<(), sqlx::Error> {
    sqlx::query("INSERT INTO facts (fact_key, notice_id) VALUES ($1, $2)")
        .bind(key)
        .bind(notice)
        .execute(connection)
        .await?;
    Ok(())
}

/// Updates a fact to its current state, as long as its notice is open.
pub async fn renew(executor: impl PgExecutor<'_>, key: &str, fact: &Fact) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE notices SET value = $1 WHERE notice_id = $2 AND sealed_at IS NULL")
        .bind(fact.to_bytes())
        .bind(key)
        .execute(executor)
        .await?;
    Ok(())
}

/// Withdraws what has passed before anybody was notified. Its facts count as unknown again.
pub async fn withdraw(
    executor: impl PgExecutor<'_>,
    topic: Topic,
    subject: &str,
    before: Timestamp,
) -> Result<u64, sqlx::Error> {
    let deleted = sqlx::query(
        "DELETE FROM notices WHERE topic = $1 AND subject = $2 AND sealed_at IS NULL AND first_at < $3",
    )
    .bind(topic.as_str())
    .bind(subject)
    .bind(before.to_sqlx())
    .execute(executor)
    .await?;
    Ok(deleted.rows_affected())
}

/// The last fact of this topic and subject that was reported, if it is from before `before`.
pub async fn last_fact(
    executor: impl PgExecutor<'_>,
    topic: Topic,
    subject: &str,
    before: Timestamp,
) -> Result<Option<Fact>, sqlx::Error> {
    let row = sqlx::query(
        "SELECT topic, value FROM notices
         WHERE topic = $1 AND subject = $2 AND sealed_at IS NOT NULL AND first_at < $3
         ORDER BY sealed_at DESC LIMIT 1",
    )
    .bind(topic.as_str())
    .bind(subject)
    .bind(before.to_sqlx())
    .fetch_optional(executor)
    .await?;
    match row.as_ref().map(fact) {
        // It was sealed, and only its mail failed.
        Some(Err(error)) if is_damage(&error) => Ok(None),
        other => other.transpose(),
    }
}

/// Notices that are due and can be read, locked until the transaction ends; those that another holds are left to it.
pub async fn list_due(
    connection: &mut PgConnection,
    now: Timestamp,
    count: usize,
) -> Result<Vec<OpenNotice>, sqlx::Error> {
    let rows = sqlx::query(
        "SELECT notice_id, topic, value FROM notices WHERE sealed_at IS NULL AND due_at <= $1
         ORDER BY due_at, notice_id LIMIT $2 FOR UPDATE SKIP LOCKED",
    )
    .bind(now.to_sqlx())
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .fetch_all(&mut *connection)
    .await?;
    let mut due = Vec::with_capacity(rows.len());
    for row in &rows {
        due.extend(readable(connection, row).await?);
    }
    Ok(due)
}

/// The notice of a row that is locked. One that cannot be read is set aside: sealed without a mail, so that it neither
/// holds up the others nor gathers any more.
async fn readable(connection: &mut PgConnection, row: &PgRow) -> Result<Option<OpenNotice>, sqlx::Error> {
    let id: String = row.try_get("notice_id")?;
    let error = match fact(row) {
        Ok(fact) => return Ok(Some(OpenNotice { id, fact })),
        Err(error) if is_damage(&error) => error,
        Err(error) => return Err(error),
    };
    let reason = format!("its facts cannot be read: {error}");
    tracing::error!(notice = id, reason, "a notice is set aside");
    metrics::counter!("flowmeter_rows_set_aside_total", "table" => "notices").increment(1);
    sqlx::query(
        "UPDATE notices SET sealed_at = greatest(last_at, due_at), language = 'en', dashboard_url = '', skipped_reason = $1
         WHERE notice_id = $2",
    )
    .bind(SafeText::clean(&reason, REASON_CHARS_MAX).to_string())
    .bind(id)
    .execute(connection)
    .await?;
    Ok(None)
}

/// Seals a notice: its content is fixed.
pub async fn seal(
    executor: impl PgExecutor<'_>,
    id: &str,
    sealed: &Sealed,
    skipped_reason: Option<&str>,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE notices SET sealed_at = $1, language = $2, dashboard_url = $3, skipped_reason = $4
         WHERE notice_id = $5 AND sealed_at IS NULL",
    )
    .bind(sealed.sealed_at.to_sqlx())
    .bind(sealed.language.as_str())
    .bind(&sealed.dashboard_url)
    .bind(skipped_reason)
    .bind(id)
    .execute(executor)
    .await?;
    Ok(())
}

/// One mail about a notice to be sent, due at once.
pub async fn add_notification(
    executor: impl PgExecutor<'_>,
    notice: &str,
    recipient: &str,
    message_id: &MessageId,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO notifications (notice_id, recipient, message_id, state, due_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (notice_id, recipient) DO NOTHING",
    )
    .bind(notice)
    .bind(recipient)
    .bind(message_id.as_str())
    .bind(State::Pending.as_str())
    .bind(now.to_sqlx())
    .execute(executor)
    .await?;
    Ok(())
}

/// Records a successful sweep, and locks what is known of its source until the transaction ends. Returns
/// the end of the last such sweep.
pub async fn put_sweep(
    connection: &mut PgConnection,
    source: &str,
    ended_at: Timestamp,
) -> Result<Timestamp, sqlx::Error> {
    let last: jiff_sqlx::Timestamp = sqlx::query_scalar(
        "INSERT INTO sweeps (source, ended_at) VALUES ($1, $2)
         ON CONFLICT (source) DO UPDATE SET ended_at = greatest(sweeps.ended_at, excluded.ended_at)
         RETURNING ended_at",
    )
    .bind(source)
    .bind(ended_at.to_sqlx())
    .fetch_one(connection)
    .await?;
    Ok(last.to_jiff())
}

/// A sealed notice.
pub(super) fn notice(row: &PgRow) -> Result<Notice, sqlx::Error> {
    let instant =
        |column: &str| Ok::<_, sqlx::Error>(row.try_get::<jiff_sqlx::Timestamp, _>(column)?.to_jiff());
    let language: String = row.try_get("language")?;
    Ok(Notice {
        id: row.try_get("notice_id")?,
        fact: fact(row)?,
        facts: unsigned("facts", row.try_get::<i64, _>("facts")?)?,
        first_at: instant("first_at")?,
        last_at: instant("last_at")?,
        sealed: Sealed {
            sealed_at: instant("sealed_at")?,
            language: Language::parse(&language).map_err(|error| damaged("language", error))?,
            dashboard_url: row.try_get("dashboard_url")?,
        },
    })
}

fn fact(row: &PgRow) -> Result<Fact, sqlx::Error> {
    let (topic, value): (String, Vec<u8>) = (row.try_get("topic")?, row.try_get("value")?);
    let topic = Topic::parse(&topic).ok_or_else(|| sqlx::Error::ColumnNotFound(topic))?;
    Fact::from_bytes(topic, &value).map_err(|error| damaged("value", error))
}
