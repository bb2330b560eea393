//! All SQL of this service.

use std::time::Duration;

use catalog::{Language, LimitKind, locale::time_zone};
use jiff::Timestamp;
use jiff_sqlx::ToSqlx;
use metering::{Percent, Period, SafeText, TenantId};
use sqlx::{PgConnection, PgExecutor, PgPool, Row, postgres::PgRow};

use crate::{Alert, Cause, Event, MessageId, State};

pub mod notices;
pub mod paced;
pub mod retention;

/// Longest reason that is kept, in characters; it quotes a server.
const REASON_CHARS_MAX: usize = 500;

/// A mail that one sender has claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The row.
    pub id: i64,
    /// What the mail is about.
    pub cause: Cause,
    /// The recipient.
    pub recipient: String,
    /// The mail's id.
    pub message_id: MessageId,
    /// Which attempt this is; the first is 1.
    pub attempt: u32,
    /// The trace to continue.
    pub traceparent: Option<String>,
}

/// Whether the crossing was recorded before.
pub async fn is_recorded(executor: impl PgExecutor<'_>, crossing_id: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar("SELECT EXISTS (SELECT FROM crossings WHERE crossing_id = $1)")
        .bind(crossing_id)
        .fetch_one(executor)
        .await
}

/// The marker: true for the first to record the crossing. A second one waits here for the first one's
/// transaction, and then gets false.
pub async fn record_crossing(
    connection: &mut PgConnection,
    alert: &Alert,
    traceparent: Option<&str>,
    skipped_reason: Option<&str>,
) -> Result<bool, sqlx::Error> {
    let outcome = sqlx::query(
        "INSERT INTO crossings (crossing_id, tenant_id, tenant_name, language, time_zone, percent, used, usage_limit,
                limit_kind, period_start, period_end, crossed_at, dashboard_url, recorded_at, traceparent,
                skipped_reason, shadow, grace_seconds, overage_max, folded, release_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21)
         ON CONFLICT (crossing_id) DO NOTHING",
    )
    .bind(&alert.crossing_id)
    .bind(alert.tenant.as_str())
    .bind(&alert.tenant_name)
    .bind(alert.language.as_str())
    .bind(alert.time_zone.iana_name().unwrap_or("UTC"))
    .bind(i32::try_from(alert.percent.get()).unwrap_or(i32::MAX))
    .bind(i64::try_from(alert.used).unwrap_or(i64::MAX))
    .bind(i64::try_from(alert.limit).unwrap_or(i64::MAX))
    .bind(limit_kind_name(alert.limit_kind))
    .bind(alert.period.start.to_sqlx())
    .bind(alert.period.end.to_sqlx())
    .bind(alert.crossed_at.to_sqlx())
    .bind(&alert.dashboard_url)
    .bind(alert.recorded_at.to_sqlx())
    .bind(traceparent)
    .bind(skipped_reason)
    .bind(alert.shadow)
    .bind(alert.grace.map(|grace| i64::try_from(grace.as_secs()).unwrap_or(i64::MAX)))
    .bind(alert.overage_max.map(|most| i64::try_from(most).unwrap_or(i64::MAX)))
    .bind(paced::percents(&alert.folded))
    .bind(Some(alert.leaves_at).filter(|instant| *instant > alert.recorded_at).map(|instant| instant.to_sqlx()))
    .execute(connection)
    .await?;
    Ok(outcome.rows_affected() == 1)
}

/// One mail to be sent, due when it may be sent. An address that the tenant names twice gets one.
pub async fn add_notification(
    connection: &mut PgConnection,
    alert: &Alert,
    recipient: &str,
    message_id: &MessageId,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO notifications (crossing_id, recipient, message_id, state, due_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (crossing_id, recipient) DO NOTHING",
    )
    .bind(&alert.crossing_id)
    .bind(recipient)
    .bind(message_id.as_str())
    .bind(State::Pending.as_str())
    .bind(alert.leaves_at.to_sqlx())
    .execute(connection)
    .await?;
    Ok(())
}

/// Takes up to `count` mails that are due: new ones, those whose wait is over, and those whose sender has not
/// reported back within its lease. Nobody else takes them before `lease` has passed.
pub async fn claim(
    pool: &PgPool,
    now: Timestamp,
    lease: Duration,
    count: usize,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let claimable: Vec<&str> = State::before(Event::Claimed).map(State::as_str).collect();
    let leased_until = now.saturating_add(lease).unwrap_or(now);
    let mut transaction = pool.begin().await?;
    paced::set_superseded_aside(&mut transaction, now, count).await?;
    let rows = sqlx::query(
        "WITH due AS (
             SELECT id FROM notifications WHERE state = ANY($1) AND due_at <= $2
             ORDER BY due_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
         )
         UPDATE notifications n SET state = $4, attempts = n.attempts + 1, due_at = $5
         FROM due WHERE n.id = due.id
         RETURNING n.id, n.recipient, n.message_id, n.attempts, n.crossing_id, n.notice_id",
    )
    .bind(claimable)
    .bind(now.to_sqlx())
    .bind(i64::try_from(count).unwrap_or(i64::MAX))
    .bind(State::Sending.as_str())
    .bind(leased_until.to_sqlx())
    .fetch_all(&mut *transaction)
    .await?;
    let mut claimed = Vec::with_capacity(rows.len());
    for row in &rows {
        match claimed_mail(&mut transaction, row).await {
            Ok(mail) => claimed.push(mail),
            Err(error) if is_damage(&error) => set_aside(&mut transaction, row, &error).await?,
            Err(error) => return Err(error),
        }
    }
    transaction.commit().await?;
    Ok(claimed)
}

/// The outcome of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome<'a> {
    /// What happened.
    pub event: Event,
    /// When.
    pub now: Timestamp,
    /// When to try again, after [`Event::Deferred`].
    pub due_at: Option<Timestamp>,
    /// Why it was not sent.
    pub reason: Option<&'a str>,
}

/// Records the outcome of an attempt. False if the row is no longer this sender's: its lease had expired and
/// another has claimed it since, whose report counts.
pub async fn settle(
    executor: impl PgExecutor<'_>,
    claimed: &Claimed,
    outcome: &Outcome<'_>,
) -> Result<bool, sqlx::Error> {
    let Some(next) = State::Sending.after(outcome.event) else { return Ok(false) };
    let reason = outcome.reason.map(|reason| SafeText::clean(reason, REASON_CHARS_MAX).to_string());
    let updated = sqlx::query(
        "UPDATE notifications SET state = $1, due_at = coalesce($2, due_at), reason = $3, sent_at = $4
         WHERE id = $5 AND state = $6 AND attempts = $7",
    )
    .bind(next.as_str())
    .bind(outcome.due_at.map(|at| at.to_sqlx()))
    .bind(reason)
    .bind((next == State::Sent).then(|| outcome.now.to_sqlx()))
    .bind(claimed.id)
    .bind(State::Sending.as_str())
    .bind(i32::try_from(claimed.attempt).unwrap_or(i32::MAX))
    .execute(executor)
    .await?;
    Ok(updated.rows_affected() == 1)
}

/// A mail whose rows cannot be read fails alone; the others go on.
async fn set_aside(
    connection: &mut PgConnection,
    row: &PgRow,
    error: &sqlx::Error,
) -> Result<(), sqlx::Error> {
    let id: i64 = row.try_get("id")?;
    let reason = format!("its content cannot be read: {error}");
    tracing::error!(notification = id, reason, "a mail is set aside");
    metrics::counter!("flowmeter_rows_set_aside_total", "table" => "notifications").increment(1);
    sqlx::query("UPDATE notifications SET state = $1, reason = $2 WHERE id = $3")
        .bind(State::Failed.as_str())
        .bind(SafeText::clean(&reason, REASON_CHARS_MAX).to_string())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(())
}

/// Whether a row was read and is invalid; anything else is a problem of the database, and passes.
fn is_damage(error: &sqlx::Error) -> bool {
    matches!(
        error,
        sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::Decode(_)
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::RowNotFound
    )
}

async fn claimed_mail(connection: &mut PgConnection, row: &PgRow) -> Result<Claimed, sqlx::Error> {
    let about = match row.try_get::<Option<&str>, _>("notice_id")? {
        Some(notice) => {
            sqlx::query("SELECT * FROM notices WHERE notice_id = $1")
                .bind(notice)
                .fetch_one(connection)
                .await?
        }
        None => {
            sqlx::query("SELECT * FROM crossings WHERE crossing_id = $1")
                .bind(row.try_get::<&str, _>("crossing_id")?)
                .fetch_one(connection)
                .await?
        }
    };
    let cause = match row.try_get::<Option<&str>, _>("notice_id")? {
        Some(_) => Cause::Notice(Box::new(notices::notice(&about)?)),
        None => Cause::Crossing(Box::new(alert(&about)?)),
    };
    Ok(Claimed {
        id: row.try_get("id")?,
        cause,
        recipient: row.try_get("recipient")?,
        message_id: MessageId::stored(row.try_get("message_id")?),
        attempt: unsigned("attempts", row.try_get::<i32, _>("attempts")?)?,
        traceparent: about.try_get("traceparent")?,
    })
}

fn alert(row: &PgRow) -> Result<Alert, sqlx::Error> {
    let instant =
        |column: &str| Ok::<_, sqlx::Error>(row.try_get::<jiff_sqlx::Timestamp, _>(column)?.to_jiff());
    let text = |column: &str| row.try_get::<String, _>(column);
    let recorded_at = instant("recorded_at")?;
    let released: Option<jiff_sqlx::Timestamp> = row.try_get("release_at")?;
    let optional = |column: &str| {
        let value = row.try_get::<Option<i64>, _>(column)?;
        value.map(|value| unsigned(column, value)).transpose()
    };
    Ok(Alert {
        crossing_id: text("crossing_id")?,
        tenant: TenantId::parse(&text("tenant_id")?).map_err(|error| damaged("tenant_id", error))?,
        tenant_name: text("tenant_name")?,
        language: Language::parse(&text("language")?).map_err(|error| damaged("language", error))?,
        time_zone: time_zone(&text("time_zone")?),
        percent: Percent::new(unsigned("percent", row.try_get::<i32, _>("percent")?)?)
            .map_err(|error| damaged("percent", error))?,
        used: unsigned("used", row.try_get::<i64, _>("used")?)?,
        limit: unsigned("usage_limit", row.try_get::<i64, _>("usage_limit")?)?,
        limit_kind: limit_kind(&text("limit_kind")?),
        shadow: row.try_get("shadow")?,
        grace: optional("grace_seconds")?.map(Duration::from_secs),
        overage_max: optional("overage_max")?,
        folded: paced::from_percents(&row.try_get::<Vec<i32>, _>("folded")?),
        period: Period { start: instant("period_start")?, end: instant("period_end")? },
        crossed_at: instant("crossed_at")?,
        dashboard_url: text("dashboard_url")?,
        recorded_at,
        leaves_at: released.map_or(recorded_at, |instant| instant.to_jiff()),
    })
}

fn limit_kind_name(kind: LimitKind) -> &'static str {
    match kind {
        LimitKind::Hard => "hard",
        LimitKind::Soft => "soft",
    }
}

/// The table's own check allows these two names only.
fn limit_kind(name: &str) -> LimitKind {
    if name == "soft" { LimitKind::Soft } else { LimitKind::Hard }
}

fn unsigned<S, U: TryFrom<S>>(column: &str, value: S) -> Result<U, sqlx::Error>
where
    U::Error: std::error::Error + Send + Sync + 'static,
{
    U::try_from(value).map_err(|error| damaged(column, error))
}

fn damaged(column: &str, error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: column.to_owned(), source: Box::new(error) }
}
