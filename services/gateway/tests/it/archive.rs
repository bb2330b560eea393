//! Removed tenants and sources, and values that cannot be read: what stays readable, and which ids cannot be
//! reused.

use proto::{
    streams::Stream,
    v1::{self, catalog_entry::Entry},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Harness, at, november, usage};

fn north() -> Value {
    json!({"name": "North", "plan": "pro", "time_zone": "Europe/Madrid", "alert_recipients": ["ops@north.example"],
        "stripe_customer_id": "cus_north"})
}

fn source(base_url: &str) -> Value {
    json!({"tenant": "north", "kind": "n8n", "base_url": base_url, "api_key": "key", "poll_interval": "10m"})
}

fn ids(list: &Value, what: &str) -> Vec<String> {
    let list = list[what].as_array().unwrap();
    list.iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_removed_tenant_is_archived_and_its_figures_stay_readable() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.put("/v1/tenants/north", north()).await;
    let token = world.token_of("north").await;
    world.counted(usage("north", 42, 1)).await;
    let closed = v1::PeriodEvent {
        event: Some(v1::period_event::Event::Closed(v1::PeriodClosed {
            tenant_id: "north".into(),
            period: crate::harness::period("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"),
            revision: 1,
            totals: Some(v1::Totals { counted: 30, success: 30, ..v1::Totals::default() }),
            closed_at: at("2026-11-01T00:10:00Z"),
            plan_id: "pro".into(),
            time_zone: "UTC".into(),
            ..v1::PeriodClosed::default()
        })),
    };
    world.bench.publish(world.bench.namespace().usage_period("north"), &closed).await;
    let periods = testkit::eventually("the closed period", || async {
        let list = world.get("/v1/usage/north/periods").await;
        (list["periods"].as_array().unwrap().len() == 1).then_some(list)
    })
    .await;
    let mut events = world.bench.topic::<v1::CatalogEntry>(Stream::Catalog, "catalog.tenant").await;
    assert_eq!(world.ask(Method::DELETE, "/v1/tenants/north", None).await.0, 204);

    assert_eq!(ids(&world.get("/v1/tenants").await, "tenants"), ["south"]);
    let archived = world.get("/v1/tenants?archived=true").await;
    let one = &archived["tenants"][0];
    assert_eq!((ids(&archived, "tenants"), &one["name"]), (vec!["north".to_owned()], &json!("North")));
    assert_eq!((&one["archived"], &one["archived_at"]), (&json!(true), &json!("2026-11-24T12:00:00Z")));
    assert_eq!((&one["plan"], &one["alert_recipients"]), (&json!("pro"), &json!([])));
    let figures = world.get("/v1/usage/north").await;
    assert_eq!((&figures["counted"], &figures["archived"]), (&json!(42), &json!(true)), "{figures}");
    assert_eq!(
        world.get("/v1/usage").await["usage"].as_array().unwrap().len(),
        1,
        "without archived tenants"
    );
    assert_eq!(world.get("/v1/usage/north/periods").await["periods"], periods["periods"]);
    // Its last figures stay visible, even when their month is over.
    world.bench.clock.set("2027-01-15T00:00:00Z".parse().unwrap());
    let later = world.get("/v1/usage/north").await;
    assert_eq!((&later["counted"], &later["period"]), (&figures["counted"], &figures["period"]));
    // Its tokens were revoked, and no other tenant's token has access.
    let south = world.token_of("south").await;
    for token in [token, south] {
        let status = world.ask_as(&token, Method::GET, "/v1/usage/north", None).await.0;
        assert!([401, 403, 404].contains(&status), "{status}");
    }
    loop {
        let Some(Entry::Tenant(wire)) = events.next().await.entry else { continue };
        if wire.tenant_id == "north" && wire.removed {
            assert_eq!((wire.name.as_str(), wire.alert_recipients.len()), ("North", 0));
            break;
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn a_removed_plan_hides_no_archived_tenant() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.counted(usage("north", 42, 1)).await;
    for path in ["/v1/tenants/north", "/v1/tenants/south", "/v1/plans/pro"] {
        assert_eq!(world.ask(Method::DELETE, path, None).await.0, 204, "{path}");
    }
    let figures = world.get("/v1/usage/north").await;
    assert_eq!((&figures["counted"], &figures["limit"]), (&json!(42), &Value::Null), "{figures}");
    // A tombstone of the previous version has only the id.
    sqlx::query("UPDATE catalog SET value = $1 WHERE kind = 'tenant' AND id = 'south'")
        .bind(prost::Message::encode_to_vec(&v1::Tenant {
            tenant_id: "south".into(),
            revision: 2,
            removed: true,
            ..v1::Tenant::default()
        }))
        .execute(world.bench.pool())
        .await
        .unwrap();
    let archived = world.get("/v1/tenants?archived=true").await;
    assert_eq!(ids(&archived, "tenants"), ["north", "south"]);
    assert_eq!(
        (&archived["tenants"][1]["name"], &archived["tenants"][1]["plan"]),
        (&json!("south"), &json!("unknown"))
    );
    assert_eq!(world.get("/v1/usage/south/periods").await["periods"], json!([]));
    world.finish().await;
}

#[tokio::test]
async fn the_id_of_a_removed_source_is_reused_only_for_the_same_n8n() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.put("/v1/sources/north-n8n", source("https://n8n.north.example")).await;
    assert_eq!(world.ask(Method::DELETE, "/v1/sources/north-n8n", None).await.0, 204);
    let another = source("https://another.example");
    let (status, refused) = world.ask(Method::PUT, "/v1/sources/north-n8n", Some(another.clone())).await;
    let error = &refused["error"];
    assert_eq!((status, &error["code"]), (409, &json!("removed")), "{refused}");
    let message = error["message"].as_str().unwrap();
    assert!(message.contains("--restore north-n8n") && message.contains("same n8n"), "{message}");
    assert_eq!(world.ask(Method::GET, "/v1/sources/north-n8n", None).await.0, 404, "nothing was changed");
    let restored = world.put("/v1/sources/north-n8n?restore=true", another).await;
    assert_eq!(restored["revision"], 3);
    world.put("/v1/sources/other?restore=true", source("https://third.example")).await;
    world.finish().await;
}

#[tokio::test]
async fn a_damaged_value_affects_only_itself_and_is_repaired_by_putting_it_again() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.put("/v1/plans/free", json!({"name": "Free"})).await;
    world.put("/v1/sources/north-n8n", source("https://n8n.north.example")).await;
    world.put("/v1/sources/north-two", source("https://two.north.example")).await;
    for (kind, id) in [("tenant", "south"), ("plan", "free"), ("source", "north-two")] {
        sqlx::query("UPDATE catalog SET value = '\\xffffff' WHERE kind = $1 AND id = $2")
            .bind(kind)
            .bind(id)
            .execute(world.bench.pool())
            .await
            .unwrap();
    }
    for (what, good, bad) in
        [("tenants", "north", "south"), ("plans", "pro", "free"), ("sources", "north-n8n", "north-two")]
    {
        let list = world.get(&format!("/v1/{what}")).await;
        assert_eq!((ids(&list, what), ids(&list, "damaged")), (vec![good.to_owned()], vec![bad.to_owned()]));
        assert!(!list["damaged"][0]["reason"].as_str().unwrap().is_empty(), "{list}");
    }
    // A replica that starts now reads the whole catalog and serves the other values all the same.
    let replica = world.replica().await;
    let ask = world.request_to(&replica, Method::GET, "/v1/usage").bearer_auth(crate::harness::OPERATOR);
    let (status, list) = crate::harness::answer(ask).await;
    let tenants: Vec<&Value> = list["usage"].as_array().unwrap().iter().map(|one| &one["tenant"]).collect();
    assert_eq!((status, tenants), (200, vec![&json!("north")]));
    // Other values can still be changed, with all checks.
    world.put("/v1/tenants/north", north()).await;
    world.put("/v1/tenants/south", json!({"name": "South", "plan": "pro"})).await;
    world.put("/v1/plans/free", json!({"name": "Free"})).await;
    let keyless = json!({"tenant": "north", "kind": "n8n", "base_url": "https://two.north.example"});
    let (status, refused) = world.ask(Method::PUT, "/v1/sources/north-two", Some(keyless)).await;
    assert_eq!((status, &refused["error"]["field"]), (422, &json!("api_key")), "its key was lost with it");
    world.put("/v1/sources/north-two", source("https://two.north.example")).await;
    for what in ["tenants", "plans", "sources"] {
        let list = world.get(&format!("/v1/{what}")).await;
        assert_eq!((ids(&list, what).len(), ids(&list, "damaged").len()), (2, 0), "{list}");
    }
    world.finish().await;
}

#[tokio::test]
async fn the_current_period_shows_the_time_zone_that_it_was_cut_in() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.put("/v1/tenants/north", north()).await;
    let counted = v1::UsageCounted { time_zone: "UTC".into(), period: november(), ..usage("north", 5, 1) };
    world.counted(counted).await;
    let figures = world.get("/v1/usage/north").await;
    assert_eq!(
        figures["period"]["time_zone"], "UTC",
        "the tenant's new time zone takes effect with the next period"
    );
    world.bench.clock.set("2026-12-02T00:00:00Z".parse().unwrap());
    assert_eq!(world.get("/v1/usage/north").await["period"]["time_zone"], "Europe/Madrid");
    world.finish().await;
}
