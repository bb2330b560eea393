//! Audits: a source compared with what was recorded of it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use messaging::ask::{self, Answerer, AskError, Refusal};
use proto::{
    streams::Stream,
    subjects::Question,
    v1::{AuditFinding, AuditQuestion, Recorded, RecordedAnswer, RecordedQuestion, SourceAudit},
};
use sandbox::n8n::{N8nFault, Runs, Start};
use testkit::Topic;

use crate::harness::{Harness, Sweep};

/// Rows of one answer, few enough that a page takes several.
const ANSWER_ROWS: usize = 100;

/// Stands for the aggregator.
struct Books(BTreeMap<u64, Recorded>);

impl Books {
    /// Everything that the sweep has published.
    fn of(sweep: &Sweep) -> Self {
        let recorded = sweep.executions.iter().map(|execution| {
            let id = execution.execution_id.parse().unwrap();
            let recorded = Recorded {
                execution_id: id,
                status: execution.status,
                stopped_at: execution.stopped_at,
                ..Recorded::default()
            };
            (id, recorded)
        });
        Self(recorded.collect())
    }
}

#[async_trait]
impl Answerer for Books {
    type Question = RecordedQuestion;
    type Answer = RecordedAnswer;

    async fn answer(&self, question: RecordedQuestion) -> Result<RecordedAnswer, Refusal> {
        let mut rows = self.0.range(question.first_execution_id..=question.last_execution_id);
        let executions = rows.by_ref().take(ANSWER_ROWS).map(|(_, row)| row.clone()).collect();
        Ok(RecordedAnswer { executions, next_execution_id: rows.next().map(|(id, _)| *id) })
    }
}

async fn audit(stage: &Harness) -> Result<SourceAudit, AskError> {
    let question = AuditQuestion { source_id: "north".into() };
    stage.bench.context.bus.ask(Question::Audit, &question, Duration::from_secs(10)).await
}

/// A source with 600 rows that was swept, and its audits.
async fn swept() -> (Harness, Sweep, Topic<SourceAudit>) {
    let mut stage = Harness::start().await;
    stage.run("north", 300);
    stage.n8n("north").start(&Start::of("slow")).unwrap();
    stage.bench.clock.advance(jiff::SignedDuration::from_secs(10));
    stage.run("north", 300);
    stage.bench.clock.advance(jiff::SignedDuration::from_secs(10));
    let sweep = stage.first_sweep("north").await;
    testkit::eventually("the sweep is committed", || async {
        let swept = "SELECT count(*) FROM sources WHERE complete_until IS NOT NULL";
        (sqlx::query_scalar::<_, i64>(swept).fetch_one(stage.bench.pool()).await.unwrap() == 1).then_some(())
    })
    .await;
    let audits = stage.bench.topic(Stream::SourceState, "source.audit").await;
    (stage, sweep, audits)
}

fn answer_with(stage: &Harness, books: Books) {
    let context = &stage.bench.context;
    let shutdown = context.tasks.shutdown();
    context.tasks.spawn(ask::answer(context.bus.clone(), Question::Recorded, Arc::new(books), shutdown));
}

#[tokio::test]
async fn an_audit_lists_what_the_source_and_the_aggregator_disagree_on() {
    let (stage, sweep, mut audits) = swept().await;
    let mut books = Books::of(&sweep);
    books.0.remove(&7);
    let other = books.0.get_mut(&500).unwrap();
    other.stopped_at.as_mut().unwrap().seconds -= 1;
    answer_with(&stage, books);
    stage.n8n("north").delete(400).unwrap();
    // Executions that are running, or have ended since the last sweep, are no difference.
    stage.n8n("north").run(&Runs::of("late").count(5)).unwrap();
    let published = stage.published().await;

    let begun = audit(&stage).await.unwrap();
    assert!(begun.ended_at.is_none() && !begun.audit_id.is_empty());
    let ended = audits.next_where(|audit| audit.ended_at.is_some()).await;
    assert_eq!((ended.audit_id, ended.failure.as_str()), (begun.audit_id, ""));
    assert_eq!((ended.listed, ended.equal, ended.differences_total), (599, 597, 3));
    let mut found: Vec<_> =
        ended.differences.iter().map(|found| (found.execution_id, found.finding())).collect();
    found.sort_unstable_by_key(|(id, _)| *id);
    let expected =
        [(7, AuditFinding::NotRecorded), (400, AuditFinding::NotShown), (500, AuditFinding::Different)];
    assert_eq!(found, expected);
    assert_eq!(stage.published().await, published, "it changes nothing");
    stage.finish().await;
}

#[tokio::test]
async fn one_audit_of_a_source_runs_at_a_time_and_says_why_it_failed() {
    let (stage, sweep, mut audits) = swept().await;
    answer_with(&stage, Books::of(&sweep));
    stage.n8n("north").set_slowness(Duration::from_secs(2));
    stage.n8n("north").fault(N8nFault::Slow, Some(1));
    stage.n8n("north").fault(N8nFault::Unauthorized, Some(1));
    audit(&stage).await.unwrap();
    let refused = audit(&stage).await.unwrap_err();
    assert!(refused.to_string().contains("an audit of north is running"), "{refused}");
    let ended = audits.next_where(|audit| audit.ended_at.is_some()).await;
    assert!(ended.failure.contains("the API key is refused"), "{}", ended.failure);

    audit(&stage).await.unwrap();
    let ended = audits.next_where(|audit| audit.ended_at.is_some() && audit.failure.is_empty()).await;
    assert_eq!((ended.equal, ended.differences_total), (600, 0));
    stage.finish().await;
}
