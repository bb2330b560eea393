//! Periods are facts: a changed calendar applies from the next one.

use jiff::Timestamp;
use prost::Message;
use proto::{
    streams::Stream,
    subjects::Question,
    v1::{self, PeriodEvent, ThresholdCrossed, period_event::Event},
};
use sqlx::PgPool;

use crate::harness::{Harness, execution, executions, tenant, tenant_from};

fn second(text: &str) -> i64 {
    text.parse::<Timestamp>().unwrap().as_second()
}

fn bounds(period: Option<v1::Period>) -> (i64, i64) {
    let period = period.expect("a period");
    (period.start.unwrap().seconds, period.end.unwrap().seconds)
}

fn span(start: &str, end: &str) -> (i64, i64) {
    (second(start), second(end))
}

/// Start, end and counted executions of the stored periods.
async fn stored(pool: &PgPool) -> Vec<(i64, i64, i64)> {
    sqlx::query_as(
        "SELECT extract(epoch FROM period_start)::bigint, extract(epoch FROM period_end)::bigint, counted
         FROM periods ORDER BY period_start",
    )
    .fetch_all(pool)
    .await
    .unwrap()
}

#[tokio::test]
async fn another_calendar_gives_a_tenant_at_its_limit_no_second_month() {
    let mut running = Harness::start(Some(100)).await;
    let mut crossings = running.bench.topic::<ThresholdCrossed>(Stream::Thresholds, "usage.threshold").await;
    let mut events = running.bench.topic::<PeriodEvent>(Stream::Periods, "usage.period").await;
    running.send(executions(1..=100)).await;
    let november = span("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z");
    let before = running.usage_where(|totals| totals.counted == 100).await;
    assert_eq!(bounds(before.period), november);
    let mut warned = Vec::new();
    for calendar in
        [("Europe/Madrid", 1), ("Europe/Madrid", 15), ("Pacific/Apia", 24), ("Asia/Kathmandu", 15)]
    {
        let revision = 2 + warned.len() as u64;
        running.bench.publish_entry(&tenant_from(calendar.0, calendar.1), revision).await;
        let id = 200 + revision;
        running.send(vec![execution(id, "2026-11-24T11:59:30Z")]).await;
        warned.push(id);
        let counted = 100 + warned.len() as u64;
        let usage = running.usage_where(|totals| totals.counted == counted).await;
        assert_eq!((bounds(usage.period), usage.limit), (november, Some(100)), "{calendar:?}");
    }
    running.bench.clock.set("2026-12-01T07:00:00Z".parse().unwrap());
    let mut closed = Vec::new();
    let first = loop {
        match events.next().await.event.unwrap() {
            Event::Closed(event) => closed.push((bounds(event.period), event.totals.unwrap().counted)),
            Event::Opened(event) if bounds(event.period) != november => break bounds(event.period),
            _ => {}
        }
    };
    // The calendar that was set last applies from there to its first boundary.
    assert_eq!(first, span("2026-12-01T00:00:00Z", "2026-12-14T18:15:00Z"));
    while closed.is_empty() {
        if let Event::Closed(event) = events.next().await.event.unwrap() {
            closed.push((bounds(event.period), event.totals.unwrap().counted));
        }
    }
    assert_eq!(closed, [(november, 104)]);
    running.send(vec![execution(500, "2026-12-01T06:59:00Z")]).await;
    running.usage_where(|totals| totals.counted == 1).await;
    assert_eq!(stored(running.bench.pool()).await, [(november.0, november.1, 104), (first.0, first.1, 1)]);
    let crossed: Vec<(u32, i64)> = [crossings.next().await, crossings.next().await]
        .iter()
        .map(|crossed| (crossed.threshold_percent, bounds(crossed.period).0))
        .collect();
    assert_eq!(crossed, [(80, november.0), (100, november.0)]);
    let all: i64 =
        sqlx::query_scalar("SELECT count(*) FROM crossings").fetch_one(running.bench.pool()).await.unwrap();
    assert_eq!(all, 2, "a threshold is crossed once");
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

#[tokio::test]
async fn an_execution_placed_by_an_outdated_calendar_is_placed_again() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=1)).await;
    running.usage_where(|totals| totals.counted == 1).await;
    // Near the end of the month, a recorder that knows the old calendar waits for the tenant's lock.
    let mut change = running.bench.pool().begin().await.unwrap();
    let version: i32 = sqlx::query_scalar("SELECT calendar_version FROM tenants FOR UPDATE")
        .fetch_one(&mut *change)
        .await
        .unwrap();
    running.bench.clock.set("2026-11-30T12:00:00Z".parse().unwrap());
    running.send(vec![execution(2, "2026-12-01T00:30:00Z")]).await;
    testkit::eventually("the recorder waits for the tenant", || async {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%FROM tenants WHERE number = ANY%')",
        )
        .fetch_one(running.bench.pool())
        .await
        .unwrap();
        waits.then_some(())
    })
    .await;
    sqlx::raw_sql(
        "INSERT INTO calendars VALUES (1, 1, '2026-12-01T00:00:00Z', 'Europe/Madrid', 15, false);
         UPDATE tenants SET calendar_version = calendar_version + 1;
         UPDATE catalog_version SET version = version + 1;",
    )
    .execute(&mut *change)
    .await
    .unwrap();
    change.commit().await.unwrap();
    let december = span("2026-12-01T00:00:00Z", "2026-12-14T23:00:00Z");
    testkit::eventually("it is counted in the new calendar's period", || async {
        let stored = stored(running.bench.pool()).await;
        (stored.get(1)? == &(december.0, december.1, 1)).then_some(())
    })
    .await;
    assert!(version > 0, "the tenant's calendar was stored with the tenant");
    running.bench.finish().await;
}

#[tokio::test]
async fn periods_of_the_previous_version_keep_their_bounds() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.restart().await;
    // As the previous version left it: no calendars, and a zone that was changed while nothing was published.
    let madrid = catalog::Entry::to_wire(&tenant("Europe/Madrid"), 2).encode_to_vec();
    sqlx::query("DELETE FROM calendars").execute(running.bench.pool()).await.unwrap();
    sqlx::query("UPDATE catalog SET value = $1, revision = 2 WHERE kind = 'tenant'")
        .bind(madrid)
        .execute(running.bench.pool())
        .await
        .unwrap();
    running.start_service().await;
    running.send(vec![execution(4, "2026-11-24T11:59:59Z")]).await;
    let usage = running.usage_where(|totals| totals.counted == 4).await;
    assert_eq!(bounds(usage.period), span("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"));
    running.bench.clock.set("2026-12-01T00:30:00Z".parse().unwrap());
    let usage = running.usage_where(|totals| totals.counted == 0).await;
    assert_eq!(bounds(usage.period), span("2026-12-01T00:00:00Z", "2026-12-31T23:00:00Z"));
    running.bench.finish().await;
}

fn end(id: &str) -> v1::PeriodEndQuestion {
    v1::PeriodEndQuestion {
        end_id: id.into(),
        tenant_id: "north".into(),
        author: "operator".into(),
        reason: "another calendar".into(),
    }
}

/// Waits until the aggregator has stored this many calendars.
async fn calendars(running: &Harness, expected: i64) {
    testkit::eventually("the calendar is stored", || async {
        let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM calendars")
            .fetch_one(running.bench.pool())
            .await
            .unwrap();
        (kept == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_period_that_an_operator_ends_keeps_its_executions() {
    let mut running = Harness::start(Some(100)).await;
    // The last of them from a clock that is ahead.
    let mut batch = executions(1..=3);
    batch.push(execution(4, "2026-11-24T12:00:30Z"));
    running.send(batch).await;
    running.usage_where(|totals| totals.counted == 4).await;
    running.bench.publish_entry(&tenant_from("Europe/Madrid", 15), 2).await;
    calendars(&running, 2).await;
    let made: v1::PeriodEnd = running.ask(Question::EndPeriod, &end("e1")).await.unwrap();
    let november = span("2026-11-01T00:00:00Z", "2026-11-24T12:01:00Z");
    let next = span("2026-11-24T12:01:00Z", "2026-12-14T23:00:00Z");
    assert_eq!((bounds(made.ended), bounds(made.next)), (november, next));
    let again: v1::PeriodEnd = running.ask(Question::EndPeriod, &end("e1")).await.unwrap();
    assert_eq!(again, made, "the same id changes nothing");
    let usage = running.usage.next_where(|usage| bounds(usage.period) == november).await;
    assert_eq!(usage.totals.unwrap().counted, 4);
    running.bench.clock.set("2026-11-24T12:02:00Z".parse().unwrap());
    running.usage.next_where(|usage| bounds(usage.period) == next).await;
    running.send(vec![execution(5, "2026-11-24T12:00:59.999Z"), execution(6, "2026-11-24T12:01:00Z")]).await;
    let usage = running.usage_where(|totals| totals.counted == 1).await;
    assert_eq!(usage.ended_periods.len(), 1);
    let ended = &usage.ended_periods[0];
    assert_eq!((bounds(ended.period), ended.totals.unwrap().counted), (november, 5));
    assert_eq!(stored(running.bench.pool()).await, [(november.0, november.1, 5), (next.0, next.1, 1)]);
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

#[tokio::test]
async fn ending_a_period_needs_an_id_an_author_a_reason_and_a_known_tenant() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=1)).await;
    running.usage_where(|totals| totals.counted == 1).await;
    let asked = &running;
    let ask = |question: v1::PeriodEndQuestion| async move {
        asked.ask::<v1::PeriodEnd>(Question::EndPeriod, &question).await
    };
    for refused in [
        v1::PeriodEndQuestion { author: " ".into(), ..end("e1") },
        v1::PeriodEndQuestion { reason: String::new(), ..end("e1") },
        v1::PeriodEndQuestion { end_id: String::new(), ..end("e1") },
        v1::PeriodEndQuestion { tenant_id: "nobody".into(), ..end("e1") },
    ] {
        assert!(ask(refused.clone()).await.is_err(), "{refused:?}");
    }
    ask(end("e1")).await.unwrap();
    assert!(ask(end("e2")).await.is_err(), "the period that follows has just begun");
    running.bench.finish().await;
}

#[tokio::test]
async fn a_question_may_name_any_instant_of_a_stored_period() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    // By its new calendar the tenant's month would begin on the 15th.
    running.bench.publish_entry(&tenant_from("Europe/Madrid", 15), 2).await;
    calendars(&running, 2).await;
    let question = v1::ExplainQuestion {
        tenant_id: "north".into(),
        period_at: crate::harness::at("2026-11-10T12:00:00Z"),
        count_max: 10,
        ..v1::ExplainQuestion::default()
    };
    let answer: v1::ExplainAnswer = running.ask(Question::Explain, &question).await.unwrap();
    assert_eq!(answer.executions.len(), 3);
    assert_eq!(bounds(answer.period), span("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"));
    let question = v1::WorkflowsQuestion {
        tenant_id: "north".into(),
        period_at: crate::harness::at("2026-11-10T12:00:00Z"),
        count_max: 10,
        ..v1::WorkflowsQuestion::default()
    };
    let answer: v1::WorkflowsAnswer = running.ask(Question::Workflows, &question).await.unwrap();
    assert_eq!(bounds(answer.period), span("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"));
    running.bench.finish().await;
}
