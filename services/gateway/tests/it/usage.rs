//! Usage from the aggregator's messages, by request and live.

use futures_util::{Stream, StreamExt};
use proto::{streams::Stream as Kept, v1};
use reqwest::Method;
use serde_json::{Value, json};
use testkit::{PATIENCE, eventually};
use tokio::time::timeout;

use crate::harness::{Harness, NOW, OPERATOR, at, november, period, plan, usage};

#[tokio::test]
async fn a_tenant_without_figures_is_unknown_not_at_zero() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let listed = world.get("/v1/usage").await;
    assert_eq!(listed["as_of"], NOW);
    let north = &listed["usage"][0];
    assert_eq!((&north["tenant"], &north["state"]), (&json!("north"), &json!("unknown")));
    for field in
        ["counted", "remaining", "used_percent", "as_of", "complete_until", "lag_seconds", "cost_estimate"]
    {
        assert_eq!(north[field], Value::Null, "{field}");
    }
    assert_eq!((&north["limit"], &north["period"]["end"]), (&json!(100), &json!("2026-12-01T00:00:00Z")));
    world.finish().await;
}

#[tokio::test]
async fn figures_are_shown_with_their_freshness() {
    let world = Harness::start().await;
    let price = json!({"currency": "eur", "base_fee_minor": 2000, "included_executions": 50, "overage_per_thousand_minor": 100_000});
    let mut priced = plan(100);
    priced["price"] = price;
    world.put("/v1/plans/pro", priced).await;
    world.put("/v1/tenants/north", json!({"name": "North", "plan": "pro"})).await;
    world
        .put(
            "/v1/sources/north-n8n",
            json!({"tenant": "north", "kind": "n8n", "base_url": "http://n8n", "api_key": "k"}),
        )
        .await;
    let totals =
        v1::Totals { counted: 85, success: 68, error: 17, duration_ms: 850, ..v1::Totals::default() };
    let workflow = v1::WorkflowUsage {
        source_id: "north-n8n".into(),
        workflow_id: "w1".into(),
        workflow_name: "Order sync".into(),
        totals: Some(totals),
    };
    let freshness = v1::SourceFreshness {
        source_id: "north-n8n".into(),
        complete_until: at("2026-11-24T11:58:00Z"),
        open_executions: 3,
    };
    let message = v1::UsageCounted {
        totals: Some(totals),
        workflows: vec![workflow],
        workflows_omitted: 4,
        sources: vec![freshness],
        open_executions: 3,
        ..usage("north", 85, 5)
    };
    world.counted(message).await;
    let shown = world.get("/v1/usage/north").await;
    for (field, value) in [
        ("counted", json!(85)),
        ("success_rate", json!(0.8)),
        ("used_percent", json!(85.0)),
        ("remaining", json!(15)),
        ("state", json!("warning")),
        ("cost_estimate", json!({"amount_minor": 5500, "currency": "eur", "exponent": 2})),
        ("lag_seconds", json!(60)),
        ("open_executions", json!(3)),
        ("workflows_omitted", json!(4)),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
    assert_eq!(shown["sources"][0]["lag_seconds"], 120);
    assert_eq!(shown["workflows"][0]["mean_duration_ms"], 10);

    // An older revision that arrives late changes nothing; a raised limit shows at once.
    world.bench.publish(world.bench.namespace().usage_counted("north"), &usage("north", 10, 4)).await;
    world.counted(usage("north", 90, 6)).await;
    world.put("/v1/tenants/north", json!({"name": "North", "plan": "pro", "limit_override": 200})).await;
    let shown = world.get("/v1/usage/north").await;
    assert_eq!(
        (&shown["counted"], &shown["limit"], &shown["state"]),
        (&json!(90), &json!(200), &json!("ok"))
    );
    assert_eq!(world.ask(Method::GET, "/v1/usage/nobody", None).await.0, 404);
    world.finish().await;
}

#[tokio::test]
async fn a_source_shows_its_metering_state() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world
        .put(
            "/v1/sources/north-n8n",
            json!({"tenant": "north", "kind": "n8n", "base_url": "http://n8n", "api_key": "k"}),
        )
        .await;
    let namespace = world.bench.namespace().clone();
    let synced = v1::SourceSynced {
        source_id: "north-n8n".into(),
        epoch: 1,
        complete_until: at("2026-11-24T11:50:00Z"),
        open_executions: 2,
        sweep_started_at: at("2026-11-24T11:50:05Z"),
        sweep_ended_at: at("2026-11-24T11:50:06Z"),
        executions_published: 40,
        loss_expected_at: at("2026-11-24T12:07:00Z"),
        unseen_ids_max: 40,
        unseen_since: at("2026-11-01T00:00:00Z"),
        unsaving_workflows: 2,
        clock_skew_ms: Some(300_250),
        clock_measured_at: at("2026-11-24T11:50:05Z"),
        clock_wrong_since: at("2026-11-24T11:00:00Z"),
        token_shared_since: at("2026-11-24T11:10:00Z"),
        instances: vec!["1f2e".into(), "3d4c".into()],
        counted_twice_since: at("2026-11-24T11:20:00Z"),
        same_instance_sources: vec!["south-n8n".into()],
        ..v1::SourceSynced::default()
    };
    world.bench.publish(namespace.source_synced("north-n8n"), &synced).await;
    let failing = v1::SourceFailing {
        source_id: "north-n8n".into(),
        reason: v1::FailureReason::Unauthorized.into(),
        detail: "The API key was refused.".into(),
        failing_since: at("2026-11-24T11:55:00Z"),
        failed_at: at("2026-11-24T11:59:00Z"),
        consecutive_failures: 3,
    };
    world.bench.publish(namespace.source_failing("north-n8n"), &failing).await;
    let gap = v1::SourceGap {
        source_id: "north-n8n".into(),
        epoch: 1,
        reason: v1::GapReason::PrunedBeforeSeen.into(),
        first_execution_id: "10".into(),
        last_execution_id: "19".into(),
        found_at: at("2026-11-24T11:50:00Z"),
    };
    for _ in 0..2 {
        world.bench.publish(namespace.source_gap("north-n8n"), &gap).await;
    }
    let status = eventually("the source's state is shown", || async {
        let status = world.get("/v1/sources/north-n8n").await["status"].clone();
        (status["gaps"]["count"] == 1 && !status["failing"].is_null() && !status["last_sweep"].is_null())
            .then_some(status)
    })
    .await;
    assert_eq!((&status["lag_seconds"], &status["open_executions"]), (&json!(600), &json!(2)));
    assert_eq!(status["failing"]["reason"], "unauthorized");
    assert_eq!(status["gaps"]["recent"][0]["reason"], "pruned_before_seen");
    assert_eq!(status["loss_expected_at"], "2026-11-24T12:07:00Z");
    let unseen = json!({"executions_max": 40, "since": "2026-11-01T00:00:00Z", "unsaving_workflows": 2});
    assert_eq!(status["unseen"], unseen);
    assert_eq!(status["clock_skew_ms"], 300_250);
    assert_eq!(status["clock_measured_at"], "2026-11-24T11:50:05Z");
    let codes = |warnings: &Value| {
        let codes = warnings.as_array().unwrap().iter().map(|warning| warning["code"].as_str().unwrap());
        codes.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(codes(&status["warnings"]), "clock shared_push_token same_instance");
    let clock = &status["warnings"][0];
    let detail = clock["detail"].as_str().unwrap();
    assert!(detail.contains("5m ahead") && detail.contains("NTP"), "{detail}");
    assert_eq!(clock["since"], "2026-11-24T11:00:00Z");
    assert_eq!(status["warnings"][1]["others"], json!(["1f2e", "3d4c"]));
    assert_eq!(status["warnings"][2]["others"], json!(["south-n8n"]));
    let freshness = eventually("the gap is counted in the live figures", || async {
        let freshness = world.get("/v1/usage").await["usage"][0]["sources"][0].clone();
        (freshness["gaps"] == 1).then_some(freshness)
    })
    .await;
    assert_eq!(freshness["failing"]["consecutive_failures"], 3);
    assert_eq!(freshness["loss_expected_at"], "2026-11-24T12:07:00Z");
    assert_eq!(freshness["unseen"], unseen);
    assert_eq!(codes(&freshness["warnings"]), "clock shared_push_token same_instance");
    let tenant = world.token_of("north").await;
    let (_, own) = world.ask_as(&tenant, Method::GET, "/v1/usage/north", None).await;
    let own = &own["sources"][0];
    assert_eq!(
        (&own["warnings"], &own["clock_skew_ms"]),
        (&json!([]), &json!(null)),
        "they name other sources"
    );
    world.finish().await;
}

#[tokio::test]
async fn gaps_are_listed_with_their_range_and_reason() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let source = json!({"tenant": "north", "kind": "n8n", "base_url": "http://n8n", "api_key": "k"});
    world.put("/v1/sources/north-n8n", source).await;
    let subject = world.bench.namespace().source_gap("north-n8n");
    for number in 0..25_u32 {
        let gap = v1::SourceGap {
            source_id: "north-n8n".into(),
            epoch: 2,
            reason: v1::GapReason::EpochEnded.into(),
            first_execution_id: (100 + number).to_string(),
            last_execution_id: (100 + number).to_string(),
            found_at: at(&format!("2026-11-24T11:00:{number:02}Z")),
        };
        world.bench.publish(subject.clone(), &gap).await;
    }
    let list = eventually("all gaps are stored", || async {
        let list = world.get("/v1/sources/north-n8n/gaps").await;
        (list["count"] == 25).then_some(list)
    })
    .await;
    let newest = json!({
        "reason": "epoch_ended", "epoch": 2, "first_execution_id": "124", "last_execution_id": "124",
        "found_at": "2026-11-24T11:00:24Z",
    });
    assert_eq!((list["gaps"].as_array().unwrap().len(), &list["gaps"][0]), (25, &newest));

    // The tenant sees its own latest gaps, but not the operator's list.
    let token = world.token_of("north").await;
    let (_, own) = world.ask_as(&token, Method::GET, "/v1/usage/north", None).await;
    assert_eq!((&own["gaps"][0]["source"], &own["gaps"][0]["count"]), (&json!("north-n8n"), &json!(25)));
    assert_eq!(own["gaps"][0]["recent"].as_array().unwrap().len(), 20);
    assert_eq!(world.ask_as(&token, Method::GET, "/v1/sources/north-n8n/gaps", None).await.0, 403);
    assert_eq!(world.get("/v1/usage/south").await["gaps"], json!([]));
    assert_eq!(world.ask(Method::GET, "/v1/sources/nothing/gaps", None).await.0, 404);
    world.finish().await;
}

#[tokio::test]
async fn closed_periods_are_stored_and_late_usage_corrects_them() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let october = period("2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z");
    let closed = |revision, counted| v1::PeriodEvent {
        event: Some(v1::period_event::Event::Closed(v1::PeriodClosed {
            tenant_id: "north".into(),
            period: october,
            revision,
            totals: Some(v1::Totals { counted, success: counted, ..v1::Totals::default() }),
            closed_at: at("2026-11-01T06:00:00Z"),
            incomplete_sources: vec!["north-n8n".into()],
            plan_id: "pro".into(),
            ..v1::PeriodClosed::default()
        })),
    };
    let subject = world.bench.namespace().usage_period("north");
    world.bench.publish(subject.clone(), &closed(7, 80)).await;
    world.bench.publish(subject.clone(), &closed(6, 10)).await;
    let late = v1::LateUsage {
        tenant_id: "north".into(),
        period: october,
        revision: 8,
        totals: Some(v1::Totals { counted: 82, success: 82, late: 2, ..v1::Totals::default() }),
        found_at: at("2026-11-02T00:00:00Z"),
    };
    let late = v1::PeriodEvent { event: Some(v1::period_event::Event::Late(late)) };
    world.bench.publish(subject.clone(), &late).await;
    // An invalid message becomes a dead letter, and the others are handled.
    let nonsense = v1::PeriodEvent { event: None };
    world.bench.publish(subject, &nonsense).await;
    let shown = eventually("the late usage is shown", || async {
        let shown = world.get("/v1/usage/north/periods").await;
        (shown["periods"][0]["late"] == 2).then_some(shown)
    })
    .await;
    assert_eq!(shown["periods"].as_array().unwrap().len(), 1);
    let october = &shown["periods"][0];
    assert_eq!((&october["counted"], &october["plan"]), (&json!(82), &json!("pro")));
    assert_eq!(october["incomplete_sources"], json!(["north-n8n"]));
    assert_eq!(october["late_found_at"], "2026-11-02T00:00:00Z");
    let letter = world.bench.topic::<v1::DeadLetter>(Kept::Dead, "dead").await.next().await;
    assert!(letter.reason.contains("event"), "{}", letter.reason);
    world.finish().await;
}

/// The data of the events of `GET /v1/events`.
async fn events(world: &Harness, token: &str) -> impl Stream<Item = Value> + Unpin + use<> {
    let response = world.request(Method::GET, "/v1/events").bearer_auth(token).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let mut buffer = String::new();
    let lines = response.bytes_stream().map(move |chunk| {
        buffer.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        let mut found = Vec::new();
        while let Some((event, rest)) = buffer.split_once("\n\n") {
            let name = event.lines().find_map(|line| line.strip_prefix("event: "));
            if let Some(data) = event.lines().find_map(|line| line.strip_prefix("data: ")) {
                assert_eq!(name, Some("usage"));
                found.push(serde_json::from_str(data).unwrap());
            }
            buffer = rest.to_owned();
        }
        futures_util::stream::iter(found)
    });
    Box::pin(lines.flatten())
}

async fn next_where(
    events: &mut (impl Stream<Item = Value> + Unpin),
    wanted: impl Fn(&Value) -> bool,
) -> Value {
    timeout(PATIENCE, async {
        loop {
            let event = events.next().await.expect("the stream continues");
            if wanted(&event) {
                return event;
            }
        }
    })
    .await
    .expect("the event arrives")
}

#[tokio::test]
async fn changes_arrive_live_and_only_for_those_who_may_see_them() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    let token = world.token_of("north").await;
    let mut all = events(&world, OPERATOR).await;
    let mut own = events(&world, &token).await;
    let first = all.next().await.unwrap();
    assert_eq!((&first["tenant"], &first["state"]), (&json!("north"), &json!("unknown")));

    world.counted(usage("south", 7, 1)).await;
    next_where(&mut all, |event| event["tenant"] == "south" && event["counted"] == 7).await;
    world.counted(usage("north", 100, 1)).await;
    let over = next_where(&mut all, |event| event["tenant"] == "north" && event["counted"] == 100).await;
    assert_eq!(over["state"], "over");
    assert_eq!(over, world.get("/v1/usage").await["usage"][0], "an event is an element of the list");

    next_where(&mut own, |event| {
        assert_eq!(event["tenant"], "north", "a tenant's stream shows nothing of others");
        event["counted"] == 100
    })
    .await;
    world.put("/v1/plans/pro", plan(1_000)).await;
    next_where(&mut all, |event| event["tenant"] == "north" && event["limit"] == 1_000).await;

    // A shutdown ends the streams rather than waiting for them.
    world.bench.context.tasks.shutdown().cancel();
    timeout(PATIENCE, async { while all.next().await.is_some() {} }).await.expect("the stream ends");
    world.finish().await;
}

#[tokio::test]
async fn after_a_restart_earlier_figures_are_known() {
    let world = Harness::start().await;
    world.with_tenants(100).await;
    world.counted(v1::UsageCounted { period: november(), ..usage("north", 42, 3) }).await;
    let Harness { mut bench, .. } = world;
    bench.restart().await;
    let world = Harness::on(bench).await;
    let counted = eventually("the figures are read again", || async {
        world.get("/v1/usage/north").await["counted"].as_u64()
    })
    .await;
    assert_eq!(counted, 42);
    world.finish().await;
}
