//! Stream settings follow the configuration of the stream's owner.

use std::{env, time::Duration};

use async_nats::jetstream::stream::{Config, Info};
use gateway::Gateway;
use messaging::{Bus, BusConfig, FULL_WARN_RATIO};
use metrics_exporter_prometheus::PrometheusBuilder;
use proto::streams::{Capacity, Stream};
use testkit::{TestBed, eventually};

use crate::harness::NOW;

const MIB: u64 = 1024 * 1024;

async fn bus(bench: &TestBed, service: &'static str, events_bytes_max: u64) -> Bus {
    let capacity = Capacity { events_bytes_max, executions_bytes_max: 256 * MIB, ..Capacity::default() };
    let config = BusConfig { url: env::var("NATS_URL").unwrap(), user: None, password: None, capacity };
    Bus::connect(service, bench.namespace().clone(), &config).await.unwrap()
}

async fn info(bench: &TestBed) -> Info {
    let bus = &bench.context.bus;
    let stream = bus.jetstream().get_stream(Stream::Admissions.name(bus.namespace())).await.unwrap();
    stream.cached_info().clone()
}

#[tokio::test]
async fn a_stream_follows_the_settings_of_its_owner() {
    let bench = TestBed::of::<Gateway>(NOW).await;
    bus(&bench, "gateway", 20 * MIB).await.ensure_streams().await.unwrap();
    assert_eq!(info(&bench).await.config.max_bytes, 20 * 1024 * 1024);

    bus(&bench, "alerts", 30 * MIB).await.ensure_streams().await.unwrap();
    assert_eq!(info(&bench).await.config.max_bytes, 20 * 1024 * 1024, "alerts reads it, but does not own it");

    // Settings of the contract are restored, an operator's additions stay.
    let changed = Config {
        max_age: Duration::from_secs(60 * 60),
        description: Some("ours".to_owned()),
        ..info(&bench).await.config
    };
    bench.context.bus.jetstream().update_stream(changed).await.unwrap();
    bus(&bench, "gateway", 20 * MIB).await.ensure_streams().await.unwrap();
    let config = info(&bench).await.config;
    assert_eq!(config.max_age, Duration::from_secs(90 * 24 * 60 * 60));
    assert_eq!(config.description.as_deref(), Some("ours"));
    bench.finish().await;
}

#[tokio::test]
async fn a_stream_is_not_made_smaller_than_what_it_holds() {
    let bench = TestBed::of::<Gateway>(NOW).await;
    let before = info(&bench).await.config.max_bytes;
    let subject = bench.namespace().admission("north");
    for _ in 0..8 {
        bench.publish_bytes(subject.clone(), &[0; 64 * 1024]).await;
    }
    bus(&bench, "gateway", MIB / 4).await.ensure_streams().await.unwrap();
    let kept = info(&bench).await;
    assert_eq!((kept.config.max_bytes, kept.state.messages), (before, 8));
    bus(&bench, "gateway", MIB).await.ensure_streams().await.unwrap();
    let smaller = info(&bench).await;
    assert_eq!((smaller.config.max_bytes, smaller.state.messages), (1024 * 1024, 8));
    bench.finish().await;
}

#[tokio::test]
async fn a_deleted_stream_is_recreated_while_its_owner_runs() {
    let bench = TestBed::of::<Gateway>(NOW).await;
    let bus = bench.context.bus.clone();
    let name = Stream::Admissions.name(bus.namespace());
    bus.jetstream().delete_stream(&name).await.unwrap();
    bench.context.tasks.spawn(bus.clone().keep_streams(bench.context.tasks.shutdown()));
    eventually("the stream exists", || async { bus.jetstream().get_stream(&name).await.ok() }).await;
    bench.finish().await;
}

#[tokio::test]
async fn the_fullness_of_a_stream_is_measured() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    // The tasks of this test run on its own thread.
    let _recorded = metrics::set_default_local_recorder(&recorder);
    let bench = TestBed::of::<Gateway>(NOW).await;
    bus(&bench, "gateway", MIB).await.ensure_streams().await.unwrap();
    let subject = bench.namespace().admission("north");
    for _ in 0..12 {
        bench.publish_bytes(subject.clone(), &[0; 64 * 1024]).await;
    }
    let keeper = bus(&bench, "gateway", MIB).await;
    bench.context.tasks.spawn(keeper.keep_streams(bench.context.tasks.shutdown()));
    let of_the_stream =
        format!("flowmeter_stream_bytes_ratio{{stream=\"{}\"}} ", Stream::Admissions.name(bench.namespace()));
    let ratio: f64 = eventually("the stream's fullness is measured", || async {
        handle.render().lines().find_map(|line| line.strip_prefix(&of_the_stream)?.parse().ok())
    })
    .await;
    assert!((FULL_WARN_RATIO..1.0).contains(&ratio), "{ratio}");
    bench.finish().await;
}
