//! What a worker remembers of a workflow.

use jiff::Timestamp;

/// What is known of a workflow.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workflow {
    /// Zero until it has a row.
    pub(crate) number: i32,
    pub(crate) name: Option<String>,
    pub(crate) named_at: Option<Timestamp>,
    pub(crate) project: Option<String>,
    pub(crate) tags: Vec<String>,
    pub(crate) read_at: Option<Timestamp>,
    /// Changed since its row was written.
    pub(crate) dirty: bool,
}
