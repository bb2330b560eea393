//! Which tenants the executions of a source belong to.

use catalog::{Placement, Source};
use jiff::Timestamp;
use metering::{TenantId, WorkflowId};

use crate::recording::known_workflow::Workflow;

/// Which tenants the executions of a source belong to.
#[derive(Debug, Clone)]
pub(crate) enum Ownership {
    /// As the catalog says.
    Catalog(Box<Source>),
    /// Removed from the catalog before attributions were stored here.
    Tenant(Option<TenantId>),
}

impl Ownership {
    /// The tenant of an execution of this workflow.
    pub(crate) fn tenant_of(
        &self,
        workflow: &WorkflowId,
        known: Option<&Workflow>,
        stopped_at: Timestamp,
    ) -> Option<&TenantId> {
        match self {
            Self::Tenant(tenant) => tenant.as_ref(),
            Self::Catalog(source) => {
                let tags = known.map(|known| known.tags.as_slice()).unwrap_or_default();
                let project = known.and_then(|known| known.project.as_deref());
                source.tenant_of(Placement { workflow, tags, project }, stopped_at)
            }
        }
    }

    /// Whether executions may belong to several tenants: then whoever may push for one of them could name the
    /// workflows of another, so a pushed execution belongs to nobody until a poll has shown it.
    pub(crate) fn is_shared(&self) -> bool {
        self.tenants().len() > 1
    }

    /// Every tenant that executions may belong to.
    pub(crate) fn tenants(&self) -> Vec<&TenantId> {
        match self {
            Self::Tenant(tenant) => tenant.iter().collect(),
            Self::Catalog(source) => source.tenants(),
        }
    }
}
