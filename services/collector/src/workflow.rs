//! What is known of a workflow: its name, and what decides whose executions it makes. No I/O, no clock.

use jiff::Timestamp;
use metering::WorkflowId;
use proto::{timestamp, v1};
use serde::Deserialize;

/// Longest name, tag and project id that are kept, in characters. n8n's own are shorter, and no attribution can name a
/// longer one, or one with control characters.
const TEXT_CHARS_MAX: usize = 200;

/// Tags of one workflow that are kept. A person who looks for a workflow by its tags gives it a few.
const TAGS_MAX: usize = 100;

/// The role of the project that a workflow belongs to, among those that it is shared with.
const OWNER: &str = "workflow:owner";

/// A workflow as its source shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workflow {
    /// Its name.
    pub name: String,
    /// Its project; missing where the source has none.
    pub project: Option<String>,
    /// Names of its tags, in alphabetical order.
    pub tags: Vec<String>,
}

impl Workflow {
    /// The message that tells it.
    pub fn to_wire(&self, id: &WorkflowId, read_at: Timestamp) -> v1::Workflow {
        v1::Workflow {
            workflow_id: id.to_string(),
            name: self.name.clone(),
            project_id: self.project.clone().unwrap_or_default(),
            tags: self.tags.clone(),
            read_at: Some(timestamp(read_at)),
        }
    }
}

/// An element of n8n's list. Its nodes are skipped while it is read. Every version has the id and the name; tags can be
/// turned off, and a project stands in `shared` or, by itself, in `homeProject`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkflowRow {
    id: String,
    name: String,
    tags: Option<Vec<TagRow>>,
    shared: Option<Vec<ShareRow>>,
    home_project: Option<ProjectRow>,
}

#[derive(Debug, Deserialize)]
struct TagRow {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ShareRow {
    role: Option<String>,
    project_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct ProjectRow {
    id: String,
}

impl WorkflowRow {
    /// The workflow; nothing where its id is none.
    pub fn read(self) -> Option<(WorkflowId, Workflow)> {
        let id = WorkflowId::parse(&self.id).ok()?;
        let shares = self.shared.unwrap_or_default();
        let owner = shares.into_iter().find(|share| share.role.as_deref() == Some(OWNER));
        let project =
            owner.and_then(|share| share.project_id).or(self.home_project.map(|project| project.id));
        let mut tags: Vec<String> =
            self.tags.unwrap_or_default().into_iter().map(|tag| tag.name).filter(|tag| fits(tag)).collect();
        tags.sort_unstable();
        tags.dedup();
        tags.truncate(TAGS_MAX);
        let name = self.name.chars().take(TEXT_CHARS_MAX).collect();
        Some((id, Workflow { name, project: project.filter(|project| fits(project)), tags }))
    }
}

fn fits(text: &str) -> bool {
    !text.is_empty() && text.chars().count() <= TEXT_CHARS_MAX && !text.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(row: Value) -> Workflow {
        serde_json::from_value::<WorkflowRow>(row).unwrap().read().unwrap().1
    }

    #[test]
    fn tags_are_in_order_and_the_project_is_the_owner_s() {
        let share =
            |role: &str, project: &str| json!({"role": role, "workflowId": "w", "projectId": project});
        let workflow = read(json!({
            "id": "w", "name": "Order sync", "nodes": [{"id": "n"}],
            "tags": [{"id": "2", "name": "south"}, {"id": "1", "name": "east"}, {"id": "2", "name": "south"}],
            "shared": [share("workflow:editor", "guests"), share("workflow:owner", "home")],
        }));
        let tags = vec!["east".to_owned(), "south".to_owned()];
        assert_eq!(workflow, Workflow { name: "Order sync".into(), project: Some("home".into()), tags });
    }

    #[test]
    fn what_a_version_does_not_say_is_missing() {
        let bare = Workflow { name: "Order sync".into(), project: None, tags: Vec::new() };
        assert_eq!(read(json!({"id": "w", "name": "Order sync"})), bare);
        assert_eq!(read(json!({"id": "w", "name": "Order sync", "tags": null, "shared": null})), bare);
        let home =
            read(json!({"id": "w", "name": "Order sync", "homeProject": {"id": "home", "name": "Home"}}));
        assert_eq!(home.project.as_deref(), Some("home"));
    }

    #[test]
    fn what_a_source_says_is_bounded() {
        let long = "x".repeat(TEXT_CHARS_MAX + 1);
        let tags: Vec<Value> = (0..=TAGS_MAX).map(|number| json!({"name": number.to_string()})).collect();
        let workflow = read(json!({"id": "w", "name": long, "tags": tags, "homeProject": {"id": long}}));
        assert_eq!(workflow.name.len(), TEXT_CHARS_MAX);
        assert_eq!((workflow.tags.len(), workflow.project), (TAGS_MAX, None));
        assert!(read(json!({"id": "w", "name": "w", "tags": [{"name": long}]})).tags.is_empty());
        assert!(
            serde_json::from_value::<WorkflowRow>(json!({"id": "", "name": "w"})).unwrap().read().is_none()
        );
    }
}
