//! Workflows' names, tags and projects.

use catalog::{Attribution, Scope, Source};
use jiff::SignedDuration;
use metering::TenantId;
use proto::v1::Workflow;
use sandbox::n8n::{N8nFault, Runs, WorkflowChange};

use crate::harness::{Harness, STEP};

/// After it, a reading of the list is too old for names.
const NAMES_OLD: SignedDuration = SignedDuration::from_secs(61 * 60);

/// After it, for tags and projects if a tenant depends on them.
const PLACES_OLD: SignedDuration = SignedDuration::from_secs(11 * 60);

/// A source whose executions have a tenant by their workflow's tag.
fn shared(stage: &Harness, name: &str) -> Source {
    let tenant = TenantId::parse("south").unwrap();
    let attribution = Attribution { tenant, scope: Scope::Tag("south".into()), from: None };
    Source { attributions: vec![attribution], ..stage.source(name) }
}

/// Awaits the next batch with workflows; counts the executions that came before.
async fn next_workflows(stage: &mut Harness) -> (Vec<Workflow>, usize) {
    let mut executions = 0;
    loop {
        let batch = stage.next_batch().await;
        if !batch.workflows.is_empty() {
            return (batch.workflows, executions);
        }
        executions += batch.executions.len();
    }
}

#[tokio::test]
async fn what_a_tenant_depends_on_is_published_before_executions_and_on_changes() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    n8n.run(&Runs::of("w").named("Old name").count(3)).unwrap();
    n8n.change_workflow(&WorkflowChange::of("w").tagged(["south", "east"]).in_project("p")).unwrap();
    stage.add(&shared(&stage, "north"), 1).await;
    let (published, executions) = next_workflows(&mut stage).await;
    assert_eq!((published.len(), executions), (1, 0));
    assert_eq!((published[0].workflow_id.as_str(), published[0].name.as_str()), ("w", "Old name"));
    assert_eq!((published[0].tags.join(","), published[0].project_id.as_str()), ("east,south".into(), "p"));
    let batch = stage.next_batch().await;
    assert_eq!((batch.executions.len(), batch.executions[0].workflow_name.as_str()), (3, "Old name"));
    stage.swept_without_reading("north").await;

    // Nothing ran, and it is published all the same once the reading is old.
    n8n.change_workflow(&WorkflowChange::of("w").named("New name").tagged(["south"])).unwrap();
    stage.bench.clock.advance(PLACES_OLD);
    let (published, executions) = next_workflows(&mut stage).await;
    assert_eq!((published.len(), published[0].name.as_str(), executions), (1, "New name", 0));
    assert_eq!(published[0].tags, ["south"]);
    stage.swept_without_reading("north").await;

    // An unknown workflow is published with its first execution, and alone: the other has not changed.
    n8n.run(&Runs::of("x")).unwrap();
    stage.bench.clock.advance(STEP);
    let (published, executions) = next_workflows(&mut stage).await;
    assert_eq!((published.len(), published[0].workflow_id.as_str(), executions), (1, "x", 0));
    stage.finish().await;
}

#[tokio::test]
async fn a_source_of_one_tenant_keeps_its_names_fresh() {
    let mut stage = Harness::start().await;
    stage.run("north", 1);
    assert_eq!(stage.first_sweep("north").await.executions[0].workflow_name, "Order sync");
    stage.n8n("north").change_workflow(&WorkflowChange::of("orderSync").named("Orders")).unwrap();
    stage.n8n("north").run(&Runs::of("orderSync")).unwrap();
    assert_eq!(
        stage.next_sweep("north").await.executions[0].workflow_name,
        "Order sync",
        "not yet read again"
    );
    stage.n8n("north").run(&Runs::of("orderSync")).unwrap();
    stage.bench.clock.advance(NAMES_OLD);
    assert_eq!(stage.swept("north").await.executions[0].workflow_name, "Orders");
    stage.finish().await;
}

#[tokio::test]
async fn executions_are_published_even_if_workflows_cannot_be_read() {
    let mut stage = Harness::start().await;
    for fault in [N8nFault::WorkflowsForbidden, N8nFault::WorkflowsBroken] {
        stage.n8n("north").clear_faults();
        stage.n8n("north").fault(fault, None);
        stage.n8n("north").run(&Runs::of(format!("{fault:?}")).named("Order sync")).unwrap();
        let sweep = match fault {
            N8nFault::WorkflowsForbidden => stage.first_sweep("north").await,
            _ => stage.next_sweep("north").await,
        };
        assert_eq!(sweep.executions.len(), 1, "{fault:?}");
        assert_eq!(sweep.executions[0].workflow_name, "", "{fault:?}");
    }
    // The one that failed is read by the next sweep; the one that was refused, when the reading is old.
    stage.n8n("north").clear_faults();
    stage.n8n("north").run(&Runs::of("WorkflowsBroken")).unwrap();
    let again = stage.next_sweep("north").await;
    assert_eq!(again.executions[0].workflow_name, "Order sync");
    stage.finish().await;
}

#[tokio::test]
async fn more_workflows_than_a_message_holds_are_all_published() {
    let mut stage = Harness::start().await;
    for number in 0..260 {
        stage.n8n("north").change_workflow(&WorkflowChange::of(format!("w{number:03}"))).unwrap();
    }
    stage.first_sweep("north").await;
    let published = [stage.next_batch().await, stage.next_batch().await].map(|batch| batch.workflows.len());
    assert_eq!(published, [250, 10]);
    stage.finish().await;
}
