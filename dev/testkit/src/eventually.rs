//! Waiting for a state.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// A state that is not reached by then will not be: generous, because a loaded machine is slow, not wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Looks until `look` gives something, and returns it. Panics with `what` when patience ends.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut look: impl FnMut() -> F) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(Instant::now() < deadline, "not reached within {PATIENCE:?}: {what}");
        sleep(LOOK_INTERVAL).await;
    }
}
