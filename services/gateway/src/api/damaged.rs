//! Stored values that cannot be read, as listed.

use serde::Serialize;
use utoipa::ToSchema;

use crate::directory::editor::Damaged;

/// A stored value that cannot be read. Putting it again repairs it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct DamagedJson {
    /// Its id.
    pub id: String,
    /// Why it cannot be read.
    pub reason: String,
}

impl From<Damaged> for DamagedJson {
    fn from(Damaged { id, reason }: Damaged) -> Self {
        Self { id, reason }
    }
}
