//! The `attributions` of a source in the file.

use catalog::InvalidEntry;
use jiff::Timestamp;
use proto::{timestamp, v1, v1::attribution::Scope};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Executions of one source that belong to one tenant.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attribution {
    tenant: String,
    workflow: Option<String>,
    tag: Option<String>,
    project: Option<String>,
    from: Option<Timestamp>,
}

impl Attribution {
    /// The attribution for the wire; reading the wire checks its bounds.
    pub fn to_wire(&self) -> Result<v1::Attribution, InvalidEntry> {
        let scopes = [
            self.workflow.clone().map(Scope::WorkflowId),
            self.tag.clone().map(Scope::Tag),
            self.project.clone().map(Scope::ProjectId),
        ];
        let mut named = scopes.into_iter().flatten();
        let scope = named.next();
        if named.next().is_some() {
            let reason = "name one of workflow, tag and project, or none for the whole source";
            return Err(InvalidEntry::field("attributions", reason));
        }
        Ok(v1::Attribution { tenant_id: self.tenant.clone(), scope, from: self.from.map(timestamp) })
    }

    /// The attribution as the gateway accepts and shows it: without missing fields.
    pub fn to_json(&self) -> Value {
        let said = [
            ("tenant", Some(self.tenant.clone())),
            ("workflow", self.workflow.clone()),
            ("tag", self.tag.clone()),
            ("project", self.project.clone()),
            ("from", self.from.map(|from| from.to_string())),
        ];
        let said = said.into_iter().filter_map(|(field, text)| Some((field.to_owned(), text?.into())));
        Value::Object(said.collect::<Map<_, _>>())
    }
}
