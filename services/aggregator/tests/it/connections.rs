//! Connections to Postgres: nobody holds one while waiting for another, and questions do not take those for
//! counting.

use std::time::Duration;

use aggregator::{KeepFor, Retention};
use catalog::{Attribution, Scope, Source};
use futures_util::future::join_all;
use messaging::AskError;
use metering::TenantId;
use proto::{
    streams::Stream,
    subjects::Question,
    v1::{self, Grain, correction_question::Change, period_event::Event},
};
use testkit::eventually;
use tokio::time::{Instant, timeout};

use crate::harness::{Harness, at, execution, executions, source};

fn explain(workflow: &str) -> v1::ExplainQuestion {
    v1::ExplainQuestion {
        tenant_id: "north".into(),
        period_start: at("2026-11-01T00:00:00Z"),
        period_at: None,
        source_id: if workflow.is_empty() { String::new() } else { "north-n8n".into() },
        workflow_id: workflow.into(),
        count_max: 100,
        page: String::new(),
    }
}

#[tokio::test]
async fn with_one_connection_everything_is_recorded_published_and_closed() {
    let mut running = Harness::narrow(Some(3)).await;
    let mut events = running.bench.topic::<v1::PeriodEvent>(Stream::Periods, "usage.period").await;
    let sequence = running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.clock.set("2026-12-01T00:10:00Z".parse().unwrap());
    running.synced("north-n8n", "2026-12-01T00:09:55Z".parse().unwrap(), sequence).await;
    events.next_where(|event| matches!(event.event, Some(Event::Closed(_)))).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn with_one_connection_unmapped_executions_get_their_tenant() {
    let mut running = Harness::narrow(None).await;
    let shared = |name: &str| Source {
        tenant: None,
        attributions: vec![Attribution {
            tenant: TenantId::parse("north").unwrap(),
            scope: Scope::Workflow(metering::WorkflowId::parse(name).unwrap()),
            from: None,
        }],
        ..source("shared")
    };
    running.bench.publish_entry(&shared("other"), 1).await;
    let sequence = running.send_from("shared", 1, executions(1..=3)).await;
    eventually("they are recorded", || async {
        let recorded: i64 = sqlx::query_scalar("SELECT count(*) FROM executions")
            .fetch_one(running.bench.pool())
            .await
            .ok()?;
        (recorded == 3).then_some(sequence)
    })
    .await;
    running.bench.publish_entry(&shared("w1"), 2).await;
    running.usage_where(|totals| totals.counted == 1).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn with_one_connection_old_months_are_dropped_and_figures_are_rebuilt() {
    let mut running = Harness::narrow(None).await;
    let mut batch = executions(1..=3);
    batch.push(execution(4, "2025-09-20T08:00:00Z"));
    running.send(batch).await;
    running.usage_where(|totals| totals.counted == 3).await;
    let retention = Retention {
        pool: running.bench.context.pool.clone(),
        clock: running.bench.context.clock.clone(),
        executions_kept: KeepFor::days(400),
        hours_kept: KeepFor::days(400),
    };
    eventually("the old month is dropped", || async {
        (!retention.round().await.expect("a round").is_empty()).then_some(())
    })
    .await;
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

#[tokio::test]
async fn with_one_connection_each_question_is_answered() {
    let mut running = Harness::narrow(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    let span = Some(v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-11-25T00:00:00Z") });
    let usage = v1::UsageQuestion {
        tenant_id: "north".into(),
        grain: Grain::Period.into(),
        span,
        source_id: "north-n8n".into(),
        workflow_id: "w1".into(),
    };
    let workflows = v1::WorkflowsQuestion {
        tenant_id: "north".into(),
        period_start: at("2026-11-01T00:00:00Z"),
        period_at: None,
        by_failures: false,
        count_max: 10,
    };
    let recorded = v1::RecordedQuestion {
        source_id: "north-n8n".into(),
        epoch: 1,
        first_execution_id: 1,
        last_execution_id: 9,
    };
    let correction = v1::CorrectionQuestion {
        correction_id: "a".into(),
        tenant_id: "north".into(),
        author: "operator".into(),
        reason: "a test".into(),
        reason_is_public: false,
        change: Some(Change::AdjustCount(v1::AdjustCount {
            period_start: at("2026-11-01T00:00:00Z"),
            period_at: None,
            quantity: 1,
        })),
    };
    let (whole, one) = (explain(""), explain("w1"));
    let unmapped = v1::UnmappedQuestion::default();
    let answers = tokio::join!(
        running.ask::<v1::ExplainAnswer>(Question::Explain, &whole),
        running.ask::<v1::ExplainAnswer>(Question::Explain, &one),
        running.ask::<v1::UsageAnswer>(Question::Usage, &usage),
        running.ask::<v1::WorkflowsAnswer>(Question::Workflows, &workflows),
        running.ask::<v1::RecordedAnswer>(Question::Recorded, &recorded),
        running.ask::<v1::Correction>(Question::Correct, &correction),
        running.ask::<v1::UnmappedAnswer>(Question::Unmapped, &unmapped),
    );
    assert_eq!(answers.0.expect("of all").executions.len(), 3);
    assert_eq!(answers.1.expect("of one workflow").executions.len(), 1);
    answers.2.expect("usage");
    answers.3.expect("workflows");
    assert_eq!(answers.4.expect("what is recorded").executions.len(), 3);
    answers.5.expect("a correction");
    answers.6.expect("what is unmapped");
    running.bench.finish().await;
}

#[tokio::test]
async fn stuck_questions_do_not_stop_counting_and_end_by_themselves() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    // A question about a workflow waits for the folder's turn, which is held here.
    let mut folder = running.bench.pool().begin().await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock(hashtext(current_schema() || '.folder'))")
        .execute(&mut *folder)
        .await
        .unwrap();
    let asked_at = Instant::now();
    let question = explain("w1");
    let stuck = join_all((0..32).map(|_| {
        running.bench.context.bus.ask::<v1::ExplainAnswer>(
            Question::Explain,
            &question,
            Duration::from_secs(20),
        )
    }));
    let counting = async {
        running.bench.publish(running.bench.namespace().executions("north-n8n"), &batch(4)).await;
        timeout(
            Duration::from_secs(10),
            running.usage.next_where(|usage| usage.totals.as_ref().is_some_and(|totals| totals.counted == 4)),
        )
        .await
        .expect("an execution is counted and published while questions are stuck")
    };
    let (answers, _) = tokio::join!(stuck, counting);
    assert!(asked_at.elapsed() < Duration::from_secs(20), "the questions end before their askers give up");
    for answer in answers {
        assert!(matches!(answer, Err(AskError::Refused { .. })), "{answer:?}");
    }
    folder.rollback().await.unwrap();
    let answer: v1::ExplainAnswer =
        running.ask(Question::Explain, &question).await.expect("the turn is free again");
    assert!(answer.totals.is_some());
    running.bench.finish().await;
}

fn batch(id: u64) -> v1::ExecutionBatch {
    v1::ExecutionBatch {
        source_id: "north-n8n".into(),
        epoch: 1,
        received_at: at("2026-11-24T12:00:00Z"),
        origin: v1::Origin::Poll.into(),
        executions: executions([id]),
        ..v1::ExecutionBatch::default()
    }
}
