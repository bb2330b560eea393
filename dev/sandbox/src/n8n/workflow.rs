//! A workflow, as far as the API shows it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What an instance knows of one workflow.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Workflow {
    pub(crate) name: String,
    pub(crate) created_at: Timestamp,
    #[serde(default)]
    pub(crate) tags: Vec<String>,
    /// The id of its project; `None` for the owner's own.
    #[serde(default)]
    pub(crate) project: Option<String>,
    /// Which of its executions its settings save; `None` where the instance's defaults apply.
    #[serde(default)]
    pub(crate) saving: Option<WorkflowSaving>,
}

/// Which executions a workflow's own settings save: `saveDataSuccessExecution` and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowSaving {
    /// All are saved, manual ones too.
    All,
    /// None is.
    Nothing,
}

impl Workflow {
    /// A workflow that nobody has named, tagged or moved.
    pub(crate) fn new(id: &str, created_at: Timestamp) -> Self {
        Self { name: id.to_owned(), created_at, tags: Vec::new(), project: None, saving: None }
    }
}

/// A change of a workflow, created if it does not exist. Fields that are not set stay as they are.
#[derive(Debug, Clone)]
pub struct WorkflowChange {
    pub(crate) workflow: String,
    pub(crate) name: Option<String>,
    pub(crate) tags: Option<Vec<String>>,
    pub(crate) project: Option<String>,
    pub(crate) saving: Option<WorkflowSaving>,
}

impl WorkflowChange {
    /// Changes the workflow with this id.
    pub fn of(workflow: impl Into<String>) -> Self {
        Self { workflow: workflow.into(), name: None, tags: None, project: None, saving: None }
    }

    /// Renames it.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Gives it these tags and no others, in this order.
    pub fn tagged<T: Into<String>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        self.tags = Some(tags.into_iter().map(Into::into).collect());
        self
    }

    /// Sets which of its executions its settings save. It does not change what the stand-in saves.
    pub fn saving(mut self, saving: WorkflowSaving) -> Self {
        self.saving = Some(saving);
        self
    }

    /// Moves it to the project with this id.
    pub fn in_project(mut self, project: impl Into<String>) -> Self {
        self.project = Some(project.into());
        self
    }
}
