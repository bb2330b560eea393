//! `PeriodEndQuestion`: an operator ends a tenant's current period early, so that another calendar applies at
//! once. The only exception to the rule that bounds never change. No execution moves: the period ends at the
//! next whole minute, or at the first one after its last execution.

use std::sync::Arc;

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use messaging::{
    Bus,
    ask::{Answerer, Refusal},
    outbox,
};
use metering::{Clock, Period};
use proto::{timestamp, v1};
use sqlx::PgPool;

use crate::{
    events,
    questions::{
        correct::{NAME_CHARS_MAX, REASON_CHARS_MAX, check_text},
        subject::{self, Asked},
    },
    store::{self, PeriodEnd},
};

/// Periods of one tenant that may be ended by hand in a day: bounds its timeline.
const ENDS_PER_DAY_MAX: i64 = 24;
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Periods end on whole minutes: Stripe sums meter events by whole minutes, so only those can be compared.
const MINUTE_SECONDS: i64 = 60;

/// Ends periods.
pub(crate) struct EndPeriod {
    pool: PgPool,
    bus: Bus,
    clock: Arc<dyn Clock>,
}

impl EndPeriod {
    pub(crate) fn new(pool: PgPool, bus: Bus, clock: Arc<dyn Clock>) -> Self {
        Self { pool, bus, clock }
    }

    async fn end(&self, asked: &mut Asked, question: &v1::PeriodEndQuestion) -> Result<PeriodEnd, Refusal> {
        let mut transaction = self.pool.begin().await?;
        let number = asked.number;
        store::lock_tenant(&mut transaction, number).await?;
        asked.refresh(&mut transaction).await?;
        if let Some(made) = store::period_end(&mut transaction, &question.end_id).await? {
            let is_same = made.tenant_number == number;
            let other =
                || Refusal::conflict(format!("another period end has the id {}; choose a new one", made.id));
            return if is_same { Ok(made) } else { Err(other()) };
        }
        let now = self.clock.now();
        let since = now.saturating_sub(DAY).unwrap_or(now);
        if store::count_ends(&mut transaction, number, since).await? >= ENDS_PER_DAY_MAX {
            let reason =
                format!("{ENDS_PER_DAY_MAX} periods of the tenant were ended within a day; try again later");
            return Err(Refusal::conflict(reason));
        }
        let period = asked.timeline.period_of(now);
        let last = store::last_stop(&mut transaction, number, period, now).await?;
        let after_last = last.and_then(|last| last.checked_add(SignedDuration::from_millis(1)).ok());
        let end = whole_minute(after_last.map_or(now, |after| after.max(now)));
        if end <= period.start || end >= period.end {
            let (start, end) = (period.start, period.end);
            let reason = format!("the period {start} to {end} has just begun, or is about to end anyway");
            return Err(Refusal::conflict(reason));
        }
        let opened_until = store::opened_until(&mut transaction, number).await?;
        for row in store::ensure_periods(&mut transaction, number, &[period].into(), now).await? {
            if row.opened {
                let tenant = asked.tenant.id.as_str();
                let opened = events::period_opened(self.bus.namespace(), tenant, row.period, now);
                outbox::enqueue(&mut transaction, &opened).await?;
            }
        }
        asked.timeline.end_period(end, opened_until);
        let made = PeriodEnd {
            id: question.end_id.clone(),
            tenant_number: number,
            author: question.author.clone(),
            reason: question.reason.clone(),
            asked_at: now,
            ended: Period { end, ..period },
            next: asked.timeline.period_of(end),
        };
        store::keep_period_end(&mut transaction, &made).await?;
        store::put_timeline(&mut transaction, number, &asked.timeline).await?;
        store::next_revision(&mut transaction, number).await?;
        store::raise_catalog_version(&mut transaction).await?;
        transaction.commit().await?;
        tracing::info!(tenant = %asked.tenant.id, end = made.id, author = made.author, at = %end, "period ended by hand");
        Ok(made)
    }
}

#[async_trait]
impl Answerer for EndPeriod {
    type Question = v1::PeriodEndQuestion;
    type Answer = v1::PeriodEnd;

    async fn answer(&self, question: v1::PeriodEndQuestion) -> Result<v1::PeriodEnd, Refusal> {
        check_text("end_id", &question.end_id, NAME_CHARS_MAX)?;
        check_text("author", &question.author, NAME_CHARS_MAX)?;
        check_text("reason", &question.reason, REASON_CHARS_MAX)?;
        let mut asked = subject::tenant(&self.pool, &question.tenant_id).await?;
        if asked.archived {
            return Err(Refusal::not_found(format!("tenant {} is archived", asked.tenant.id)));
        }
        let made = self.end(&mut asked, &question).await?;
        Ok(v1::PeriodEnd {
            question: Some(v1::PeriodEndQuestion {
                end_id: made.id,
                author: made.author,
                reason: made.reason,
                ..question
            }),
            ended: Some(made.ended.into()),
            next: Some(made.next.into()),
            asked_at: Some(timestamp(made.asked_at)),
        })
    }
}

/// The first whole minute at or after the instant.
fn whole_minute(instant: Timestamp) -> Timestamp {
    let second = instant.as_second() + i64::from(instant.subsec_nanosecond() > 0);
    let minutes = second.div_euclid(MINUTE_SECONDS) + i64::from(second.rem_euclid(MINUTE_SECONDS) > 0);
    Timestamp::from_second(minutes * MINUTE_SECONDS).unwrap_or(instant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_ends_on_the_next_whole_minute() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let noon = at("2026-11-24T12:00:00Z");
        assert_eq!(whole_minute(noon), noon);
        assert_eq!(whole_minute(at("2026-11-24T11:59:00.000000001Z")), noon);
        assert_eq!(whole_minute(at("2026-11-24T11:59:59.999Z")), noon);
    }
}
