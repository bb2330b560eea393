//! `GET /v1/admissions/{tenant}` returns what the next `POST /v1/admissions` decides, for any plan and state.

use jiff::SignedDuration;
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use proto::v1;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Harness, NOW, at, plan, usage};

const CASES: usize = 48;

/// A plan, a usage, and the steps to play.
#[derive(Debug, Clone)]
struct Case {
    limit: Option<u64>,
    kind: &'static str,
    outage_rule: &'static str,
    rule: Value,
    limit_override: Option<u64>,
    counted: u64,
    complete_until: Option<&'static str>,
    steps: Vec<Step>,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    /// One run of this workflow and mode: previewed, then decided.
    Ask { workflow: Option<&'static str>, mode: Option<&'static str> },
    /// As many runs of `w1` as make a loop.
    Burst,
    /// Time passes, while the figures are fresh enough or beyond a grace.
    Wait(i64),
}

fn caps() -> impl Strategy<Value = Value> {
    let cap = || prop::option::weighted(0.2, 0_u64..6);
    (cap(), cap(), cap()).prop_map(|(per_minute, per_day, concurrent)| {
        json!({"per_minute": per_minute, "per_day": per_day, "concurrent": concurrent})
    })
}

fn rule() -> impl Strategy<Value = Value> {
    let loops = prop::sample::select(vec!["tell", "refuse", "off"]);
    let choices = (any::<bool>(), prop::option::of(0_u64..4), prop::option::of(Just("30s")), loops);
    let share = prop::option::weighted(0.3, 1_u32..=100);
    (choices, caps(), caps(), share, prop::option::weighted(0.3, Just("1s"))).prop_map(
        |((shadow, overage_max, grace, loop_rule), tenant, workflow, share, open_at_most)| {
            json!({"shadow": shadow, "overage_max": overage_max, "grace": grace, "loop_rule": loop_rule,
                   "tenant_caps": tenant, "workflow_caps": workflow, "workflow_share_percent": share,
                   "open_at_most": open_at_most})
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    let workflow = prop::option::of(prop::sample::select(vec!["w1", "w2"]));
    let mode = prop::option::weighted(0.3, prop::sample::select(vec!["webhook", "manual", "error"]));
    let step = prop_oneof![
        12 => (workflow, mode).prop_map(|(workflow, mode)| Step::Ask { workflow, mode }),
        1 => Just(Step::Burst),
        1 => (1_i64..70).prop_map(Step::Wait),
    ];
    let plan = (
        prop::option::weighted(0.9, prop_oneof![2 => 0_u64..12, 1 => 60_u64..200]),
        prop::sample::select(vec!["hard", "soft"]),
        prop::sample::select(vec!["open", "closed"]),
        prop::option::weighted(0.2, 0_u64..12),
    );
    let complete_until = prop::sample::select(vec![
        Some("2026-11-24T11:59:00Z"),
        Some("2026-11-24T11:59:00Z"),
        Some("2026-11-24T09:00:00Z"),
        None,
    ]);
    (plan, rule(), 0_u64..14, complete_until, prop::collection::vec(step, 1..16)).prop_map(
        |((limit, kind, outage_rule, limit_override), rule, counted, complete_until, steps)| Case {
            limit,
            kind,
            outage_rule,
            rule,
            limit_override,
            counted,
            complete_until,
            steps,
        },
    )
}

fn verdict_of(verdict: &Value) -> Value {
    json!({"allowed": verdict["allowed"], "reason": verdict["reason"], "shadow": verdict["shadow"]["reason"],
           "limit": verdict["limit"], "retry_at": verdict["retry_at"]})
}

async fn play(world: &Harness, number: usize, case: &Case) {
    let (tenant, name) = (format!("t{number}"), format!("p{number}"));
    let mut terms = plan(0);
    terms["monthly_limit"] = json!(case.limit);
    terms["limit_kind"] = json!(case.kind);
    terms["outage_rule"] = json!(case.outage_rule);
    terms["admission"] = case.rule.clone();
    world.put(&format!("/v1/plans/{name}"), terms).await;
    let customer = json!({"name": tenant, "plan": name, "limit_override": case.limit_override});
    world.put(&format!("/v1/tenants/{tenant}"), customer).await;
    let complete_until = case.complete_until.and_then(at);
    world.counted(v1::UsageCounted { complete_until, ..usage(&tenant, case.counted, 1) }).await;
    for (step, what) in case.steps.iter().enumerate() {
        match *what {
            Step::Wait(seconds) => world.bench.clock.advance(SignedDuration::from_secs(seconds)),
            Step::Burst => {
                let run = |id: u32| json!({"tenant": tenant, "id": format!("{step}-{id}"), "workflow": "w1"});
                let runs: Vec<Value> = (0..70).map(run).collect();
                let burst = json!({"admissions": runs});
                assert_eq!(world.ask(Method::POST, "/v1/admissions/batch", Some(burst)).await.0, 200);
            }
            Step::Ask { workflow, mode } => {
                let asked = [("workflow", workflow), ("mode", mode)];
                let asked = asked.iter().filter_map(|(key, value)| Some(format!("{key}={}", (*value)?)));
                let query = asked.collect::<Vec<_>>().join("&");
                let looked = world.get(&format!("/v1/admissions/{tenant}?{query}")).await;
                let again = world.get(&format!("/v1/admissions/{tenant}?{query}")).await;
                let run =
                    json!({"tenant": tenant, "id": step.to_string(), "workflow": workflow, "mode": mode});
                let (_, decided) = world.ask(Method::POST, "/v1/admissions", Some(run)).await;
                assert_eq!(
                    verdict_of(&looked),
                    verdict_of(&decided),
                    "case {number}, step {step} of {case:#?}"
                );
                assert_eq!(verdict_of(&again), verdict_of(&looked), "a preview changes nothing");
            }
        }
    }
}

#[tokio::test]
async fn a_preview_is_the_verdict_on_the_next_run() {
    let world = Harness::start().await;
    let mut runner = TestRunner::deterministic();
    let begin = NOW.parse().unwrap();
    for number in 0..CASES {
        world.bench.clock.set(begin);
        let case = case().new_tree(&mut runner).unwrap().current();
        play(&world, number, &case).await;
    }
    world.finish().await;
}

/// A plan with a rule, and nothing counted for the tenant `north`.
async fn ruled(limit: u64, rule: Value) -> Harness {
    let world = Harness::start().await;
    let mut terms = plan(limit);
    terms["admission"] = rule;
    world.put("/v1/plans/pro", terms).await;
    world.put("/v1/tenants/north", json!({"name": "north", "plan": "pro"})).await;
    world.counted(usage("north", 0, 1)).await;
    world
}

#[tokio::test]
async fn a_preview_of_a_plan_in_shadow_mode_is_no_refusal() {
    let world = ruled(0, json!({"shadow": true})).await;
    let looked = world.get("/v1/admissions/north").await;
    assert_eq!((&looked["allowed"], &looked["reason"]), (&json!(true), &json!("shadow")), "{looked}");
    assert_eq!(looked["shadow"]["reason"], "limit_reached");
    world.finish().await;
}

#[tokio::test]
async fn a_preview_of_a_used_up_cap_is_a_refusal() {
    let world = ruled(100, json!({"tenant_caps": {"per_minute": 1}})).await;
    let run = json!({"tenant": "north", "id": "a"});
    assert_eq!(world.ask(Method::POST, "/v1/admissions", Some(run)).await.1["allowed"], true);
    let looked = world.get("/v1/admissions/north").await;
    assert_eq!((&looked["allowed"], &looked["reason"]), (&json!(false), &json!("tenant_minute_cap")));
    assert_eq!(looked["retry_at"], "2026-11-24T12:01:00Z");
    world.finish().await;
}
