//! One n8n as two sources would be counted twice, and one Stripe customer for two tenants would pay twice.

use catalog::{Entry, Source, Tenant, store::Stored};
use prost::Message;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::Harness;

async fn put(world: &Harness, path: &str, body: Value) -> (u16, Value) {
    world.ask(Method::PUT, path, Some(body)).await
}

#[tokio::test]
async fn one_n8n_cannot_be_two_sources_with_any_spelling_of_its_address() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let at = |tenant: &str, base_url: &str| json!({"kind": "n8n", "tenant": tenant, "base_url": base_url, "api_key": "key"});
    world.put("/v1/sources/north-n8n", at("north", "http://localhost:5678")).await;
    for base_url in ["http://localhost:5678", "http://127.0.0.1:5678/", "http://[::1]:5678/api/v1"] {
        let (status, answer) = put(&world, "/v1/sources/south-n8n", at("south", base_url)).await;
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("taken")), "{base_url}: {answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("north-n8n") && message.contains("attributions"), "{message}");
    }
    world.put("/v1/sources/south-n8n", at("south", "http://localhost:5679")).await;
    // Nor may a source move to another's address, but it may change the spelling of its own.
    assert_eq!(put(&world, "/v1/sources/south-n8n", at("south", "http://127.0.0.1:5678")).await.0, 409);
    world.put("/v1/sources/north-n8n", at("north", "http://127.0.0.1:5678")).await;
    // A removed source frees its address.
    assert_eq!(world.ask(Method::DELETE, "/v1/sources/north-n8n", None).await.0, 204);
    world.put("/v1/sources/south-n8n", at("south", "http://127.0.0.1:5678")).await;
    world.finish().await;
}

#[tokio::test]
async fn one_stripe_customer_for_two_tenants_is_refused_unless_both_allow_it() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let tenant = |shared: bool| json!({"name": "N", "plan": "pro", "stripe_customer_id": "cus_1", "shared_customer": shared});
    world.put("/v1/tenants/north", tenant(false)).await;
    for shared in [false, true] {
        let (status, answer) = put(&world, "/v1/tenants/south", tenant(shared)).await;
        assert_eq!((status, &answer["error"]["code"]), (409, &json!("taken")), "{answer}");
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains("north") && message.contains("shared_customer"), "{message}");
    }
    world.put("/v1/tenants/north", tenant(true)).await;
    assert_eq!(world.put("/v1/tenants/south", tenant(true)).await["shared_customer"], true);
    // While another tenant shares the customer, `shared_customer` cannot be unset; other changes are allowed.
    assert_eq!(put(&world, "/v1/tenants/north", tenant(false)).await.0, 409);
    let renamed = json!({"name": "North Ltd", "plan": "pro", "stripe_customer_id": "cus_1",
        "shared_customer": true});
    assert_eq!(world.put("/v1/tenants/north", renamed).await["name"], "North Ltd");
    world.finish().await;
}

/// Writes a value without the checks, like an earlier version.
async fn write<E: Entry>(world: &Harness, id: &str, change: impl FnOnce(&mut E)) {
    let mut connection = world.bench.pool().acquire().await.unwrap();
    let mut value = catalog::store::find::<E>(&mut *connection, id).await.unwrap().unwrap();
    change(&mut value);
    let stored = Stored {
        kind: E::KIND,
        id: id.to_owned(),
        revision: 9,
        removed: false,
        value: value.to_wire(9).encode_to_vec(),
    };
    catalog::store::put(&mut *connection, &stored).await.unwrap();
}

#[tokio::test]
async fn conflicting_pairs_from_before_the_checks_are_reported_on_both() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    for (tenant, customer) in [("north", "cus_1"), ("south", "cus_2")] {
        let source = json!({"kind": "n8n", "tenant": tenant, "base_url": format!("http://{tenant}:5678"), "api_key": "k"});
        world.put(&format!("/v1/sources/{tenant}-n8n"), source).await;
        let tenant_body = json!({"name": tenant, "plan": "pro", "stripe_customer_id": customer});
        world.put(&format!("/v1/tenants/{tenant}"), tenant_body).await;
    }
    let warnings = async |path: &str| world.get(path).await;
    assert_eq!(warnings("/v1/sources/north-n8n").await["status"]["warnings"], json!([]));
    assert_eq!(warnings("/v1/tenants/north").await["warnings"], json!([]));

    write::<Source>(&world, "south-n8n", |source| source.base_url = "https://NORTH.:5678/".parse().unwrap())
        .await;
    write::<Tenant>(&world, "south", |tenant| tenant.stripe_customer = Some("cus_1".into())).await;
    // Any change makes the gateway read the catalog again.
    world.put("/v1/tenants/west", json!({"name": "West", "plan": "pro"})).await;
    for (one, other) in [("north", "south"), ("south", "north")] {
        let shown = warnings(&format!("/v1/sources/{one}-n8n")).await["status"]["warnings"].clone();
        assert_eq!(
            (&shown[0]["code"], &shown[0]["others"]),
            (&json!("same_address"), &json!([format!("{other}-n8n")]))
        );
        let shown = warnings(&format!("/v1/tenants/{one}")).await["warnings"].clone();
        assert_eq!((&shown[0]["code"], &shown[0]["others"]), (&json!("same_customer"), &json!([other])));
        assert!(shown[0]["detail"].as_str().unwrap().contains("shared_customer"));
    }
    let listed = world.get("/v1/tenants").await;
    let warned =
        listed["tenants"].as_array().unwrap().iter().filter(|tenant| tenant["warnings"] != json!([]));
    assert_eq!(warned.count(), 2);
    world.finish().await;
}
