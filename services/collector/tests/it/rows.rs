//! Rows that cannot be read.

use prost::Message as _;
use proto::v1::{Origin, SourceRow};
use sandbox::n8n::N8nFault;
use serde_json::json;
use testkit::eventually;

use crate::harness::Harness;

#[tokio::test]
async fn a_row_of_unknown_status_becomes_one_dead_letter_and_the_rest_is_published() {
    let mut stage = Harness::start().await;
    stage.run("north", 3);
    stage.n8n("north").fault(N8nFault::UnknownStatus, None);
    assert_eq!(stage.first_sweep("north").await.ids(), [1, 2]);
    let letter = stage.letters.next().await;
    assert_eq!(letter.reason, "unknown status \"suspended\"");
    assert_eq!(letter.original_subject, stage.bench.namespace().rows("north"));
    let row = SourceRow::decode(letter.original_payload).unwrap();
    assert_eq!((row.source_id.as_str(), row.epoch), ("north", 1));

    // Swept again it is the same bad row; another row is another letter.
    stage.next_sweep("north").await;
    stage.run("north", 1);
    assert_eq!(stage.next_sweep("north").await.ids(), [3], "its list row is readable again");
    let second = SourceRow::decode(stage.letters.next().await.original_payload).unwrap();
    assert!(String::from_utf8_lossy(&second.row).contains("\"id\":\"4\""));

    stage.n8n("north").clear_faults();
    assert_eq!(stage.next_sweep("north").await.ids(), [4]);
    stage.finish().await;
}

fn source_row(row: &serde_json::Value) -> SourceRow {
    SourceRow {
        source_id: "north".into(),
        epoch: 3,
        row: row.to_string().into_bytes().into(),
        received_at: None,
    }
}

#[tokio::test]
async fn a_row_is_read_again_when_it_is_replayed() {
    let mut stage = Harness::start().await;
    stage.first_sweep("north").await;
    let rows = stage.bench.namespace().rows("north");
    let good = json!({"id": "7", "status": "success", "mode": "webhook", "workflowId": "w",
                      "startedAt": "2026-11-24T01:00:00.000Z", "stoppedAt": "2026-11-24T01:00:01.000Z"});
    stage.bench.publish(rows.clone(), &source_row(&good)).await;
    let batch = stage.next_executions().await;
    assert_eq!((batch.origin(), batch.epoch), (Origin::Replay, 1));
    assert_eq!(batch.executions[0].execution_id, "7");

    let bad = json!({"id": "8", "status": "foo"});
    stage.bench.publish(rows.clone(), &source_row(&bad)).await;
    let letter = stage.letters.next().await;
    assert_eq!((letter.reason.as_str(), letter.original_subject), ("unknown status \"foo\"", rows.clone()));
    stage.bench.publish_bytes(rows, b"\xff\xff").await;
    assert!(stage.letters.next().await.reason.contains("SourceRow"));

    let pool = stage.bench.pool().clone();
    eventually("the replayed batch is part of what SourceSynced reports", || async {
        let through: i64 =
            sqlx::query_scalar("SELECT published_through FROM sources").fetch_one(&pool).await.unwrap();
        (through == 1).then_some(())
    })
    .await;
    assert_eq!(stage.next_sweep("north").await.synced.published_through, 1);
    stage.finish().await;
}
