//! What sweeps publish, and what they do not publish again.

use jiff::SignedDuration;
use proto::v1::{ExecutionMode, ExecutionStatus};
use sandbox::n8n::{Mode, Runs, Start, Status, Version, Wait};

use crate::harness::Harness;

#[tokio::test]
async fn the_first_sweep_publishes_everything_once_and_the_second_nothing() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    stage.run("north", 600);
    n8n.run(&Runs::of("failing").status(Status::Error).count(5)).unwrap();
    n8n.run(&Runs::of("byHand").mode(Mode::Manual).status(Status::Canceled)).unwrap();

    let first = stage.first_sweep("north").await;
    assert_eq!(first.ids(), (1..=606).collect::<Vec<_>>());
    assert_eq!(first.complete_until(), "2026-11-24T11:59:55Z".parse().unwrap());
    let order_sync = first.executions.iter().find(|e| e.workflow_id == "orderSync").unwrap();
    assert_eq!(order_sync.workflow_name, "Order sync");
    assert_eq!(order_sync.mode(), ExecutionMode::Webhook);
    let by_hand = first.executions.iter().find(|e| e.workflow_id == "byHand").unwrap();
    assert_eq!((by_hand.mode(), by_hand.status()), (ExecutionMode::Manual, ExecutionStatus::Canceled));

    // The overlap is listed again, and not published again.
    let second = stage.next_sweep("north").await;
    assert_eq!(second.ids(), Vec::<u64>::new());
    assert!(second.complete_until() > first.complete_until());
    assert_eq!(second.synced.published_through, first.synced.published_through);

    stage.run("north", 3);
    let third = stage.next_sweep("north").await;
    assert_eq!(third.ids(), [607, 608, 609]);
    assert!(third.synced.published_through > first.synced.published_through);
    stage.finish().await;
}

#[tokio::test]
async fn a_late_finisher_is_found_far_below_the_newest() {
    let mut stage = Harness::start().await;
    let running = stage.n8n("north").start(&Start::of("slow")).unwrap();
    let queued = stage.n8n("north").start(&Start::of("slow").queued()).unwrap();
    stage.run("north", 300);
    let first = stage.first_sweep("north").await;
    assert_eq!(first.executions.len(), 300);
    assert_eq!(first.synced.open_executions, 1, "the queued one has only just come");

    stage.run("north", 300);
    let second = stage.next_sweep("north").await;
    assert_eq!((second.executions.len(), second.synced.open_executions), (300, 2));

    stage.n8n("north").finish(running, Status::Success).unwrap();
    stage.n8n("north").finish(queued, Status::Error).unwrap();
    let third = stage.next_sweep("north").await;
    assert_eq!(third.ids(), [running, queued]);
    assert_eq!(stage.next_sweep("north").await.synced.open_executions, 0);
    stage.finish().await;
}

#[tokio::test]
async fn a_wait_of_weeks_is_counted_when_it_ends() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    let waiting = n8n.start(&Start::of("approval")).unwrap();
    n8n.wait(waiting, Wait::lasting(SignedDuration::from_hours(300))).unwrap();
    stage.run("north", 2);
    assert_eq!(stage.first_sweep("north").await.ids(), [2, 3]);

    stage.run("north", 500);
    assert_eq!(stage.next_sweep("north").await.executions.len(), 500);
    stage.bench.clock.advance(SignedDuration::from_hours(299));
    assert_eq!(stage.swept("north").await.synced.open_executions, 1);

    n8n.finish(waiting, Status::Success).unwrap();
    let last = stage.next_sweep("north").await;
    assert_eq!(last.ids(), [waiting]);
    let (started_at, stopped_at) =
        (last.executions[0].started_at.unwrap(), last.executions[0].stopped_at.unwrap());
    assert!(stopped_at.seconds - started_at.seconds > 299 * 3_600);
    stage.finish().await;
}

#[tokio::test]
async fn a_crash_that_becomes_an_error_is_published_again() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    let crashed = n8n.run(&Runs::of("worker").status(Status::Crashed)).unwrap()[0];
    stage.run("north", 300);
    let first = stage.first_sweep("north").await;
    assert_eq!(first.executions.len(), 301);

    // Far below the overlap by now: only the recheck can find it.
    stage.run("north", 300);
    assert_eq!(stage.next_sweep("north").await.executions.len(), 300);
    n8n.finish(crashed, Status::Error).unwrap();
    let third = stage.next_sweep("north").await;
    assert_eq!(third.ids(), [crashed]);
    assert_eq!(third.executions[0].status(), ExecutionStatus::Error);
    assert_eq!(stage.next_sweep("north").await.ids(), Vec::<u64>::new());
    stage.finish().await;
}

#[tokio::test]
async fn a_retry_is_an_execution_of_its_own() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    let failed = n8n.run(&Runs::of("worker").status(Status::Error)).unwrap()[0];
    assert_eq!(stage.first_sweep("north").await.ids(), [failed]);

    let retry = n8n.retry(failed, Status::Success).unwrap();
    let second = stage.next_sweep("north").await;
    assert_eq!(second.ids(), [retry], "the original has not changed");
    assert_eq!(second.executions[0].mode(), ExecutionMode::Retry);
    assert_eq!(second.executions[0].retry_of, failed.to_string());
    stage.finish().await;
}

#[tokio::test]
async fn a_row_that_commits_late_is_found_below_the_floor() {
    let mut stage = Harness::start().await;
    let late = stage.n8n("north").run(&Runs::of("late").uncommitted()).unwrap()[0];
    stage.run("north", 20);
    assert_eq!(stage.first_sweep("north").await.executions.len(), 20);
    stage.n8n("north").commit(late).unwrap();
    assert_eq!(stage.next_sweep("north").await.ids(), [late]);
    stage.finish().await;
}

#[tokio::test]
async fn version_1_is_swept_without_the_filter_it_does_not_know() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("old");
    n8n.configure(|config| config.version = Version::V1_123);
    let queued = n8n.start(&Start::of("w").queued()).unwrap();
    let running = n8n.start(&Start::of("w")).unwrap();
    stage.run("old", 260);
    assert_eq!(stage.first_sweep("old").await.executions.len(), 260);
    n8n.finish(queued, Status::Success).unwrap();
    n8n.finish(running, Status::Success).unwrap();
    assert_eq!(stage.next_sweep("old").await.ids(), [queued, running]);
    stage.finish().await;
}

#[tokio::test]
async fn version_1_hides_what_sleeps_in_memory_and_it_is_found_by_its_id() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("old");
    n8n.configure(|config| config.version = Version::V1_123);
    stage.run("old", 10);
    stage.first_sweep("old").await;

    let asleep = n8n.start(&Start::of("w")).unwrap();
    let wait = Wait { in_memory: true, ..Wait::lasting(SignedDuration::from_secs(60)) };
    n8n.wait(asleep, wait).unwrap();
    stage.run("old", 300);
    assert_eq!(stage.next_sweep("old").await.executions.len(), 300);
    stage.run("old", 300);
    assert_eq!(stage.next_sweep("old").await.executions.len(), 300);
    n8n.finish(asleep, Status::Success).unwrap();
    assert_eq!(stage.next_sweep("old").await.ids(), [asleep]);
    stage.finish().await;
}
