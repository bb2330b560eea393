//! Usage over HTTP: `GET /v1/usage` (operator: all tenants; tenant: itself), `GET /v1/usage/{tenant}` with
//! workflows. Unknown figures are null, never zero.

use axum::{Json, extract::State};
use catalog::{ArchivedTenant, Plan, Source, Tenant};
use jiff::Timestamp;
use metering::{Percent, Period, TenantId};
use proto::v1;
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    App,
    authenticate::Caller,
    error::ApiError,
    extract::PathId,
    figures::TotalsJson,
    forecasts::{self, ForecastJson},
    gaps::{self, GapsJson},
    responses::{Invalid, NotFound},
    schema::{PlanIdText, SourceIdText, TenantIdText},
    shapes::{MoneyJson, PeriodJson, WorkflowJson, executions, seconds_since, success_rate},
    sources::FailingJson,
    unseen::UnseenJson,
    warnings::{self, WarningJson},
};
use crate::{
    directory::snapshot::Snapshot,
    usage::{
        live::{Counted, period_at},
        parts,
    },
};

/// The usage of the current period of every tenant that the caller may see, by tenant id.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UsageList {
    /// When this answer was made.
    pub as_of: Timestamp,
    /// One element per tenant.
    pub usage: Vec<UsageJson>,
}

/// The usage of one tenant in its current period. Also the data of the server-sent event `usage`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UsageJson {
    /// The tenant's id.
    #[schema(value_type = TenantIdText)]
    pub tenant: String,
    /// The name shown to people.
    pub name: String,
    /// The id of its plan.
    #[schema(value_type = PlanIdText)]
    pub plan: String,
    /// Whether the tenant was removed. Its figures are then those of its last period.
    pub archived: bool,
    /// When it was archived; null if it was not, or if it was removed before this was recorded.
    pub archived_at: Option<Timestamp>,
    /// The current period.
    pub period: PeriodJson,
    /// The count: `executions` + `adjusted`; null if nothing is known of this period yet.
    pub counted: Option<u64>,
    /// Counted executions, by how they ended: `success` + `error` + `crashed` + `canceled`.
    pub executions: Option<u64>,
    /// Executions that the plan does not count.
    pub uncounted: Option<u64>,
    /// Counted executions that succeeded.
    pub success: Option<u64>,
    /// Counted executions that ended with an error.
    pub error: Option<u64>,
    /// Counted executions whose process died.
    pub crashed: Option<u64>,
    /// Counted executions that were stopped by a person.
    pub canceled: Option<u64>,
    /// Counted executions that were found after their period had closed.
    pub late: Option<u64>,
    /// Executions that an operator has voided; not in any other figure.
    pub voided: Option<u64>,
    /// The number that an operator has added to `counted`; negative if subtracted.
    pub adjusted: Option<i64>,
    /// success / executions, 0 to 1; null if there are none. Adjustments are not executions.
    pub success_rate: Option<f64>,
    /// Total run time of the counted executions.
    pub duration_ms: Option<u64>,
    /// Counted executions allowed in the period; null for no limit.
    pub limit: Option<u64>,
    /// Share of the limit in percent, one decimal; null without limit, with a limit of 0, or if not known.
    pub used_percent: Option<f64>,
    /// Executions left until the limit.
    pub remaining: Option<u64>,
    /// Usage relative to the limit.
    pub state: UsageState,
    /// The cost of the period so far; Stripe issues the invoice. Null without a price, or if not known.
    pub cost_estimate: Option<MoneyJson>,
    /// When these figures were read; null if nothing is known yet.
    pub as_of: Option<Timestamp>,
    /// All sources are counted up to here; null until each has been swept once.
    pub complete_until: Option<Timestamp>,
    /// Time since `complete_until`.
    pub lag_seconds: Option<u64>,
    /// Executions that were running at `complete_until`.
    pub open_executions: Option<u64>,
    /// The tenant's sources, by id.
    pub sources: Vec<SourceFreshnessJson>,
}

/// Usage relative to the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UsageState {
    /// Below the lowest threshold of the plan, or no limit.
    Ok,
    /// At or above the lowest threshold of the plan.
    Warning,
    /// At or above the limit.
    Over,
    /// Nothing is known of this period yet.
    Unknown,
}

/// How fresh the figures of one source are.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceFreshnessJson {
    /// The source's id.
    #[schema(value_type = SourceIdText)]
    pub source: String,
    /// Counted up to here; null until its first sweep has ended.
    pub complete_until: Option<Timestamp>,
    /// Time since `complete_until`.
    pub lag_seconds: Option<u64>,
    /// Executions that were running at `complete_until`.
    pub open_executions: Option<u64>,
    /// Whether it is paused.
    pub paused: bool,
    /// Why it cannot be swept now; null if it can.
    pub failing: Option<FailingJson>,
    /// When it is expected to prune executions that were not seen, at its current rate; null if sweeps come
    /// often enough.
    pub loss_expected_at: Option<Timestamp>,
    /// Executions that it has numbered but never showed; null if there are none, and for a shared source.
    pub unseen: Option<UnseenJson>,
    /// How many gaps it has (kept for 90 days): executions that disappeared before they were seen.
    pub gaps: u64,
    /// How far its clock is ahead of Flowmeter's, negative if it is behind; null if not known, and for
    /// tenants.
    pub clock_skew_ms: Option<i64>,
    /// Problems that the operator should fix; empty for tenants.
    pub warnings: Vec<WarningJson>,
    /// Whether other tenants' executions run there too.
    #[serde(skip)]
    is_shared: bool,
}

/// One tenant's usage with its workflows.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UsageDetail {
    /// The tenant's usage.
    #[serde(flatten)]
    pub usage: UsageJson,
    /// The forecast of the period; null if too little is known.
    pub forecast: Option<ForecastJson>,
    /// The workflows with the most counted executions, at most 1,000.
    pub workflows: Vec<WorkflowJson>,
    /// Workflows that are not listed.
    pub workflows_omitted: u32,
    /// The sum of their figures; null if all are listed. The `counted` of the workflows, of this sum and
    /// `adjusted` add up to the tenant's `counted`.
    pub workflows_omitted_totals: Option<TotalsJson>,
    /// The sources that have gaps, with the latest of each.
    pub gaps: Vec<SourceGapsJson>,
}

/// The gaps of one source.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SourceGapsJson {
    /// The source's id.
    pub source: String,
    /// Its gaps.
    #[serde(flatten)]
    pub gaps: GapsJson,
}

/// The limit itself, as a threshold.
const WHOLE_PERCENT: u32 = 100;

/// The parts of one element.
pub struct Ingredients<'a> {
    /// The tenant.
    pub tenant: &'a Tenant,
    /// Its plan; `None` for an archived tenant whose plan was removed too.
    pub plan: Option<&'a Plan>,
    /// Its last figures, of any period.
    pub counted: Option<&'a Counted>,
    /// Its sources.
    pub sources: Vec<SourceFreshnessJson>,
    /// The time.
    pub now: Timestamp,
}

/// The totals of the current period, if anything is known of it. Figures of an earlier period mean that this
/// one has none so far, but only if metering is complete beyond its start.
fn current_totals(counted: Option<&Counted>, period: Period, now: Timestamp) -> Option<v1::Totals> {
    let counted = counted?;
    if counted.is_current(now) {
        return Some(counted.totals);
    }
    let reaches_in = counted.complete_until.is_some_and(|instant| instant >= period.start);
    reaches_in.then(v1::Totals::default)
}

impl UsageJson {
    /// The element of one tenant.
    pub fn new(parts: Ingredients<'_>) -> Self {
        let Ingredients { tenant, plan, counted, sources, now } = parts;
        let period = period_at(counted, &tenant.calendar, now);
        let totals = current_totals(counted, period, now);
        let figure = |of: fn(&v1::Totals) -> u64| totals.as_ref().map(of);
        let used = figure(|totals| totals.counted);
        let limit = plan.and_then(|plan| plan.limit_for(tenant, now));
        let zone = counted
            .filter(|counted| counted.period == period)
            .and_then(|counted| counted.time_zone.as_deref());
        let complete_until = counted.and_then(|counted| counted.complete_until);
        Self {
            tenant: tenant.id.to_string(),
            name: tenant.name.clone(),
            plan: tenant.plan.to_string(),
            archived: false,
            archived_at: None,
            period: PeriodJson::new(period, zone, &tenant.calendar),
            counted: used,
            executions: figure(executions),
            uncounted: figure(|totals| totals.uncounted),
            success: figure(|totals| totals.success),
            error: figure(|totals| totals.error),
            crashed: figure(|totals| totals.crashed),
            canceled: figure(|totals| totals.canceled),
            late: figure(|totals| totals.late),
            voided: figure(|totals| totals.voided),
            adjusted: totals.as_ref().map(|totals| totals.adjusted),
            success_rate: totals.as_ref().and_then(success_rate),
            duration_ms: figure(|totals| totals.duration_ms),
            limit,
            used_percent: used.zip(limit).and_then(|(used, limit)| used_percent(used, limit)),
            remaining: used.zip(limit).map(|(used, limit)| limit.saturating_sub(used)),
            state: state(used, limit, plan),
            cost_estimate: used
                .zip(plan.and_then(|plan| plan.price))
                .map(|(used, price)| price.cost(used).into()),
            as_of: counted.map(|counted| counted.as_of),
            complete_until,
            lag_seconds: complete_until.map(|instant| seconds_since(instant, now)),
            open_executions: counted.map(|counted| counted.open_executions),
            sources,
        }
    }
}

impl UsageJson {
    /// As the tenant itself may see it. The state of a shared source as a whole also reveals others: how many
    /// executions run there, and the text of a failure, which may name an address or a workflow.
    #[must_use]
    pub fn for_tenant(mut self) -> Self {
        // Warnings name other sources, and only the operator can fix them.
        for source in &mut self.sources {
            source.clock_skew_ms = None;
            source.warnings.clear();
        }
        for source in self.sources.iter_mut().filter(|source| source.is_shared) {
            source.open_executions = None;
            if let Some(failing) = &mut source.failing {
                failing.detail = SHARED_FAILURE.to_owned();
            }
            self.open_executions = None;
        }
        self
    }
}

/// Whether a source may run executions of several tenants.
pub fn is_shared(source: &Source) -> bool {
    source.tenants().len() > 1 || source.tenant.is_none()
}

/// What a tenant sees of a failure of a shared source.
const SHARED_FAILURE: &str = "the instance cannot be read at the moment; its operator knows more";

/// In tenths of a percent, rounded down: 100 is shown only once it is reached.
fn used_percent(used: u64, limit: u64) -> Option<f64> {
    let tenths = (u128::from(used) * 1_000).checked_div(u128::from(limit))?;
    Some(tenths as f64 / 10.0)
}

fn state(used: Option<u64>, limit: Option<u64>, plan: Option<&Plan>) -> UsageState {
    let Some(used) = used else { return UsageState::Unknown };
    let Some(limit) = limit else { return UsageState::Ok };
    let reached = |percent: Percent| percent.reached(used, limit);
    if Percent::new(WHOLE_PERCENT).is_ok_and(reached) {
        UsageState::Over
    } else if plan.is_some_and(|plan| plan.thresholds.iter().copied().any(reached)) {
        UsageState::Warning
    } else {
        UsageState::Ok
    }
}

impl SourceFreshnessJson {
    fn new(
        app: &App,
        catalog: &Snapshot,
        source: &Source,
        counted: Option<&Counted>,
        now: Timestamp,
    ) -> Self {
        // How far executions are counted, not collected, because that is what the figures are based on.
        let freshness = counted
            .and_then(|counted| counted.sources.iter().find(|known| known.source == source.id.as_str()));
        let complete_until = freshness.and_then(|known| known.complete_until);
        let state = app.sources.of(&source.id);
        let is_shared = is_shared(source);
        Self {
            source: source.id.to_string(),
            complete_until,
            lag_seconds: complete_until.map(|instant| seconds_since(instant, now)),
            open_executions: freshness.map(|known| known.open_executions.into()),
            paused: source.paused,
            failing: state.failing().map(FailingJson::from),
            loss_expected_at: state.loss_expected_at(),
            // For a shared source it would reveal how much others run.
            unseen: UnseenJson::of(state.unseen()).filter(|_| !is_shared),
            gaps: app.gap_counts.of(&source.id),
            clock_skew_ms: state.checks().and_then(|checks| checks.clock_skew_ms),
            warnings: warnings::of_source(catalog, &source.id, &state),
            is_shared,
        }
    }
}

/// The current element of one tenant; `None` for an unknown tenant.
pub fn element(app: &App, catalog: &Snapshot, id: &TenantId) -> Option<UsageJson> {
    let tenant = catalog.tenants.get(id)?;
    let plan = catalog.plans.get(&tenant.plan)?;
    let counted = app.usage.of(id);
    let counted = counted.as_deref();
    let now = app.clock.now();
    let sources = catalog
        .sources_of(id)
        .iter()
        .map(|source| SourceFreshnessJson::new(app, catalog, source, counted, now))
        .collect();
    Some(UsageJson::new(Ingredients { tenant, plan: Some(plan), counted, sources, now }))
}

/// The element of an archived tenant at its last moment: its last period stays visible.
fn archived_element(app: &App, catalog: &Snapshot, archived: &ArchivedTenant) -> UsageJson {
    let ArchivedTenant { tenant, archived_at, .. } = archived;
    let counted = app.usage.of(&tenant.id);
    let now = app.clock.now();
    let plan = catalog.plans.get(&tenant.plan);
    let usage = UsageJson::new(Ingredients {
        tenant,
        plan,
        counted: counted.as_deref(),
        sources: Vec::new(),
        now: last_moment(*archived_at, counted.as_deref(), now),
    });
    // Lag has no meaning for an archived tenant.
    UsageJson { archived: true, archived_at: *archived_at, lag_seconds: None, ..usage }
}

/// The last moment of an archived tenant; if it was removed before that was recorded, when it was last
/// counted.
fn last_moment(archived_at: Option<Timestamp>, counted: Option<&Counted>, now: Timestamp) -> Timestamp {
    archived_at.or_else(|| counted.map(|counted| counted.as_of)).unwrap_or(now).min(now)
}

/// The elements of every tenant that `caller` may see.
pub fn visible(app: &App, catalog: &Snapshot, caller: &Caller) -> Vec<UsageJson> {
    match caller.principal.tenant() {
        Some(own) => element(app, catalog, own).map(UsageJson::for_tenant).into_iter().collect(),
        None => catalog.tenants.keys().filter_map(|id| element(app, catalog, id)).collect(),
    }
}

/// The sum of the workflows that are not listed: the tenant's executions minus the listed ones.
fn omitted(counted: &Counted) -> Option<TotalsJson> {
    if counted.workflows_omitted == 0 {
        return None;
    }
    let listed = counted.workflows.iter().filter_map(|workflow| workflow.totals.as_ref());
    Some(TotalsJson::from(&parts::rest(&counted.totals, listed)))
}

/// The usage of every tenant in its current period; with a tenant's token, of that tenant.
#[utoipa::path(get, path = "/v1/usage", operation_id = "list_usage", tag = "usage", responses(
    (status = 200, body = UsageList),
))]
pub async fn list(State(app): State<App>, caller: Caller) -> Result<Json<UsageList>, ApiError> {
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    Ok(Json(UsageList { as_of: app.clock.now(), usage: visible(&app, &catalog, &caller) }))
}

/// One tenant's usage in its current period, with workflows.
#[utoipa::path(get, path = "/v1/usage/{tenant}", operation_id = "get_usage", tag = "usage", params(("tenant" = TenantIdText, Path)), responses(
    (status = 200, body = UsageDetail),
    NotFound, Invalid,
))]
pub async fn get(
    State(app): State<App>,
    caller: Caller,
    PathId(id): PathId,
) -> Result<Json<UsageDetail>, ApiError> {
    let id = TenantId::parse(&id)?;
    caller.check_may_see(&id)?;
    let catalog = app.directory.current().await.map_err(ApiError::unavailable)?;
    let archived = if catalog.tenants.contains_key(&id) {
        None
    } else {
        catalog::store::find_archived(&app.pool, id.as_str()).await.map_err(ApiError::unavailable)?
    };
    let usage = match &archived {
        Some(archived) => archived_element(&app, &catalog, archived),
        None => element(&app, &catalog, &id).ok_or_else(|| ApiError::no_tenant(&id))?,
    };
    let is_tenant = caller.principal.tenant().is_some();
    let usage = if is_tenant { usage.for_tenant() } else { usage };
    // The ids of a shared source's gaps reveal how much others run, and a lost execution may be theirs.
    let shown = usage.sources.iter().filter(|source| !(is_tenant && source.is_shared));
    let sources: Vec<String> = shown.map(|source| source.source.clone()).collect();
    let mut gaps = gaps::shown(&app, &sources).await?;
    let gaps = sources.into_iter().filter_map(|source| {
        let gaps = gaps.remove(&source)?;
        Some(SourceGapsJson { source, gaps })
    });
    let counted = app.usage.of(&id);
    let now = app.clock.now();
    let until =
        archived.as_ref().map_or(now, |archived| last_moment(archived.archived_at, counted.as_deref(), now));
    let current = counted.filter(|counted| counted.is_current(until));
    let workflows =
        current.as_ref().map(|counted| counted.workflows.iter().map(WorkflowJson::from).collect());
    let parts = catalog.tenants.get(&id).and_then(|tenant| Some((tenant, catalog.plans.get(&tenant.plan)?)));
    let forecast = match (parts, &current) {
        (Some((tenant, plan)), Some(counted)) => forecasts::of(&app, &caller, tenant, plan, counted).await,
        _ => None,
    };
    Ok(Json(UsageDetail {
        usage,
        forecast,
        workflows: workflows.unwrap_or_default(),
        workflows_omitted: current.as_ref().map_or(0, |counted| counted.workflows_omitted),
        workflows_omitted_totals: current.as_ref().and_then(|counted| omitted(counted)),
        gaps: gaps.collect(),
    }))
}

#[cfg(test)]
mod tests {
    use catalog::Entry;

    use super::*;
    use crate::usage::live::tests::november;

    fn tenant() -> Tenant {
        Tenant::from_wire(v1::Tenant {
            tenant_id: "north".into(),
            name: "North".into(),
            plan_id: "pro".into(),
            ..v1::Tenant::default()
        })
        .unwrap()
    }

    fn plan(limit: Option<u64>) -> Plan {
        Plan::from_wire(v1::Plan {
            plan_id: "pro".into(),
            name: "Pro".into(),
            monthly_limit: limit,
            thresholds_percent: vec![80, 100],
            ..v1::Plan::default()
        })
        .unwrap()
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn shown(counted: Option<&Counted>, limit: Option<u64>, now: &str) -> UsageJson {
        let (tenant, plan) = (tenant(), plan(limit));
        let parts =
            Ingredients { tenant: &tenant, plan: Some(&plan), counted, sources: Vec::new(), now: at(now) };
        UsageJson::new(parts)
    }

    #[test]
    fn unknown_usage_is_not_zero() {
        let usage = shown(None, Some(100), "2026-11-24T12:00:00Z");
        assert_eq!((usage.counted, usage.remaining, usage.state), (None, None, UsageState::Unknown));
        assert_eq!(usage.period.end, at("2026-12-01T00:00:00Z"));
    }

    #[test]
    fn a_new_period_is_zero_only_once_the_watermark_is_in_it() {
        let old = november(50, 1);
        assert_eq!(shown(Some(&old), Some(100), "2026-12-01T00:05:00Z").state, UsageState::Unknown);
        let reaching = Counted { complete_until: Some(at("2026-12-01T00:04:00Z")), ..old };
        let usage = shown(Some(&reaching), Some(100), "2026-12-01T00:05:00Z");
        assert_eq!((usage.counted, usage.state, usage.lag_seconds), (Some(0), UsageState::Ok, Some(60)));
        assert_eq!(usage.period.start, at("2026-12-01T00:00:00Z"));
    }

    #[test]
    fn states_follow_the_thresholds() {
        for (counted, limit, state) in [
            (79, Some(100), UsageState::Ok),
            (80, Some(100), UsageState::Warning),
            (100, Some(100), UsageState::Over),
            (0, Some(0), UsageState::Ok),
            (1, Some(0), UsageState::Over),
            (1_000, None, UsageState::Ok),
        ] {
            let usage = shown(Some(&november(counted, 1)), limit, "2026-11-24T12:00:00Z");
            assert_eq!(usage.state, state, "{counted} of {limit:?}");
        }
    }

    #[test]
    fn the_success_rate_ignores_adjustments() {
        let totals = v1::Totals { success: 30, error: 5, counted: 35, ..v1::Totals::default() };
        for adjusted in [-35, -5, -3, 0, 7] {
            let counted = 35_u64.saturating_add_signed(adjusted);
            let rate = success_rate(&v1::Totals { counted, adjusted, ..totals });
            assert_eq!(rate, Some(30.0 / 35.0), "adjusted by {adjusted}");
        }
        assert_eq!(success_rate(&v1::Totals { counted: 4, adjusted: 4, ..v1::Totals::default() }), None);
    }

    #[test]
    fn percent_is_rounded_down() {
        assert_eq!(used_percent(999, 1_000), Some(99.9));
        assert_eq!(used_percent(99_999, 100_000), Some(99.9));
        assert_eq!(used_percent(5, 0), None);
    }
}
