//! The poll is the authority: whatever was pushed before, the figures are those of the source's own list.

use catalog::{Attribution, Scope, Source, Tenant};
use metering::{TenantId, WorkflowId};
use proto::{streams::Stream, subjects::Question, timestamp, v1, v1::period_event::Event};
use testkit::{Topic, eventually};

use crate::harness::{Harness, execution, executions, source, tenant};

const CANCELED: v1::ExecutionStatus = v1::ExecutionStatus::Canceled;

impl Harness {
    async fn push(&self, executions: Vec<v1::Execution>) -> u64 {
        self.push_to("north-n8n", executions).await
    }

    async fn push_to(&self, source: &str, executions: Vec<v1::Execution>) -> u64 {
        let batch = v1::ExecutionBatch {
            source_id: source.to_owned(),
            epoch: 1,
            received_at: Some(timestamp(self.now())),
            origin: v1::Origin::Push.into(),
            executions,
            ..v1::ExecutionBatch::default()
        };
        self.bench.publish(self.bench.namespace().executions(source), &batch).await
    }

    /// Counted and uncounted executions, and late ones, of a tenant's period.
    async fn figures(&self, tenant: &str, start: &str) -> (i64, i64, i64) {
        sqlx::query_as(
            "SELECT counted, uncounted, late FROM periods JOIN tenants ON number = tenant_number
             WHERE tenant_id = $1 AND period_start = $2::timestamptz",
        )
        .bind(tenant)
        .bind(start)
        .fetch_optional(self.bench.pool())
        .await
        .expect("figures")
        .unwrap_or_default()
    }

    async fn await_figures(&self, tenant: &str, start: &str, expected: (i64, i64, i64)) {
        let what = format!("{tenant} has {expected:?} from {start}");
        eventually(&what, || async { (self.figures(tenant, start).await == expected).then_some(()) }).await;
    }

    async fn held(&self) -> u64 {
        let question = v1::UnmappedQuestion { source_id: "shared".into() };
        let answer: v1::UnmappedAnswer = self.ask(Question::Unmapped, &question).await.expect("an answer");
        assert_eq!(answer.executions_total, 0, "what is held for the poll is not unmapped");
        answer.executions_held
    }

    /// Executions by the workflow they are recorded under, of workflows whose id matches this pattern.
    async fn runs_by_workflow(&self, like: &str) -> Vec<(String, i64)> {
        sqlx::query_as(
            "SELECT workflow_id, count(*) FROM executions JOIN workflows ON number = workflow_number
             WHERE workflow_id LIKE $1 GROUP BY workflow_id",
        )
        .bind(like)
        .fetch_all(self.bench.pool())
        .await
        .expect("executions by workflow")
    }

    async fn version(&self) -> i64 {
        sqlx::query_scalar("SELECT version FROM sources WHERE source_id = 'north-n8n'")
            .fetch_one(self.bench.pool())
            .await
            .expect("a source")
    }
}

fn forged(mut executions: Vec<v1::Execution>, forge: impl Fn(&mut v1::Execution)) -> Vec<v1::Execution> {
    executions.iter_mut().for_each(forge);
    executions
}

const OCTOBER: &str = "2026-10-01T00:00:00Z";
const NOVEMBER: &str = "2026-11-01T00:00:00Z";

#[tokio::test]
async fn runs_pushed_as_canceled_or_manual_count_once_the_poll_shows_them() {
    let mut running = Harness::start(None).await;
    let mut reports: Topic<v1::SourceContradicted> =
        running.bench.topic(Stream::Contradictions, "source.contradicted").await;
    running.push(forged(executions(1..=60), |run| run.status = CANCELED.into())).await;
    running.push(forged(executions(61..=120), |run| run.mode = v1::ExecutionMode::Manual.into())).await;
    running.await_figures("north", NOVEMBER, (0, 120, 0)).await;
    running.send(executions(1..=120)).await;
    running.usage_where(|totals| totals.counted == 120).await;
    let report = reports.next().await;
    assert_eq!((report.source_id.as_str(), report.executions), ("north-n8n", 120));

    // Afterwards a push changes nothing, and a repeat of the poll writes nothing.
    let version = running.version().await;
    let last = running.push(forged(executions(1..=120), |run| run.status = CANCELED.into())).await;
    running.handled(last).await;
    let last = running.send(executions(1..=120)).await;
    running.handled(last).await;
    assert_eq!(running.version().await, version);
    running.await_figures("north", NOVEMBER, (120, 0, 0)).await;
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

#[tokio::test]
async fn an_honest_push_is_confirmed_without_a_report() {
    let mut running = Harness::start(None).await;
    let later_start = |run: &mut v1::Execution| {
        let started_at = run.started_at.as_mut().expect("a start");
        started_at.nanos += 15_000_000;
    };
    running.push(forged(executions(1..=40), later_start)).await;
    running.usage_where(|totals| totals.counted == 40).await;
    running.send(executions(1..=41)).await;
    let usage = running.usage_where(|totals| totals.counted == 41).await;
    // The start in the list wins.
    assert_eq!(usage.totals.expect("totals").duration_ms, 41 * 40);
    let question = v1::RecordedQuestion {
        source_id: "north-n8n".into(),
        epoch: 1,
        first_execution_id: 1,
        last_execution_id: 100,
    };
    let answer: v1::RecordedAnswer = running.ask(Question::Recorded, &question).await.expect("an answer");
    assert!(answer.executions.iter().all(|recorded| recorded.confirmed));
    let first = &answer.executions[0];
    assert_eq!((first.mode(), first.workflow_id.as_str()), (v1::ExecutionMode::Webhook, "w1"));
    let contradicted: i64 = sqlx::query_scalar("SELECT sum(contradicted)::bigint FROM sources")
        .fetch_one(running.bench.pool())
        .await
        .expect("a sum");
    assert_eq!(contradicted, 0);
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

#[tokio::test]
async fn the_poll_moves_an_execution_to_its_period_and_its_workflow() {
    let running = Harness::start(None).await;
    // Pushed as runs of October, which is already closed; they are late there.
    running.send(vec![execution(99, "2026-10-20T12:00:00Z")]).await;
    running.await_figures("north", OCTOBER, (1, 0, 0)).await;
    eventually("October is closed", || async {
        let closed =
            "SELECT closed_at FROM periods WHERE period_start = '2026-10-01Z' AND closed_at IS NOT NULL";
        sqlx::query(closed).fetch_optional(running.bench.pool()).await.expect("periods")
    })
    .await;
    let mut events: Topic<v1::PeriodEvent> = running.bench.topic(Stream::Periods, "usage.period").await;
    let pushed: Vec<_> = (1..=5).map(|id| execution(id, "2026-10-31T12:00:00Z")).collect();
    running.push(forged(pushed, |run| run.workflow_id = "another".into())).await;
    running.await_figures("north", OCTOBER, (6, 0, 5)).await;

    running.send(executions(1..=5)).await;
    running.await_figures("north", NOVEMBER, (5, 0, 0)).await;
    running.await_figures("north", OCTOBER, (1, 0, 0)).await;
    let late = loop {
        if let Event::Late(late) = events.next().await.event.expect("an event") {
            let totals = late.totals.expect("totals");
            if totals.counted == 1 {
                break totals;
            }
        }
    };
    assert_eq!(late.late, 0);
    let by_workflow: Vec<(String, i64)> = eventually("the figures of workflows are folded", || async {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT workflow_id, counted FROM workflow_usage JOIN workflows ON number = workflow_number
             WHERE period_start = '2026-11-01Z' AND counted > 0 ORDER BY 1",
        )
        .fetch_all(running.bench.pool())
        .await
        .expect("figures of workflows");
        (rows.iter().map(|(_, counted)| counted).sum::<i64>() == 5).then_some(rows)
    })
    .await;
    assert_eq!(by_workflow, [("w0".into(), 1), ("w1".into(), 2), ("w2".into(), 2)]);
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_run_that_was_in_time_and_leaves_a_closed_period_leaves_nothing_late() {
    let running = Harness::start(None).await;
    running.push(vec![execution(1, "2026-10-31T12:00:00Z"), execution(2, "2026-10-31T12:00:00Z")]).await;
    running.await_figures("north", OCTOBER, (2, 0, 0)).await;
    eventually("October is closed", || async {
        let closed =
            "SELECT closed_at FROM periods WHERE period_start = '2026-10-01Z' AND closed_at IS NOT NULL";
        sqlx::query(closed).fetch_optional(running.bench.pool()).await.expect("periods")
    })
    .await;
    // One of them was really in November; the poll confirms the other.
    running.send(vec![execution(1, "2026-11-01T12:00:00Z"), execution(2, "2026-10-31T12:00:00Z")]).await;
    running.await_figures("north", NOVEMBER, (1, 0, 0)).await;
    running.await_figures("north", OCTOBER, (1, 0, 0)).await;
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_polled_crash_is_resolved_only_by_the_poll() {
    let running = Harness::start(None).await;
    let with = |id, status: v1::ExecutionStatus, stop| {
        let mut run = execution(id, stop);
        run.status = status.into();
        vec![run]
    };
    let (crashed, error) = (v1::ExecutionStatus::Crashed, v1::ExecutionStatus::Error);
    let (first, second) = ("2026-11-24T11:00:00Z", "2026-11-24T11:00:05Z");
    // A push may not resolve a polled crash; the poll may.
    running.send(with(1, crashed, first)).await;
    running.push(with(1, CANCELED, first)).await;
    running.push(with(2, crashed, first)).await;
    running.push(with(2, error, second)).await;
    running.send(with(2, error, second)).await;
    running.await_figures("north", NOVEMBER, (2, 0, 0)).await;
    let statuses = || async {
        sqlx::query_as::<_, (i64, i64, i64)>("SELECT crashed, error, canceled FROM periods WHERE counted = 2")
            .fetch_optional(running.bench.pool())
            .await
            .expect("figures")
    };
    eventually("one has crashed, one failed", || async {
        (statuses().await == Some((1, 1, 0))).then_some(())
    })
    .await;
    running.send(with(1, error, second)).await;
    eventually("both have failed", || async { (statuses().await == Some((0, 2, 0))).then_some(()) }).await;
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

fn shared(attributions: Vec<(&str, &str)>) -> Source {
    let attribution = |(tenant, workflow): (&str, &str)| Attribution {
        tenant: TenantId::parse(tenant).expect("a tenant"),
        scope: Scope::Workflow(WorkflowId::parse(workflow).expect("a workflow")),
        from: None,
    };
    Source {
        tenant: None,
        attributions: attributions.into_iter().map(attribution).collect(),
        ..source("shared")
    }
}

#[tokio::test]
async fn executions_pushed_for_a_shared_source_wait_for_the_poll() {
    let running = Harness::start(None).await;
    let south = Tenant { id: TenantId::parse("south").expect("a tenant"), ..tenant("UTC") };
    running.bench.publish_entry(&south, 1).await;
    running.bench.publish_entry(&shared(vec![("north", "w1"), ("south", "w2"), ("north", "w0")]), 1).await;
    // Pushed with the source's token as runs of another tenant's workflow: real runs, and runs that never
    // happened.
    running.push_to("shared", forged(executions(1..=6), |run| run.workflow_id = "w2".into())).await;
    running.push_to("shared", forged(executions(901..=903), |run| run.workflow_id = "w2".into())).await;
    eventually("all of them are held", || async { (running.held().await == 9).then_some(()) }).await;
    assert_eq!(running.figures("south", NOVEMBER).await, (0, 0, 0));

    running.send_from("shared", 1, executions(1..=6)).await;
    running.await_figures("south", NOVEMBER, (2, 0, 0)).await;
    running.await_figures("north", NOVEMBER, (4, 0, 0)).await;
    // Also after the catalog has changed: the poll has not shown the others.
    running.bench.publish_entry(&shared(vec![("south", "w1"), ("south", "w2"), ("north", "w0")]), 2).await;
    running.push_to("shared", forged(executions([7]), |run| run.workflow_id = "w2".into())).await;
    eventually("the new one is held too", || async { (running.held().await == 4).then_some(()) }).await;
    running.await_figures("south", NOVEMBER, (2, 0, 0)).await;

    // It is no longer shared: what was pushed for it belongs to its only tenant.
    running.bench.publish_entry(&shared(vec![("south", "w2")]), 3).await;
    running.await_figures("south", NOVEMBER, (6, 0, 0)).await;
    assert_eq!(running.held().await, 0);
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}

const ADMITTED_AT: &str = "2026-11-24T11:58:59Z";

fn admitted(executions: Vec<v1::Execution>) -> Vec<v1::Execution> {
    forged(executions, |run| run.admitted_at = crate::harness::at(ADMITTED_AT))
}

/// The only slot of these executions, with this many of them.
fn slot_with(executions: u64) -> Vec<v1::SettledSlot> {
    let admitted_at: jiff::Timestamp = ADMITTED_AT.parse().expect("an instant");
    vec![v1::SettledSlot { slot: admitted_at.as_second() / 5, executions }]
}

#[tokio::test]
async fn counted_executions_settle_their_slot_whether_push_or_poll_comes_first() {
    let mut running = Harness::start(Some(2)).await;
    let complete_until = "2026-11-24T11:58:58Z".parse().expect("an instant");
    let last = running.push(admitted(executions(1..=3))).await;
    running.synced("north-n8n", complete_until, last).await;
    running.usage.next_where(|usage| usage.settled == slot_with(3)).await;

    // The poll comes first; the later push shows when they were admitted.
    running.send(executions(1..=5)).await;
    running.usage_where(|totals| totals.counted == 5).await;
    running.push(admitted(executions(4..=5))).await;
    let usage = running.usage.next_where(|usage| usage.settled == slot_with(5)).await;
    assert_eq!(usage.totals.expect("totals").counted, 5);

    // Neither one that does not count, nor a counted one that began at another time, frees a unit.
    let canceled = |run: &mut v1::Execution| run.status = CANCELED.into();
    running.push(forged(admitted(executions(6..=6)), canceled)).await;
    let earlier = vec![execution(7, "2026-11-24T11:00:00Z")];
    running.send(earlier.clone()).await;
    running.push(admitted(earlier)).await;
    running.send(executions(8..=8)).await;
    let usage = running.usage_where(|totals| (totals.counted, totals.uncounted) == (7, 1)).await;
    assert_eq!(usage.settled, slot_with(5));
    running.bench.finish().await;
}

#[tokio::test]
async fn running_executions_are_published_as_counted_once_the_poll_shows_them() {
    let mut running = Harness::start(Some(2)).await;
    let complete_until: jiff::Timestamp = "2026-11-24T11:58:58Z".parse().expect("an instant");
    let began_before = |mut runs: Vec<v1::Execution>| {
        runs.iter_mut().for_each(|run| run.started_at = crate::harness::at("2026-11-24T11:58:50Z"));
        runs
    };
    // Two were running when the source was complete.
    let last = running.send(executions(1..=1)).await;
    running.synced("north-n8n", complete_until, last).await;
    running.usage.next_where(|usage| (usage.open_executions, usage.open_and_counted) == (2, 0)).await;

    // A push may name an execution that was not among them.
    running.push(began_before(executions(2..=3))).await;
    let usage = running.usage_where(|totals| totals.counted == 3).await;
    assert_eq!(usage.open_and_counted, 0);
    // The poll shows one of them. Of the others one began later, and one had ended before.
    let ended_before = execution(5, "2026-11-24T11:58:57Z");
    running.send([began_before(executions(2..=2)), executions(4..=4), vec![ended_before]].concat()).await;
    let usage = running.usage_where(|totals| totals.counted == 5).await;
    assert_eq!((usage.open_executions, usage.open_and_counted), (2, 1));
    running.bench.finish().await;
}

#[tokio::test]
async fn running_executions_are_matched_by_id_as_soon_as_they_are_counted() {
    let mut running = Harness::start(Some(2)).await;
    let complete_until = "2026-11-24T11:58:58Z".parse().expect("an instant");
    let last = running.send(executions(1..=1)).await;
    running.synced_with_open("north-n8n", complete_until, last, &[2, 3]).await;
    running.usage.next_where(|usage| (usage.open_executions, usage.open_and_counted) == (2, 0)).await;

    // A push alone settles one of them. Another execution, and one that does not count, settle nothing.
    let canceled = |run: &mut v1::Execution| run.status = CANCELED.into();
    running.push(forged(executions(3..=3), canceled)).await;
    running.push(executions(4..=4)).await;
    running.push(executions(2..=2)).await;
    let usage = running.usage_where(|totals| totals.counted == 3).await;
    assert_eq!((usage.open_and_counted, usage.earlier_complete_until), (1, None));

    // From the next sweep on, what was running before is published too: the canceled one is not counted.
    running.bench.clock.advance(jiff::SignedDuration::from_secs(10));
    let next = "2026-11-24T11:59:30Z".parse().expect("an instant");
    running.synced_with_open("north-n8n", next, last, &[5]).await;
    let usage = running.usage.next_where(|usage| usage.complete_until == Some(timestamp(next))).await;
    assert_eq!(usage.earlier_complete_until, Some(timestamp(complete_until)));
    assert_eq!((usage.earlier_open, usage.open_and_counted), (1, 0));
    running.bench.finish().await;
}

#[tokio::test]
async fn made_up_workflows_are_bounded_and_the_poll_names_the_real_ones() {
    let mut running = Harness::start(None).await;
    running.push(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    sqlx::query(
        "INSERT INTO workflows (source_number, workflow_id)
         SELECT number, 'made-up-' || made FROM sources, generate_series(1, 10000) AS made
         WHERE source_id = 'north-n8n'",
    )
    .execute(running.bench.pool())
    .await
    .expect("workflows");
    running.restart().await;
    let of_their_own: Vec<_> = (4..=23)
        .map(|id| v1::Execution { workflow_id: format!("own-{id}"), ..execution(id, "2026-11-24T11:59:00Z") })
        .collect();

    running.push(of_their_own.clone()).await;
    running.usage_where(|totals| totals.counted == 23).await;
    assert_eq!(running.runs_by_workflow("own-%").await, []);
    assert_eq!(running.runs_by_workflow("not-shown-yet").await, [("not-shown-yet".to_owned(), 20)]);

    let sequence = running.send(of_their_own).await;
    running.handled(sequence).await;
    assert_eq!(running.runs_by_workflow("own-%").await.len(), 20);
    assert_eq!(running.runs_by_workflow("not-shown-yet").await, []);
    assert_eq!(running.figures("north", NOVEMBER).await, (23, 0, 0));
    assert_eq!(running.rebuilt().await, []);
    running.bench.finish().await;
}
