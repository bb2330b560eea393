//! The catalog's messages reach the broker in the order of their revisions, however many relays there are.

use gateway::Gateway;
use messaging::{Outgoing, outbox};
use proto::{streams::Stream, v1, v1::catalog_entry::Entry};
use testkit::TestBed;

use crate::harness::{Harness, NOW};

fn plan(id: &str, revision: u64) -> v1::CatalogEntry {
    let plan = v1::Plan { plan_id: id.to_owned(), revision, removed: true, ..v1::Plan::default() };
    v1::CatalogEntry { entry: Some(Entry::Plan(plan)) }
}

async fn enqueue(bench: &TestBed, id: &str, revision: u64) {
    let subject = bench.namespace().catalog(proto::subjects::CatalogKind::Plan, id);
    let message_id = format!("catalog:plan:{id}:{revision}");
    let outgoing = Outgoing::new(subject, message_id, &plan(id, revision), NOW.parse().unwrap());
    let mut transaction = bench.pool().begin().await.unwrap();
    outbox::enqueue(&mut transaction, &[outgoing]).await.unwrap();
    transaction.commit().await.unwrap();
}

#[tokio::test]
async fn a_revision_waits_for_an_earlier_one_that_another_relay_holds() {
    let bench = TestBed::of::<Gateway>(NOW).await;
    enqueue(&bench, "pro", 1).await;
    enqueue(&bench, "pro", 2).await;
    enqueue(&bench, "other", 1).await;
    // Like a relay that has taken the first revision and has not published it yet.
    let mut relay = bench.pool().begin().await.unwrap();
    sqlx::query("SELECT 1 FROM outbox ORDER BY id LIMIT 1 FOR UPDATE").execute(&mut *relay).await.unwrap();

    let mut catalog = bench.topic::<v1::CatalogEntry>(Stream::Catalog, "catalog").await;
    let world = Harness::on(bench).await;
    assert_eq!(catalog.next().await, plan("other", 1), "another subject does not wait");
    relay.rollback().await.unwrap();
    assert_eq!(catalog.next().await, plan("pro", 1));
    assert_eq!(catalog.next().await, plan("pro", 2));
    world.finish().await;
}
