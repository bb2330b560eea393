//! The limit check asks which tags and project a workflow has.

use std::time::Duration;

use catalog::{Attribution, Scope, Source};
use metering::TenantId;
use proto::{
    subjects::Question,
    v1::{PlacementAnswer, PlacementQuestion},
};
use sandbox::n8n::{Runs, WorkflowChange};
use testkit::eventually;

use crate::harness::{Harness, STEP};

async fn ask(stage: &Harness, workflow: &str) -> PlacementAnswer {
    let question = PlacementQuestion { source_id: "north".into(), workflow_id: workflow.into() };
    let wait = Duration::from_secs(10);
    stage.bench.context.bus.ask(Question::Placement, &question, wait).await.unwrap()
}

#[tokio::test]
async fn a_workflow_is_placed_by_the_list_and_an_unknown_one_is_looked_up() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    n8n.run(&Runs::of("orders").count(1)).unwrap();
    n8n.change_workflow(&WorkflowChange::of("orders").tagged(["south"]).in_project("p")).unwrap();
    let tenant = TenantId::parse("south").unwrap();
    let attribution = Attribution { tenant, scope: Scope::Tag("south".into()), from: None };
    let source = Source { attributions: vec![attribution], ..stage.source("north") };
    stage.add(&source, 1).await;
    eventually("the list is read", || async { ask(&stage, "orders").await.workflow }).await;
    let known = ask(&stage, "orders").await.workflow.unwrap();
    assert_eq!((known.tags.join(","), known.project_id.as_str()), ("south".into(), "p"));

    // A new workflow has not run yet: asking for it makes the collector read the list before an interval has passed.
    stage.swept_without_reading("north").await;
    n8n.change_workflow(&WorkflowChange::of("invoices").tagged(["south"])).unwrap();
    stage.bench.clock.advance(STEP);
    let placed =
        eventually("the new workflow is placed", || async { ask(&stage, "invoices").await.workflow });
    assert_eq!(placed.await.tags, ["south"]);
    stage.finish().await;
}
