//! The forecast of a tenant's usage, from its figures by day.

use std::{collections::BTreeMap, time::Duration};

use catalog::{Plan, Tenant};
use jiff::{Timestamp, civil};
use messaging::error_chain;
use metering::Period;
use proto::{required_instant, subjects::Question, v1};
use serde::Serialize;
use tokio::time::timeout;
use utoipa::ToSchema;

use super::{App, authenticate::Caller, error::ApiError, questions::ask, shapes::MoneyJson};
use crate::usage::{
    forecast::{self, Known, LOOK_BACK},
    live::Counted,
};

/// The rest of the answer does not wait longer for the forecast.
const FIGURES_WITHIN: Duration = Duration::from_millis(500);

/// The forecast of the period, if the coming days are like those of the last four weeks.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct ForecastJson {
    /// Counted executions at the period's end.
    pub counted_at_end: u64,
    /// The date in the tenant's time zone on which the limit is reached; null if it is not reached in this
    /// period, or was reached already.
    pub limit_reached_on: Option<civil::Date>,
    /// The cost of the whole period; null without a price.
    pub cost_estimate: Option<MoneyJson>,
    /// How many days it is based on.
    pub days_observed: usize,
}

/// The forecast of a tenant's current period; `None` if too little is known, or the aggregator does not
/// answer.
pub async fn of(
    app: &App,
    caller: &Caller,
    tenant: &Tenant,
    plan: &Plan,
    counted: &Counted,
) -> Option<ForecastJson> {
    let complete_until = counted.complete_until?.min(counted.as_of);
    // The timeout includes the wait for one of the caller's places.
    let days = timeout(FIGURES_WITHIN, days(app, caller, tenant, complete_until)).await;
    let days = match days.unwrap_or(Err(ApiError::Timeout)) {
        Ok(days) => days,
        Err(error) => {
            tracing::warn!(
                tenant = %tenant.id,
                error = error_chain(&error),
                "cannot read figures by day, showing usage without a forecast"
            );
            return None;
        }
    };
    let known = Known {
        calendar: &tenant.calendar,
        period: counted.period,
        counted: counted.totals.counted,
        complete_until,
        days: &days,
        limit: plan.limit_for(tenant, app.clock.now()),
    };
    let forecast = forecast::forecast(&known)?;
    Some(ForecastJson {
        counted_at_end: forecast.counted_at_end,
        limit_reached_on: forecast.limit_reached_on,
        cost_estimate: plan.price.map(|price| price.cost(forecast.counted_at_end).into()),
        days_observed: forecast.days_observed,
    })
}

async fn days(
    app: &App,
    caller: &Caller,
    tenant: &Tenant,
    until: Timestamp,
) -> Result<BTreeMap<Timestamp, u64>, ApiError> {
    let start = until.saturating_sub(LOOK_BACK).unwrap_or(Timestamp::MIN);
    let question = v1::UsageQuestion {
        tenant_id: tenant.id.to_string(),
        span: Some(Period { start, end: until }.into()),
        grain: v1::Grain::Day.into(),
        ..v1::UsageQuestion::default()
    };
    let answer: v1::UsageAnswer = ask(app, caller, Question::Usage, &question, FIGURES_WITHIN).await?;
    let days = answer.slices.iter().filter_map(|slice| {
        let start = required_instant(slice.span.as_ref()?.start.as_ref(), "start").ok()?;
        Some((start, slice.totals.unwrap_or_default().counted))
    });
    Ok(days.collect())
}
