//! All SQL of the aggregator, by table.

mod crossings;
mod executions;
mod periods;
mod sources;
mod tenants;

pub(crate) use crossings::{armings, cross, rearm};
pub(crate) use executions::{claim, crashed, rewrite};
pub(crate) use periods::{
    DuePeriod, PeriodRow, Snapshot, add, close, due_periods, ensure_periods, snapshot, totals,
};
pub(crate) use sources::{
    SourceRow, advance_counted, any_behind, deactivate_source, incomplete_sources, put_source, source, synced,
};
pub(crate) use tenants::{
    lock_tenant, next_revision, published, put_tenant, take_publishing_turn, tenants_with_news,
    touch_tenants_in_new_period, touch_tenants_of_plan,
};
