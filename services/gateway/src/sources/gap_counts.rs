//! How many gaps each source has, in memory: every live figure includes it.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use metering::SourceId;
use sqlx::PgPool;
use tokio::sync::Notify;

use crate::store::history;

/// The counts as last read.
#[derive(Default)]
pub struct GapCounts {
    counts: RwLock<HashMap<SourceId, u64>>,
    /// Notified when a gap was stored.
    pub kept: Notify,
}

impl GapCounts {
    /// How many gaps of a source are stored.
    pub fn of(&self, source: &SourceId) -> u64 {
        self.counts.read().unwrap_or_else(PoisonError::into_inner).get(source).copied().unwrap_or_default()
    }

    /// Reads the counts again. Returns the sources whose count has changed.
    pub async fn refresh(&self, pool: &PgPool) -> Result<Vec<SourceId>, sqlx::Error> {
        let fresh: HashMap<SourceId, u64> = history::count_gaps(pool).await?.into_iter().collect();
        let mut counts = self.counts.write().unwrap_or_else(PoisonError::into_inner);
        let gone = counts.keys().filter(|source| !fresh.contains_key(*source));
        let moved = fresh.iter().filter(|(source, count)| counts.get(*source) != Some(*count));
        let changed = gone.chain(moved.map(|(source, _)| source)).cloned().collect();
        *counts = fresh;
        Ok(changed)
    }
}
