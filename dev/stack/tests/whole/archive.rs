//! A tenant that is renamed, and then removed in the middle of its period.

use serde_json::{Value, json};

use crate::harness::{CUSTOMER, Harness, METER, Runs, SOURCE, TENANT};

/// The lines of a CSV statement of this kind.
fn lines<'a>(statement: &'a str, kind: &str) -> Vec<&'a str> {
    statement.lines().filter(|line| line.split(',').nth(4) == Some(kind)).collect()
}

#[test]
fn a_renamed_and_then_removed_tenant_is_billed_once_with_one_base_fee() {
    let bench = Harness::with_tenant("archive", 1_000);
    let plan = json!({ "name": "Start", "monthly_limit": 1_000, "meter_event_name": METER, "price": {
        "currency": "eur", "base_fee_minor": 1_900, "included_executions": 1_000, "overage_per_thousand_minor": 100 } });
    bench.gateway().put("/v1/plans/start", &plan).unwrap();
    bench.run(SOURCE, Runs::good(70));
    bench.await_counted(TENANT, 70);

    let renamed = json!({ "name": "Another name", "plan": "start", "stripe_customer_id": CUSTOMER,
        "shared_customer": true });
    bench.gateway().put(&format!("/v1/tenants/{TENANT}"), &renamed).unwrap();
    bench.run(SOURCE, Runs::good(50));
    assert_eq!(bench.await_counted(TENANT, 120), 120, "the id is the same, so is its usage");
    bench.await_quiet();
    let statement = bench.gateway().text(&format!("/v1/tenants/{TENANT}/usage/statement")).unwrap();
    assert_eq!(lines(&statement, "base_fee").len(), 1, "{statement}");
    assert_eq!(bench.usage(TENANT)["cost_estimate"]["amount_minor"], 1_900);
    let period = bench.usage(TENANT)["period"].clone();

    for path in [format!("/v1/sources/{SOURCE}"), format!("/v1/tenants/{TENANT}")] {
        bench.gateway().delete(&path).unwrap();
    }
    let usage = bench.usage(TENANT);
    assert_eq!(
        (&usage["archived"], &usage["counted"], &usage["name"]),
        (&json!(true), &json!(120), &json!("Another name"))
    );
    let archived = bench.gateway().get("/v1/tenants?archived=true").unwrap();
    assert_eq!(archived["tenants"][0]["id"], TENANT);
    let series = bench.gateway().get(&format!("/v1/tenants/{TENANT}/usage/series?grain=day")).unwrap();
    assert_eq!(series["totals"]["counted"], 120, "{series}");
    assert_eq!(bench.await_stripe_total(120), 120);

    let end = period["end"].as_str().unwrap().replace("T00:00:00Z", "T00:10:00Z");
    bench.sandbox().post("/control/clock", &json!({ "now": end })).unwrap();
    let closed = bench.until("the closed period", || {
        let periods = bench.gateway().get(&format!("/v1/usage/{TENANT}/periods")).unwrap();
        periods["periods"].as_array().unwrap().first().cloned()
    });
    assert_eq!((&closed["period"], &closed["counted"]), (&period, &json!(120)));
    let statement = bench.gateway().text(&format!("/v1/tenants/{TENANT}/usage/statement")).unwrap();
    assert_eq!(
        (lines(&statement, "base_fee").len(), lines(&statement, "total").len()),
        (1, 1),
        "{statement}"
    );
    // After further reports, nothing is sent again.
    bench.advance_clock(60 * 60 * 1_000);
    bench.until("billing has confirmed the period", || {
        let usage: Value = bench.usage(TENANT);
        (usage["counted"] == 120).then_some(())
    });
    assert_eq!(bench.await_stripe_total(120), 120);
    bench.finish();
}

#[test]
fn a_restored_source_continues_where_it_stopped_and_counts_once() {
    let bench = Harness::with_tenant("restored-source", 1_000);
    bench.run(SOURCE, Runs::good(40));
    bench.await_counted(TENANT, 40);
    bench.await_quiet();
    let path = format!("/v1/sources/{SOURCE}");
    bench.gateway().delete(&path).unwrap();
    bench.run(SOURCE, Runs::good(25));
    let body = json!({ "tenant": TENANT, "kind": "n8n", "base_url": format!("{}/n8n/{SOURCE}", bench.sandbox().base()),
        "api_key": format!("key-{SOURCE}"), "poll_interval": "1s" });
    let refused = bench.gateway().put(&path, &body).unwrap_err().to_string();
    assert!(refused.contains("409") && refused.contains("same n8n"), "{refused}");
    bench.gateway().put(&format!("{path}?restore=true"), &body).unwrap();
    assert_eq!(bench.await_counted(TENANT, 65), 65);
    bench.await_quiet();
    assert_eq!(bench.counted(TENANT), 65, "nothing is lost, nothing counts twice");
    bench.finish();
}
