//! Old months of executions are dropped, and nothing is counted twice or lost by it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use aggregator::{Dropped, KeepFor, Retention};
use catalog::{Attribution, Scope, Source};
use metering::TenantId;
use proto::{
    subjects::Question,
    v1::{self, ExecutionStatus, Grain, correction_question::Change},
};
use sqlx::{AssertSqlSafe, PgConnection};
use testkit::eventually;

use crate::harness::{Harness, at, execution, executions, source};

/// In a month that ended more than 400 days before `NOW`.
const OLD: &str = "2025-09-20T08:00:00Z";

/// In the next month, which stays.
const KEPT: &str = "2025-10-10T08:00:00Z";

fn old(ids: impl IntoIterator<Item = u64>) -> Vec<v1::Execution> {
    ids.into_iter().map(|id| execution(id, OLD)).collect()
}

impl Harness {
    fn retention(&self) -> Retention {
        Retention {
            pool: self.bench.pool().clone(),
            clock: self.bench.context.clock.clone(),
            executions_kept: KeepFor::days(400),
            hours_kept: KeepFor::days(400),
        }
    }

    async fn round(&self) -> Vec<Dropped> {
        self.retention().round().await.expect("a round")
    }

    /// Runs rounds until a month is dropped: another round may hold the turn, and others may lock executions.
    async fn until_gone(&self) -> Dropped {
        let gone = eventually("an old month is dropped", || async {
            let dropped = self.round().await;
            (!dropped.is_empty()).then_some(dropped)
        });
        let [dropped] = gone.await.try_into().expect("one month");
        dropped
    }

    async fn run(&self, statement: &str) {
        sqlx::query(AssertSqlSafe(statement.to_owned())).execute(self.bench.pool()).await.expect(statement);
    }

    async fn number(&self, statement: &str) -> i64 {
        let query = sqlx::query_scalar(AssertSqlSafe(statement.to_owned()));
        query.fetch_one(self.bench.pool()).await.expect(statement)
    }

    async fn months(&self) -> Vec<String> {
        sqlx::query_scalar("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'executions'::regclass ORDER BY 1")
            .fetch_all(self.bench.pool())
            .await
            .expect("months")
    }

    async fn kept_since(&self) -> String {
        sqlx::query_scalar("SELECT (since AT TIME ZONE 'UTC')::date::text FROM executions_kept")
            .fetch_one(self.bench.pool())
            .await
            .expect("since")
    }

    /// Sends them, and waits until they are handled and the periods that have ended are closed.
    async fn record(&self, executions: Vec<v1::Execution>) {
        let sequence = self.send(executions).await;
        self.handled(sequence).await;
        self.all_closed().await;
    }

    async fn all_closed(&self) {
        eventually("periods that have ended are closed", || async {
            let open = "SELECT count(*) FROM periods WHERE closed_at IS NULL AND period_end < '2026-11-01'";
            (self.number(open).await == 0).then_some(())
        })
        .await;
    }

    async fn explain(&self, period_start: &str) -> Result<v1::ExplainAnswer, messaging::AskError> {
        let question = v1::ExplainQuestion {
            tenant_id: "north".into(),
            period_start: at(period_start),
            count_max: 100,
            ..v1::ExplainQuestion::default()
        };
        self.ask(Question::Explain, &question).await
    }
}

#[tokio::test]
async fn an_old_month_is_dropped_and_its_executions_stay_known() {
    let mut running = Harness::start(None).await;
    let mut batch = old(1..=10);
    batch.extend((11..=15).map(|id| execution(id, KEPT)));
    batch.extend(executions(16..=18));
    running.record(batch.clone()).await;
    assert_eq!(running.kept_since().await, "1970-01-01");
    let gone = running.until_gone().await;
    assert_eq!((gone.month.to_string().as_str(), gone.executions, gone.unmapped), ("2025-09-01", 10, 0));
    assert_eq!(running.kept_since().await, "2025-10-01");
    assert_eq!(running.months().await, ["executions_2025_10", "executions_2026_11", "executions_2026_12"]);
    assert_eq!(running.number("SELECT count(*) FROM executions").await, 8);

    // With a memory that knows the ids, and with one that has to read them.
    running.record(batch.clone()).await;
    running.restart().await;
    running.record(batch.clone()).await;
    assert_eq!(running.snapshot().await, (18, 0));
    assert_eq!(running.rebuilt().await, [], "what is kept adds up, and what is not is left alone");
    let refused = running.explain("2025-09-01T00:00:00Z").await.unwrap_err();
    assert!(refused.to_string().contains("since 2025-10-01"), "{refused}");
    assert_eq!(running.explain("2025-10-01T00:00:00Z").await.unwrap().executions.len(), 5);
    let void = v1::CorrectionQuestion {
        correction_id: "v1".into(),
        tenant_id: "north".into(),
        author: "operator".into(),
        reason: "a test run".into(),
        reason_is_public: false,
        change: Some(Change::VoidExecution(v1::VoidExecution {
            source_id: "north-n8n".into(),
            epoch: 1,
            execution_id: 1,
        })),
    };
    let refused = running.ask::<v1::Correction>(Question::Correct, &void).await.unwrap_err();
    assert!(refused.to_string().contains("since 2025-10-01"), "{refused}");

    // An unknown one is late, as usual, and is dropped in the next round.
    batch.extend(old([100_000]));
    running.record(batch.clone()).await;
    assert_eq!(running.snapshot().await, (19, 0));
    assert_eq!(running.number("SELECT sum(late)::bigint FROM periods").await, 1);
    assert_eq!(running.until_gone().await.executions, 1);
    running.restart().await;
    running.record(batch).await;
    assert_eq!((running.snapshot().await, running.kept_since().await), ((19, 0), "2025-10-01".to_owned()));
    assert_eq!(running.until_gone().await.executions, 0, "a repeat creates the table, but no row");
    running.bench.finish().await;
}

#[tokio::test]
async fn the_tables_of_this_month_and_the_next_exist_before_any_execution() {
    let running = Harness::start(None).await;
    eventually("months exist", || async { (running.months().await.len() == 2).then_some(()) }).await;
    assert_eq!(running.months().await, ["executions_2026_11", "executions_2026_12"]);
    let indexes = "SELECT count(*) FROM pg_index WHERE indrelid = '{}'::regclass";
    let of = |table: &str| indexes.replace("{}", table);
    let whole = running.number(&of("executions")).await;
    assert_eq!(running.number(&of("executions_2026_12")).await, whole, "each index once");
    running.bench.clock.set("2026-12-01T00:00:00Z".parse().unwrap());
    running.round().await;
    assert_eq!(running.months().await.last().unwrap(), "executions_2027_01");
    running.bench.finish().await;
}

#[tokio::test]
async fn a_month_stays_while_a_period_is_open_or_mapping_or_a_rebuild_runs() {
    let mut running = Harness::start(None).await;
    running.record(old(1..=3)).await;
    // Nothing closes the period now.
    running.bench.restart().await;
    for (hold, release) in [
        ("UPDATE periods SET closed_at = NULL", "UPDATE periods SET closed_at = opened_at"),
        (
            "WITH mapping AS (UPDATE sources SET mapping = true)
             UPDATE executions SET tenant_number = NULL, period_start = NULL WHERE execution_id = 1",
            "UPDATE sources SET mapping = false",
        ),
    ] {
        running.run(hold).await;
        assert_eq!(running.round().await, [], "{hold}");
        assert_eq!(running.kept_since().await, "1970-01-01");
        running.run(release).await;
    }
    let mut rebuild = running.bench.pool().acquire().await.unwrap();
    let lock = "SELECT pg_advisory_lock(hashtext(current_schema() || '.rebuild'))";
    sqlx::query(lock).execute(&mut *rebuild).await.unwrap();
    assert_eq!(running.round().await, []);
    rebuild.close().await.unwrap();
    let gone = running.until_gone().await;
    assert_eq!((gone.executions, gone.unmapped), (3, 1));
    running.bench.finish().await;
}

#[tokio::test]
async fn only_one_replica_at_a_time_drops_months() {
    let running = Harness::start(None).await;
    running.record(old(1..=3)).await;
    let mut other = running.bench.pool().acquire().await.unwrap();
    let lock = "SELECT pg_advisory_lock(hashtext(current_schema() || '.retention'))";
    sqlx::query(lock).execute(&mut *other).await.unwrap();
    assert_eq!(running.round().await, []);
    other.close().await.unwrap();
    assert_eq!(running.until_gone().await.executions, 3);
    running.bench.finish().await;
}

async fn add_row(connection: &mut PgConnection, id: i64) {
    sqlx::query(
        "INSERT INTO executions SELECT $1, stopped_at, recorded_at, started_at, period_start, source_number, epoch, month,
             workflow_number, tenant_number, status, mode, counted, late, voided FROM executions WHERE execution_id = 1",
    )
    .bind(id)
    .execute(connection)
    .await
    .unwrap();
}

#[tokio::test]
async fn dropping_a_month_does_not_hold_up_recording_and_loses_nothing() {
    let mut running = Harness::start(None).await;
    running.record(old(1..=3)).await;
    let mut recording = running.bench.pool().begin().await.unwrap();
    add_row(&mut recording, 4).await;
    assert_eq!(running.round().await, [], "its ids are folded, but it stays");
    assert_eq!(running.number("SELECT count(*) FROM executions").await, 3);
    assert_eq!(running.kept_since().await, "1970-01-01");
    // Recorded after the ids were folded, and before the month was locked.
    let committing = async {
        eventually("the round waits for the month", || async {
            let waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND mode = 'ShareLock'
                 AND relation = 'executions_2025_09'::regclass";
            (running.number(waiting).await == 1).then_some(())
        })
        .await;
        recording.commit().await.unwrap();
    };
    let (dropped, ()) = tokio::join!(running.round(), committing);
    assert_eq!(dropped, []);
    assert_eq!(running.until_gone().await.executions, 4);
    running.restart().await;
    let figures = running.snapshot().await;
    running.record(old(1..=4)).await;
    assert_eq!(running.snapshot().await, figures, "the fourth is known");
    running.bench.finish().await;
}

#[tokio::test]
async fn a_crash_before_the_commit_leaves_the_month_as_it_was() {
    let mut running = Harness::start(None).await;
    running.record(old(1..=3)).await;
    running.run(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'the power is gone'; END $$",
    )
    .await;
    running.run("CREATE EVENT TRIGGER refuse ON sql_drop EXECUTE FUNCTION refuse()").await;
    eventually("a round fails", || async {
        let failed = running.retention().round().await.err()?;
        failed.to_string().contains("the power is gone").then_some(())
    })
    .await;
    assert_eq!(running.number("SELECT count(*) FROM executions").await, 3);
    assert_eq!(running.kept_since().await, "1970-01-01");
    assert_eq!(running.explain("2025-09-01T00:00:00Z").await.unwrap().executions.len(), 3);
    running.restart().await;
    running.record(old(1..=4)).await;
    assert_eq!(running.snapshot().await, (4, 0), "ids that are in both places are known, others are not");
    running.run("DROP EVENT TRIGGER refuse").await;
    assert_eq!(running.until_gone().await.executions, 4);
    running.bench.finish().await;
}

#[tokio::test]
async fn each_execution_counts_once_while_months_are_dropped_during_recording() {
    let running = Harness::start(None).await;
    let (batches, size) = (12, 25);
    let all = batches * size;
    let gone = AtomicU64::new(0);
    let recording = async {
        let mut last = 0;
        for batch in 0..batches {
            // Half of each batch was sent before.
            let first: u64 = batch * size;
            last = running.send(old(first.saturating_sub(size / 2)..first + size)).await;
            if batch % 3 == 0 {
                running.handled(last).await;
            }
            if batch == batches / 2 {
                eventually("a month is dropped", || async { (gone.load(Relaxed) > 0).then_some(()) }).await;
            }
        }
        running.handled(last).await;
    };
    let going = async {
        loop {
            eventually("something is recorded", || async {
                let is_over = running.snapshot().await.0 == all;
                (is_over || running.number("SELECT count(*) FROM executions").await > 0).then_some(())
            })
            .await;
            gone.fetch_add(running.round().await.iter().map(|month| month.executions).sum(), Relaxed);
            if running.snapshot().await.0 == all {
                return;
            }
        }
    };
    tokio::join!(going, recording);
    let gone = gone.load(Relaxed);
    let left = running.number("SELECT count(*) FROM executions").await;
    assert_eq!(gone + u64::try_from(left).unwrap(), all, "each was a row once");
    assert_eq!(running.snapshot().await.0, all);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_corrected_crash_stays_in_the_hours_of_the_month_in_which_it_stopped() {
    let running = Harness::start(None).await;
    let mut crash = execution(1, "2025-09-30T23:50:00Z");
    crash.status = ExecutionStatus::Crashed.into();
    running.record(vec![crash, execution(2, KEPT)]).await;
    running.record(vec![execution(1, "2025-10-01T00:20:00Z")]).await;
    assert_eq!(running.until_gone().await.executions, 1);
    assert_eq!(running.rebuilt().await, [], "its hour in October includes it");
    assert_eq!(running.number("SELECT count(*) FROM executions_2025_10").await, 2);
    running.record(vec![execution(1, "2025-10-01T00:20:00Z")]).await;
    assert_eq!(running.snapshot().await, (2, 0));
    running.bench.finish().await;
}

#[tokio::test]
async fn executions_that_never_had_a_tenant_are_dropped_with_their_month() {
    let running = Harness::start(None).await;
    let scope = Scope::Tag("north".into());
    let attribution = |scope| Attribution { tenant: TenantId::parse("north").unwrap(), scope, from: None };
    let shared = |scope| Source { tenant: None, attributions: vec![attribution(scope)], ..source("shared") };
    running.bench.publish_entry(&shared(scope), 1).await;
    running.send_from("shared", 1, old(1..=4)).await;
    eventually("they are recorded", || async {
        (running.number("SELECT count(*) FROM executions").await == 4).then_some(())
    })
    .await;
    let gone = running.until_gone().await;
    assert_eq!((gone.executions, gone.unmapped), (4, 4));
    running.bench.publish_entry(&shared(Scope::Whole), 2).await;
    running.send_from("shared", 1, old(1..=5)).await;
    eventually("the fifth is counted", || async { (running.snapshot().await.0 == 1).then_some(()) }).await;
    running.bench.finish().await;
}

#[tokio::test]
async fn an_audit_still_finds_dropped_executions_by_id() {
    let running = Harness::start(None).await;
    let mut batch = old([3, 5, 70_000]);
    batch.extend([execution(4, KEPT), execution(9, KEPT)]);
    running.record(batch).await;
    running.until_gone().await;
    let question = v1::RecordedQuestion {
        source_id: "north-n8n".into(),
        epoch: 1,
        first_execution_id: 4,
        last_execution_id: 80_000,
    };
    let answer: v1::RecordedAnswer = running.ask(Question::Recorded, &question).await.unwrap();
    let shown: Vec<_> =
        answer.executions.iter().map(|one| (one.execution_id, one.stopped_at.is_some())).collect();
    assert_eq!(
        (shown, answer.next_execution_id),
        (vec![(4, true), (5, false), (9, true), (70_000, false)], None)
    );
    running.bench.finish().await;
}

#[tokio::test]
async fn old_hours_are_removed_and_days_stay() {
    let running = Harness::start(None).await;
    running.record(vec![execution(1, "2026-10-01T08:00:00Z"), execution(2, "2026-11-20T08:00:00Z")]).await;
    assert_eq!(running.rebuilt().await, [], "and everything is folded");
    let retention = Retention { hours_kept: KeepFor::days(32), ..running.retention() };
    eventually("the old hour is removed", || async {
        retention.round().await.unwrap();
        (running.number("SELECT count(*) FROM usage_hours").await == 1).then_some(())
    })
    .await;
    assert_eq!(running.number("SELECT count(*) FROM usage_days").await, 2);
    assert_eq!(running.rebuilt().await, [], "an hour that is no longer kept is not rebuilt");
    let question = |start| v1::UsageQuestion {
        tenant_id: "north".into(),
        grain: Grain::Hour.into(),
        span: Some(v1::Period { start: at(start), end: at("2026-11-02T00:00:00Z") }),
        ..v1::UsageQuestion::default()
    };
    let refused =
        running.ask::<v1::UsageAnswer>(Question::Usage, &question("2026-10-22T00:00:00Z")).await.unwrap_err();
    assert!(refused.to_string().contains("since 2026-10-23"), "{refused}");
    assert!(running.ask::<v1::UsageAnswer>(Question::Usage, &question("2026-10-23T00:00:00Z")).await.is_ok());
    running.bench.finish().await;
}

#[tokio::test]
async fn executions_that_are_kept_for_ever_stay() {
    let running = Harness::start(None).await;
    running.record(old(1..=3)).await;
    let retention =
        Retention { executions_kept: KeepFor::Forever, hours_kept: KeepFor::Forever, ..running.retention() };
    assert_eq!(retention.round().await.unwrap(), []);
    assert_eq!(running.number("SELECT count(*) FROM executions").await, 3);
    running.bench.finish().await;
}
