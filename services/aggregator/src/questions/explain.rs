//! `ExplainQuestion`: lists the executions and corrections that make up a period's figure.

use async_trait::async_trait;
use jiff::Timestamp;
use messaging::ask::{Answerer, Refusal};
use metering::Period;
use proto::{timestamp, v1};
use sqlx::PgPool;

use crate::{
    events,
    questions::subject,
    rollups::fold,
    store::{self, After, Explained},
};

/// Executions and corrections in one answer: keeps it far below the broker's 1 MB.
const EXECUTIONS_MAX: u32 = 1_000;
const CORRECTIONS_MAX: i64 = 1_000;

/// Explains.
pub(crate) struct Explain {
    pool: PgPool,
}

impl Explain {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

#[async_trait]
impl Answerer for Explain {
    type Question = v1::ExplainQuestion;
    type Answer = v1::ExplainAnswer;

    async fn answer(&self, question: v1::ExplainQuestion) -> Result<v1::ExplainAnswer, Refusal> {
        if !(1..=EXECUTIONS_MAX).contains(&question.count_max) {
            return Err(Refusal::invalid(format!("ask for 1 to {EXECUTIONS_MAX} executions")));
        }
        let after = read_page(&question.page)?;
        let asked = subject::tenant(&self.pool, &question.tenant_id).await?;
        let start = asked.period_start(question.period_start.as_ref(), question.period_at.as_ref())?;
        if !question.workflow_id.is_empty() {
            // Before the workflow is looked up: its first run may not be folded yet.
            fold::catch_up(&self.pool).await?;
        }
        let workflow =
            subject::workflow(&self.pool, &asked, &question.source_id, &question.workflow_id).await?;
        let kept_since = store::kept_since(&self.pool).await?;
        if start < kept_since {
            let reason =
                format!("single executions are kept since {kept_since}; this period began before that");
            return Err(Refusal::not_found(reason));
        }
        // One connection at a time: questions that hold one while they wait for another could block each
        // other.
        let Some(period) = period_at(&self.pool, asked.number, start).await? else {
            return Ok(v1::ExplainAnswer {
                totals: Some(v1::Totals::default()),
                period: Some(asked.timeline.period_of(start).into()),
                time_zone: asked.zone_at(start),
                ..v1::ExplainAnswer::default()
            });
        };
        let totals = match workflow {
            None => store::totals(&mut *self.pool.acquire().await?, asked.number, period).await?,
            Some(workflow) => store::workflow_totals(&self.pool, asked.number, start, workflow).await?,
        };
        let corrections = if after.is_none() {
            store::corrections(&self.pool, asked.number, start, CORRECTIONS_MAX).await?
        } else {
            Vec::new()
        };
        // One more row than is shown: if it exists, there is another page.
        let count = usize::try_from(question.count_max).unwrap_or(usize::MAX);
        let limit = i64::from(question.count_max) + 1;
        let mut rows = store::explained(&self.pool, asked.number, period, workflow, after, limit).await?;
        let has_more = rows.len() > count;
        rows.truncate(count);
        let next_page =
            rows.last().filter(|_| has_more).map(|last| write_page(last.place)).unwrap_or_default();
        Ok(v1::ExplainAnswer {
            executions: rows.into_iter().map(execution).collect(),
            corrections: corrections
                .iter()
                .map(|correction| events::correction(asked.tenant.id.as_str(), correction))
                .collect(),
            next_page,
            totals: Some(events::totals(&totals)),
            period: Some(period.into()),
            time_zone: asked.zone_at(start),
        })
    }
}

async fn period_at(pool: &PgPool, tenant: i32, start: Timestamp) -> Result<Option<Period>, Refusal> {
    Ok(store::period_at(&mut *pool.acquire().await?, tenant, start).await?)
}

fn execution(row: Explained) -> v1::ExplainedExecution {
    v1::ExplainedExecution {
        source_id: row.source_id,
        epoch: row.place.epoch.unsigned_abs(),
        execution: Some((&row.execution).into()),
        counted: row.counted && !row.voided,
        late: row.late,
        voided: row.voided,
        recorded_at: Some(timestamp(row.recorded_at)),
    }
}

/// A page token: the key of the last execution before the page.
fn write_page(after: After) -> String {
    let After { stopped_at, source_number, epoch, execution_id } = after;
    format!("{}.{source_number}.{epoch}.{execution_id}", stopped_at.as_microsecond())
}

fn read_page(page: &str) -> Result<Option<After>, Refusal> {
    if page.is_empty() {
        return Ok(None);
    }
    let unknown = || Refusal::invalid("unknown page; start with the first one");
    let mut parts = page.splitn(4, '.');
    let mut part = || parts.next().and_then(|part| part.parse::<i64>().ok()).ok_or_else(unknown);
    let (micros, source_number, epoch, execution_id) = (part()?, part()?, part()?, part()?);
    Ok(Some(After {
        stopped_at: Timestamp::from_microsecond(micros).map_err(|_| unknown())?,
        source_number: i32::try_from(source_number).map_err(|_| unknown())?,
        epoch: i32::try_from(epoch).map_err(|_| unknown())?,
        execution_id,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_token_is_parsed_back_and_an_invalid_one_is_refused() {
        let after = After {
            stopped_at: "2026-11-24T12:00:00.000001Z".parse().unwrap(),
            source_number: 3,
            epoch: 1,
            execution_id: 42,
        };
        assert_eq!(read_page(&write_page(after)), Ok(Some(after)));
        assert_eq!(read_page(""), Ok(None));
        for nonsense in ["7", "1.2.3.x", "1.2.3.4.5", "9223372036854775807.1.1.1"] {
            assert!(read_page(nonsense).is_err(), "{nonsense}");
        }
    }
}
