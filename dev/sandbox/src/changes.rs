//! Whether the state has changed since it was written.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Counts changes of the state, so that an idle sandbox does not write.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes(Arc<AtomicU64>);

impl Changes {
    pub(crate) fn mark(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
