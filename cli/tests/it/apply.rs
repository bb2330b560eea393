//! `flowmeter apply` against a fake gateway.

use std::io::Write;

use tempfile::NamedTempFile;
use tokio::process::Command;

use crate::{
    command::{complaint, printed},
    gateway::Gateway,
};

const MANIFEST: &str = "
plans: [{id: starter, name: Starter, monthly_limit: 1000}]
tenants: [{id: north, name: North, plan: starter}]
sources:
  - {id: north-n8n, tenant: north, base_url: '${NORTH_URL}', api_key: '${NORTH_KEY}', poll_interval: 5s}
";

fn file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn apply(gateway: &Gateway, file: &NamedTempFile, more: &[&str]) -> Command {
    let path = file.path().to_str().unwrap();
    let mut command = gateway.flowmeter(&[&["apply", "-f", path], more].concat());
    command.env("NORTH_URL", "http://127.0.0.1:9/n8n/north").env("NORTH_KEY", "key-north");
    command
}

/// The outcomes, one a line.
async fn outcomes(command: Command) -> Vec<String> {
    let outcome = printed(command).await;
    outcome.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn new_items_are_created_and_changed_ones_updated() {
    let gateway = Gateway::start().await;
    let first = file(MANIFEST);
    let created = ["plan starter created", "tenant north created", "source north-n8n created"];
    assert_eq!(outcomes(apply(&gateway, &first, &["--dry-run"])).await[..3], created);
    assert_eq!(gateway.kept("/v1/plans/starter"), None, "a dry run sends nothing");

    assert_eq!(outcomes(apply(&gateway, &first, &[])).await, created);
    let source = gateway.kept("/v1/sources/north-n8n").unwrap();
    assert_eq!(source["api_key"], "key-north");
    assert_eq!(source["base_url"], "http://127.0.0.1:9/n8n/north");

    let raised = file(&MANIFEST.replace("1000", "2000"));
    let outcome = outcomes(apply(&gateway, &raised, &[])).await;
    let expected =
        ["plan starter updated", "tenant north unchanged", "source north-n8n unchanged (API key set again)"];
    assert_eq!(outcome, expected);
    assert_eq!(gateway.kept("/v1/plans/starter").unwrap()["monthly_limit"], 2_000);
}

#[tokio::test]
async fn a_refusal_names_file_item_and_field() {
    let gateway = Gateway::start().await;
    let bad = file(&MANIFEST.replace("plan: starter", "plan: gold"));
    let error = complaint(apply(&gateway, &bad, &[])).await;
    let name = bad.path().to_str().unwrap();
    for part in [name, "tenant north was not applied", "plan: there is no such thing as \"gold\""] {
        assert!(error.contains(part), "{part} is missing in {error}");
    }
    assert!(gateway.kept("/v1/plans/starter").is_some(), "what came before stays");
    assert_eq!(gateway.kept("/v1/sources/north-n8n"), None, "what comes after is not sent");
}

#[tokio::test]
async fn nothing_of_a_file_with_a_mistake_is_sent() {
    let gateway = Gateway::start().await;
    let bad = file(&MANIFEST.replace("5s", "never"));
    let error = complaint(apply(&gateway, &bad, &[])).await;
    assert!(error.contains("source north-n8n: poll_interval"), "{error}");
    assert_eq!(gateway.kept("/v1/plans/starter"), None);
}

#[tokio::test]
async fn a_wrong_token_is_reported() {
    let gateway = Gateway::start().await;
    let good = file(MANIFEST);
    let mut command = apply(&gateway, &good, &[]);
    command.env("FLOWMETER_TOKEN", "another");
    let error = complaint(command).await;
    assert!(error.contains("check FLOWMETER_TOKEN"), "{error}");
}

#[tokio::test]
async fn a_removed_tenant_comes_back_only_with_restore() {
    let gateway = Gateway::start().await;
    let manifest = file(
        "plans: [{id: starter, name: Starter}]
tenants: [{id: former, name: F, plan: starter}, {id: other, name: O, plan: starter}]",
    );
    let error = complaint(apply(&gateway, &manifest, &[])).await;
    assert!(error.contains("tenant former was removed"), "{error}");
    let error = complaint(apply(&gateway, &manifest, &["--restore", "formr"])).await;
    assert!(error.contains("--restore formr: there is no such tenant or source in the file"), "{error}");
    let outcome = outcomes(apply(&gateway, &manifest, &["--restore", "former"])).await;
    assert_eq!(outcome, ["plan starter unchanged", "tenant former created", "tenant other created"]);
}

#[tokio::test]
async fn a_setting_that_the_file_leaves_out_is_removed_only_with_prune() {
    let gateway = Gateway::start().await;
    let with = |more: &str| {
        file(&format!(
            "plans: [{{id: starter, name: Starter, monthly_limit: 9}}]
tenants: [{{id: north, name: North, plan: starter{more}}}]"
        ))
    };
    outcomes(apply(&gateway, &with(", limit_override: 50, stripe_customer_id: cus_north"), &[])).await;

    let without = with(", limit_override: 50");
    let error = complaint(apply(&gateway, &without, &[])).await;
    assert!(error.contains("nothing was applied") && error.contains("--prune"), "{error}");
    assert_eq!(gateway.kept("/v1/tenants/north").unwrap()["stripe_customer_id"], "cus_north");

    let outcome = outcomes(apply(&gateway, &without, &["--dry-run"])).await;
    assert_eq!(outcome[0], "tenant north removes stripe_customer_id (was cus_north)");
    let outcome = outcomes(apply(&gateway, &without, &["--prune"])).await;
    assert_eq!(outcome[1..], ["plan starter unchanged", "tenant north updated"]);
    assert_eq!(gateway.kept("/v1/tenants/north").unwrap()["stripe_customer_id"], serde_json::Value::Null);

    let outcome = outcomes(apply(&gateway, &with(", limit_override: 60"), &[])).await;
    assert_eq!(outcome, ["plan starter unchanged", "tenant north updated"], "a change is no removal");
}

#[tokio::test]
async fn a_page_of_the_editor_again_changes_nothing() {
    let gateway = Gateway::start().await;
    let manifest = file(&MANIFEST.replace("${NORTH_URL}", "https://n8n.example/home/workflows"));
    outcomes(apply(&gateway, &manifest, &[])).await;
    assert_eq!(gateway.kept("/v1/sources/north-n8n").unwrap()["base_url"], "https://n8n.example");
    let outcome = outcomes(apply(&gateway, &manifest, &[])).await;
    assert_eq!(outcome[2], "source north-n8n unchanged (API key set again)");
}

#[tokio::test]
async fn a_currency_that_does_not_exist_is_refused_before_anything_is_sent() {
    let gateway = Gateway::start().await;
    let manifest = file("plans: [{id: starter, name: Starter, price: {currency: xyz, base_fee_minor: 5}}]");
    let error = complaint(apply(&gateway, &manifest, &[])).await;
    assert!(error.contains("plan starter: price.currency") && error.contains("xyz"), "{error}");
    assert_eq!(gateway.kept("/v1/plans/starter"), None);
}
