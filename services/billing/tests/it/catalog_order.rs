//! Changes of the catalog are applied one after the other, however many replicas apply them.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use async_trait::async_trait;
use billing::Billing;
use catalog::{Change, Mirror, OnChange, Plan, Tenant, store::CatalogError};
use proto::v1::{self, catalog_entry::Entry};
use sqlx::{PgConnection, PgPool};
use testkit::{TestBed, eventually};
use tokio::sync::Notify;

/// Notes whether a tenant and its plan were seen together, and applies the tenant slowly.
struct Pair {
    pool: PgPool,
    tenant_began: Notify,
    plan_ended: AtomicBool,
    seen_together: AtomicBool,
}

impl Pair {
    /// Whether somebody waits for a lock in this database.
    async fn somebody_waits(&self) -> bool {
        const WAITING: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted
            AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
        sqlx::query_scalar(WAITING).fetch_one(&self.pool).await.unwrap()
    }
}

#[async_trait]
impl OnChange for Pair {
    async fn changed(&self, connection: &mut PgConnection, change: &Change) -> Result<(), CatalogError> {
        let sees_both = match change {
            Change::Tenant(tenant) => {
                let plan: Option<Plan> = catalog::store::find(connection, tenant.plan.as_str()).await?;
                self.tenant_began.notify_one();
                eventually("the plan is applied, or waits", || async {
                    (self.plan_ended.load(Ordering::SeqCst) || self.somebody_waits().await).then_some(())
                })
                .await;
                plan.is_some()
            }
            Change::Plan(_) => catalog::store::find::<Tenant>(connection, "north").await?.is_some(),
            _ => false,
        };
        self.seen_together.fetch_or(sees_both, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test]
async fn a_tenant_and_its_plan_applied_at_the_same_moment_are_seen_together() {
    let bench = TestBed::of::<Billing>("2026-11-24T12:00:00Z").await;
    let pair = Arc::new(Pair {
        pool: bench.pool().clone(),
        tenant_began: Notify::new(),
        plan_ended: AtomicBool::new(false),
        seen_together: AtomicBool::new(false),
    });
    let mirror = || Mirror::new(bench.pool().clone(), pair.clone());
    let entry = |entry| v1::CatalogEntry { entry: Some(entry) };
    let (name, plan_id) = ("North".to_owned(), "pro".to_owned());
    let tenant = v1::Tenant {
        tenant_id: "north".to_owned(),
        name,
        plan_id: plan_id.clone(),
        revision: 1,
        ..v1::Tenant::default()
    };
    let plan = v1::Plan { plan_id, name: "Pro".to_owned(), revision: 2, ..v1::Plan::default() };
    let (of_tenants, of_plans) = (mirror(), mirror());
    let first = of_tenants.apply(entry(Entry::Tenant(tenant)), None);
    let second = async {
        pair.tenant_began.notified().await;
        let applied = of_plans.apply(entry(Entry::Plan(plan)), None).await;
        pair.plan_ended.store(true, Ordering::SeqCst);
        applied
    };
    let (tenant, plan) = tokio::join!(first, second);
    tenant.unwrap();
    plan.unwrap();
    assert!(pair.seen_together.load(Ordering::SeqCst), "neither change saw the other");
    bench.finish().await;
}
