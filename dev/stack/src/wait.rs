//! Waiting for a state, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Pause between two checks: short compared to any start-up time, long compared to the cost of a check.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Polls until `probe` finds something, an error ends it, or the deadline passes. `what` completes the sentence
/// "waited 10 s for ...".
pub fn until<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let started = Instant::now();
    loop {
        if let Some(found) = probe()? {
            return Ok(found);
        }
        if started.elapsed() >= within {
            bail!("waited {} s for {what}", within.as_secs_f32());
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_names_the_state_that_never_came() {
        let waited = until::<()>("the sea to part", Duration::from_millis(60), || Ok(None));
        assert!(waited.unwrap_err().to_string().contains("the sea to part"));
    }

    #[test]
    fn an_error_ends_the_waiting() {
        let mut looks = 0;
        let waited = until::<()>("nothing", Duration::from_secs(60), || {
            looks += 1;
            bail!("the process died")
        });
        assert_eq!((waited.unwrap_err().to_string().as_str(), looks), ("the process died", 1));
    }
}
