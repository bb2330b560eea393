//! Many sources on one collector.

use std::{collections::BTreeSet, time::Duration};

use proto::instant;
use sandbox::n8n::N8nFault;
use tokio::time::timeout;

use crate::harness::{Harness, STEP};

const SOURCES: usize = 200;

/// One in ten fails at every sweep.
const FAILING_EVERY: usize = 10;

/// A round of all of them on a busy machine.
const ROUND_WITHIN: Duration = Duration::from_secs(120);

#[tokio::test]
async fn a_round_reaches_every_source_whatever_others_do() {
    let mut stage = Harness::start_with(|settings| settings.concurrency = 16).await;
    let names: Vec<String> = (0..SOURCES).map(|number| format!("s{number:03}")).collect();
    let well: BTreeSet<String> = names
        .iter()
        .enumerate()
        .filter(|(number, _)| number % FAILING_EVERY != 0)
        .map(|(_, n)| n.clone())
        .collect();
    for name in &names {
        stage.run(name, 2);
        if !well.contains(name) {
            stage.n8n(name).fault(N8nFault::Html, None);
        }
        stage.add(&stage.source(name), 1).await;
    }
    await_round(&mut stage, &well).await;
    for _ in 0..2 {
        for name in &names {
            stage.run(name, 1);
        }
        stage.bench.clock.advance(STEP);
        await_round(&mut stage, &well).await;
    }
    let published = stage.published().await;
    assert_eq!(published.values().sum::<usize>(), well.len() * 4, "each execution once");
    stage.finish().await;
}

/// Awaits a sweep of each of these sources that began now, on the clock.
async fn await_round(stage: &mut Harness, sources: &BTreeSet<String>) {
    let mut waiting = sources.clone();
    let round = async {
        while !waiting.is_empty() {
            let synced = stage.next_synced().await;
            let began_at = instant(synced.sweep_started_at.as_ref(), "sweep_started_at").unwrap();
            if began_at >= Some(stage.now()) {
                waiting.remove(&synced.source_id);
            }
        }
    };
    let finished = timeout(ROUND_WITHIN, round).await.is_ok();
    assert!(finished, "not swept in this round: {waiting:?}");
}
