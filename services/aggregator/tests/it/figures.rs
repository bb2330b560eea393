//! Figures over time and by workflow, from the roll-ups.

use proto::{
    subjects::Question,
    v1::{self, Grain},
};

use crate::harness::{Harness, at, execution, executions, tenant};

/// A question about `north` in November.
fn november(grain: Grain) -> v1::UsageQuestion {
    v1::UsageQuestion {
        tenant_id: "north".into(),
        span: Some(v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") }),
        grain: grain.into(),
        ..v1::UsageQuestion::default()
    }
}

fn shown(answer: &v1::UsageAnswer) -> Vec<(i64, u64)> {
    let start = |slice: &v1::UsageSlice| slice.span.unwrap().start.unwrap().seconds;
    answer.slices.iter().map(|slice| (start(slice), slice.totals.unwrap().counted)).collect()
}

/// Within 5 %: more than a sketch may be off.
fn within(found: Option<u64>, exact: u64) -> bool {
    found.is_some_and(|found| found.abs_diff(exact) * 20 <= exact)
}

fn second(text: &str) -> i64 {
    at(text).unwrap().seconds
}

#[tokio::test]
async fn figures_are_kept_by_hour_day_period_and_workflow() {
    let mut running = Harness::start(None).await;
    let batch = vec![
        execution(1, "2026-11-22T23:59:59Z"),
        execution(2, "2026-11-23T00:00:00Z"),
        execution(3, "2026-11-23T00:59:59Z"),
        execution(4, "2026-11-23T01:00:00Z"),
    ];
    running.send(batch.clone()).await;
    running.send(batch).await;
    running.usage_where(|totals| totals.counted == 4).await;
    let days = running.usage_answer(&november(Grain::Day), |answer| answer.slices.len() == 2).await;
    assert_eq!(shown(&days), [(second("2026-11-22T00:00:00Z"), 1), (second("2026-11-23T00:00:00Z"), 3)]);
    assert!(within(days.slices[1].duration_p50_ms, 40), "{days:?}");
    assert_eq!(days.slices[1].totals.unwrap().duration_ms, 120);
    let asked = &running;
    let ask = |question| async move { asked.ask::<v1::UsageAnswer>(Question::Usage, &question).await };

    let span = Some(v1::Period { start: at("2026-11-20T00:00:00Z"), end: at("2026-11-24T00:00:00Z") });
    let hours = ask(v1::UsageQuestion { span, ..november(Grain::Hour) }).await.unwrap();
    assert!(
        within(hours.slices[1].duration_p50_ms, 40) && within(hours.slices[1].duration_p95_ms, 40),
        "{hours:?}"
    );
    let expected = [("2026-11-22T23:00:00Z", 1), ("2026-11-23T00:00:00Z", 2), ("2026-11-23T01:00:00Z", 1)];
    assert_eq!(shown(&hours), expected.map(|(hour, counted)| (second(hour), counted)));

    let periods = ask(november(Grain::Period)).await.unwrap();
    assert_eq!(shown(&periods), [(second("2026-11-01T00:00:00Z"), 4)]);
    assert!(within(periods.slices[0].duration_p95_ms, 40), "{periods:?}");

    let of_w1 = |grain| v1::UsageQuestion {
        source_id: "north-n8n".into(),
        workflow_id: "w1".into(),
        ..november(grain)
    };
    let days_of_w1 = ask(of_w1(Grain::Day)).await.unwrap();
    assert_eq!(shown(&days_of_w1).len(), 2);
    let second_day = &days_of_w1.slices[1];
    assert!(
        within(second_day.duration_p50_ms, 40) && within(second_day.duration_p95_ms, 40),
        "{days_of_w1:?}"
    );
    assert_eq!(ask(of_w1(Grain::Period)).await.unwrap().slices[0].totals.unwrap().counted, 2);
    for refused in [of_w1(Grain::Hour), november(Grain::Hour), november(Grain::Unspecified)] {
        let refused = v1::UsageQuestion { span: november(Grain::Day).span, ..refused };
        if refused.grain() == Grain::Hour && refused.workflow_id.is_empty() {
            let span =
                Some(v1::Period { start: at("2026-01-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") });
            assert!(ask(v1::UsageQuestion { span, ..refused }).await.is_err(), "a span too long");
        } else {
            assert!(ask(refused.clone()).await.is_err(), "{refused:?}");
        }
    }
    let unknown = v1::UsageQuestion { tenant_id: "nobody".into(), ..november(Grain::Day) };
    assert_eq!(ask(unknown).await.unwrap_err().to_string(), "there is no tenant nobody");
    running.bench.finish().await;
}

#[tokio::test]
async fn days_follow_the_tenants_time_zone() {
    let running = Harness::start_with(None, &tenant("Europe/Madrid")).await;
    running.send(vec![execution(1, "2026-11-22T22:59:59Z"), execution(2, "2026-11-22T23:00:00Z")]).await;
    let days = running.usage_answer(&november(Grain::Day), |answer| answer.slices.len() == 2).await;
    assert_eq!(shown(&days), [(second("2026-11-21T23:00:00Z"), 1), (second("2026-11-22T23:00:00Z"), 1)]);
    assert_eq!(days.slices[1].span.unwrap().end, at("2026-11-23T23:00:00Z"));
    running.bench.finish().await;
}

#[tokio::test]
async fn the_largest_workflows_come_first_with_their_durations() {
    let running = Harness::start(None).await;
    let mut batch = executions(1..=10);
    for (place, execution) in batch.iter_mut().enumerate() {
        let ms = if place == 9 { 60_000 } else { 100 };
        let stopped_at: jiff::Timestamp = "2026-11-24T11:59:00Z".parse().unwrap();
        execution.started_at = Some(proto::timestamp(stopped_at - jiff::SignedDuration::from_millis(ms)));
    }
    running.send(batch).await;
    let question = v1::WorkflowsQuestion {
        tenant_id: "north".into(),
        period_start: at("2026-11-01T00:00:00Z"),
        count_max: 2,
        period_at: None,
        by_failures: false,
    };
    let answer = testkit::eventually("the durations are folded", || async {
        let answer: v1::WorkflowsAnswer = running.ask(Question::Workflows, &question).await.ok()?;
        answer.workflows.first()?.duration_p50_ms?;
        Some(answer)
    })
    .await;
    assert_eq!((answer.workflows.len(), answer.workflows_total), (2, 3));
    let first = &answer.workflows[0];
    let usage = first.usage.as_ref().unwrap();
    assert_eq!((usage.workflow_id.as_str(), usage.workflow_name.as_str()), ("w1", "Workflow 1"));
    assert_eq!(usage.totals.unwrap().counted, 4);
    assert!(within(first.duration_p50_ms, 100) && within(first.duration_p95_ms, 60_000), "{first:?}");
    running.bench.finish().await;
}

#[tokio::test]
async fn a_crash_that_becomes_an_error_moves_to_the_errors_hour() {
    let mut running = Harness::start(None).await;
    let mut crash = execution(7, "2026-11-24T09:30:00Z");
    crash.status = v1::ExecutionStatus::Crashed.into();
    let mut error = execution(7, "2026-11-24T11:00:05Z");
    error.status = v1::ExecutionStatus::Error.into();
    running.send(vec![crash]).await;
    running.usage_where(|totals| totals.crashed == 1).await;
    running.send(vec![error]).await;
    let question = v1::UsageQuestion {
        span: Some(v1::Period { start: at("2026-11-24T00:00:00Z"), end: at("2026-11-25T00:00:00Z") }),
        ..november(Grain::Hour)
    };
    let is_moved = |answer: &v1::UsageAnswer| {
        let counted = |slice: &&v1::UsageSlice| slice.totals.unwrap().counted > 0;
        let left: Vec<_> = answer.slices.iter().filter(counted).collect();
        matches!(left[..], [one] if one.totals.unwrap().error == 1
            && one.span.unwrap().start == at("2026-11-24T11:00:00Z"))
    };
    running.usage_answer(&question, is_moved).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn hours_follow_the_tenants_time_zone_and_add_up_to_its_day() {
    let running = Harness::start_with(None, &tenant("Asia/Kathmandu")).await;
    // Midnight of the 23rd in Kathmandu is 18:15 of the 22nd in UTC.
    let batch =
        ["2026-11-22T18:14:59Z", "2026-11-22T18:15:00Z", "2026-11-22T19:14:59Z", "2026-11-22T19:15:00Z"];
    running.send(batch.iter().zip(1..).map(|(stopped_at, id)| execution(id, stopped_at)).collect()).await;
    let span = Some(v1::Period { start: at("2026-11-22T17:00:00Z"), end: at("2026-11-23T18:15:00Z") });
    let question = v1::UsageQuestion { span, ..november(Grain::Hour) };
    let hours = running.usage_answer(&question, |answer| answer.slices.len() == 3).await;
    let expected = [("2026-11-22T17:15:00Z", 1), ("2026-11-22T18:15:00Z", 2), ("2026-11-22T19:15:00Z", 1)];
    assert_eq!(shown(&hours), expected.map(|(hour, counted)| (second(hour), counted)));
    assert_eq!(hours.slices[1].span.unwrap().end, at("2026-11-22T19:15:00Z"));
    running.bench.finish().await;
}

#[tokio::test]
async fn by_failures_only_workflows_with_failures_are_listed() {
    let running = Harness::start(None).await;
    let mut batch = executions(1..=9);
    for execution in &mut batch[..2] {
        execution.status = v1::ExecutionStatus::Error.into();
    }
    batch[3].status = v1::ExecutionStatus::Crashed.into();
    running.send(batch).await;
    let question = v1::WorkflowsQuestion {
        tenant_id: "north".into(),
        period_start: at("2026-11-01T00:00:00Z"),
        count_max: 10,
        period_at: None,
        by_failures: true,
    };
    let answer = testkit::eventually("the figures are folded", || async {
        let answer: v1::WorkflowsAnswer = running.ask(Question::Workflows, &question).await.ok()?;
        (answer.totals?.counted == 9).then_some(answer)
    })
    .await;
    let listed = answer.workflows.iter().map(|one| one.usage.as_ref().unwrap().totals.unwrap());
    let failed: Vec<_> = listed.map(|totals| totals.error + totals.crashed).collect();
    assert_eq!((failed.iter().sum::<u64>(), failed.len(), answer.workflows_total), (3, 2, 3));
    assert!(failed.is_sorted_by(|one, next| one >= next), "{failed:?}");
    running.bench.finish().await;
}

#[tokio::test]
async fn workflow_days_have_durations_and_older_ones_get_them_by_a_rebuild() {
    let running = Harness::start(None).await;
    let mut runs: Vec<_> = [1, 4, 7, 10].map(|id| execution(id, "2026-11-23T11:59:00Z")).into();
    let stopped_at: jiff::Timestamp = "2026-11-23T11:59:00Z".parse().unwrap();
    runs[3].started_at = Some(proto::timestamp(stopped_at - jiff::SignedDuration::from_secs(60)));
    let (first, second) = runs.split_at(2);
    running.send(first.to_vec()).await;
    let question =
        v1::UsageQuestion { source_id: "north-n8n".into(), workflow_id: "w1".into(), ..november(Grain::Day) };
    let counted =
        |many| move |answer: &v1::UsageAnswer| shown(answer).iter().map(|day| day.1).sum::<u64>() == many;
    running.usage_answer(&question, counted(2)).await;
    // Folded separately from the first two: added to their sketch.
    running.send(second.to_vec()).await;
    let day = running.usage_answer(&question, counted(4)).await.slices.remove(0);
    assert!(within(day.duration_p50_ms, 40) && within(day.duration_p95_ms, 60_000), "{day:?}");

    sqlx::query("UPDATE workflow_days SET durations = ''").execute(running.bench.pool()).await.unwrap();
    // As on the day of an upgrade: only some of its executions have durations.
    running.send(vec![execution(13, "2026-11-23T12:59:00Z")]).await;
    let day = running.usage_answer(&question, counted(5)).await.slices.remove(0);
    assert_eq!((day.duration_p50_ms, day.duration_p95_ms), (None, None), "not the durations of a part");
    let rebuilt = running.rebuilt().await;
    assert_eq!((rebuilt.len(), rebuilt[0].figure), (1, "durations"), "{rebuilt:?}");
    let day = running.usage_answer(&question, counted(5)).await.slices.remove(0);
    assert!(within(day.duration_p50_ms, 40) && within(day.duration_p95_ms, 60_000), "{day:?}");
    running.bench.finish().await;
}
