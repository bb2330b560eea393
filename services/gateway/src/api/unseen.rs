//! Executions that a source has numbered but never showed.

use jiff::Timestamp;
use serde::Serialize;
use utoipa::ToSchema;

use crate::sources::status::Unseen;

/// Executions that a source has numbered but never showed, usually because it does not save them. They are
/// not counted unless they are pushed. Save them, or let n8n push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct UnseenJson {
    /// How many there are at most: this includes ids that were deleted at once or belonged to a test.
    pub executions_max: u64,
    /// Since when they are counted: the first sweep, or the start of the month (UTC).
    pub since: Timestamp,
    /// Workflows whose own settings exclude some of their executions from saving. The instance's settings,
    /// which apply to the others, are not known.
    pub unsaving_workflows: u32,
}

impl UnseenJson {
    /// `None` if there is nothing to report.
    pub fn of(unseen: Option<Unseen>) -> Option<Self> {
        let Unseen { executions_max, since, unsaving_workflows } = unseen?;
        let is_news = executions_max > 0 || unsaving_workflows > 0;
        is_news.then_some(Self { executions_max, since, unsaving_workflows })
    }
}
