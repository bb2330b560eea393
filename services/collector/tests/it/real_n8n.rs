//! Against a real n8n, prepared by `../shared/tools/n8n/start-n8n.sh`. Run it by hand:
//!
//! ```text
//! N8N_URL=http://127.0.0.1:5678 N8N_API_KEY_FILE=/work/n8n/api-key \
//!     cargo test -p collector --test it -- --ignored --nocapture real_n8n
//! ```

use std::{env, fs, path::PathBuf};

use metering::{Clock as _, SystemClock};
use tokio::process::Command;

use crate::stage::Stage;

const GOOD: u32 = 30;
const BAD: u32 = 4;

#[tokio::test]
#[ignore = "needs a real n8n: set N8N_URL and N8N_API_KEY_FILE"]
async fn a_real_n8n_is_collected_to_the_unit() {
    let url = env::var("N8N_URL").unwrap();
    let key = fs::read_to_string(env::var("N8N_API_KEY_FILE").unwrap()).unwrap();
    let mut stage = Stage::start().await;
    stage.bench.clock.set(SystemClock.now());
    let source = stage.source_at("real", &url, key.trim());
    stage.add(&source, 1).await;
    let first = stage.swept("real").await;
    println!("first sweep: {} executions, {:?}", first.executions.len(), first.synced);

    let script = shared().join("tools/n8n/make-executions.sh");
    let made = Command::new("bash")
        .arg(script)
        .args([&url, &GOOD.to_string(), &BAD.to_string()])
        .output()
        .await
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    println!("{}", String::from_utf8_lossy(&made.stdout));

    let second = stage.next_sweep("real").await;
    println!("second sweep: {} executions, {:?}", second.executions.len(), second.synced);
    let names: std::collections::BTreeSet<_> =
        second.executions.iter().map(|e| (e.workflow_name.as_str(), e.status, e.mode)).collect();
    println!("{names:?}");
    let webhook = second.executions.iter().filter(|e| e.mode() == proto::v1::ExecutionMode::Webhook);
    assert!(webhook.count() >= usize::try_from(GOOD + BAD).unwrap());

    let third = stage.next_sweep("real").await;
    println!("third sweep: {} executions, {:?}", third.executions.len(), third.synced);
    let published = stage.published().await;
    assert!(published.values().all(|times| *times == 1), "{published:?}");
    println!("published in all: {}", published.len());
    stage.finish().await;
}

fn shared() -> PathBuf {
    env::var("FLOWMETER_SHARED")
        .map_or_else(|_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from)
}
