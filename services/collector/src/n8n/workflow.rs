//! What is known of a workflow: its name, and what decides which tenant its executions belong to. No I/O, no
//! clock.

use jiff::Timestamp;
use metering::{NAME_CHARS_MAX, SafeText, WorkflowId};
use proto::{timestamp, v1};
use serde::Deserialize;
use serde_json::Value;

use crate::n8n::json;

/// Tags of one workflow that are kept. A person who looks for a workflow by its tags gives it a few.
const TAGS_MAX: usize = 100;

/// The role of the project that a workflow belongs to, among those that it is shared with.
const OWNER: &str = "workflow:owner";

/// A workflow as its source shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    /// Its name; empty if it has none.
    pub name: SafeText,
    /// Its project; missing if the source has none.
    pub project: Option<SafeText>,
    /// Names of its tags, in alphabetical order.
    pub tags: Vec<SafeText>,
}

/// Which of its executions a workflow's own settings keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saving {
    /// All of them: successes, errors and manual runs.
    All,
    /// Not the successes, or not the errors.
    Partly,
    /// By the instance's defaults, which its API does not show.
    Unknown,
}

impl Workflow {
    /// The message that publishes it.
    pub fn to_wire(&self, id: &WorkflowId, read_at: Timestamp) -> v1::Workflow {
        v1::Workflow {
            workflow_id: id.to_string(),
            name: self.name.to_string(),
            project_id: self.project.as_ref().map(SafeText::to_string).unwrap_or_default(),
            tags: self.tags.iter().map(SafeText::to_string).collect(),
            read_at: Some(timestamp(read_at)),
        }
    }
}

/// The fields of an element of n8n's list that are used; its nodes are skipped while it is read. Every
/// version has the id and the name; tags can be turned off, and a project is in `shared` or, by itself, in
/// `homeProject`. Whatever a field holds, the others are read.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WorkflowRow {
    id: Value,
    name: Value,
    tags: Value,
    shared: Value,
    home_project: Value,
    settings: Value,
}

/// A workflow with its id and what its settings keep.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its id.
    pub id: WorkflowId,
    /// What is shown of it.
    pub workflow: Workflow,
    /// What its settings keep.
    pub saving: Saving,
}

impl Listed {
    /// Reads an element of the list; `None` if it has no id.
    pub fn read(element: &str) -> Option<Self> {
        let row: WorkflowRow = json::read(element.as_bytes()).ok()?;
        let id = match &row.id {
            Value::Number(number) => number.to_string(),
            id => id.as_str()?.to_owned(),
        };
        let id = WorkflowId::parse(&id).ok()?;
        let name = row.name.as_str().unwrap_or_default();
        let workflow = Workflow {
            name: SafeText::clean(name, NAME_CHARS_MAX),
            project: row.project(),
            tags: row.tags(),
        };
        Some(Self { id, workflow, saving: row.saving() })
    }
}

impl WorkflowRow {
    /// No attribution can name a tag or project that is longer, or has control characters.
    fn tags(&self) -> Vec<SafeText> {
        let names = elements(&self.tags).filter_map(|tag| tag.get("name")?.as_str());
        let mut tags: Vec<SafeText> =
            names.filter_map(|name| SafeText::exact(name, NAME_CHARS_MAX)).collect();
        tags.sort_unstable();
        tags.dedup();
        tags.truncate(TAGS_MAX);
        tags
    }

    fn project(&self) -> Option<SafeText> {
        let owner =
            elements(&self.shared).find(|share| share.get("role").and_then(Value::as_str) == Some(OWNER));
        let project = owner.and_then(|share| share.get("projectId")?.as_str());
        let project = project.or_else(|| self.home_project.get("id")?.as_str())?;
        SafeText::exact(project, NAME_CHARS_MAX)
    }

    fn saving(&self) -> Saving {
        let setting = |name: &'static str| self.settings.get(name);
        let kept = |name: &'static str| setting(name).and_then(Value::as_str);
        let (success, error) = (kept("saveDataSuccessExecution"), kept("saveDataErrorExecution"));
        let manual = setting("saveManualExecutions").and_then(Value::as_bool);
        match (success, error, manual) {
            (Some("none"), ..) | (_, Some("none"), _) => Saving::Partly,
            (Some("all"), Some("all"), Some(true)) => Saving::All,
            _ => Saving::Unknown,
        }
    }
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// What the settings of a source's workflows say about the executions that it saves.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SaveSettings {
    /// Workflows that say that they do not save some of their executions.
    pub unsaving: u32,
    /// Whether every workflow was listed and says that it saves all.
    pub all: bool,
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(row: Value) -> Workflow {
        listed(&row).workflow
    }

    fn listed(row: &Value) -> Listed {
        Listed::read(&row.to_string()).unwrap()
    }

    fn text(text: &str) -> SafeText {
        SafeText::clean(text, NAME_CHARS_MAX)
    }

    fn bare(name: &str) -> Workflow {
        Workflow { name: text(name), project: None, tags: Vec::new() }
    }

    #[test]
    fn tags_are_in_order_and_the_project_is_the_owners() {
        let share =
            |role: &str, project: &str| json!({"role": role, "workflowId": "w", "projectId": project});
        let workflow = read(json!({
            "id": "w", "name": "Order sync", "nodes": [{"id": "n"}],
            "tags": [{"id": "2", "name": "south"}, {"id": "1", "name": "east"}, {"id": "2", "name": "south"}],
            "shared": [share("workflow:editor", "guests"), share("workflow:owner", "home")],
        }));
        let tags = vec![text("east"), text("south")];
        assert_eq!(workflow, Workflow { project: Some(text("home")), tags, ..bare("Order sync") });
    }

    #[test]
    fn fields_that_a_version_does_not_have_are_missing() {
        assert_eq!(read(json!({"id": "w", "name": "Order sync"})), bare("Order sync"));
        assert_eq!(
            read(json!({"id": "w", "name": "Order sync", "tags": null, "shared": null})),
            bare("Order sync")
        );
        let home =
            read(json!({"id": "w", "name": "Order sync", "homeProject": {"id": "home", "name": "Home"}}));
        assert_eq!(home.project, Some(text("home")));
    }

    #[test]
    fn a_malformed_field_does_not_cost_the_others() {
        for row in [
            json!({"id": "w", "name": null}),
            json!({"id": "w", "name": 7, "tags": "south"}),
            json!({"id": "w", "tags": [null, 7, {"name": null}], "shared": {"role": 1}, "homeProject": []}),
        ] {
            assert_eq!(read(row), bare(""));
        }
        assert_eq!(read(json!({"id": "w", "name": "Order\u{0}sync"})), bare("Order\u{fffd}sync"));
        assert_eq!(
            Listed::read(r#"{"id": "w", "name": "Order sync \ud83e"}"#).unwrap().workflow,
            bare("Order sync \u{fffd}")
        );
        for element in ["null", "7", "[]", r#"{"name": "w"}"#, r#"{"id": "a\u0000b", "name": "w"}"#] {
            assert_eq!(Listed::read(element), None, "{element}");
        }
    }

    #[test]
    fn what_a_workflow_keeps_is_known_only_if_it_says_so() {
        let saving = |settings: Value| listed(&json!({"id": "w", "name": "w", "settings": settings})).saving;
        for (settings, expected) in [
            (json!({"saveDataSuccessExecution": "none"}), Saving::Partly),
            (json!({"saveDataErrorExecution": "none", "saveDataSuccessExecution": "all"}), Saving::Partly),
            (json!({"saveDataErrorExecution": "all", "saveDataSuccessExecution": "all"}), Saving::Unknown),
            (
                json!({"saveDataErrorExecution": "all", "saveDataSuccessExecution": "all",
                    "saveManualExecutions": true}),
                Saving::All,
            ),
            (
                json!({"saveDataErrorExecution": "DEFAULT", "saveDataSuccessExecution": "DEFAULT",
                    "saveManualExecutions": "DEFAULT"}),
                Saving::Unknown,
            ),
            (json!({}), Saving::Unknown),
            (json!(null), Saving::Unknown),
        ] {
            assert_eq!(saving(settings.clone()), expected, "{settings}");
        }
    }

    #[test]
    fn names_tags_and_projects_are_bounded() {
        let long = "x".repeat(NAME_CHARS_MAX + 1);
        let tags: Vec<Value> = (0..=TAGS_MAX).map(|number| json!({"name": number.to_string()})).collect();
        let workflow = read(json!({"id": "w", "name": long, "tags": tags, "homeProject": {"id": long}}));
        assert_eq!(workflow.name.len(), NAME_CHARS_MAX);
        assert_eq!((workflow.tags.len(), workflow.project), (TAGS_MAX, None));
        assert!(read(json!({"id": "w", "name": "w", "tags": [{"name": long}]})).tags.is_empty());
    }
}
