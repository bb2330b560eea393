//! Executions that a source numbers and never shows.

use std::sync::Arc;

use async_trait::async_trait;
use catalog::Source;
use messaging::ask::{self, Answerer, Refusal};
use proto::{
    subjects::Question,
    v1::{Recorded, RecordedAnswer, RecordedQuestion, SourceSynced},
};
use sandbox::n8n::{Runs, WorkflowChange, WorkflowSaving};

use crate::harness::Harness;

/// Runs of which no row is kept: each uses up an id.
fn run_unsaved(stage: &Harness, count: u32) {
    stage.n8n("north").run(&Runs::of("orderSync").count(count).unsaved()).unwrap();
}

fn unseen(synced: &SourceSynced) -> (u64, u32) {
    (synced.unseen_ids_max, synced.unsaving_workflows)
}

#[tokio::test]
async fn unsaved_executions_are_reported_once_the_next_sweep_misses_them_too() {
    let mut stage = Harness::start().await;
    let first = stage.first_sweep("north").await;
    assert_eq!(unseen(&first.synced), (0, 0));
    stage.run("north", 3);
    run_unsaved(&stage, 40);
    stage.run("north", 2);
    let second = stage.next_sweep("north").await;
    assert_eq!(second.ids(), [1, 2, 3, 44, 45]);
    assert_eq!(second.synced.unseen_ids_max, 0, "their rows may be late");
    let third = stage.next_sweep("north").await;
    assert_eq!(third.synced.unseen_ids_max, 40);
    assert_eq!(third.synced.unseen_since, first.synced.sweep_started_at);

    // An open execution has an id and no end, and a late row is seen after all.
    let open = stage.n8n("north").start(&sandbox::n8n::Start::of("orderSync")).unwrap();
    stage.n8n("north").run(&Runs::of("orderSync").uncommitted()).unwrap();
    run_unsaved(&stage, 2);
    stage.run("north", 1);
    stage.next_sweep("north").await;
    stage.n8n("north").commit(open + 1).unwrap();
    assert_eq!(stage.next_sweep("north").await.synced.unseen_ids_max, 42);
    assert_eq!(stage.next_sweep("north").await.synced.unseen_ids_max, 42, "counted once");
    stage.finish().await;
}

#[tokio::test]
async fn the_workflows_settings_narrow_the_number_of_unseen_ids() {
    let mut stage = Harness::start().await;
    let saving = |workflow: &str, saving| WorkflowChange::of(workflow).saving(saving);
    stage.n8n("north").change_workflow(&saving("orderSync", WorkflowSaving::All)).unwrap();
    stage.run("north", 1);
    stage.first_sweep("north").await;
    run_unsaved(&stage, 5);
    stage.run("north", 1);
    stage.next_sweep("north").await;
    let all_saved = stage.next_sweep("north").await;
    assert_eq!(unseen(&all_saved.synced), (0, 0), "every workflow saves everything: they were deleted");

    stage.n8n("north").change_workflow(&saving("silent", WorkflowSaving::Nothing)).unwrap();
    stage.bench.clock.advance(jiff::SignedDuration::from_hours(2));
    let some_not = stage.swept("north").await;
    assert_eq!(unseen(&some_not.synced), (0, 1));
    run_unsaved(&stage, 7);
    stage.run("north", 1);
    stage.next_sweep("north").await;
    assert_eq!(unseen(&stage.next_sweep("north").await.synced), (7, 1));
    stage.finish().await;
}

#[tokio::test]
async fn ids_from_before_the_first_sweep_are_ignored() {
    let mut stage = Harness::start().await;
    stage.run("north", 2);
    run_unsaved(&stage, 100);
    stage.run("north", 2);
    stage.first_sweep("north").await;
    assert_eq!(stage.next_sweep("north").await.synced.unseen_ids_max, 0);
    stage.finish().await;
}

/// Stands for the aggregator, which knows of these ids.
struct Pushed(std::ops::RangeInclusive<u64>);

#[async_trait]
impl Answerer for Pushed {
    type Question = RecordedQuestion;
    type Answer = RecordedAnswer;

    async fn answer(&self, question: RecordedQuestion) -> Result<RecordedAnswer, Refusal> {
        let asked = question.first_execution_id..=question.last_execution_id;
        let known = self.0.clone().filter(|id| asked.contains(id));
        let executions = known.map(|execution_id| Recorded { execution_id, ..Recorded::default() }).collect();
        Ok(RecordedAnswer { executions, next_execution_id: None })
    }
}

#[tokio::test]
async fn pushed_ids_are_not_unseen_and_wait_until_the_aggregator_answers() {
    let mut stage = Harness::start().await;
    let source = Source { push_token_sha256: Some([7; 32]), ..stage.source("north") };
    stage.add(&source, 1).await;
    stage.run("north", 1);
    stage.swept("north").await;
    run_unsaved(&stage, 40);
    stage.run("north", 1);
    stage.next_sweep("north").await;
    assert_eq!(stage.next_sweep("north").await.synced.unseen_ids_max, 0, "the aggregator is unavailable");
    let (bus, shutdown) = (stage.bench.context.bus.clone(), stage.bench.context.tasks.shutdown());
    stage.bench.context.tasks.spawn(ask::answer(bus, Question::Recorded, Arc::new(Pushed(2..=31)), shutdown));
    let mut reported = 0;
    for _ in 0..20 {
        reported = stage.next_sweep("north").await.synced.unseen_ids_max;
        if reported > 0 {
            break;
        }
    }
    assert_eq!(reported, 10, "30 of 40 were pushed");
    stage.finish().await;
}
