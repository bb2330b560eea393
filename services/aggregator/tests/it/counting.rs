//! Each execution counts once, whatever is sent and however often.

use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};
use proto::v1::{self, ExecutionMode, ExecutionStatus};

use crate::harness::{Harness, execution, executions};

fn totals(usage: &v1::UsageCounted) -> v1::Totals {
    usage.totals.expect("totals")
}

#[tokio::test]
async fn a_batch_becomes_usage_by_workflow() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=10)).await;
    let usage = running.usage_where(|totals| totals.counted == 10).await;
    assert_eq!(totals(&usage).duration_ms, 400);
    assert_eq!(totals(&usage).success, 10);
    let mut by_workflow: Vec<(String, String, u64)> = usage
        .workflows
        .into_iter()
        .map(|workflow| (workflow.workflow_id, workflow.workflow_name, workflow.totals.unwrap().counted))
        .collect();
    by_workflow.sort();
    let expected = [("w0", "Workflow 0", 3), ("w1", "Workflow 1", 4), ("w2", "Workflow 2", 3)];
    assert_eq!(by_workflow, expected.map(|(id, name, counted)| (id.to_owned(), name.to_owned(), counted)));
    running.bench.finish().await;
}

#[tokio::test]
async fn a_repeat_changes_nothing_and_another_epoch_is_another_execution() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=5)).await;
    running.send(executions(1..=5)).await;
    running.send(executions(3..=6)).await;
    running.usage_where(|totals| totals.counted == 6).await;
    running.send_from("north-n8n", 2, executions(1..=2)).await;
    let usage = running.usage_where(|totals| totals.counted > 6).await;
    assert_eq!(totals(&usage).counted, 8);
    running.bench.finish().await;
}

#[tokio::test]
async fn the_plan_decides_what_counts_and_the_rest_is_uncounted() {
    let mut running = Harness::start(None).await;
    let mut batch = executions(1..=4);
    batch[1].mode = ExecutionMode::Manual.into();
    batch[2].mode = ExecutionMode::Integrated.into();
    batch[3].status = ExecutionStatus::Canceled.into();
    running.send(batch).await;
    let usage = running.usage_where(|totals| totals.counted + totals.uncounted == 4).await;
    assert_eq!((totals(&usage).counted, totals(&usage).uncounted), (1, 3));
    running.bench.finish().await;
}

#[tokio::test]
async fn a_crash_that_becomes_an_error_counts_once_and_does_not_go_back() {
    let mut running = Harness::start(None).await;
    let mut crash = execution(7, "2026-11-24T11:00:00Z");
    crash.status = ExecutionStatus::Crashed.into();
    let mut error = execution(7, "2026-11-24T11:00:05Z");
    error.status = ExecutionStatus::Error.into();
    running.send(vec![crash.clone()]).await;
    running.usage_where(|totals| totals.crashed == 1).await;
    running.send(vec![error]).await;
    running.usage_where(|totals| totals.error == 1).await;
    running.send(vec![crash]).await;
    running.send(executions([8])).await;
    let usage = running.usage_where(|totals| totals.success == 1).await;
    assert_eq!((totals(&usage).counted, totals(&usage).error, totals(&usage).crashed), (2, 1, 0));
    running.bench.finish().await;
}

#[tokio::test]
async fn a_restart_in_the_middle_loses_and_repeats_nothing() {
    let mut running = Harness::start(None).await;
    for first in (0..40).map(|batch| batch * 25) {
        running.send(executions(first..first + 25)).await;
        if first == 250 || first == 600 {
            running.restart().await;
        }
    }
    let usage = running.usage_where(|totals| totals.counted >= 1_000).await;
    assert_eq!(totals(&usage).counted, 1_000);
    running.bench.finish().await;
}

/// The same executions in any order, in packs of any size, with any repeats, give the same usage.
#[tokio::test]
async fn order_packing_and_repeats_do_not_matter() {
    let mut runner = TestRunner::new(Config::default());
    let running = Harness::start(None).await;
    for round in 0..12_u32 {
        let plan = prop::collection::vec((0_u64..60, any::<bool>(), 1_usize..8), 80..120);
        let sends = plan.new_tree(&mut runner).unwrap().current();
        let mut packs: Vec<Vec<v1::Execution>> = vec![Vec::new()];
        for (id, crashed, pack_size) in &sends {
            let mut one = execution(*id, "2026-11-24T11:59:00Z");
            if *crashed && id.is_multiple_of(4) {
                one.status = ExecutionStatus::Crashed.into();
            }
            if packs.last().unwrap().len() >= *pack_size {
                packs.push(Vec::new());
            }
            packs.last_mut().unwrap().push(one);
        }
        let expected: std::collections::BTreeSet<u64> = sends.iter().map(|(id, ..)| *id).collect();
        let crashed_only = |id: &u64| {
            id.is_multiple_of(4)
                && sends.iter().filter(|(other, ..)| other == id).all(|(_, crashed, _)| *crashed)
        };
        let crashed = expected.iter().filter(|id| crashed_only(id)).count() as u64;
        let before = running.snapshot().await;
        let mut last = 0;
        for pack in packs {
            last = running.send_from("north-n8n", round + 1, pack).await;
        }
        running.handled(last).await;
        let after = running.snapshot().await;
        assert_eq!(after.0 - before.0, expected.len() as u64, "{sends:?}");
        assert_eq!(after.1 - before.1, crashed, "{sends:?}");
    }
    running.bench.finish().await;
}
