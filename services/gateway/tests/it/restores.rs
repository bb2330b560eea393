//! A gateway's database or a broker that was restored or recreated.

use std::time::Duration;

use chassis::Service;
use gateway::{Gateway, GatewaySettings};
use proto::{streams::Stream, v1};
use reqwest::Method;
use serde_json::json;
use testkit::{Topic, eventually};

use crate::harness::{Harness, OPERATOR, plan};

/// Starts a gateway on the world's database and broker, as after a restore.
async fn start_again(world: &Harness) {
    let settings = GatewaySettings {
        listen: "127.0.0.1:0".parse().unwrap(),
        operator_token: OPERATOR.into(),
        public_url: None,
        collector_public_key: world.keys.public.clone(),
        metering_stale_after: Duration::from_secs(30 * 60),
        refusals_kept: chassis::KeepFor::days(400),
    };
    Gateway::start(world.bench.context.clone(), settings).await.unwrap();
}

async fn catalog(world: &Harness) -> Topic<v1::CatalogEntry> {
    world.bench.topic(Stream::Catalog, "catalog").await
}

/// The next value of the plan `pro`: its revision and its limit.
async fn next_plan(catalog: &mut Topic<v1::CatalogEntry>, above: u64) -> (u64, Option<u64>) {
    loop {
        if let Some(v1::catalog_entry::Entry::Plan(plan)) = catalog.next().await.entry
            && plan.revision > above
        {
            return (plan.revision, plan.monthly_limit);
        }
    }
}

async fn published(world: &Harness) {
    eventually("everything is published", || async {
        let left: i64 =
            sqlx::query_scalar("SELECT count(*) FROM outbox").fetch_one(world.bench.pool()).await.unwrap();
        (left == 0).then_some(())
    })
    .await;
}

async fn execute(world: &Harness, sql: &'static str) {
    sqlx::query(sql).execute(world.bench.pool()).await.unwrap();
}

#[tokio::test]
async fn a_restored_database_takes_over_changes_made_after_the_backup() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    published(&world).await;
    execute(&world, "CREATE TABLE backup AS SELECT * FROM catalog").await;
    for limit in [200, 300] {
        world.put("/v1/plans/pro", plan(limit)).await;
    }
    world.put("/v1/tenants/west", json!({"name": "West", "plan": "pro"})).await;
    let token = world.token_of("south").await;
    assert_eq!(world.ask(Method::DELETE, "/v1/tenants/south", None).await.0, 204);
    published(&world).await;

    execute(&world, "DELETE FROM catalog").await;
    execute(&world, "INSERT INTO catalog SELECT * FROM backup").await;
    execute(&world, "UPDATE tokens SET revoked_at = NULL").await;
    start_again(&world).await;
    assert_eq!(world.get("/v1/plans/pro").await["monthly_limit"], 300);
    assert_eq!(world.get("/v1/tenants/west").await["name"], "West");
    assert_eq!(world.ask(Method::GET, "/v1/tenants/south", None).await.0, 404);
    let (status, _) = world.ask_as(&token, Method::GET, "/v1/usage/south", None).await;
    assert_eq!(status, 401, "tokens of a removed tenant are refused");

    // The next revision is above all that the other services know.
    let revision = world.put("/v1/plans/pro", plan(400)).await["revision"].as_u64().unwrap();
    assert!(revision > 3, "{revision}");
    let (revision, limit) = next_plan(&mut catalog(&world).await, 3).await;
    assert!(revision > 3 && matches!(limit, Some(300 | 400)), "{revision} {limit:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_change_with_the_revision_of_a_lost_one_is_published_above_it() {
    let world = Harness::start().await;
    world.put("/v1/plans/pro", plan(100)).await;
    world.put("/v1/plans/pro", plan(200)).await;
    published(&world).await;
    execute(&world, "DELETE FROM catalog").await;
    // Like a restored gateway that continued with its old revisions.
    for limit in [150, 250] {
        world.put("/v1/plans/pro", plan(limit)).await;
    }
    published(&world).await;
    // The broker has the lost one.
    let lost = v1::Plan {
        plan_id: "pro".to_owned(),
        revision: 2,
        name: "Pro".to_owned(),
        monthly_limit: Some(200),
        ..v1::Plan::default()
    };
    let lost = v1::CatalogEntry { entry: Some(v1::catalog_entry::Entry::Plan(lost)) };
    let subject = world.bench.namespace().catalog(catalog::CatalogKind::Plan, "pro");
    world.bench.publish(subject, &lost).await;
    start_again(&world).await;
    assert_eq!(world.get("/v1/plans/pro").await["monthly_limit"], 250);
    assert_eq!(next_plan(&mut catalog(&world).await, 2).await, (3, Some(250)));
    world.finish().await;
}

#[tokio::test]
async fn a_recreated_broker_gets_the_whole_catalog_again() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.put("/v1/plans/pro", plan(200)).await;
    published(&world).await;
    let bus = world.bench.context.bus.clone();
    bus.jetstream().delete_stream(Stream::Catalog.name(bus.namespace())).await.unwrap();
    bus.ensure_all_streams().await.unwrap();
    start_again(&world).await;
    published(&world).await;
    assert_eq!(bus.life(Stream::Catalog).await.unwrap().last_sequence, 3);
    assert_eq!(next_plan(&mut catalog(&world).await, 0).await, (2, Some(200)), "unchanged");
    world.finish().await;
}
