//! A period compared with the previous one.

use messaging::ask::Refusal;
use proto::{
    subjects::Question,
    v1::{self, Grain},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Harness, NOW, at, november, period, usage},
    played::{Played, get},
};

const PATH: &str = "/v1/tenants/north/usage/comparison";

/// Runs of half a second each, one in ten of them failed.
fn runs(count: u64) -> Option<v1::Totals> {
    let error = count / 10;
    let totals = v1::Totals {
        counted: count,
        success: count - error,
        error,
        duration_ms: 500 * count,
        ..Default::default()
    };
    Some(totals)
}

fn slice(span: Option<v1::Period>, totals: Option<v1::Totals>) -> v1::UsageSlice {
    v1::UsageSlice { span, totals, time_zone: "Europe/Lisbon".into(), ..v1::UsageSlice::default() }
}

/// October had 10 runs each hour and was adjusted by -40, November has 20 each hour. Nothing is known of September.
fn ten_and_twenty(question: &v1::UsageQuestion) -> Result<v1::UsageAnswer, Refusal> {
    let span = question.span.unwrap();
    let (from, to) = (span.start.unwrap().seconds, span.end.unwrap().seconds);
    let [october, november] =
        ["2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"].map(|start| at(start).unwrap().seconds);
    let slices = match question.grain() {
        Grain::Period => {
            let adjusted = v1::Totals { counted: 7_400, adjusted: -40, ..runs(7_440).unwrap() };
            vec![
                slice(period("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"), Some(adjusted)),
                slice(self::november(), runs(11_300)),
            ]
        }
        _ => (from..to)
            .step_by(3_600)
            .map(|second| {
                let instant = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
                let span = v1::Period { start: instant(second), end: instant(second + 3_600) };
                assert!(second >= october);
                slice(Some(span), runs(if second < november { 10 } else { 20 }))
            })
            .collect(),
    };
    let begun = |slice: &v1::UsageSlice| slice.span.unwrap().start.unwrap().seconds < to;
    Ok(v1::UsageAnswer {
        slices: slices.into_iter().filter(begun).collect(),
        as_of: at(NOW),
        ..v1::UsageAnswer::default()
    })
}

/// `north`, whose plan has a price.
async fn world() -> Harness {
    let world = Harness::start().await;
    let price = json!({"currency": "eur", "base_fee_minor": 1_000, "included_executions": 5_000,
                       "overage_per_thousand_minor": 100});
    world.put("/v1/plans/pro", json!({"name": "Pro", "monthly_limit": 100_000, "price": price})).await;
    for tenant in ["north", "south"] {
        world.put(&format!("/v1/tenants/{tenant}"), json!({"name": tenant, "plan": "pro"})).await;
    }
    world.counted(usage("north", 11_300, 1)).await;
    world
}

#[tokio::test]
async fn a_period_is_compared_with_the_previous_one_in_part_and_as_a_whole() {
    let world = world().await;
    Played::start(&world, Question::Usage, ten_and_twenty);
    let shown = get(&world, PATH).await;
    // Complete until a minute before noon: 23 days and 11 hours of both.
    let bounds =
        |side: &str| [&shown[side]["period"]["start"], &shown[side]["until"]].map(|at| at.as_str().unwrap());
    assert_eq!(bounds("current"), ["2026-11-01T00:00:00Z", "2026-11-24T11:00:00Z"]);
    assert_eq!(bounds("previous"), ["2026-10-01T00:00:00Z", "2026-10-24T11:00:00Z"]);
    assert_eq!(bounds("previous_whole"), ["2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z"]);
    let figures = |side: &str, of: &str| shown[side]["figures"][of].clone();
    let executions = ["current", "previous", "previous_whole"].map(|side| figures(side, "executions"));
    assert_eq!(executions, [11_260, 5_630, 7_440].map(Value::from));
    assert_eq!(
        [figures("current", "adjusted"), figures("previous_whole", "adjusted")],
        [Value::Null, json!(-40)]
    );
    let zone = &shown["previous"]["period"]["time_zone"];
    assert_eq!(zone, "Europe/Lisbon", "the zone that the period was cut in, not the tenant's current one");
    let cost = |side: &str| figures(side, "cost")["amount_minor"].as_u64().unwrap();
    assert_eq!(["current", "previous", "previous_whole"].map(cost), [1_626, 1_063, 1_240]);
    let change = &shown["change"];
    assert_eq!(change["executions"], json!({"absolute": 5_630, "percent": 100.0}));
    assert_eq!(change["duration_ms"], json!({"absolute": 2_815_000, "percent": 100.0}));
    assert_eq!(change["mean_duration_ms"], json!({"absolute": 0, "percent": 0.0}));
    // One in ten hourly runs fails, and two in twenty: nothing has changed.
    assert_eq!(change["success_rate_points"], json!(0.0));
    assert_eq!(change["cost_minor"], json!({"absolute": 563, "percent": 53.0}));
    assert_eq!(shown["change_to_whole"]["executions"], json!({"absolute": 3_820, "percent": 51.3}));
    world.finish().await;
}

#[tokio::test]
async fn unknown_figures_are_not_compared_and_only_the_tenant_sees_its_own() {
    let world = world().await;
    Played::start(&world, Question::Usage, ten_and_twenty);
    let whole = get(&world, &format!("{PATH}?period=2026-10-10")).await;
    assert_eq!(
        whole["current"]["figures"]["executions"],
        json!(7_440),
        "a period that has ended, as a whole"
    );
    for side in ["previous", "previous_whole", "change", "change_to_whole"] {
        assert_eq!(whole[side], Value::Null, "{side}");
    }
    // No usage update was received for `south`: the rollups of its period may be far from complete.
    let silent = get(&world, "/v1/tenants/south/usage/comparison").await;
    assert_eq!((&silent["current"]["figures"], &silent["change"]), (&Value::Null, &Value::Null), "{silent}");
    assert_eq!(silent["previous_whole"]["figures"]["executions"], json!(7_440));

    let own = world.token_of("north").await;
    let csv =
        world.request(Method::GET, &format!("{PATH}?format=csv")).bearer_auth(&own).send().await.unwrap();
    assert_eq!(csv.headers()["content-type"], "text/csv; charset=utf-8; header=present");
    let text = csv.text().await.unwrap();
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let rows: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().unwrap();
    let shown: Vec<_> = rows.iter().map(|row| [&row[1], &row[6], &row[13]].map(str::to_owned)).collect();
    let expected =
        [["current", "11260", "16.26"], ["previous", "5630", "10.63"], ["previous_whole", "7440", "12.40"]];
    assert_eq!(shown, expected);
    let south = world.ask_as(&own, Method::GET, "/v1/tenants/south/usage/comparison", None).await;
    assert_eq!(south.0, 403);
    assert_eq!(world.ask(Method::GET, &format!("{PATH}?period=2025-01-10"), None).await.0, 404);
    world.finish().await;
}
