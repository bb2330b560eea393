//! Figures over time, by workflow, explained and corrected: the questions to the aggregator, and the use of
//! its answers.

use messaging::ask::Refusal;
use proto::{
    subjects::Question,
    v1::{self, correction_question::Change},
};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::eventually;

use crate::{
    harness::{Harness, NOW, at, november, period, usage},
    played::{Played, get},
};

fn counted(counted: u64) -> Option<v1::Totals> {
    Some(v1::Totals { counted, success: counted, ..v1::Totals::default() })
}

fn slice(start: &str, end: &str, count: u64) -> v1::UsageSlice {
    v1::UsageSlice {
        span: period(start, end),
        totals: counted(count),
        duration_p50_ms: Some(40),
        duration_p95_ms: Some(900),
        time_zone: String::new(),
    }
}

/// Ten executions on each day of November before the 24th.
fn ten_a_day(question: &v1::UsageQuestion) -> Result<v1::UsageAnswer, Refusal> {
    let (from, to) = (question.span.unwrap().start.unwrap(), question.span.unwrap().end.unwrap());
    let days = (1..24).map(|day| {
        slice(&format!("2026-11-{day:02}T00:00:00Z"), &format!("2026-11-{:02}T00:00:00Z", day + 1), 10)
    });
    let in_span = |slice: &v1::UsageSlice| {
        let start = slice.span.unwrap().start.unwrap().seconds;
        from.seconds <= start && start < to.seconds
    };
    Ok(v1::UsageAnswer {
        slices: days.filter(in_span).collect(),
        as_of: at(NOW),
        ..v1::UsageAnswer::default()
    })
}

#[tokio::test]
async fn a_series_comes_from_the_aggregator_and_only_its_tenant_sees_it() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let played = Played::start(&world, Question::Usage, ten_a_day);
    let shown = get(&world, "/v1/tenants/north/usage/series").await;
    assert_eq!((&shown["grain"], shown["slices"].as_array().unwrap().len()), (&json!("day"), 23));
    let first = &shown["slices"][0];
    assert_eq!((&first["counted"], &first["duration_p95_ms"]), (&json!(10), &json!(900)));
    assert_eq!((played.last().span, played.last().tenant_id.as_str()), (november(), "north"));

    let path = "/v1/tenants/north/usage/series?grain=hour&from=2026-11-02&to=2026-11-03T06:00:00Z";
    get(&world, path).await;
    assert_eq!(played.last().span, period("2026-11-02T00:00:00Z", "2026-11-03T06:00:00Z"));
    assert_eq!(played.last().grain(), v1::Grain::Hour);

    let own = world.token_of("north").await;
    let as_north = |path| world.ask_as(&own, Method::GET, path, None);
    assert_eq!(as_north("/v1/tenants/north/usage/series").await.0, 200);
    for path in ["series", "workflows", "explain"] {
        let path = format!("/v1/tenants/south/usage/{path}");
        assert_eq!(world.ask_as(&own, Method::GET, &path, None).await.0, 403, "{path}");
    }
    for (path, status) in [
        ("/v1/tenants/nobody/usage/series", 404),
        ("/v1/tenants/north/usage/series?from=2026-11-03&to=2026-11-02", 422),
        ("/v1/tenants/north/usage/series?from=yesterday", 422),
        ("/v1/tenants/north/usage/series?workflow=w1", 422),
        ("/v1/tenants/north/usage/series?grain=week", 400),
    ] {
        assert_eq!(world.ask(Method::GET, path, None).await.0, status, "{path}");
    }
    world.finish().await;
}

#[tokio::test]
async fn usage_has_a_forecast_once_enough_is_known() {
    let world = Harness::start().await;
    world.with_tenants(260).await;
    world.counted(usage("north", 230, 1)).await;
    assert_eq!(world.get("/v1/usage/north").await["forecast"], Value::Null, "nobody answers");
    Played::start(&world, Question::Usage, ten_a_day);
    let forecast = eventually("a forecast", || async {
        let forecast = world.get("/v1/usage/north").await["forecast"].clone();
        (!forecast.is_null()).then_some(forecast)
    })
    .await;
    // Half of the 24th, and six days: 5 + 60.
    assert_eq!(forecast["counted_at_end"], 295);
    assert_eq!(forecast["limit_reached_on"], "2026-11-27");
    assert_eq!((&forecast["days_observed"], &forecast["cost_estimate"]), (&json!(23), &Value::Null));
    world.finish().await;
}

#[tokio::test]
async fn the_largest_workflows_come_with_their_durations() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let played = Played::start(&world, Question::Workflows, |_: &v1::WorkflowsQuestion| {
        let usage = v1::WorkflowUsage {
            source_id: "north-n8n".into(),
            workflow_id: "w1".into(),
            workflow_name: "Order sync".into(),
            totals: counted(7),
        };
        let figures =
            v1::WorkflowFigures { usage: Some(usage), duration_p50_ms: Some(40), duration_p95_ms: Some(900) };
        // The aggregator knows which period that is: the tenant had another calendar then.
        let period = period("2026-10-05T00:00:00Z", "2026-11-01T00:00:00Z");
        Ok(v1::WorkflowsAnswer {
            time_zone: String::new(),
            workflows: vec![figures],
            workflows_total: 31,
            as_of: at(NOW),
            period,
            totals: None,
        })
    });
    let shown = get(&world, "/v1/tenants/north/usage/workflows?period=2026-10-15&limit=1").await;
    assert_eq!(
        (&shown["workflows_total"], &shown["period"]["start"]),
        (&json!(31), &json!("2026-10-05T00:00:00Z"))
    );
    let first = &shown["workflows"][0];
    assert_eq!((&first["name"], &first["counted"]), (&json!("Order sync"), &json!(7)));
    assert_eq!((&first["success_rate"], &first["duration_p50_ms"]), (&json!(1.0), &json!(40)));
    assert_eq!((played.last().period_at, played.last().count_max), (at("2026-10-15T12:00:00Z"), 1));
    world.finish().await;
}

#[tokio::test]
async fn only_the_operator_corrects_and_the_aggregators_refusal_is_passed_on() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let played =
        Played::start(&world, Question::Correct, |question: &v1::CorrectionQuestion| {
            match &question.change {
                Some(Change::VoidExecution(void)) if void.execution_id == 404 => {
                    Err(Refusal::not_found("there is no such execution"))
                }
                _ => Ok(v1::Correction {
                    correction: Some(question.clone()),
                    period: november(),
                    corrected_at: at(NOW),
                }),
            }
        });
    let path = "/v1/tenants/north/corrections";
    let correction = |id: &str, kind: &str, change: Value| json!({ "id": id, "author": "operator", "reason": "a test run", kind: change });
    let void = |execution: u64| json!({ "source": "north-n8n", "epoch": 1, "execution": execution });
    let made = eventually("the aggregator answers", || async {
        let body = correction("c1", "void", void(7));
        let (status, body) = world.ask(Method::POST, path, Some(body)).await;
        (status == 200).then_some(body)
    })
    .await;
    assert_eq!((&made["id"], &made["void"]["execution"]), (&json!("c1"), &json!("7")));
    assert_eq!((&made["corrected_at"], &made["adjusted"]), (&json!(NOW), &Value::Null));

    let (status, made) =
        world.ask(Method::POST, path, Some(correction("c2", "adjust", json!({ "quantity": -5 })))).await;
    assert_eq!((status, &made["adjusted"]), (200, &json!(-5)));
    let asked = Change::AdjustCount(v1::AdjustCount {
        period_start: at("2026-11-01T00:00:00Z"),
        quantity: -5,
        period_at: at(NOW),
    });
    assert_eq!((played.last().change, played.last().author.as_str()), (Some(asked), "operator"));

    let gone = world.ask(Method::POST, path, Some(correction("c3", "void", void(404)))).await;
    assert_eq!((gone.0, &gone.1["error"]["message"]), (404, &json!("there is no such execution")));
    let neither = json!({ "id": "c4", "author": "operator", "reason": "none" });
    assert_eq!(world.ask(Method::POST, path, Some(neither)).await.0, 422);
    let own = world.token_of("north").await;
    let body = Some(correction("c5", "void", void(7)));
    assert_eq!(world.ask_as(&own, Method::POST, path, body).await.0, 403);
    assert_eq!(world.ask_as(&own, Method::GET, path, None).await.0, 403);
    world.finish().await;
}

#[tokio::test]
async fn only_the_operator_ends_a_period_and_the_new_bounds_are_shown() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let played = Played::start(&world, Question::EndPeriod, |question: &v1::PeriodEndQuestion| {
        Ok(v1::PeriodEnd {
            question: Some(question.clone()),
            ended: period("2026-11-01T00:00:00Z", "2026-11-24T12:01:00Z"),
            next: period("2026-11-24T12:01:00Z", "2026-12-14T23:00:00Z"),
            asked_at: at(NOW),
        })
    });
    let path = "/v1/tenants/north/periods/end";
    let body = json!({ "id": "e1", "author": "operator", "reason": "another calendar" });
    let made = eventually("the aggregator answers", || async {
        let (status, made) = world.ask(Method::POST, path, Some(body.clone())).await;
        (status == 200).then_some(made)
    })
    .await;
    assert_eq!(
        (&made["period_end"], &made["next_end"]),
        (&json!("2026-11-24T12:01:00Z"), &json!("2026-12-14T23:00:00Z"))
    );
    assert_eq!((played.last().end_id.as_str(), played.last().tenant_id.as_str()), ("e1", "north"));
    let own = world.token_of("north").await;
    assert_eq!(world.ask_as(&own, Method::POST, path, Some(body)).await.0, 403);
    world.finish().await;
}

#[tokio::test]
async fn a_changed_calendar_takes_effect_at_the_end_of_the_current_period() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.counted(usage("north", 100, 2)).await;
    let calendar = json!({"name": "north", "plan": "pro", "time_zone": "Europe/Madrid", "anchor_day": 15});
    let put = world.put("/v1/tenants/north", calendar).await;
    assert_eq!(put["calendar_from"], json!("2026-12-01T00:00:00Z"), "from the end of the current period");
    let shown = world.get("/v1/usage/north").await;
    assert_eq!(
        (&shown["counted"], &shown["state"], &shown["period"]["start"], &shown["period"]["end"]),
        (&json!(100), &json!("over"), &json!("2026-11-01T00:00:00Z"), &json!("2026-12-01T00:00:00Z"))
    );
    // At the rollover, before anything is counted in the new period, it begins where the old one ended.
    world.bench.clock.set("2026-12-01T00:00:01Z".parse().unwrap());
    let shown = world.get("/v1/usage/north").await;
    assert_eq!(
        (&shown["period"]["start"], &shown["period"]["end"]),
        (&json!("2026-12-01T00:00:00Z"), &json!("2026-12-14T23:00:00Z"))
    );
    world.finish().await;
}

#[tokio::test]
async fn a_statement_adds_up_and_is_safe_for_a_spreadsheet() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    Played::start(&world, Question::Workflows, |question: &v1::WorkflowsQuestion| {
        assert_eq!(question.count_max, 1_000);
        let workflow = |id: &str, name: &str, totals| v1::WorkflowFigures {
            usage: Some(v1::WorkflowUsage {
                source_id: "north-n8n".into(),
                workflow_id: id.into(),
                workflow_name: name.into(),
                totals,
            }),
            ..v1::WorkflowFigures::default()
        };
        let workflows = vec![
            workflow("w1", "=HYPERLINK(\"http://x\")", counted(40)),
            workflow("w2", "Orders, \"fast\"", counted(5)),
        ];
        let totals =
            v1::Totals { counted: 45, success: 48, adjusted: -3, voided: 1, ..v1::Totals::default() };
        Ok(v1::WorkflowsAnswer {
            time_zone: String::new(),
            workflows,
            workflows_total: 3,
            as_of: at(NOW),
            period: november(),
            totals: Some(totals),
        })
    });
    let shown = get(&world, "/v1/tenants/north/usage/workflows?limit=1000").await;
    assert_eq!(shown["totals"]["success_rate"], json!(1.0), "48 of 48 executions, adjustments ignored");
    let own = world.token_of("north").await;
    let path = "/v1/tenants/north/usage/statement?period=2026-11-10";
    let answer = world.request(Method::GET, path).bearer_auth(&own).send().await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    let text = answer.text().await.unwrap();
    assert!(text.ends_with("\r\n") && text.contains(r#""'=HYPERLINK(""http://x"")""#), "{text}");
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    let kinds: Vec<&str> = rows.iter().map(|row| &row[4]).collect();
    let lines = ["workflow", "workflow", "other_workflows", "adjusted_by_hand", "base_fee", "total"];
    assert_eq!(kinds, lines);
    let figures: Vec<i64> = rows.iter().map(|row| row[8].parse().unwrap()).collect();
    assert_eq!(figures, [40, 5, 3, -3, 0, 45]);
    assert_eq!(figures[..5].iter().sum::<i64>(), figures[5]);
    let south = world.request(Method::GET, "/v1/tenants/south/usage/statement").bearer_auth(&own);
    assert_eq!(south.send().await.unwrap().status(), 403);
    world.finish().await;
}
