//! Each crossing and each period event is published in both forms, and each form once.

use std::collections::BTreeMap;

use async_nats::jetstream::consumer::pull;
use futures_util::StreamExt;
use proto::{
    cloud_events, consumers,
    streams::Stream,
    v1::{PeriodEvent, ThresholdCrossed, period_event::Event},
};

use crate::harness::{Harness, execution, executions};

/// A message's id, its content type and its bytes.
type Raw = (String, Option<String>, Vec<u8>);

async fn subscribed(running: &Harness, stream: Stream, topic: &str) -> pull::Ordered {
    let (bus, namespace) = (&running.bench.context.bus, running.bench.namespace());
    let stream = bus.jetstream().get_stream(stream.name(namespace)).await.unwrap();
    let consumer = stream.create_consumer(consumers::live(namespace, topic)).await.unwrap();
    consumer.messages().await.unwrap()
}

async fn next(messages: &mut pull::Ordered) -> Raw {
    let message = tokio::time::timeout(testkit::PATIENCE, messages.next()).await.expect("a message in time");
    let message = message.unwrap().unwrap();
    let headers = message.headers.clone().unwrap();
    let header = |name: &str| headers.get(name).map(|value| value.as_str().to_owned());
    (header("Nats-Msg-Id").unwrap(), header("content-type"), message.payload.to_vec())
}

#[tokio::test]
async fn a_crossing_is_a_cloud_event_as_well() {
    let running = Harness::start(Some(100)).await;
    let mut crossings = running.bench.topic::<ThresholdCrossed>(Stream::Thresholds, "usage.threshold").await;
    let mut events = subscribed(&running, Stream::CloudThresholds, "cloudevents.threshold").await;
    running.send(executions(1..=80)).await;
    running.send(executions(1..=90)).await;
    running.send(executions(80..=100)).await;
    for percent in [80, 100] {
        let crossed = crossings.next().await;
        let (id, content_type, bytes) = next(&mut events).await;
        assert_eq!((crossed.threshold_percent, &crossed.crossing_id), (percent, &id));
        assert_eq!(content_type.as_deref(), Some(cloud_events::CONTENT_TYPE));
        assert_eq!(bytes, cloud_events::threshold_crossed(running.bench.namespace(), &crossed));
    }
    running.bench.finish().await;
}

#[tokio::test]
async fn each_event_of_a_period_is_a_cloud_event_as_well() {
    let mut running = Harness::start(None).await;
    let mut periods = running.bench.topic::<PeriodEvent>(Stream::Periods, "usage.period").await;
    let mut events = subscribed(&running, Stream::CloudPeriods, "cloudevents.period").await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.clock.set("2026-12-01T07:00:00Z".parse().unwrap());
    let mut kinds = BTreeMap::new();
    // December opens before or after November has closed.
    while kinds.values().sum::<u32>() < 4 {
        let (id, _, bytes) = next(&mut events).await;
        let namespace = running.bench.namespace();
        let (kind, expected) = match periods.next().await.event.unwrap() {
            Event::Opened(opened) => ("opened", cloud_events::period_opened(namespace, &id, &opened)),
            Event::Closed(closed) => ("closed", cloud_events::period_closed(namespace, &id, &closed)),
            Event::Late(late) => ("late", cloud_events::late_usage(namespace, &id, &late)),
        };
        assert_eq!(String::from_utf8(bytes).unwrap(), String::from_utf8(expected).unwrap());
        assert!(id.starts_with(kind), "{id}");
        *kinds.entry(kind).or_insert(0) += 1;
        if kind == "closed" {
            running.send(vec![execution(4, "2026-11-30T10:00:00Z")]).await;
        }
    }
    assert_eq!(kinds, BTreeMap::from([("closed", 1), ("late", 1), ("opened", 2)]));
    running.bench.finish().await;
}
