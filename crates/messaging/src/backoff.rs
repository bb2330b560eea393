//! Pauses between attempts.

use std::time::Duration;

/// Doublings after which every bound is reached.
const DOUBLINGS_MAX: u64 = 32;

/// The pause after this many failures in a row: `first` after one, then twice as long each time, `max` at most.
///
/// ```
/// # use std::time::Duration;
/// # use messaging::doubling;
/// let (first, max) = (Duration::from_secs(1), Duration::from_secs(60));
/// assert_eq!(doubling(first, 1, max), first);
/// assert_eq!(doubling(first, 3, max), Duration::from_secs(4));
/// assert_eq!(doubling(first, u64::MAX, max), max);
/// ```
pub fn doubling(first: Duration, failures: u64, max: Duration) -> Duration {
    let doublings = failures.saturating_sub(1).min(DOUBLINGS_MAX);
    (0..doublings).fold(first, |pause, _| pause.saturating_mul(2)).min(max)
}
