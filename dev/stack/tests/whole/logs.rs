//! What an operator reads in the logs.

use std::fs;

use serde_json::{Value, json};
use stack::{Api, Program};

use crate::harness::{Harness, Runs, SOURCE, TENANT};

/// The lines that a service has written, as JSON.
fn lines(bench: &Harness, service: Program) -> Vec<Value> {
    let text = fs::read_to_string(bench.stack.profile().log(service.name())).unwrap();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn said(line: &Value) -> &str {
    line["message"].as_str().unwrap_or_default()
}

#[test]
fn the_log_names_who_changed_what_and_is_quiet_about_sweeps() {
    let bench = Harness::with_tenant("logs", 10);
    bench.run(SOURCE, Runs::good(3));
    bench.await_counted(TENANT, 3);
    bench.await_quiet();
    let made = bench.gateway().post("/v1/tokens", &json!({})).unwrap();
    let (token, id) = (made["token"].as_str().unwrap(), made["id"].as_str().unwrap());
    let another = Api::new(bench.gateway().base()).with_token(token);
    another.put("/v1/plans/pro", &json!({ "name": "Pro", "monthly_limit": 7 })).unwrap();

    let collector = lines(&bench, Program::Collector);
    assert!(collector.iter().all(|line| !said(line).contains("swept")), "sweeps are logged at DEBUG only");
    assert!(collector.len() < 30, "{} lines of the collector", collector.len());
    let gateway = lines(&bench, Program::Gateway);
    let changes: Vec<&Value> = gateway.iter().filter(|line| said(line) == "changed by an operator").collect();
    let change = |method: &str, path: &str| {
        let found = changes.iter().find(|line| line["method"] == method && line["path"] == path);
        found.unwrap_or_else(|| panic!("{method} {path} is not in the log"))
    };
    let tenant = change("PUT", &format!("/v1/tenants/{TENANT}"));
    assert_eq!((&tenant["level"], &tenant["by"]), (&json!("INFO"), &json!("the configured operator token")));
    assert_eq!(tenant["trace_id"].as_str().unwrap().len(), 32);
    change("POST", "/v1/tokens");
    assert_eq!(change("PUT", "/v1/plans/pro")["by"], format!("token {id}"));
    let raw = fs::read_to_string(bench.stack.profile().log("gateway")).unwrap();
    for secret in [token, &format!("key-{SOURCE}"), bench.stack.operator_token()] {
        assert!(!raw.contains(secret), "a secret is in the log");
    }
    bench.finish();
}

#[test]
fn a_report_that_stripe_rejects_is_an_error_with_its_tenant() {
    let bench = Harness::with_tenant("logs-stripe", 10);
    let unknown = json!({ "name": "North", "plan": "start", "stripe_customer_id": "cus_typo" });
    bench.gateway().put(&format!("/v1/tenants/{TENANT}"), &unknown).unwrap();
    bench.run(SOURCE, Runs::good(3));
    bench.await_counted(TENANT, 3);
    bench.advance_clock(15 * 60 * 1_000);
    let error = bench.until("an error about the report", || {
        lines(&bench, Program::Billing).into_iter().find(|line| line["state"] == "rejected")
    });
    assert_eq!((&error["level"], &error["tenant"]), (&json!("ERROR"), &json!(TENANT)));
    bench.finish();
}
