//! What the limit check would answer now: the decision of `settlement`, on the same figures, in a transaction
//! that is rolled back. Nothing is reserved, no cap loses a cell and no rate changes.
//!
//! A workflow's share and concurrent cap need sums that are only exact under the tenant's lock: for these a
//! preview takes the lock, as a decision does.

use std::collections::{BTreeMap, BTreeSet};

use metering::{Mode, TenantId, WorkflowId};

use crate::{
    admission::{
        admissions::{Admissions, is_counted},
        ledger::terms,
        run_key::RunKey,
        settlement::{Settlement, is_workflow_capped},
        verdict::{AdmitError, Request, Verdict},
    },
    store,
};

impl Admissions {
    /// The verdict that a run would get now. Reserves nothing. `None` for an unknown tenant.
    pub async fn look(
        &self,
        tenant: &TenantId,
        workflow: Option<WorkflowId>,
        mode: Option<Mode>,
    ) -> Result<Option<Verdict>, AdmitError> {
        self.await_figures(tenant).await;
        let resources = &self.resources;
        let mut transaction = resources.pool.begin().await?;
        // From the database, as for a decision, so that a change by another replica holds at once.
        let Some((tenant, plan)) = terms(&mut transaction, tenant).await? else { return Ok(None) };
        if !is_counted(mode, &plan) {
            return Ok(Some(self.not_counted(&tenant, &plan)));
        }
        let locks = workflow.is_some() && is_workflow_capped(&plan.admission);
        let marks = store::admissions::marks(&mut *transaction, &tenant.id, locks).await?;
        let now = resources.clock.now();
        let (mut known, settled) = resources.figures(&tenant, now);
        let place = self.lease(&tenant.id);
        // The ledger's outstanding units include those that this replica has spent and not tallied, which
        // count, and those that it still holds, which are subtracted here.
        let since = known.since();
        let charged =
            store::admissions::charged(&mut *transaction, &tenant.id, since, None, settled.slots()).await?;
        known.settle(charged.settled, charged.unsettled_between);
        let charged = charged.units.saturating_sub(place.unspent());
        let asked: BTreeSet<WorkflowId> = workflow.iter().cloned().collect();
        let spent: BTreeMap<WorkflowId, u64> =
            asked.iter().map(|workflow| (workflow.clone(), place.unobserved(workflow))).collect();
        let request = Request { key: RunKey::of(&tenant.id, ""), tenant: tenant.id.clone(), workflow, mode };
        let mut settlement = Settlement::new(resources, tenant, plan, (known, settled), marks, charged, now);
        settlement.load(&mut transaction, &asked, &spent).await?;
        let mut verdict = settlement.answer(&request);
        settlement.doubt(&mut transaction, std::iter::once(&mut verdict)).await?;
        transaction.rollback().await?;
        Ok(Some(verdict))
    }
}
