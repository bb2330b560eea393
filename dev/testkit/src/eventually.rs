//! Waiting for a state.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, sleep};

/// How long to wait for a state: generous, because a busy machine is slow, not wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Pause between two checks.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Polls until `look` returns something, and returns it. Panics with `what` after [`PATIENCE`].
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
