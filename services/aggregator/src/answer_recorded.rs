//! `RecordedQuestion`: what has been recorded of a source, by id; the collector's audits ask it.

use async_trait::async_trait;
use messaging::ask::{Answerer, Refusal};
use metering::SourceId;
use proto::{timestamp, v1};
use sqlx::PgPool;

use crate::store;

/// Executions in one answer: keeps it far below the broker's 1 MB.
const EXECUTIONS_MAX: usize = 5_000;

/// Answers.
pub(crate) struct AnswerRecorded {
    pool: PgPool,
}

impl AnswerRecorded {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    async fn source(&self, id: &str) -> Result<i32, Refusal> {
        let source = SourceId::parse(id).map_err(Refusal::invalid)?;
        let mut connection = self.pool.acquire().await?;
        let found = store::source_numbers(&mut connection, std::slice::from_ref(&source)).await?.pop();
        found
            .map(|(_, number)| number)
            .ok_or_else(|| Refusal::not_found(format!("there is no source {source}")))
    }
}

#[async_trait]
impl Answerer for AnswerRecorded {
    type Question = v1::RecordedQuestion;
    type Answer = v1::RecordedAnswer;

    async fn answer(&self, question: v1::RecordedQuestion) -> Result<v1::RecordedAnswer, Refusal> {
        let source = self.source(&question.source_id).await?;
        let epoch =
            i32::try_from(question.epoch).map_err(|_| Refusal::invalid("the epoch is out of range"))?;
        let bound = |id: u64| i64::try_from(id).unwrap_or(i64::MAX);
        let ids = (bound(question.first_execution_id), bound(question.last_execution_id));
        let limit = i64::try_from(EXECUTIONS_MAX + 1).unwrap_or(i64::MAX);
        let mut rows = store::recorded(&self.pool, source, epoch, ids, limit).await?;
        let next_execution_id = match rows.len() > EXECUTIONS_MAX {
            true => rows.pop().and_then(|row| u64::try_from(row.execution_id).ok()),
            false => None,
        };
        let executions = rows.into_iter().filter_map(|row| {
            Some(v1::Recorded {
                execution_id: u64::try_from(row.execution_id).ok()?,
                status: v1::ExecutionStatus::from(store::status_of(row.status)).into(),
                stopped_at: Some(timestamp(row.stopped_at.to_jiff())),
                tenant_id: row.tenant_id.unwrap_or_default(),
                counted: row.counted,
            })
        });
        Ok(v1::RecordedAnswer { executions: executions.collect(), next_execution_id })
    }
}
