//! `UnmappedQuestion`: the executions that no attribution maps to a tenant.

use std::sync::Arc;

use async_trait::async_trait;
use messaging::ask::{Answerer, Refusal};
use metering::Clock;
use proto::{timestamp, v1};
use sqlx::PgPool;

use crate::{
    events::unsigned,
    store::{self, UnmappedWorkflow},
};

/// Workflows in one answer: keeps it far below the broker's 1 MB.
const WORKFLOWS_MAX: i64 = 1_000;

/// Answers.
pub(crate) struct AnswerUnmapped {
    pool: PgPool,
    clock: Arc<dyn Clock>,
}

impl AnswerUnmapped {
    pub(crate) fn new(pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        Self { pool, clock }
    }
}

#[async_trait]
impl Answerer for AnswerUnmapped {
    type Question = v1::UnmappedQuestion;
    type Answer = v1::UnmappedAnswer;

    async fn answer(&self, question: v1::UnmappedQuestion) -> Result<v1::UnmappedAnswer, Refusal> {
        let as_of = self.clock.now();
        let source = Some(question.source_id.as_str()).filter(|source| !source.is_empty());
        let rows = store::unmapped_workflows(&self.pool, source, WORKFLOWS_MAX).await?;
        let held = store::held(&self.pool, source).await?;
        let total = |of: fn(&UnmappedWorkflow) -> i64| rows.first().map_or(0, of);
        Ok(v1::UnmappedAnswer {
            workflows_total: unsigned(total(|row| row.workflows_total)),
            executions_total: unsigned(total(|row| row.executions_total)),
            as_of: Some(timestamp(as_of)),
            executions_held: unsigned(held),
            workflows: rows.into_iter().map(workflow).collect(),
        })
    }
}

fn workflow(row: UnmappedWorkflow) -> v1::UnmappedWorkflow {
    v1::UnmappedWorkflow {
        source_id: row.source_id,
        workflow: Some(v1::Workflow {
            workflow_id: row.workflow_id,
            name: row.name.unwrap_or_default(),
            project_id: row.project_id.unwrap_or_default(),
            tags: row.tags,
            read_at: None,
        }),
        executions: unsigned(row.executions),
        first_stopped_at: Some(timestamp(row.first_stopped_at.to_jiff())),
        last_stopped_at: Some(timestamp(row.last_stopped_at.to_jiff())),
    }
}
