//! The control API, as the whole-stack tests use it.

use serde_json::json;

use crate::harness::{Harness, send};

#[tokio::test]
async fn the_clock_is_advanced_and_set() {
    let bench = Harness::new().await;
    let advanced = bench.control("/clock", json!({"advance_ms": 86_400_000})).await.json();
    assert_eq!(advanced["offset_ms"], 86_400_000);
    let set = bench.control("/clock", json!({"now": "2027-02-01T00:00:00Z"})).await.json();
    assert!(set["now"].as_str().unwrap().starts_with("2027-02-01T00:00:0"));
    let read = send(bench.get(bench.sandbox.clock_url())).await.json();
    assert_eq!(read["offset_ms"], set["offset_ms"]);
    assert_eq!(bench.control("/clock", json!({})).await.status, 400);
}

#[tokio::test]
async fn an_instance_is_created_configured_and_filled() {
    let bench = Harness::new().await;
    assert_eq!(bench.control("/n8n/west/run", json!({"workflow": "w1"})).await.status, 404);
    let config = json!({"version": "1.123", "retain": 50, "key": "secret"});
    let made = bench.control("/n8n/west", config).await.json();
    assert_eq!((&made["version"], &made["retain"]), (&json!("1.123"), &json!(50)));

    let run = json!({"workflow": "w1", "name": "Order sync", "mode": "webhook", "status": "success",
                     "count": 3, "duration_ms": 40});
    assert_eq!(bench.control("/n8n/west/run", run).await.json()["ids"], json!(["1", "2", "3"]));
    let id = bench.control("/n8n/west/start", json!({"workflow": "w1"})).await.json()["id"].clone();
    assert_eq!(id, "4");
    assert_eq!(bench.control("/n8n/west/wait", json!({"id": id, "for_ms": 60_000})).await.status, 200);
    assert_eq!(bench.control("/n8n/west/resume", json!({"id": id})).await.status, 200);
    assert_eq!(bench.control("/n8n/west/finish", json!({"id": id, "status": "error"})).await.status, 200);
    assert_eq!(bench.control("/n8n/west/retry", json!({"id": 4})).await.json()["id"], "5");
    assert_eq!(bench.control("/n8n/west/delete", json!({"id": "1"})).await.json()["deleted"], 1);
    assert_eq!(bench.control("/n8n/west/prune", json!({"keep": 2})).await.json()["pruned"], 2);
    assert_eq!(bench.control("/n8n/west/finish", json!({"id": "99"})).await.status, 404);

    let truth = bench.control_get("/n8n/west/executions").await;
    let gone: Vec<_> = truth.as_array().unwrap().iter().map(|row| row["gone"].as_str()).collect();
    assert_eq!(gone, [Some("deleted"), Some("pruned"), Some("pruned"), None, None]);
    assert_eq!(bench.control("/n8n/west/restore", json!({})).await.status, 200);
    assert_eq!(bench.control("/n8n/west/run", json!({"workflow": "w1"})).await.json()["ids"], json!(["1"]));
}

#[tokio::test]
async fn faults_are_armed_and_cleared() {
    let bench = Harness::new().await;
    bench.control("/n8n/north", json!({})).await;
    assert_eq!(bench.control("/n8n/north/fault", json!({"kind": "html", "count": 1})).await.status, 200);
    assert!(bench.n8n("/executions").await.content_type.starts_with("text/html"));
    bench.control("/n8n/north/fault", json!({"kind": "http_500"})).await;
    assert_eq!(bench.n8n("/executions").await.status, 500);
    bench.control("/n8n/north/fault", json!({"kind": "none"})).await;
    assert_eq!(bench.n8n("/executions").await.status, 200);
    assert_eq!(bench.control("/n8n/north/fault", json!({"kind": "earthquake"})).await.status, 400);
    for kind in [
        "timeout_after",
        "timeout_before",
        "http_500_after",
        "http_500_before",
        "html_502",
        "drop_after",
        "rate_limit",
        "lock_timeout",
        "none",
    ] {
        assert_eq!(
            bench.control("/stripe/fault", json!({"kind": kind, "count": 1})).await.status,
            200,
            "{kind}"
        );
    }
    for kind in
        ["html", "unauthorized", "big_page", "unknown_status", "slow", "http_500", "rate_limit", "none"]
    {
        assert_eq!(
            bench.control("/n8n/north/fault", json!({"kind": kind, "count": 1})).await.status,
            200,
            "{kind}"
        );
    }
}

#[tokio::test]
async fn customers_meters_events_and_totals() {
    let bench = Harness::new().await;
    bench.control("/stripe/customers", json!({"id": "cus_north"})).await;
    let meter = bench.control("/stripe/meters", json!({"event_name": "executions"})).await.json();
    assert!(meter["id"].as_str().unwrap().starts_with("mtr_test_"));
    let form = "event_name=executions&identifier=e1&payload[stripe_customer_id]=cus_north&payload[value]=41";
    bench.stripe_post("/billing/meter_events", form).await;
    let form = form.replace("e1", "e2").replace("cus_north", "cus_none");
    bench.stripe_post("/billing/meter_events", &form).await;
    let totals = bench.control_get("/stripe/totals").await;
    assert_eq!(
        totals,
        json!([{"customer": "cus_north", "event_name": "executions", "value": 41, "events": 1}])
    );
    let events = bench.control_get("/stripe/meter_events").await;
    assert_eq!(events[0]["fate"], "counted");
    assert_eq!(events[1]["fate"], json!({"failed": "meter_event_customer_not_found"}));
}
