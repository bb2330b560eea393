//! All SQL of the aggregator, by table.

/// Binds the columns of recorded totals, in the order `counted`, `uncounted`, `success`, `error`, `crashed`,
/// `canceled`, `duration_ms`.
macro_rules! bind_recorded {
    ($query:expr, $totals:expr) => {{
        let totals: &[crate::figures::totals::Totals] = $totals;
        let column =
            |value: fn(&crate::figures::totals::Totals) -> i64| totals.iter().map(value).collect::<Vec<_>>();
        $query
            .bind(column(|totals| totals.counted))
            .bind(column(|totals| totals.uncounted))
            .bind(column(|totals| totals.success))
            .bind(column(|totals| totals.error))
            .bind(column(|totals| totals.crashed))
            .bind(column(|totals| totals.canceled))
            .bind(column(|totals| totals.duration_ms))
    }};
}

/// Binds the columns of totals: those of [`bind_recorded`], `late`, `voided`.
macro_rules! bind_totals {
    ($query:expr, $totals:expr) => {{
        let totals: &[crate::figures::totals::Totals] = $totals;
        bind_recorded!($query, totals)
            .bind(totals.iter().map(|totals| totals.late).collect::<Vec<_>>())
            .bind(totals.iter().map(|totals| totals.voided).collect::<Vec<_>>())
    }};
}

mod admitted;
mod calendars;
mod chunks;
mod corrections;
mod crossings;
mod executions;
mod explained;
mod hours;
mod leases;
mod months;
mod period_ends;
mod periods;
mod rebuilds;
mod recording;
mod retired;
mod rollups;
mod since;
mod slices;
mod sources;
mod tenants;
mod terms;
mod unmapped;

pub(crate) use admitted::{Settled, keep_admitted, remove_admitted, settled, tenants_of_recorded};
pub(crate) use calendars::{
    Dated, opened_until, period_rows, put_timeline, timeline, timelines, without_timeline,
};
pub(crate) use chunks::chunks;
pub(crate) use corrections::{
    Correcting, Correction, ExecutionKey, change_period, correction, corrections, keep_correction,
    lock_source, void_execution, voidable,
};
pub(crate) use crossings::{armings, cross, rearm, remove_crossings, standing};
pub(crate) use executions::{Key, changeable, confirm, copy_executions, mode_of, rewrite, status_of};
pub(crate) use explained::{After, Explained, explained, period_at, workflow_totals};
pub(crate) use hours::{hours_since, raise_hours_since, remove_hours, remove_workflow_days};
pub(crate) use leases::{release, renew};
pub(crate) use months::{
    FIRST_ID, IdPlace, count_month, drop_month, ensure_month, hold_month, holds_open_period, ids_of_month,
    is_being_mapped, months, move_strays, stray_months, take_retention_turn,
};
pub(crate) use period_ends::{PeriodEnd, count_ends, keep_period_end, last_stop, period_end};
pub(crate) use periods::{
    DuePeriod, Ended, Snapshot, close, closed_among, due_periods, ended_periods, ensure_periods, snapshots,
    totals,
};
pub(crate) use rebuilds::{
    adjustments, all_tenants, fold_turn, freeze, hold_off_rebuild, hold_rebuild, kept_since, logged_since,
    replace_rollups, set_period, shares, stored_figures,
};
pub(crate) use recording::{
    ChangedPeriod, add_to_periods, lock_sources, ownerships, put_workflow, raise_revisions, raise_versions,
    source_numbers, tenant_ids, tenant_numbers, workflows, workflows_kept,
};
pub(crate) use retired::{ChunkKey, retire_ids, retired_between};
pub(crate) use rollups::{
    add_figures, folded, forget_folded, log_changes, not_added, read_durations, try_fold_turn, waiting,
    waiting_since,
};
pub(crate) use since::{hours_of_open_periods, remove_closed_hours};
pub(crate) use slices::{
    Slice, adjusted_periods, days, hours, periods_in, tenant_number, top_workflows, workflow_days,
    workflow_number, workflow_periods,
};
pub(crate) use sources::{
    Acknowledged, Behind, SweptSource, add_contradictions, advance_counted, behind, deactivate_source,
    incomplete_sources, put_source, synced,
};
pub(crate) use tenants::{
    News, Published, PublishedTenant, catalog_version, lock_tenant, map_again_for_plan, map_again_for_tenant,
    next_revision, published, published_tenants, put_tenant, raise_catalog_version, raise_revisions_above,
    read_one_snapshot, take_publishing_turn, tenants_with_news, touch_tenants_in_new_period,
    touch_tenants_of_plan,
};
pub(crate) use terms::{TermsRow, put_terms};
pub(crate) use unmapped::{
    Place, RecordedRow, UnmappedWorkflow, begin_mapping, end_mapping, held, map, recorded, sources_to_map,
    take_mapping_turn, unmapped, unmapped_workflows, workflows_unmapped,
};
