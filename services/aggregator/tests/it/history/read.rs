//! Reads the outcome: every stored figure, and every message.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use prost::Message;
use proto::{consumers, streams::Stream, v1};
use testkit::TestBed;

use super::model::Outcome;

/// Every figure and message of an idle installation.
pub async fn read(bench: &TestBed) -> Outcome {
    let rows: Vec<(String, Vec<i64>)> = sqlx::query_as(FIGURES).fetch_all(bench.pool()).await.unwrap();
    let mut outcome: Outcome = rows
        .into_iter()
        .filter(|(_, figures)| figures.iter().any(|figure| *figure != 0))
        .map(|(key, figures)| (key, format!("{figures:?}")))
        .collect();
    let facts: Vec<(String, String)> = sqlx::query_as(FACTS).fetch_all(bench.pool()).await.unwrap();
    outcome.extend(facts);
    read_messages(bench, &mut outcome).await;
    outcome
}

async fn read_messages(bench: &TestBed, outcome: &mut Outcome) {
    let mut counts: BTreeMap<String, u32> = BTreeMap::new();
    for crossed in all::<v1::ThresholdCrossed>(bench, Stream::Thresholds, "usage.threshold").await {
        let start = seconds(crossed.period.unwrap().start);
        let (tenant, percent, limit) = (crossed.tenant_id, crossed.threshold_percent, crossed.limit);
        *counts.entry(format!("crossing {tenant} {start} {percent} {limit}")).or_default() += 1;
    }
    let mut closed: BTreeMap<String, (u32, Option<v1::Totals>)> = BTreeMap::new();
    let mut late: BTreeMap<String, (u64, Option<v1::Totals>)> = BTreeMap::new();
    for event in all::<v1::PeriodEvent>(bench, Stream::Periods, "usage.period").await {
        let key =
            |tenant: &str, period: Option<v1::Period>| format!("{tenant} {}", seconds(period.unwrap().start));
        match event.event.unwrap() {
            v1::period_event::Event::Opened(event) => {
                *counts.entry(format!("opened {}", key(&event.tenant_id, event.period))).or_default() += 1;
            }
            v1::period_event::Event::Closed(event) => {
                let known = closed.entry(key(&event.tenant_id, event.period)).or_default();
                *known = (known.0 + 1, event.totals);
            }
            v1::period_event::Event::Late(event) => {
                let known = late.entry(key(&event.tenant_id, event.period)).or_default();
                if event.revision > known.0 {
                    *known = (event.revision, event.totals);
                }
            }
        }
    }
    outcome.extend(counts.into_iter().map(|(key, count)| (key, count.to_string())));
    let closed = closed.into_iter().map(|(key, (count, totals))| {
        (format!("closed {key}"), format!("{count} {:?}", figures_of(&totals.unwrap())))
    });
    outcome.extend(closed);
    let late = late
        .into_iter()
        .map(|(key, (_, totals))| (format!("late {key}"), format!("{:?}", figures_of(&totals.unwrap()))));
    outcome.extend(late);
    let mut last: BTreeMap<String, v1::UsageCounted> = BTreeMap::new();
    for usage in all::<v1::UsageCounted>(bench, Stream::UsageState, "usage.counted").await {
        last.insert(usage.tenant_id.clone(), usage);
    }
    outcome.extend(last.into_values().map(|usage| {
        let key = format!("current {} {}", usage.tenant_id, seconds(usage.period.unwrap().start));
        (key, format!("{} of {:?}", usage.totals.unwrap().counted, usage.limit))
    }));
}

/// Everything on a topic.
async fn all<M: Message + Default>(bench: &TestBed, stream: Stream, topic: &str) -> Vec<M> {
    let bus = &bench.context.bus;
    let mut stream = bus.jetstream().get_stream(stream.name(bus.namespace())).await.unwrap();
    let mut all = Vec::new();
    if stream.info().await.unwrap().state.messages == 0 {
        return all;
    }
    let reader = stream.create_consumer(consumers::live(bus.namespace(), topic)).await.unwrap();
    let mut messages = reader.messages().await.unwrap();
    while let Some(message) = messages.next().await {
        let message = message.unwrap();
        all.push(M::decode(message.payload.clone()).unwrap());
        if message.info().unwrap().pending == 0 {
            break;
        }
    }
    all
}

fn seconds(at: Option<prost_types::Timestamp>) -> i64 {
    at.unwrap().seconds
}

fn figures_of(totals: &v1::Totals) -> [u64; 8] {
    [
        totals.counted,
        totals.uncounted,
        totals.success,
        totals.error,
        totals.crashed,
        totals.canceled,
        totals.duration_ms,
        totals.late,
    ]
}

/// Every stored figure: its key, and counted, uncounted, success, error, crashed, canceled, milliseconds,
/// late.
const FIGURES: &str = "WITH cells AS (
        SELECT 'period' AS kind, tenant_number AS tenant, period_start AS at, NULL::integer AS workflow,
            ARRAY[counted, uncounted, success, error, crashed, canceled, duration_ms, late] AS figures FROM periods
        UNION ALL SELECT 'workflow', tenant_number, period_start, workflow_number,
            ARRAY[counted, uncounted, success, error, crashed, canceled, duration_ms, late] FROM workflow_usage
        UNION ALL SELECT 'hour', tenant_number, hour_start, NULL,
            ARRAY[counted, uncounted, success, error, crashed, canceled, duration_ms, late] FROM usage_hours
        UNION ALL SELECT 'day', tenant_number, day_start, NULL,
            ARRAY[counted, uncounted, success, error, crashed, canceled, duration_ms, late] FROM usage_days
        UNION ALL SELECT 'workflow day', tenant_number, day_start, workflow_number,
            ARRAY[counted, uncounted, success, error, crashed, canceled, duration_ms, late] FROM workflow_days)
    SELECT concat_ws(' ', kind, tenant_id, extract(epoch FROM at)::bigint, source_id, workflow_id), figures
    FROM cells JOIN tenants ON tenants.number = tenant LEFT JOIN workflows ON workflows.number = workflow
    LEFT JOIN sources ON sources.number = workflows.source_number";

/// The bounds of periods, and the executions that no attribution matches.
const FACTS: &str = "SELECT concat_ws(' ', 'bounds', tenant_id, extract(epoch FROM period_start)::bigint),
        concat_ws(' ', extract(epoch FROM periods.period_end)::bigint,
            CASE WHEN closed_at IS NULL THEN 'false' ELSE 'true' END)
    FROM periods JOIN tenants ON number = tenant_number
    UNION ALL SELECT concat_ws(' ', 'unmapped', source_id), count(*)::text
    FROM executions JOIN sources ON number = source_number WHERE tenant_number IS NULL GROUP BY source_id";
