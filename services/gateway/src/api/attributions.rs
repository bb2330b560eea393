//! Which tenants the executions of a shared source belong to, as JSON.

use catalog::{Attribution, InvalidEntry, Scope};
use jiff::Timestamp;
use metering::TenantId;
use proto::{timestamp, v1, v1::attribution::Scope as WireScope};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::schema::{ScopeText, TenantIdText, WorkflowIdText};

/// Executions of one source that belong to one tenant: those of a `workflow`, a `tag` or a `project`, or all
/// if none of the three is given. Of several attributions that match, the narrowest wins, in this order, then
/// the latest `from`, then the first in the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AttributionJson {
    /// The id of the tenant, which must exist.
    #[schema(value_type = TenantIdText)]
    pub tenant: String,
    /// A workflow's id at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<WorkflowIdText>)]
    pub workflow: Option<String>,
    /// The name of a workflow tag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ScopeText>)]
    pub tag: Option<String>,
    /// A project's id at the source.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<ScopeText>)]
    pub project: Option<String>,
    /// Only executions that stopped from here on; missing for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Timestamp>,
}

impl AttributionJson {
    /// The attribution in its wire form, where its bounds are checked.
    pub fn into_wire(self) -> Result<v1::Attribution, InvalidEntry> {
        let tenant = TenantId::parse(&self.tenant)
            .map_err(|error| InvalidEntry::field("attributions.tenant", error.to_string()))?;
        let scopes = [
            self.workflow.map(WireScope::WorkflowId),
            self.tag.map(WireScope::Tag),
            self.project.map(WireScope::ProjectId),
        ];
        let mut named = scopes.into_iter().flatten();
        let scope = named.next();
        if named.next().is_some() {
            let reason = "name one of workflow, tag and project, or none for the whole source";
            return Err(InvalidEntry::field("attributions", reason));
        }
        Ok(v1::Attribution { tenant_id: tenant.to_string(), scope, from: self.from.map(timestamp) })
    }
}

impl From<&Attribution> for AttributionJson {
    fn from(attribution: &Attribution) -> Self {
        let (mut workflow, mut tag, mut project) = (None, None, None);
        match &attribution.scope {
            Scope::Workflow(id) => workflow = Some(id.to_string()),
            Scope::Tag(name) => tag = Some(name.clone()),
            Scope::Project(id) => project = Some(id.clone()),
            Scope::Whole => {}
        }
        Self { tenant: attribution.tenant.to_string(), workflow, tag, project, from: attribution.from }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<v1::Attribution, InvalidEntry> {
        serde_json::from_str::<AttributionJson>(json).unwrap().into_wire()
    }

    #[test]
    fn an_attribution_has_at_most_one_scope() {
        let project = read(r#"{"tenant": "north", "project": "p", "from": "2026-11-01T00:00:00Z"}"#).unwrap();
        assert_eq!(project.scope, Some(WireScope::ProjectId("p".into())));
        assert!(project.from.is_some());
        assert_eq!(read(r#"{"tenant": "north"}"#).unwrap().scope, None);
        assert!(read(r#"{"tenant": "north", "tag": "t", "workflow": "w"}"#).is_err());
        assert!(read(r#"{"tenant": "No Such"}"#).is_err());
    }
}
