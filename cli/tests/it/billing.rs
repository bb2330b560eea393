//! `flowmeter billing` on the real broker.

use proto::v1::{self, billing_event::Event};
use serde_json::Value;
use testkit::TestBed;

use crate::command::{bench, complaint, flowmeter_on, printed};

fn at(text: &str) -> Option<prost_types::Timestamp> {
    Some(proto::timestamp(text.parse().unwrap()))
}

fn november() -> Option<v1::Period> {
    Some(v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") })
}

async fn publish(bench: &TestBed, tenant: &str, event: Event) {
    let message = v1::BillingEvent { event: Some(event) };
    bench.publish(bench.namespace().billing(tenant), &message).await;
}

fn failed(tenant: &str) -> Event {
    Event::Failed(v1::ReportFailed {
        tenant_id: tenant.into(),
        period: november(),
        identifier: format!("{tenant}-20261101-2-aa"),
        quantity: 4,
        reason: "Nothing was sent: add an invoice item for 4 executions to cus_north by hand".into(),
        failed_at: at("2026-12-01T06:00:00Z"),
    })
}

#[tokio::test]
async fn failed_reports_are_listed_and_accepted_ones_are_not() {
    let bench = bench().await;
    let none = printed(flowmeter_on(&bench, &["billing"])).await;
    assert!(none.starts_with("Every report"), "{none}");

    let reported = v1::UsageReported {
        tenant_id: "north".into(),
        period: november(),
        identifier: "north-20261101-1-aa".into(),
        quantity: 10,
        reported_total: 10,
        accepted_at: at("2026-11-24T12:00:00Z"),
    };
    publish(&bench, "north", Event::Reported(reported)).await;
    publish(&bench, "north", failed("north")).await;
    publish(&bench, "south", failed("south")).await;

    let list = printed(flowmeter_on(&bench, &["billing"])).await;
    assert!(list.contains("north-20261101-2-aa") && list.contains("south-20261101-2-aa"), "{list}");
    assert!(list.contains("add an invoice item for 4 executions"), "{list}");
    assert!(!list.contains("north-20261101-1-aa"), "{list}");

    let lines = printed(flowmeter_on(&bench, &["billing", "--tenant", "south", "--json"])).await;
    let line: Value = serde_json::from_str(lines.trim()).unwrap();
    assert_eq!((line["tenant"].as_str(), line["quantity"].as_i64()), (Some("south"), Some(4)));
    let error = complaint(flowmeter_on(&bench, &["billing", "--tenant", "A B"])).await;
    assert!(error.contains("--tenant"), "{error}");
    bench.finish().await;
}
