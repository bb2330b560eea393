//! Running the binary.

use std::process::Output;

use async_trait::async_trait;
use chassis::{Context, Service, Validate};
use serde::Deserialize;
use sqlx::migrate::Migrator;
use testkit::TestBed;
use tokio::process::Command;

/// The bench serves services; this one has no tables and no loops.
pub struct Operator;

/// Nothing to set.
#[derive(Deserialize)]
pub struct NoSettings {}

impl Validate for NoSettings {
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

#[async_trait]
impl Service for Operator {
    const NAME: &'static str = "operator";
    type Settings = NoSettings;

    fn migrators() -> Vec<&'static Migrator> {
        Vec::new()
    }

    async fn start(_: Context, _: NoSettings) -> anyhow::Result<()> {
        Ok(())
    }
}

/// A bench with a namespace of its own.
pub async fn bench() -> TestBed {
    TestBed::of::<Operator>("2026-11-24T12:00:00Z").await
}

/// The command line, with nothing of the caller's environment that could lead it elsewhere.
pub fn flowmeter(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flowmeter"));
    command.args(arguments).kill_on_drop(true);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FLOWMETER_")) {
        command.env_remove(name);
    }
    command
}

/// The command line on the bench's broker and namespace.
pub fn flowmeter_on(bench: &TestBed, arguments: &[&str]) -> Command {
    let mut command = flowmeter(arguments);
    command.env("FLOWMETER_NAMESPACE", bench.namespace().to_string());
    command
}

/// What a run that must succeed has printed.
pub async fn printed(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", output_text(&output));
    String::from_utf8(output.stdout).unwrap()
}

/// What a run that must fail has printed.
pub async fn complaint(mut command: Command) -> String {
    let output = command.output().await.unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", output_text(&output));
    output_text(&output)
}

fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
