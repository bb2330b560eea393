//! `WorkflowsQuestion`: the largest workflows of a tenant's period, with how long their runs take.

use std::sync::Arc;

use async_trait::async_trait;
use messaging::ask::{Answerer, Refusal};
use metering::Clock;
use proto::{timestamp, v1};
use sqlx::PgPool;

use crate::{events, questions::subject, store};

/// Workflows in one answer: keeps it far below the broker's 1 MB.
const WORKFLOWS_MAX: u32 = 1_000;

/// Answers.
pub(crate) struct AnswerWorkflows {
    pool: PgPool,
    clock: Arc<dyn Clock>,
}

impl AnswerWorkflows {
    pub(crate) fn new(pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        Self { pool, clock }
    }
}

#[async_trait]
impl Answerer for AnswerWorkflows {
    type Question = v1::WorkflowsQuestion;
    type Answer = v1::WorkflowsAnswer;

    async fn answer(&self, question: v1::WorkflowsQuestion) -> Result<v1::WorkflowsAnswer, Refusal> {
        if !(1..=WORKFLOWS_MAX).contains(&question.count_max) {
            return Err(Refusal::invalid(format!("ask for 1 to {WORKFLOWS_MAX} workflows")));
        }
        let asked = subject::tenant(&self.pool, &question.tenant_id).await?;
        let start = asked.period_start(question.period_start.as_ref(), question.period_at.as_ref())?;
        let as_of = subject::as_of(&self.pool, self.clock.now()).await?;
        let (rows, total, totals) = store::top_workflows(
            &self.pool,
            asked.number,
            start,
            (question.count_max.into(), question.by_failures),
        )
        .await?;
        let workflows = rows.into_iter().map(|row| {
            let quantile = |percent| row.durations.quantile_ms(percent);
            v1::WorkflowFigures {
                duration_p50_ms: quantile(50),
                duration_p95_ms: quantile(95),
                usage: Some(v1::WorkflowUsage {
                    source_id: row.source_id,
                    workflow_id: row.workflow_id,
                    workflow_name: row.workflow_name.unwrap_or_default(),
                    totals: Some(events::totals(&row.totals)),
                }),
            }
        });
        Ok(v1::WorkflowsAnswer {
            workflows: workflows.collect(),
            workflows_total: u64::try_from(total).unwrap_or(0),
            as_of: Some(timestamp(as_of)),
            totals: Some(events::totals(&totals)),
            period: Some(asked.timeline.period_of(start).into()),
            time_zone: asked.zone_at(start),
        })
    }
}
