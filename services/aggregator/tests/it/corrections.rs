//! Explaining a figure, and correcting it by hand.

use proto::{
    streams::Stream,
    subjects::Question,
    v1::{self, correction_question::Change, period_event::Event},
};
use testkit::Topic;

use crate::harness::{Harness, at, execution, executions};

fn void(id: &str, execution_id: u64) -> v1::CorrectionQuestion {
    let source_id = "north-n8n".into();
    correction(id, Change::VoidExecution(v1::VoidExecution { source_id, epoch: 1, execution_id }))
}

fn adjust(id: &str, quantity: i64) -> v1::CorrectionQuestion {
    let period_start = at("2026-11-01T00:00:00Z");
    correction(id, Change::AdjustCount(v1::AdjustCount { period_start, quantity, period_at: None }))
}

fn correction(id: &str, change: Change) -> v1::CorrectionQuestion {
    v1::CorrectionQuestion {
        correction_id: id.into(),
        tenant_id: "north".into(),
        author: "operator".into(),
        reason: "a test run".into(),
        reason_is_public: false,
        change: Some(change),
    }
}

fn explain(workflow: &str, count_max: u32, page: String) -> v1::ExplainQuestion {
    v1::ExplainQuestion {
        tenant_id: "north".into(),
        period_start: at("2026-11-01T00:00:00Z"),
        source_id: if workflow.is_empty() { String::new() } else { "north-n8n".into() },
        workflow_id: workflow.into(),
        count_max,
        page,
        period_at: None,
    }
}

impl Harness {
    async fn correct(
        &self,
        question: &v1::CorrectionQuestion,
    ) -> Result<v1::Correction, messaging::AskError> {
        self.ask(Question::Correct, question).await
    }

    /// All pages of an explanation, with the figure that it explains.
    async fn explained(
        &self,
        workflow: &str,
    ) -> (v1::Totals, Vec<v1::ExplainedExecution>, Vec<v1::Correction>) {
        let (mut executions, mut corrections, mut page) = (Vec::new(), Vec::new(), String::new());
        loop {
            let answer: v1::ExplainAnswer =
                self.ask(Question::Explain, &explain(workflow, 7, page)).await.expect("an explanation");
            executions.extend(answer.executions);
            corrections.extend(answer.corrections);
            if answer.next_page.is_empty() {
                return (answer.totals.unwrap(), executions, corrections);
            }
            page = answer.next_page;
        }
    }
}

fn count(executions: &[v1::ExplainedExecution], of: impl Fn(&v1::ExplainedExecution) -> bool) -> u64 {
    executions.iter().filter(|execution| of(execution)).count() as u64
}

#[tokio::test]
async fn a_figure_is_the_sum_of_its_executions() {
    let mut running = Harness::start(None).await;
    let mut batch = executions(1..=40);
    batch[3].mode = v1::ExecutionMode::Manual.into();
    batch[5].status = v1::ExecutionStatus::Error.into();
    batch.push(execution(41, "2026-10-31T23:59:59Z"));
    running.send(batch).await;
    running.usage_where(|totals| totals.counted == 39).await;
    running.correct(&void("v1", 9)).await.unwrap();
    running.correct(&adjust("a1", 5)).await.unwrap();

    let (totals, executions, corrections) = running.explained("").await;
    assert_eq!((executions.len(), corrections.len()), (40, 2));
    assert_eq!((totals.counted, totals.adjusted), (count(&executions, |one| one.counted) + 5, 5));
    assert_eq!(totals.uncounted, count(&executions, |one| !one.counted && !one.voided));
    assert_eq!((totals.voided, count(&executions, |one| one.voided)), (1, 1));
    let mut ids: Vec<&str> =
        executions.iter().map(|one| one.execution.as_ref().unwrap().execution_id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 40, "no execution is on two pages");

    let (totals, of_w1, _) = running.explained("w1").await;
    assert_eq!(totals.counted, count(&of_w1, |one| one.counted));
    assert!(of_w1.iter().all(|one| one.execution.as_ref().unwrap().workflow_id == "w1"));
    let nonsense = running.ask::<v1::ExplainAnswer>(Question::Explain, &explain("", 7, "x".into())).await;
    assert!(nonsense.is_err());
    running.bench.finish().await;
}

#[tokio::test]
async fn a_correction_is_made_once_and_needs_an_author_and_a_reason() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=10)).await;
    running.usage_where(|totals| totals.counted == 10).await;
    let made = running.correct(&adjust("a1", -4)).await.unwrap();
    assert_eq!(running.correct(&adjust("a1", -4)).await.unwrap(), made);
    let usage = running.usage_where(|totals| totals.counted != 10).await;
    let totals = usage.totals.unwrap();
    assert_eq!((totals.counted, totals.adjusted, totals.success), (6, -4, 10));

    for (refused, why) in [
        (adjust("a1", -3), "another change under the same id"),
        (void("a1", 3), "another kind under the same id"),
        (adjust("a2", -7), "more than is counted"),
        (adjust("a3", 0), "an adjustment of zero"),
        (void("v1", 11), "an execution that was never counted"),
        (v1::CorrectionQuestion { author: " ".into(), ..adjust("a4", 1) }, "no author"),
        (v1::CorrectionQuestion { reason: String::new(), ..adjust("a5", 1) }, "no reason"),
        (v1::CorrectionQuestion { tenant_id: "south".into(), ..adjust("a6", 1) }, "another tenant"),
    ] {
        assert!(running.correct(&refused).await.is_err(), "{why}");
    }
    let (_, _, corrections) = running.explained("").await;
    assert_eq!(corrections, [made]);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_voided_execution_stays_voided() {
    let mut running = Harness::start(None).await;
    let mut crash = execution(7, "2026-11-24T11:00:00Z");
    crash.status = v1::ExecutionStatus::Crashed.into();
    running.send(vec![crash.clone(), execution(8, "2026-11-24T11:00:00Z")]).await;
    running.usage_where(|totals| totals.counted == 2).await;
    running.correct(&void("v1", 7)).await.unwrap();
    assert!(running.correct(&void("v2", 7)).await.is_err(), "it is voided already");
    running.usage_where(|totals| totals.voided == 1).await;

    let mut error = execution(7, "2026-11-24T11:00:05Z");
    error.status = v1::ExecutionStatus::Error.into();
    running.send(vec![error]).await;
    running.send(vec![crash]).await;
    running.send(vec![execution(9, "2026-11-24T11:00:00Z")]).await;
    let usage = running.usage_where(|totals| totals.success == 2).await;
    let totals = usage.totals.unwrap();
    assert_eq!((totals.counted, totals.crashed, totals.error, totals.voided), (2, 0, 0, 1));
    let (_, executions, _) = running.explained("").await;
    let voided = executions.iter().find(|one| one.voided).unwrap();
    assert_eq!(voided.execution.as_ref().unwrap().status(), v1::ExecutionStatus::Error);
    assert!(!voided.counted);
    running.bench.finish().await;
}

#[tokio::test]
async fn a_correction_of_a_closed_period_is_late_usage() {
    let mut running = Harness::start(None).await;
    let mut events: Topic<v1::PeriodEvent> = running.bench.topic(Stream::Periods, "usage.period").await;
    running.send(executions(1..=3)).await;
    running.usage_where(|totals| totals.counted == 3).await;
    running.bench.clock.set("2026-12-01T07:00:00Z".parse().unwrap());
    let closed = loop {
        if let Event::Closed(closed) = events.next().await.event.unwrap() {
            break closed;
        }
    };
    running.correct(&void("v1", 2)).await.unwrap();
    let late = loop {
        if let Event::Late(late) = events.next().await.event.unwrap() {
            break late;
        }
    };
    assert!(late.revision > closed.revision);
    let totals = late.totals.unwrap();
    assert_eq!((totals.counted, totals.voided, late.period), (2, 1, closed.period));
    running.bench.finish().await;
}

#[tokio::test]
async fn a_correction_crosses_and_rearms_thresholds() {
    let mut running = Harness::start(Some(10)).await;
    let mut crossings: Topic<v1::ThresholdCrossed> =
        running.bench.topic(Stream::Thresholds, "usage.threshold").await;
    running.send(executions(1..=7)).await;
    running.usage_where(|totals| totals.counted == 7).await;
    running.correct(&adjust("a1", 1)).await.unwrap();
    let crossed = crossings.next().await;
    assert_eq!((crossed.threshold_percent, crossed.used), (80, 8));
    running.correct(&void("v1", 3)).await.unwrap();
    running.send(executions([8])).await;
    let again = crossings.next().await;
    assert_eq!((again.threshold_percent, again.used), (80, 8));
    assert_ne!(again.crossing_id, crossed.crossing_id);
    running.bench.finish().await;
}

#[tokio::test]
async fn executions_and_adjustments_add_up_to_the_count_after_corrections() {
    let mut running = Harness::start(None).await;
    running.send(executions(1..=49)).await;
    running.usage_where(|totals| totals.counted == 49).await;
    running.correct(&void("c1", 3)).await.unwrap();
    running.correct(&adjust("c2", -3)).await.unwrap();
    let counted = running.usage_where(|totals| totals.adjusted == -3 && totals.voided == 1).await;
    let totals = counted.totals.unwrap();
    assert_eq!((totals.counted, totals.success), (45, 48));
    let month = v1::Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") };
    for grain in [v1::Grain::Hour, v1::Grain::Day] {
        let span = Some(v1::Period { start: at("2026-11-10T00:00:00Z"), ..month });
        let span = if grain == v1::Grain::Day { Some(month) } else { span };
        let question = v1::UsageQuestion {
            tenant_id: "north".into(),
            span,
            grain: grain.into(),
            ..v1::UsageQuestion::default()
        };
        let sum = |answer: &v1::UsageAnswer, of: fn(v1::Totals) -> u64| -> u64 {
            answer.slices.iter().map(|slice| of(slice.totals.unwrap())).sum()
        };
        let answer = running.usage_answer(&question, |answer| sum(answer, |totals| totals.voided) == 1).await;
        let executions = sum(&answer, |totals| totals.counted);
        assert_eq!(executions, sum(&answer, |totals| totals.success));
        if grain == v1::Grain::Day {
            let by_hand: Vec<_> = answer.adjustments.iter().map(|one| (one.period, one.adjusted)).collect();
            assert_eq!(by_hand, [(Some(month), -3)]);
        }
        assert_eq!(executions.checked_add_signed(-3), Some(totals.counted));
    }
    let question = v1::WorkflowsQuestion {
        tenant_id: "north".into(),
        period_start: month.start,
        count_max: 1_000,
        period_at: None,
        by_failures: false,
    };
    let answer: v1::WorkflowsAnswer = running.ask(Question::Workflows, &question).await.unwrap();
    let listed = answer.workflows.iter().map(|one| one.usage.as_ref().unwrap().totals.unwrap());
    let executions: u64 = listed.map(|totals| totals.counted).sum();
    let whole = answer.totals.unwrap();
    assert_eq!((executions, whole.counted, whole.adjusted, whole.voided), (48, 45, -3, 1));
    assert_eq!(whole, totals);
    running.bench.finish().await;
}
