//! Time zones that not every system knows.

use prost::Message;
use proto::v1;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Harness, OPERATOR, answer};

#[tokio::test]
async fn a_zone_that_browsers_do_not_know_is_refused() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    for zone in ["localtime", "posixrules", "Factory", "Etc/Unknown", "posix/Europe/Madrid", "right/UTC", ""]
    {
        let tenant = json!({"name": "North", "plan": "pro", "time_zone": zone});
        let (status, refused) = world.ask(Method::PUT, "/v1/tenants/north", Some(tenant)).await;
        assert_eq!((status, &refused["error"]["field"]), (422, &json!("time_zone")), "{zone:?}");
        let message = refused["error"]["message"].as_str().unwrap();
        assert!(message.contains("IANA") && message.contains("Europe/Madrid"), "{message}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_stored_zone_that_is_now_refused_hides_no_tenant() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let stored: Vec<u8> =
        sqlx::query_scalar("SELECT value FROM catalog WHERE kind = 'tenant' AND id = 'north'")
            .fetch_one(world.bench.pool())
            .await
            .unwrap();
    for zone in ["localtime", "right/Atlantis"] {
        let odd = v1::Tenant { time_zone: zone.into(), ..v1::Tenant::decode(&*stored).unwrap() };
        sqlx::query("UPDATE catalog SET value = $1 WHERE kind = 'tenant' AND id = 'north'")
            .bind(odd.encode_to_vec())
            .execute(world.bench.pool())
            .await
            .unwrap();
        let restarted = world.replica().await;
        let (status, list) =
            answer(world.request_to(&restarted, Method::GET, "/v1/usage").bearer_auth(OPERATOR)).await;
        let tenants: Vec<&Value> =
            list["usage"].as_array().unwrap().iter().map(|one| &one["tenant"]).collect();
        assert_eq!((status, tenants), (200, vec![&json!("north"), &json!("south")]), "{zone}");
        let check = json!({"tenant": "north", "id": format!("run-{zone}")});
        let ask =
            world.request_to(&restarted, Method::POST, "/v1/admissions").bearer_auth(OPERATOR).json(&check);
        let (status, verdict) = answer(ask).await;
        assert_eq!((status, &verdict["allowed"]), (200, &json!(true)), "{zone}");
    }
    world.finish().await;
}
