//! Executions that a source has numbered and that nobody has seen.

use serde::Deserialize;

use crate::table;

/// Executions that a source has numbered but never shown.
#[derive(Debug, Deserialize)]
pub struct Unseen {
    pub executions_max: u64,
    pub since: String,
    pub unsaving_workflows: u64,
}

impl Unseen {
    /// What is not counted, and the remedy.
    pub fn sentence(&self, source: &str) -> String {
        let why = match self.unsaving_workflows {
            0 => String::new(),
            workflows => format!(" ({} workflows say so in their settings)", table::number(workflows)),
        };
        format!(
            "{source}: up to {} executions since {} were never shown: n8n does not save them{why}, or they were deleted. \
             They are not counted unless n8n pushes them. Save them (EXECUTIONS_DATA_SAVE_ON_SUCCESS=all, \
             EXECUTIONS_DATA_SAVE_ON_ERROR=all and the workflows' settings), or install the hook.",
            table::number(self.executions_max),
            self.since,
        )
    }
}
