//! Workflow names, which executions do not carry. Asked for when a workflow appears that is not known yet, and
//! done without where they cannot be had: a count needs no name.

use std::collections::HashMap;

use jiff::Timestamp;
use metering::{Execution, SourceId, WorkflowId};
use sqlx::PgPool;

use crate::{
    failure::SweepError,
    n8n::{N8n, N8nError},
    store,
};

/// Pages of workflows that one sweep reads: 2,000 workflows.
const PAGES_MAX: u32 = 40;

/// The names of one source's workflows, for one sweep.
pub struct Names<'a> {
    pool: &'a PgPool,
    n8n: &'a N8n,
    source: &'a SourceId,
    now: Timestamp,
    known: HashMap<WorkflowId, Option<String>>,
    listed: Option<Listed>,
}

/// What the source answered.
enum Listed {
    /// Its names, as far as they may be read. Ids that are not among them have none.
    Given(HashMap<String, String>),
    /// Nothing, this time.
    Failed,
}

impl<'a> Names<'a> {
    /// Nothing asked yet.
    pub fn new(pool: &'a PgPool, n8n: &'a N8n, source: &'a SourceId, now: Timestamp) -> Self {
        Self { pool, n8n, source, now, known: HashMap::new(), listed: None }
    }

    /// Fills in the names that can be had.
    pub async fn fill(&mut self, executions: &mut [Execution]) -> Result<(), SweepError> {
        let mut unknown: Vec<WorkflowId> = executions
            .iter()
            .map(|execution| &execution.workflow)
            .filter(|workflow| !self.known.contains_key(workflow))
            .cloned()
            .collect();
        unknown.sort();
        unknown.dedup();
        if !unknown.is_empty() {
            self.learn(unknown).await?;
        }
        for execution in executions {
            execution.workflow_name = self.known.get(&execution.workflow).cloned().flatten();
        }
        Ok(())
    }

    async fn learn(&mut self, unknown: Vec<WorkflowId>) -> Result<(), SweepError> {
        let stored = store::workflow_names(self.pool, self.source, &unknown, self.now).await?;
        let missing: Vec<WorkflowId> =
            unknown.into_iter().filter(|workflow| !stored.contains_key(workflow)).collect();
        self.known.extend(stored);
        if missing.is_empty() {
            return Ok(());
        }
        if self.listed.is_none() {
            self.listed = Some(self.list().await);
        }
        let learnt: Vec<(WorkflowId, Option<String>)> = match &self.listed {
            Some(Listed::Given(names)) => missing
                .into_iter()
                .map(|workflow| {
                    let name = names.get(workflow.as_str()).cloned();
                    (workflow, name)
                })
                .collect(),
            // Not kept: the next sweep asks again.
            Some(Listed::Failed) | None => {
                self.known.extend(missing.into_iter().map(|workflow| (workflow, None)));
                return Ok(());
            }
        };
        store::keep_workflow_names(self.pool, self.source, &learnt, self.now).await?;
        self.known.extend(learnt);
        Ok(())
    }

    async fn list(&self) -> Listed {
        let mut names = HashMap::new();
        let mut cursor = None;
        for _ in 0..PAGES_MAX {
            match self.n8n.workflows(cursor.as_deref()).await {
                Ok(page) => {
                    names.extend(page.data.into_iter().map(|workflow| (workflow.id, workflow.name)));
                    cursor = page.next_cursor;
                }
                Err(N8nError::Forbidden) => {
                    tracing::debug!(source = %self.source, "the API key may not read workflow names");
                    return Listed::Given(names);
                }
                Err(error) => {
                    tracing::debug!(source = %self.source, %error, "cannot read workflow names");
                    return Listed::Failed;
                }
            }
            if cursor.is_none() {
                break;
            }
        }
        Listed::Given(names)
    }
}
