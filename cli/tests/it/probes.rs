//! Commands whose exit code is the answer.

use crate::{
    command::{complaint, flowmeter, printed},
    gateway::Gateway,
};

#[tokio::test]
async fn a_refusal_has_its_own_exit_code() {
    let gateway = Gateway::start().await;
    let printed_text = printed(gateway.flowmeter(&["check", "north"])).await;
    assert!(printed_text.starts_with("allowed (within_limit)"), "{printed_text}");
    let output = gateway.flowmeter(&["check", "south"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(3));
}

#[tokio::test]
async fn the_exit_code_shows_health() {
    let gateway = Gateway::start().await;
    printed(flowmeter(&["health", &format!("{}/readyz", gateway.address())])).await;
    complaint(flowmeter(&["health", &format!("{}/nothing", gateway.address())])).await;
}

#[tokio::test]
async fn an_empty_variable_counts_as_unset() {
    let mut command = flowmeter(&["usage"]);
    for variable in ["FLOWMETER_URL", "FLOWMETER_TOKEN", "FLOWMETER_NATS_URL", "FLOWMETER_NAMESPACE"] {
        command.env(variable, "");
    }
    let error = complaint(command).await;
    assert!(error.contains("no token: set FLOWMETER_TOKEN"), "{error}");
}

#[tokio::test]
async fn a_gateway_that_is_not_running_is_reported() {
    let mut command = flowmeter(&["usage"]);
    command.env("FLOWMETER_URL", "http://127.0.0.1:9").env("FLOWMETER_TOKEN", "t");
    let error = complaint(command).await;
    assert!(error.contains("is the gateway running"), "{error}");
}
