//! `RecordedQuestion`: the recorded executions of a source, by id; asked by the collector's audits. Of
//! executions whose month was dropped, only the id is known.

use std::collections::BTreeMap;

use async_trait::async_trait;
use messaging::ask::{Answerer, Refusal};
use metering::SourceId;
use proto::{timestamp, v1};
use sqlx::PgPool;

use crate::store::{self, RecordedRow};

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
        let limit = EXECUTIONS_MAX + 1;
        // In this order: a month dropped between the two queries is seen by one of them.
        let rows =
            store::recorded(&self.pool, source, epoch, ids, i64::try_from(limit).unwrap_or(i64::MAX)).await?;
        let retired = store::retired_between(&self.pool, source, epoch, ids, limit).await?;
        let mut executions: BTreeMap<u64, v1::Recorded> =
            retired.into_iter().filter_map(only_its_id).chain(rows.into_iter().filter_map(kept)).collect();
        // Each query returns its first ids, so the first of both are the first of all.
        let next_execution_id = executions.keys().nth(EXECUTIONS_MAX).copied();
        if let Some(next) = next_execution_id {
            executions.split_off(&next);
        }
        Ok(v1::RecordedAnswer { executions: executions.into_values().collect(), next_execution_id })
    }
}

fn kept(row: RecordedRow) -> Option<(u64, v1::Recorded)> {
    let execution_id = u64::try_from(row.execution_id).ok()?;
    let recorded = v1::Recorded {
        execution_id,
        status: v1::ExecutionStatus::from(store::status_of(row.status)).into(),
        stopped_at: Some(timestamp(row.stopped_at.to_jiff())),
        tenant_id: row.tenant_id.unwrap_or_default(),
        counted: row.counted,
        mode: v1::ExecutionMode::from(store::mode_of(row.mode)).into(),
        workflow_id: row.workflow_id,
        confirmed: row.confirmed,
    };
    Some((execution_id, recorded))
}

fn only_its_id(id: i64) -> Option<(u64, v1::Recorded)> {
    let execution_id = u64::try_from(id).ok()?;
    Some((execution_id, v1::Recorded { execution_id, ..v1::Recorded::default() }))
}
