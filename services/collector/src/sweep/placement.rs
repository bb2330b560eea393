//! Answers which tags and which project a workflow has, so that the limit check knows its tenant before it
//! runs.

use std::{collections::BTreeSet, sync::Arc};

use async_trait::async_trait;
use catalog::Source;
use messaging::{
    ask::{Answerer, Refusal},
    error_chain,
};
use metering::{Clock, SourceId, WorkflowId};
use proto::v1::{PlacementAnswer, PlacementQuestion};
use sqlx::PgPool;

use crate::{push::receive::UNKNOWN_WORKFLOW_PAUSE_S, store};

/// Answers [`proto::subjects::Question::Placement`].
pub struct AnswerPlacement {
    /// Where workflows are kept.
    pub pool: PgPool,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Answerer for AnswerPlacement {
    type Question = PlacementQuestion;
    type Answer = PlacementAnswer;

    async fn answer(&self, question: PlacementQuestion) -> Result<PlacementAnswer, Refusal> {
        let source = SourceId::parse(&question.source_id).map_err(Refusal::invalid)?;
        let workflow = WorkflowId::parse(&question.workflow_id).map_err(Refusal::invalid)?;
        let asked = BTreeSet::from([workflow]);
        let known = store::workflows::of(&self.pool, &source, &asked).await?;
        if known.is_empty() {
            self.look_soon(&source).await?;
        }
        let known = known.into_iter().find_map(|(id, known)| Some((id, known?)));
        Ok(PlacementAnswer {
            workflow: known.map(|(id, (workflow, read_at))| workflow.to_wire(&id, read_at)),
        })
    }
}

impl AnswerPlacement {
    /// Makes the next sweep come at once and read the list, at most once a minute: the caller may name any
    /// workflow.
    async fn look_soon(&self, source: &SourceId) -> Result<(), Refusal> {
        let found = catalog::store::find::<Source>(&self.pool, source.as_str()).await;
        let found = found.map_err(|error| Refusal::unavailable(error_chain(&error)))?;
        if found.is_some_and(|source| source.depends_on_places()) {
            store::workflows::want(&self.pool, source, UNKNOWN_WORKFLOW_PAUSE_S, self.clock.now()).await?;
        }
        Ok(())
    }
}
