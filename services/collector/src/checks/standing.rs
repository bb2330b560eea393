//! How a source stands apart from its executions.

use jiff::Timestamp;

use crate::checks::clock_skew::Reading;

/// The standing of a source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// How far its clock is ahead; `None` if that was not measured lately.
    pub clock: Option<Reading>,
    /// Since when that is too far.
    pub clock_wrong_since: Option<Timestamp>,
    /// Since when several instances push with its token.
    pub token_shared_since: Option<Timestamp>,
    /// These instances.
    pub instances: Vec<String>,
    /// Since when its instance pushes for other sources too.
    pub doubled_since: Option<Timestamp>,
    /// These sources.
    pub same_instance: Vec<String>,
}
