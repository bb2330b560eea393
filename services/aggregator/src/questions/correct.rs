//! `CorrectionQuestion`: an operator voids an execution or adjusts a period's count. A correction is a row
//! that stays; the figures it changes, the thresholds it crosses or rearms, and its messages are in the same
//! transaction.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use messaging::{
    Bus,
    ask::{Answerer, Refusal},
    outbox,
};
use metering::{Clock, Period};
use proto::{v1, v1::correction_question::Change};
use sqlx::{PgConnection, PgPool};

use crate::{
    events,
    figures::{
        rollup::{Changes, Share},
        totals::Totals,
    },
    periods::change,
    questions::subject::{self, Asked},
    store::{self, Correcting, Correction, ExecutionKey},
};

/// Longest id and name, and longest reason, in characters.
pub(crate) const NAME_CHARS_MAX: usize = 200;
pub(crate) const REASON_CHARS_MAX: usize = 2_000;

/// The largest adjustment: far beyond any period, and far from overflow.
const QUANTITY_MAX: i64 = 1_000_000_000_000;

/// Corrects.
pub(crate) struct Correct {
    pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
    grace: SignedDuration,
}

impl Correct {
    /// `grace` is how long an ended period waits for incomplete sources.
    pub(crate) fn new(pool: PgPool, bus: Bus, clock: Arc<dyn Clock>, grace: SignedDuration) -> Self {
        Self { pool, bus, clock, grace }
    }

    async fn correct(
        &self,
        asked: &mut Asked,
        question: &v1::CorrectionQuestion,
    ) -> Result<Correction, Refusal> {
        let mut transaction = self.pool.begin().await?;
        // The source before the tenant: the order in which recording locks.
        let key = match &question.change {
            Some(Change::VoidExecution(void)) => Some(lock_execution(&mut transaction, void).await?),
            _ => None,
        };
        store::lock_tenant(&mut transaction, asked.number).await?;
        asked.refresh(&mut transaction).await?;
        if let Some(made) = store::correction(&mut transaction, &question.correction_id).await? {
            return repeated(made, asked, question, key.as_ref());
        }
        let now = self.clock.now();
        let (period, change) = match (&question.change, key) {
            (Some(Change::AdjustCount(adjust)), _) => {
                self.adjust(&mut transaction, asked, adjust, now).await?
            }
            (Some(Change::VoidExecution(_)), Some(key)) => void(&mut transaction, asked, key, now).await?,
            _ => {
                return Err(Refusal::invalid("say what to correct: void an execution or adjust a count"));
            }
        };
        let correction = Correction {
            id: question.correction_id.clone(),
            tenant_number: asked.number,
            period,
            author: question.author.clone(),
            reason: question.reason.clone(),
            reason_is_public: question.reason_is_public,
            corrected_at: now,
            change,
        };
        store::keep_correction(&mut transaction, &correction).await?;
        self.publish(&mut transaction, asked, period, now).await?;
        transaction.commit().await?;
        tracing::info!(tenant = %asked.tenant.id, correction = correction.id, author = correction.author, "an operator corrected a figure");
        Ok(correction)
    }

    async fn adjust(
        &self,
        connection: &mut PgConnection,
        asked: &Asked,
        adjust: &v1::AdjustCount,
        now: Timestamp,
    ) -> Result<(Period, Correcting), Refusal> {
        let quantity = adjust.quantity;
        if quantity == 0 || quantity.saturating_abs() > QUANTITY_MAX {
            return Err(Refusal::invalid(format!("adjust by 1 to {QUANTITY_MAX}, up or down")));
        }
        let start = asked.period_start(adjust.period_start.as_ref(), adjust.period_at.as_ref())?;
        let period = match store::period_at(connection, asked.number, start).await? {
            Some(period) => period,
            None => open_period(&self.bus, connection, asked, start, now).await?,
        };
        let counted = store::totals(connection, asked.number, period).await?.counted;
        if counted.saturating_add(quantity) < 0 {
            return Err(Refusal::conflict(format!("{counted} are counted; no more can be subtracted")));
        }
        let change = Totals { counted: quantity, adjusted: quantity, ..Totals::ZERO };
        store::change_period(connection, asked.number, period.start, change).await?;
        Ok((period, Correcting::Adjust(quantity)))
    }

    /// Writes the resulting messages to the outbox: late usage of a closed period, crossed thresholds.
    async fn publish(
        &self,
        connection: &mut PgConnection,
        asked: &Asked,
        period: Period,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        let messages =
            change::messages(connection, &self.bus, asked.changed(), &[period], (now, self.grace)).await;
        let messages = messages.map_err(subject::no_catalog)?;
        outbox::enqueue(connection, &messages).await?;
        Ok(())
    }
}

#[async_trait]
impl Answerer for Correct {
    type Question = v1::CorrectionQuestion;
    type Answer = v1::Correction;

    async fn answer(&self, question: v1::CorrectionQuestion) -> Result<v1::Correction, Refusal> {
        check_text("correction_id", &question.correction_id, NAME_CHARS_MAX)?;
        check_text("author", &question.author, NAME_CHARS_MAX)?;
        check_text("reason", &question.reason, REASON_CHARS_MAX)?;
        let mut asked = subject::tenant(&self.pool, &question.tenant_id).await?;
        let correction = self.correct(&mut asked, &question).await?;
        Ok(events::correction(asked.tenant.id.as_str(), &correction))
    }
}

/// Refuses a text that is missing or too long.
pub(crate) fn check_text(field: &str, text: &str, chars_max: usize) -> Result<(), Refusal> {
    if text.trim().is_empty() || text.chars().count() > chars_max || text.contains('\0') {
        return Err(Refusal::invalid(format!("{field} must have 1 to {chars_max} characters")));
    }
    Ok(())
}

/// Locks the source of the execution that is to be voided. Returns the execution's key.
async fn lock_execution(
    connection: &mut PgConnection,
    void: &v1::VoidExecution,
) -> Result<ExecutionKey, Refusal> {
    let unknown = || {
        let v1::VoidExecution { source_id, epoch, execution_id } = void;
        Refusal::not_found(format!("no execution {execution_id} of {source_id} (epoch {epoch}) was counted"))
    };
    Ok(ExecutionKey {
        source_number: store::lock_source(connection, &void.source_id).await?.ok_or_else(unknown)?,
        source_id: void.source_id.clone(),
        epoch: i32::try_from(void.epoch).map_err(|_| unknown())?,
        execution_id: i64::try_from(void.execution_id).map_err(|_| unknown())?,
    })
}

async fn void(
    connection: &mut PgConnection,
    asked: &Asked,
    key: ExecutionKey,
    now: Timestamp,
) -> Result<(Period, Correcting), Refusal> {
    let Some(execution) = store::voidable(connection, asked.number, &key).await? else {
        let (id, source) = (key.execution_id, &key.source_id);
        let since = store::kept_since(&mut *connection).await?;
        let reason = if since > Timestamp::UNIX_EPOCH {
            format!(
                "the tenant has no execution {id} of {source} since {since}; older ones are not kept, adjust instead"
            )
        } else {
            format!("the tenant has no execution {id} of {source}")
        };
        return Err(Refusal::not_found(reason));
    };
    if execution.voided {
        return Err(Refusal::conflict("the execution is already voided"));
    }
    store::void_execution(connection, &key).await?;
    let mut change = execution.totals.negated();
    change += Totals::VOIDED;
    let start = execution.period.start;
    store::change_period(connection, asked.number, start, change).await?;
    let mut changes = Changes::default();
    let share = Share {
        tenant: asked.number,
        workflow: execution.workflow_number,
        period_start: start,
        stopped_at: execution.stopped_at,
        duration: execution.duration,
        totals: change,
    };
    changes.add(share, &asked.timeline);
    store::log_changes(connection, &changes, now).await?;
    Ok((execution.period, Correcting::Void(key)))
}

/// Opens a period in which nothing was counted yet.
async fn open_period(
    bus: &Bus,
    connection: &mut PgConnection,
    asked: &Asked,
    start: Timestamp,
    now: Timestamp,
) -> Result<Period, Refusal> {
    let period = asked.timeline.period_of(start);
    if period.start != start || start > now {
        return Err(Refusal::invalid(format!("no past or current period of the tenant starts at {start}")));
    }
    store::ensure_periods(connection, asked.number, &[period].into(), now).await?;
    let opened = events::period_opened(bus.namespace(), asked.tenant.id.as_str(), period, now);
    outbox::enqueue(connection, &opened).await?;
    Ok(period)
}

/// The correction as it was made, if the same one is asked for again.
fn repeated(
    made: Correction,
    asked: &Asked,
    question: &v1::CorrectionQuestion,
    key: Option<&ExecutionKey>,
) -> Result<Correction, Refusal> {
    let is_same = match (&made.change, &question.change) {
        (Correcting::Void(voided), Some(Change::VoidExecution(_))) => key == Some(voided),
        (Correcting::Adjust(quantity), Some(Change::AdjustCount(adjust))) => {
            let start = asked.period_start(adjust.period_start.as_ref(), adjust.period_at.as_ref());
            *quantity == adjust.quantity && start == Ok(made.period.start)
        }
        _ => false,
    };
    if is_same && made.tenant_number == asked.number {
        Ok(made)
    } else {
        Err(Refusal::conflict(format!("another correction has the id {}; choose a new one", made.id)))
    }
}
