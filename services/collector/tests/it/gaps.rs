//! Missing executions are reported, and restored ones are not counted twice.

use proto::v1::GapReason;
use sandbox::n8n::{Runs, Start, Status};

use crate::harness::Harness;

#[tokio::test]
async fn an_open_execution_that_vanishes_is_a_gap_once() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    let deleted = n8n.start(&Start::of("slow")).unwrap();
    let unsaved = n8n.start(&Start::of("slow")).unwrap();
    stage.run("north", 2);
    stage.first_sweep("north").await;

    n8n.delete(deleted).unwrap();
    n8n.finish_unsaved(unsaved, Status::Success).unwrap();
    stage.next_sweep("north").await;
    for id in [deleted, unsaved] {
        let gap = stage.gaps.next().await;
        assert_eq!(gap.reason(), GapReason::OpenExecutionVanished);
        assert_eq!((gap.first_execution_id, gap.last_execution_id), (id.to_string(), id.to_string()));
    }

    // The next gap is another one: the first was published once.
    let second = n8n.start(&Start::of("slow")).unwrap();
    stage.next_sweep("north").await;
    n8n.delete(second).unwrap();
    stage.next_sweep("north").await;
    assert_eq!(stage.gaps.next().await.first_execution_id, second.to_string());
    stage.finish().await;
}

#[tokio::test]
async fn what_was_pruned_before_it_was_seen_is_a_gap() {
    let mut stage = Harness::start().await;
    stage.run("north", 10);
    stage.first_sweep("north").await;

    stage.run("north", 50);
    stage.n8n("north").prune(20);
    let second = stage.next_sweep("north").await;
    assert_eq!(second.ids(), (41..=60).collect::<Vec<_>>());
    let gap = stage.gaps.next().await;
    assert_eq!(gap.reason(), GapReason::PrunedBeforeSeen);
    assert_eq!((gap.first_execution_id.as_str(), gap.last_execution_id.as_str()), ("11", "40"));
    stage.finish().await;
}

#[tokio::test]
async fn unsaved_executions_and_old_pruning_are_no_gaps() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    stage.run("north", 10);
    stage.first_sweep("north").await;

    n8n.run(&Runs::of("quiet").unsaved().count(5)).unwrap();
    stage.run("north", 3);
    n8n.prune(5);
    assert_eq!(stage.next_sweep("north").await.ids(), [16, 17, 18]);

    // Everything known is pruned, and the next ids follow on.
    n8n.prune(0);
    assert_eq!(stage.next_sweep("north").await.ids(), Vec::<u64>::new());
    stage.run("north", 2);
    assert_eq!(stage.next_sweep("north").await.ids(), [19, 20]);

    // A real gap comes next: none was published before it.
    let vanishing = n8n.start(&Start::of("slow")).unwrap();
    stage.next_sweep("north").await;
    n8n.delete(vanishing).unwrap();
    stage.next_sweep("north").await;
    assert_eq!(stage.gaps.next().await.first_execution_id, vanishing.to_string());
    stage.finish().await;
}

#[tokio::test]
async fn a_restored_database_starts_an_epoch_and_its_old_rows_keep_their_keys() {
    // Back within the overlap; back below it; and past the old floor before anybody has looked.
    for (before, restored_to, after) in [(30, 20, 5), (500, 50, 3), (30, 20, 40)] {
        let mut stage = Harness::start().await;
        let n8n = stage.n8n("north");
        let waiting = n8n.start(&Start::of("approval").elsewhere()).unwrap();
        stage.run("north", before);
        let first = stage.first_sweep("north").await;
        assert_eq!((first.synced.epoch, first.executions.len()), (1, usize::try_from(before).unwrap()));

        stage.bench.clock.advance(jiff::SignedDuration::from_secs(10));
        n8n.restore(restored_to);
        let reused = stage.run("north", after);
        let second = stage.next_sweep("north").await;
        assert_eq!(second.synced.epoch, 2, "restored to {restored_to}");
        assert_eq!(second.ids(), reused, "restored to {restored_to}");

        let gap = stage.gaps.next().await;
        assert_eq!((gap.reason(), gap.epoch), (GapReason::EpochEnded, 1));
        assert_eq!((gap.first_execution_id, gap.last_execution_id.as_str()), ((before + 2).to_string(), ""));

        // It was never published, and started after all that were.
        n8n.finish(waiting, Status::Success).unwrap();
        let third = stage.next_sweep("north").await;
        assert_eq!((third.synced.epoch, third.ids(), third.former.len()), (2, vec![waiting], 0));
        let keys = stage.published().await.len();
        assert_eq!(keys, first.executions.len() + reused.len() + 1);
        stage.finish().await;
    }
}

#[tokio::test]
async fn deleting_the_newest_rows_is_no_restore() {
    let mut stage = Harness::start().await;
    let n8n = stage.n8n("north");
    stage.run("north", 10);
    stage.first_sweep("north").await;
    for id in 8..=10 {
        n8n.delete(id).unwrap();
    }
    let second = stage.next_sweep("north").await;
    assert_eq!((second.synced.epoch, second.ids()), (1, Vec::new()));
    stage.run("north", 2);
    let third = stage.next_sweep("north").await;
    assert_eq!((third.synced.epoch, third.ids()), (1, vec![11, 12]));
    stage.finish().await;
}
