//! The demo, and the state that survives a restart.

use jiff::SignedDuration;
use sandbox::n8n::Runs;
use sandbox::{Sandbox, SandboxError, SandboxOptions, SnapshotError};

use crate::harness::{Harness, until};

/// Each test's own file, removed at the end.
struct StateFile(std::path::PathBuf);

impl StateFile {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("flowmeter-sandbox-{}-{name}.json", std::process::id()));
        let _ = std::fs::remove_file(&path);
        Self(path)
    }

    fn options(&self, demo: bool) -> SandboxOptions {
        SandboxOptions { state: Some(self.0.clone()), demo, ..SandboxOptions::default() }
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[tokio::test]
async fn the_state_survives_a_restart() {
    let file = StateFile::new("restart");
    let bench = Harness::with(file.options(false)).await;
    bench.sandbox.n8n("north").run(&Runs::of("w1").named("Order sync").count(12)).unwrap();
    bench.sandbox.clock().advance(SignedDuration::from_hours(5));
    bench.sandbox.stripe().add_customer("cus_north").unwrap();
    bench.sandbox.stripe().add_meter("executions").unwrap();
    let form = "event_name=executions&identifier=e1&payload[stripe_customer_id]=cus_north&payload[value]=7";
    bench.stripe_post("/billing/meter_events", form).await;
    bench.sandbox.stop().await;

    let bench = Harness::with(file.options(false)).await;
    assert_eq!(bench.n8n_ids("/executions").await.len(), 12);
    assert_eq!(bench.sandbox.n8n("north").run(&Runs::of("w1")).unwrap(), [13]);
    assert_eq!(bench.sandbox.clock().offset_ms(), 5 * 3_600 * 1_000);
    assert_eq!(bench.sandbox.stripe().total("cus_north", "executions"), 7);
    assert_eq!(bench.stripe_post("/billing/meter_events", form).await.status, 400, "identifiers stay taken");
    bench.sandbox.stop().await;
}

#[tokio::test]
async fn the_state_is_written_while_it_runs() {
    let file = StateFile::new("running");
    let bench = Harness::with(file.options(false)).await;
    bench.sandbox.n8n("north").run(&Runs::of("w1")).unwrap();
    until("the file is written", || file.0.exists()).await;
    bench.sandbox.stop().await;
}

#[tokio::test]
async fn a_file_that_is_not_a_state_is_refused_and_left_alone() {
    let file = StateFile::new("foreign");
    std::fs::write(&file.0, "not a state").unwrap();
    let refused = Sandbox::start(file.options(false)).await;
    assert!(matches!(refused, Err(SandboxError::State(SnapshotError::Parse { .. }))));
    assert_eq!(std::fs::read_to_string(&file.0).unwrap(), "not a state");
}

#[tokio::test]
async fn the_demo_has_three_instances_and_continues_where_it_stopped() {
    let file = StateFile::new("demo");
    let bench = Harness::with(file.options(true)).await;
    for instance in ["north", "south", "east"] {
        assert!(!bench.sandbox.n8n(instance).executions().is_empty(), "{instance}");
    }
    let names = bench.n8n("/workflows").await.text;
    assert!(names.contains("Order sync"));
    assert_eq!(bench.stripe_get("/customers/cus_east").await.status, 200);
    let before = bench.sandbox.n8n("north").executions().len();
    bench.sandbox.stop().await;

    let bench = Harness::with(file.options(true)).await;
    assert!(bench.sandbox.n8n("north").executions().len() >= before);
    assert_eq!(bench.stripe_get("/billing/meters").await.json()["data"].as_array().map(Vec::len), Some(1));
    bench.sandbox.stop().await;
}
