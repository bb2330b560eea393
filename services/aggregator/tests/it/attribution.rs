//! Executions of shared sources: each gets its tenant once, immediately or later.

use catalog::{Attribution, Plan, Scope, Source, Tenant};
use metering::{PlanId, TenantId};
use proto::{subjects::Question, timestamp, v1};
use testkit::eventually;

use crate::harness::{Harness, at, execution, executions, plan, source, tenant};

/// A source without a tenant of its own.
fn shared(attributions: Vec<Attribution>) -> Source {
    Source { tenant: None, attributions, ..source("shared") }
}

fn attribution(tenant: &str, scope: Scope, from: Option<&str>) -> Attribution {
    let from = from.map(|text| text.parse().unwrap());
    Attribution { tenant: TenantId::parse(tenant).unwrap(), scope, from }
}

fn tag(name: &str) -> Scope {
    Scope::Tag(name.to_owned())
}

fn south() -> Tenant {
    Tenant { id: TenantId::parse("south").unwrap(), ..tenant("UTC") }
}

async fn begin(attributions: Vec<Attribution>) -> Harness {
    let running = Harness::start(None).await;
    running.bench.publish_entry(&south(), 1).await;
    running.bench.publish_entry(&shared(attributions), 1).await;
    running
}

async fn tell(running: &Harness, workflow: &str, tags: &[&str], read_at: &str) {
    let batch = v1::ExecutionBatch {
        source_id: "shared".into(),
        epoch: 1,
        workflows: vec![v1::Workflow {
            workflow_id: workflow.into(),
            name: format!("Named {workflow}"),
            project_id: String::new(),
            tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
            read_at: Some(timestamp(read_at.parse().unwrap())),
        }],
        ..v1::ExecutionBatch::default()
    };
    running.bench.publish(running.bench.namespace().executions("shared"), &batch).await;
}

async fn counted(running: &Harness, tenant: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT coalesce(sum(counted), 0)::bigint FROM periods JOIN tenants ON number = tenant_number
         WHERE tenant_id = $1",
    )
    .bind(tenant)
    .fetch_one(running.bench.pool())
    .await
    .unwrap()
}

async fn await_counted(running: &Harness, north: i64, south: i64) {
    let wanted = (north, south);
    eventually("both tenants have their executions", || async {
        let seen = (counted(running, "north").await, counted(running, "south").await);
        (seen == wanted).then_some(())
    })
    .await;
}

async fn unmapped(running: &Harness) -> v1::UnmappedAnswer {
    running.ask(Question::Unmapped, &v1::UnmappedQuestion { source_id: "shared".into() }).await.unwrap()
}

async fn await_unmapped(running: &Harness, executions: u64) -> v1::UnmappedAnswer {
    eventually("this many executions are unmapped", || async {
        let answer = unmapped(running).await;
        (answer.executions_total == executions).then_some(answer)
    })
    .await
}

#[tokio::test]
async fn one_batch_is_split_by_tag_and_the_rest_stays_unmapped() {
    let running =
        begin(vec![attribution("north", tag("north"), None), attribution("south", tag("south"), None)]).await;
    tell(&running, "w0", &["north"], "2026-11-24T11:00:00Z").await;
    tell(&running, "w1", &["other", "south"], "2026-11-24T11:00:00Z").await;
    // Ids 1 to 9: three each of w1, w2 and w0.
    running.send_from("shared", 1, executions(1..=9)).await;
    await_counted(&running, 3, 3).await;
    let answer = await_unmapped(&running, 3).await;
    let workflow = &answer.workflows[0];
    assert_eq!((answer.workflows_total, workflow.executions), (1, 3));
    assert_eq!(workflow.workflow.as_ref().unwrap().workflow_id, "w2");
    running.bench.finish().await;
}

#[tokio::test]
async fn unmapped_executions_count_once_when_their_workflow_is_tagged() {
    let running =
        begin(vec![attribution("north", tag("north"), None), attribution("south", tag("south"), None)]).await;
    running.send_from("shared", 1, executions(1..=9)).await;
    await_unmapped(&running, 9).await;
    tell(&running, "w1", &["south"], "2026-11-24T11:00:00Z").await;
    await_counted(&running, 0, 3).await;
    // Repeats are repeats, mapped or not.
    running.send_from("shared", 1, executions(1..=10)).await;
    await_counted(&running, 0, 4).await;
    await_unmapped(&running, 6).await;
    // A later tag moves no execution that has a tenant; an older reading changes nothing at all.
    tell(&running, "w1", &["north"], "2026-11-24T11:30:00Z").await;
    tell(&running, "w2", &["north"], "2026-11-24T11:00:00Z").await;
    tell(&running, "w2", &["south"], "2026-11-24T10:00:00Z").await;
    await_counted(&running, 3, 4).await;
    await_unmapped(&running, 3).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn only_workflows_that_can_match_are_read() {
    let running = begin(vec![attribution("north", tag("north"), None)]).await;
    running.send_from("shared", 1, executions(1..=9)).await;
    await_unmapped(&running, 9).await;
    // Reading one of these rows would fail: such an instant cannot be decoded.
    sqlx::query(
        "UPDATE executions SET stopped_at = 'infinity' FROM workflows WHERE number = workflow_number AND workflow_id <> 'w2'",
    )
    .execute(running.bench.pool())
    .await
    .unwrap();
    tell(&running, "w2", &["north"], "2026-11-24T11:00:00Z").await;
    await_counted(&running, 3, 0).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn an_attribution_from_a_date_maps_executions_that_stopped_since() {
    let running = begin(vec![attribution("north", tag("nobody"), None)]).await;
    let batch = vec![
        execution(1, "2026-11-20T11:59:59Z"),
        execution(2, "2026-11-20T12:00:00Z"),
        execution(3, "2026-11-24T11:00:00Z"),
    ];
    running.send_from("shared", 1, batch).await;
    await_unmapped(&running, 3).await;
    let dated = attribution("south", Scope::Whole, Some("2026-11-20T12:00:00Z"));
    running.bench.publish_entry(&shared(vec![dated]), 2).await;
    await_counted(&running, 0, 2).await;
    await_unmapped(&running, 1).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn executions_of_a_tenant_without_a_known_plan_count_once_it_is_known() {
    let running = Harness::start(None).await;
    let waiting = Tenant { plan: PlanId::parse("later").unwrap(), ..south() };
    running.bench.publish_entry(&waiting, 1).await;
    running.bench.publish_entry(&shared(vec![attribution("south", tag("south"), None)]), 1).await;
    running.send_from("shared", 1, executions(1..=9)).await;
    await_unmapped(&running, 9).await;
    tell(&running, "w1", &["south"], "2026-11-24T11:00:00Z").await;
    eventually("the tag was processed", || async {
        let looked =
            "SELECT NOT (map_again OR mapping) FROM sources JOIN workflows ON source_number = sources.number
                      WHERE source_id = 'shared' AND 'south' = ANY(tags)";
        let looked: Option<bool> =
            sqlx::query_scalar(looked).fetch_optional(running.bench.pool()).await.ok()?;
        looked.filter(|looked| *looked)
    })
    .await;
    await_unmapped(&running, 9).await;
    running.bench.publish_entry(&Plan { id: PlanId::parse("later").unwrap(), ..plan(None) }, 1).await;
    await_counted(&running, 0, 3).await;
    await_unmapped(&running, 6).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn mapping_starts_again_after_a_crash() {
    let mut running = begin(vec![attribution("north", tag("north"), None)]).await;
    running.send_from("shared", 1, executions(1..=9)).await;
    await_unmapped(&running, 9).await;
    // As left by a process that died: mapping begun, nothing done.
    running.bench.restart().await;
    sqlx::query("UPDATE workflows SET tags = '{north}' WHERE workflow_id IN ('w0', 'w1')")
        .execute(running.bench.pool())
        .await
        .unwrap();
    sqlx::query("UPDATE sources SET mapping = true, version = version + 1 WHERE source_id = 'shared'")
        .execute(running.bench.pool())
        .await
        .unwrap();
    running.start_service().await;
    await_counted(&running, 6, 0).await;
    await_unmapped(&running, 3).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn recorded_executions_are_listed_by_id() {
    let running = begin(vec![attribution("north", Scope::Whole, None)]).await;
    running.send_from("shared", 1, executions([3, 5, 9])).await;
    await_counted(&running, 3, 0).await;
    let question = v1::RecordedQuestion {
        source_id: "shared".into(),
        epoch: 1,
        first_execution_id: 3,
        last_execution_id: 8,
    };
    let answer: v1::RecordedAnswer = running.ask(Question::Recorded, &question).await.unwrap();
    let ids: Vec<u64> = answer.executions.iter().map(|recorded| recorded.execution_id).collect();
    assert_eq!((ids, answer.next_execution_id), (vec![3, 5], None));
    let first = &answer.executions[0];
    assert_eq!((first.tenant_id.as_str(), first.counted), ("north", true));
    assert_eq!(first.stopped_at, executions([3])[0].stopped_at);
    let of_epoch_2 = v1::RecordedQuestion { epoch: 2, ..question };
    let answer: v1::RecordedAnswer = running.ask(Question::Recorded, &of_epoch_2).await.unwrap();
    assert!(answer.executions.is_empty());
    running.bench.finish().await;
}

#[tokio::test]
async fn another_tenants_workflow_is_as_unknown_as_one_that_does_not_exist() {
    let running =
        begin(vec![attribution("north", tag("north"), None), attribution("south", tag("south"), None)]).await;
    tell(&running, "w1", &["north"], "2026-11-24T11:00:00Z").await;
    tell(&running, "w2", &["south"], "2026-11-24T11:00:00Z").await;
    running.send_from("shared", 1, executions(1..=9)).await;
    await_counted(&running, 3, 3).await;
    let explain = async |workflow: &str| {
        let question = v1::ExplainQuestion {
            tenant_id: "north".into(),
            period_start: at("2026-11-01T00:00:00Z"),
            period_at: None,
            source_id: "shared".into(),
            workflow_id: workflow.into(),
            count_max: 10,
            page: String::new(),
        };
        let answer = running.ask::<v1::ExplainAnswer>(Question::Explain, &question).await;
        answer.map(|answer| answer.executions.len()).map_err(|error| error.to_string())
    };
    let usage = async |workflow: &str| {
        let question = v1::UsageQuestion {
            tenant_id: "north".into(),
            span: Some(v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") }),
            grain: v1::Grain::Day.into(),
            source_id: "shared".into(),
            workflow_id: workflow.into(),
        };
        let answer = running.ask::<v1::UsageAnswer>(Question::Usage, &question).await;
        answer.map(|answer| answer.slices.len()).map_err(|error| error.to_string())
    };
    assert_eq!(explain("w1").await, Ok(3));
    assert_eq!(usage("w1").await, Ok(1));
    let of_nobody = explain("nobody").await.unwrap_err();
    assert_eq!(explain("w2").await.unwrap_err(), of_nobody.replace("nobody", "w2"));
    let of_nobody = usage("nobody").await.unwrap_err();
    assert_eq!(usage("w2").await.unwrap_err(), of_nobody.replace("nobody", "w2"));
    running.bench.finish().await;
}
