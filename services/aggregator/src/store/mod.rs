//! All SQL of the aggregator, by table.

mod corrections;
mod crossings;
mod executions;
mod explained;
mod periods;
mod rebuilds;
mod rollups;
mod slices;
mod sources;
mod tenants;

pub(crate) use corrections::{
    Correcting, Correction, ExecutionKey, change_period, correction, corrections, keep_correction,
    lock_source, void_execution, voidable,
};
pub(crate) use crossings::{armings, cross, rearm};
pub(crate) use executions::{claim, crashed, mode_of, rewrite, status_of};
pub(crate) use explained::{After, Explained, explained, period_at, workflow_totals};
pub(crate) use periods::{
    DuePeriod, PeriodRow, Snapshot, add, close, due_periods, ensure_periods, snapshot, totals,
    workflow_numbers,
};
pub(crate) use rebuilds::{
    adjustments, all_tenants, fold_turn, freeze, hold_rebuild, kept_since, logged_since, replace_rollups,
    set_period, shares, stored_figures,
};
pub(crate) use rollups::{
    add_figures, folded, forget_folded, log_changes, read_durations, try_fold_turn, waiting, waiting_since,
};
pub(crate) use slices::{
    Slice, days, hours, periods_in, tenant_number, top_workflows, workflow_days, workflow_number,
    workflow_periods,
};
pub(crate) use sources::{
    SourceRow, advance_counted, any_behind, deactivate_source, incomplete_sources, put_source, source, synced,
};
pub(crate) use tenants::{
    lock_tenant, next_revision, published, put_tenant, take_publishing_turn, tenants_with_news,
    touch_tenants_in_new_period, touch_tenants_of_plan,
};
