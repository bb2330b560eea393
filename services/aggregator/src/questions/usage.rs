//! `UsageQuestion`: a tenant's figures over time, from the roll-ups.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jiff::{SignedDuration, Timestamp};
use messaging::ask::{Answerer, Refusal};
use metering::{Clock, Period, Timeline};
use proto::{
    timestamp,
    v1::{self, Grain},
};
use sqlx::PgPool;

use crate::{
    events,
    figures::durations::Durations,
    questions::subject::{self, Asked},
    store::{self, Slice},
};

/// The longest span that is answered, by grain: bounds an answer to about 800 slices.
const HOURS_SPAN_MAX: SignedDuration = SignedDuration::from_hours(32 * 24);
const DAYS_SPAN_MAX: SignedDuration = SignedDuration::from_hours(400 * 24);
const PERIODS_SPAN_MAX: SignedDuration = SignedDuration::from_hours(5 * 366 * 24);

/// Answers.
pub(crate) struct AnswerUsage {
    pool: PgPool,
    clock: Arc<dyn Clock>,
}

impl AnswerUsage {
    pub(crate) fn new(pool: PgPool, clock: Arc<dyn Clock>) -> Self {
        Self { pool, clock }
    }

    async fn slices(
        &self,
        asked: &Asked,
        grain: Grain,
        span: Period,
        workflow: Option<i32>,
    ) -> Result<Vec<v1::UsageSlice>, Refusal> {
        let (pool, number) = (&self.pool, asked.number);
        let slices = match (grain, workflow) {
            (Grain::Hour, None) => {
                let since = store::hours_since(pool).await?;
                if span.start < since {
                    let reason = format!("figures by hour are kept since {since}; ask for days before");
                    return Err(Refusal::not_found(reason));
                }
                store::hours(pool, number, span).await?
            }
            (Grain::Hour, Some(_)) => {
                return Err(Refusal::invalid("hours are not kept by workflow; ask for days"));
            }
            (Grain::Day, None) => store::days(pool, number, span).await?,
            (Grain::Day, Some(workflow)) => {
                let since = store::hours_since(pool).await?;
                if span.start < since {
                    let reason =
                        format!("a workflow's figures by day are kept since {since}; ask for periods before");
                    return Err(Refusal::not_found(reason));
                }
                store::workflow_days(pool, number, workflow, span).await?
            }
            (Grain::Period, None) => {
                let mut periods = store::periods_in(pool, number, span).await?;
                let reach = Period { start: span.start, end: periods_end(&periods, span) };
                add_durations(&mut periods, store::days(pool, number, reach).await?);
                periods
            }
            (Grain::Period, Some(workflow)) => store::workflow_periods(pool, number, workflow, span).await?,
            (Grain::Unspecified, _) => return Err(Refusal::invalid("ask for hours, days or periods")),
        };
        // Earlier versions stored no durations for hours and for workflows' days.
        let is_partial = grain == Grain::Hour || (grain == Grain::Day && workflow.is_some());
        let to_wire = |slice| to_wire(slice, grain, is_partial, &asked.timeline);
        Ok(slices.into_iter().map(to_wire).collect())
    }
}

#[async_trait]
impl Answerer for AnswerUsage {
    type Question = v1::UsageQuestion;
    type Answer = v1::UsageAnswer;

    async fn answer(&self, question: v1::UsageQuestion) -> Result<v1::UsageAnswer, Refusal> {
        let grain = question.grain();
        let span = question.span.ok_or_else(|| Refusal::invalid("the span is missing"))?;
        let span = Period::try_from(span).map_err(Refusal::invalid)?;
        check_span(span, grain)?;
        let asked = subject::tenant(&self.pool, &question.tenant_id).await?;
        let workflow =
            subject::workflow(&self.pool, &asked, &question.source_id, &question.workflow_id).await?;
        // Read before the figures: changes folded in between only make them fresher.
        let as_of = subject::as_of(&self.pool, self.clock.now()).await?;
        let slices = self.slices(&asked, grain, span, workflow).await?;
        let adjustments = match workflow {
            None => store::adjusted_periods(&self.pool, asked.number, span).await?,
            Some(_) => Vec::new(),
        };
        let adjustments = adjustments
            .into_iter()
            .map(|(period, adjusted)| v1::AdjustedPeriod { period: Some(period.into()), adjusted });
        Ok(v1::UsageAnswer { slices, as_of: Some(timestamp(as_of)), adjustments: adjustments.collect() })
    }
}

fn check_span(span: Period, grain: Grain) -> Result<(), Refusal> {
    let longest = match grain {
        Grain::Hour => HOURS_SPAN_MAX,
        Grain::Day => DAYS_SPAN_MAX,
        Grain::Period | Grain::Unspecified => PERIODS_SPAN_MAX,
    };
    if span.end.duration_since(span.start) > longest {
        let days = longest.as_hours() / 24;
        return Err(Refusal::invalid(format!("ask for at most {days} days at once with this grain")));
    }
    Ok(())
}

fn periods_end(periods: &[Slice], span: Period) -> Timestamp {
    periods.iter().filter_map(|slice| slice.end).max().unwrap_or(span.end).max(span.end)
}

/// A period's durations are the sum of its days' durations.
fn add_durations(periods: &mut [Slice], days: Vec<Slice>) {
    let by_start: BTreeMap<Timestamp, Durations> =
        days.into_iter().filter_map(|day| Some((day.start, day.durations?))).collect();
    for period in periods {
        let end = period.end.unwrap_or(Timestamp::MAX);
        let mut durations = Durations::default();
        by_start.range(period.start..end).for_each(|(_, day)| durations += day);
        period.durations = Some(durations);
    }
}

/// `is_partial`: the durations may cover only some of the executions, or none.
fn to_wire(slice: Slice, grain: Grain, is_partial: bool, timeline: &Timeline) -> v1::UsageSlice {
    let end = slice.end.unwrap_or_else(|| match grain {
        Grain::Day => timeline.day_of(slice.start).end,
        _ => timeline.hour_of(slice.start).end,
    });
    let is_whole = |durations: &&Durations| !is_partial || durations.count() == slice.totals.counted;
    let durations = slice.durations.as_ref().filter(is_whole);
    let quantile = |percent| durations.and_then(|durations| durations.quantile_ms(percent));
    let time_zone = match grain {
        Grain::Period => timeline.calendar_at(slice.start).time_zone_name().to_owned(),
        _ => String::new(),
    };
    v1::UsageSlice {
        span: Some(Period { start: slice.start, end }.into()),
        totals: Some(events::totals(&slice.totals)),
        duration_p50_ms: quantile(50),
        duration_p95_ms: quantile(95),
        time_zone,
    }
}
