//! A period compared with the previous one: `GET /v1/tenants/{id}/usage/comparison`.

#![allow(unused_qualifications, reason = "utoipa spells out the types of a query")]

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use metering::{Calendar, Money, Period, Price};
use proto::{instant, subjects::Question, v1};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::{PathId, QueryOf},
    figures::{ANSWER_WITHIN, instant_in, metered_tenant},
    questions::ask,
    responses::{Invalid, NotFound},
    schema::{MomentText, TenantIdText},
    shapes::{MoneyJson, PeriodJson},
    spreadsheet::{FormatJson, cell, decimal, file, to_csv},
};
use crate::usage::{
    comparison::{Change, Figures, change, change_of, points, reach, same_point},
    live::period_at,
    parts,
};

/// The previous period begins at most this long before the requested instant: three of the longest periods.
const LOOK_BACK: SignedDuration = SignedDuration::from_hours(3 * 32 * 24);

/// Which period.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct ComparisonQuery {
    /// An instant (RFC 3339) or date in the period; by default the current period.
    #[param(value_type = Option<MomentText>)]
    period: Option<String>,
    /// The format of the answer.
    #[serde(default)]
    #[param(inline)]
    format: FormatJson,
}

/// A period compared with the previous one.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComparisonJson {
    /// The tenant's id.
    pub tenant: String,
    /// Includes everything that was counted until then.
    pub as_of: Option<Timestamp>,
    /// The requested period, up to the last whole hour for which all sources are counted.
    pub current: SideJson,
    /// The previous period, up to the same elapsed time; null if none is known, or its hours are not kept any
    /// more.
    pub previous: Option<SideJson>,
    /// The whole previous period.
    pub previous_whole: Option<SideJson>,
    /// From `previous` to `current`; null if one of them has no figures.
    pub change: Option<ChangesJson>,
    /// From `previous_whole` to `current`.
    pub change_to_whole: Option<ChangesJson>,
}

/// A period, or its first part.
#[derive(Debug, Serialize, ToSchema)]
pub struct SideJson {
    /// The stored period; it may be longer or shorter than the other.
    pub period: PeriodJson,
    /// The figures cover the time from the period's start until here, exclusive.
    pub until: Timestamp,
    /// Null if nothing is known of that time yet.
    pub figures: Option<ComparedJson>,
}

/// The figures that are compared.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComparedJson {
    /// Counted executions, without adjustments.
    pub executions: u64,
    /// The operator's adjustment; null for a part of a period.
    pub adjusted: Option<i64>,
    /// Total run time of the executions.
    pub duration_ms: u64,
    /// Mean run time; null if there are no executions.
    pub mean_duration_ms: Option<u64>,
    /// success / executions, 0 to 1; null if there are none.
    pub success_rate: Option<f64>,
    /// At the current price of the tenant's plan, base fee included, so that only usage makes a difference;
    /// null without a price. Stripe issues the invoice.
    pub cost: Option<MoneyJson>,
}

/// How the figures have changed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ChangesJson {
    /// Of `executions`.
    pub executions: ChangeJson,
    /// Of `duration_ms`.
    pub duration_ms: ChangeJson,
    /// Of `mean_duration_ms`; null if one of the two has none.
    pub mean_duration_ms: Option<ChangeJson>,
    /// Of `success_rate`, in percentage points; null if one of the two has none.
    pub success_rate_points: Option<f64>,
    /// Of `cost`, in the currency's minor unit; null without a price.
    pub cost_minor: Option<ChangeJson>,
}

/// How one figure has changed.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
pub struct ChangeJson {
    /// The current figure minus the previous one.
    pub absolute: i64,
    /// The change in percent of the previous figure, to a tenth; null if that was zero.
    pub percent: Option<f64>,
}

impl From<Change> for ChangeJson {
    fn from(change: Change) -> Self {
        Self { absolute: change.absolute, percent: change.percent }
    }
}

impl From<Figures> for ComparedJson {
    fn from(figures: Figures) -> Self {
        Self {
            executions: figures.executions,
            adjusted: figures.adjusted,
            duration_ms: figures.duration_ms,
            mean_duration_ms: figures.mean_duration_ms(),
            success_rate: figures.success_rate(),
            cost: figures.cost.map(MoneyJson::from),
        }
    }
}

impl ChangesJson {
    fn between(now: &Figures, before: &Figures) -> Self {
        let minor = |cost: Option<Money>| cost.map(|cost| cost.amount_minor);
        let mean = now.mean_duration_ms().zip(before.mean_duration_ms());
        let cost = minor(now.cost).zip(minor(before.cost));
        Self {
            executions: change_of(now.executions, before.executions).into(),
            duration_ms: change_of(now.duration_ms, before.duration_ms).into(),
            mean_duration_ms: mean.map(|(now, before)| change_of(now, before).into()),
            success_rate_points: points(now.success_rate(), before.success_rate()),
            cost_minor: cost.map(|(now, before)| change(now, before).into()),
        }
    }
}

/// A period or its first part, with its figures.
#[derive(Debug, Clone)]
struct Side {
    period: Period,
    /// The time zone that it was cut in; empty if that is not known.
    time_zone: String,
    until: Timestamp,
    figures: Option<Figures>,
}

impl Side {
    fn json(&self, calendar: &Calendar) -> SideJson {
        SideJson {
            period: PeriodJson::new(self.period, Some(&self.time_zone), calendar),
            until: self.until,
            figures: self.figures.map(ComparedJson::from),
        }
    }
}

/// A stored period.
struct Stored {
    period: Period,
    /// The time zone that it was cut in; empty from an aggregator of the previous version.
    time_zone: String,
    totals: v1::Totals,
}

/// Who asks for what.
struct Asking<'a> {
    app: &'a App,
    caller: &'a Caller,
    tenant: &'a str,
    price: Option<Price>,
}

impl Asking<'_> {
    async fn usage(&self, span: Period, grain: v1::Grain) -> Result<v1::UsageAnswer, ApiError> {
        let question = v1::UsageQuestion {
            tenant_id: self.tenant.to_owned(),
            span: Some(span.into()),
            grain: grain.into(),
            ..v1::UsageQuestion::default()
        };
        ask(self.app, self.caller, Question::Usage, &question, ANSWER_WITHIN).await
    }

    /// Periods that begin at or before the instant, oldest first, and the instant until which everything is
    /// in their figures.
    async fn periods_until(
        &self,
        instant_in: Timestamp,
    ) -> Result<(Vec<Stored>, Option<Timestamp>), ApiError> {
        let start = instant_in.saturating_sub(LOOK_BACK).unwrap_or(Timestamp::MIN);
        let end = instant_in.saturating_add(SignedDuration::from_nanos(1_000)).unwrap_or(Timestamp::MAX);
        let answer = self.usage(Period { start, end }, v1::Grain::Period).await?;
        let as_of = instant(answer.as_of.as_ref(), "as_of").map_err(ApiError::unavailable)?;
        let stored = answer.slices.into_iter().filter_map(|slice| {
            let (time_zone, totals) = (slice.time_zone, slice.totals.unwrap_or_default());
            Some(Period::try_from(slice.span?).map(|period| Stored { period, time_zone, totals }))
        });
        Ok((stored.collect::<Result<_, _>>().map_err(ApiError::unavailable)?, as_of))
    }

    /// A period until an instant.
    async fn side(&self, stored: &Stored, until: Timestamp) -> Result<Side, ApiError> {
        let (period, time_zone) = (stored.period, stored.time_zone.clone());
        if until >= period.end {
            let figures = Some(Figures::of_whole(&stored.totals, self.price));
            return Ok(Side { period, time_zone, until: period.end, figures });
        }
        if until <= period.start {
            return Ok(Side { period, time_zone, until: period.start, figures: None });
        }
        let answer = self.usage(Period { start: period.start, end: until }, v1::Grain::Hour).await?;
        let mut slices = Vec::with_capacity(answer.slices.len());
        let mut until = until;
        for slice in answer.slices {
            let Some(span) = slice.span else { continue };
            let span = Period::try_from(span).map_err(ApiError::unavailable)?;
            // An hour of the tenant's former time zone may end later.
            if span.end > until {
                until = span.start.max(period.start);
                break;
            }
            slices.push(slice.totals.unwrap_or_default());
        }
        let figures = Figures::of_part(&parts::sum(slices.iter()), self.price);
        Ok(Side { period, time_zone, until, figures: Some(figures) })
    }
}

const HEADER: [&str; 14] = [
    "tenant",
    "side",
    "period_start",
    "period_end",
    "until",
    "time_zone",
    "executions",
    "adjusted",
    "duration_ms",
    "mean_duration_ms",
    "success_rate",
    "cost_minor",
    "currency",
    "cost",
];

fn lines(comparison: &ComparisonJson) -> Vec<Vec<String>> {
    fn text<T: ToString>(value: Option<T>) -> String {
        value.map(|value| value.to_string()).unwrap_or_default()
    }
    let sides = [
        ("current", Some(&comparison.current)),
        ("previous", comparison.previous.as_ref()),
        ("previous_whole", comparison.previous_whole.as_ref()),
    ];
    let line = |(name, side): (&str, &SideJson)| {
        let period = &side.period;
        let figures = side.figures.as_ref();
        let cost = figures.and_then(|of| of.cost.as_ref());
        vec![
            cell(&comparison.tenant),
            name.to_owned(),
            period.start.to_string(),
            period.end.to_string(),
            side.until.to_string(),
            cell(&period.time_zone),
            text(figures.map(|of| of.executions)),
            text(figures.and_then(|of| of.adjusted)),
            text(figures.map(|of| of.duration_ms)),
            text(figures.and_then(|of| of.mean_duration_ms)),
            text(figures.and_then(|of| of.success_rate)),
            text(cost.map(|cost| cost.amount_minor)),
            text(cost.map(|cost| cost.currency.to_uppercase())),
            text(cost.map(decimal)),
        ]
    };
    sides.into_iter().filter_map(|(name, side)| Some(line((name, side?)))).collect()
}

/// Compares a period with the previous one, up to the same elapsed time and as a whole.
#[utoipa::path(get, path = "/v1/tenants/{id}/usage/comparison", operation_id = "compare_usage", tag = "usage", params(("id" = TenantIdText, Path), ComparisonQuery), responses(
    (status = 200, content((ComparisonJson = "application/json"), (String = "text/csv")), description = "With `format=csv` the periods as lines of CSV (RFC 4180)."),
    NotFound, Invalid,
))]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
    QueryOf(query): QueryOf<ComparisonQuery>,
) -> Result<Response, ApiError> {
    let (metered, catalog) = metered_tenant(&app, &caller, &id).await?;
    let (now, tenant) = (metered.now(&app), metered.tenant);
    let calendar = &tenant.calendar;
    let within = instant_in(query.period.as_deref(), calendar, now)?;
    let price = catalog.plans.get(&tenant.plan).and_then(|plan| plan.price);
    let asking = Asking { app: &app, caller: &caller, tenant: tenant.id.as_str(), price };
    let (mut stored, as_of) = asking.periods_until(within).await?;
    let counted = app.usage.of(&tenant.id);
    let current = match stored.pop_if(|stored| stored.period.contains(within)) {
        Some(current) => current,
        // Nothing has run in the current period yet.
        None if query.period.is_none() => {
            let period = period_at(counted.as_deref(), calendar, now);
            Stored { period, time_zone: String::new(), totals: v1::Totals::default() }
        }
        None => return Err(ApiError::NotFound("no period of that time is known".to_owned())),
    };
    let as_of_or_now = as_of.unwrap_or(now).min(now);
    let complete_until = counted.as_ref().and_then(|counted| counted.complete_until);
    // Before its sources are counted, nothing is known of a current period.
    let unknown = if current.period.end <= as_of_or_now { as_of_or_now } else { current.period.start };
    let known_until = complete_until.unwrap_or(unknown).min(as_of_or_now);
    let until = reach(current.period, known_until, calendar);
    let previous = stored.pop().filter(|stored| stored.period.end == current.period.start);
    let current = asking.side(&current, until).await?;
    let (mut part, mut whole) = (None, None);
    if let Some(previous) = previous {
        let point = same_point(previous.period, current.period, current.until, calendar);
        part = match asking.side(&previous, point).await {
            Ok(side) => Some(side),
            // Figures by hour are not kept that long.
            Err(ApiError::NotFound(_)) => None,
            Err(error) => return Err(error),
        };
        whole = Some(asking.side(&previous, previous.period.end).await?);
    }
    let changes = |before: &Option<Side>| {
        let (now, before) = (current.figures.as_ref()?, before.as_ref()?.figures.as_ref()?);
        Some(ChangesJson::between(now, before))
    };
    let comparison = ComparisonJson {
        tenant: tenant.id.to_string(),
        as_of,
        change: changes(&part),
        change_to_whole: changes(&whole),
        current: current.json(calendar),
        previous: part.map(|side| side.json(calendar)),
        previous_whole: whole.map(|side| side.json(calendar)),
    };
    if query.format == FormatJson::Json {
        return Ok(Json(comparison).into_response());
    }
    let csv = to_csv(&HEADER, &lines(&comparison)).map_err(ApiError::unavailable)?;
    let zone = TimeZone::get(calendar.time_zone_name()).unwrap_or(TimeZone::UTC);
    let begins = comparison.current.period.start.to_zoned(zone).date();
    Ok(file(&format!("comparison-{}-{begins}.csv", comparison.tenant), csv))
}
