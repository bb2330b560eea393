//! What a process waits for: a dependency that is unavailable when the process starts. It retries until the
//! dependency is available, and reports meanwhile what it waits for, in its log and in its readiness.

use std::{
    collections::BTreeMap,
    error::Error,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::error_chain;

/// First pause between two attempts. Doubled after each, so that a long outage causes few attempts.
const PAUSE_FIRST: Duration = Duration::from_millis(250);

/// Longest pause, and so the longest time that a service is not ready after its dependency is back.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// The same reason is logged again after this time: a line a minute is noticed, and fills no disk.
const LOG_INTERVAL: Duration = Duration::from_secs(60);

/// What this process waits for, with the reason; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Waits(Arc<Mutex<BTreeMap<String, String>>>);

/// Ends with the wait, also if the waiting task is dropped.
struct Noted<'a> {
    waits: &'a Waits,
    what: &'a str,
}

impl Waits {
    /// What is waited for and why, for a person. `None` if everything is available.
    pub fn reason(&self) -> Option<String> {
        let waits = self.lock();
        let reasons: Vec<String> = waits.iter().map(|(what, why)| format!("{what}: {why}")).collect();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }

    /// Notes `what` as waited for until `attempt` succeeds, and repeats it with growing pauses. An error that waiting
    /// cannot fix (`is_final`) is returned at once; `None` on `shutdown`, also in the middle of an attempt.
    pub async fn until<T, E, F>(
        &self,
        what: &str,
        shutdown: &CancellationToken,
        is_final: impl Fn(&E) -> bool + Send,
        mut attempt: impl FnMut() -> F + Send,
    ) -> Result<Option<T>, E>
    where
        E: Error + Send,
        T: Send,
        F: Future<Output = Result<T, E>> + Send,
    {
        let noted = self.note(what, "starting");
        let mut pause = PAUSE_FIRST;
        let mut logged: Option<(String, Instant)> = None;
        loop {
            let outcome = tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(None),
                outcome = attempt() => outcome,
            };
            let error = match outcome {
                Ok(value) => {
                    if logged.is_some() {
                        tracing::info!(what, "a dependency is available");
                    }
                    return Ok(Some(value));
                }
                Err(error) if is_final(&error) => return Err(error),
                Err(error) => error_chain(&error),
            };
            self.lock().insert(noted.what.to_owned(), error.clone());
            let is_news =
                logged.as_ref().is_none_or(|(reason, at)| *reason != error || at.elapsed() >= LOG_INTERVAL);
            if is_news {
                tracing::warn!(what, error, "a dependency is unavailable; not ready until it is back");
                logged = Some((error, Instant::now()));
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(None),
                () = sleep(pause) => {}
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn note<'a>(&'a self, what: &'a str, why: &str) -> Noted<'a> {
        self.lock().insert(what.to_owned(), why.to_owned());
        Noted { waits: self, what }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.waits.lock().remove(self.what);
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("attempt {0}")]
    struct Failed(u32);

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_repeated_until_it_succeeds_and_the_wait_is_shown() {
        let (waits, shutdown) = (Waits::default(), CancellationToken::new());
        let mut attempts = 0;
        let outcome = waits
            .until(
                "the database",
                &shutdown,
                |_: &Failed| false,
                || {
                    attempts += 1;
                    if attempts > 1 {
                        let reason = waits.reason().unwrap();
                        assert_eq!(reason, format!("the database: attempt {}", attempts - 1));
                    }
                    ready(if attempts < 20 { Err(Failed(attempts)) } else { Ok(attempts) })
                },
            )
            .await;
        assert_eq!(outcome.unwrap(), Some(20));
        assert_eq!(waits.reason(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_that_waiting_cannot_fix_ends_the_wait_at_once() {
        let (waits, shutdown) = (Waits::default(), CancellationToken::new());
        let is_final = |error: &Failed| error.0 == 2;
        let mut attempts = 0;
        let outcome: Result<Option<()>, _> = waits
            .until("the broker", &shutdown, is_final, || {
                attempts += 1;
                ready(Err(Failed(attempts)))
            })
            .await;
        assert_eq!(outcome.unwrap_err().0, 2);
        assert_eq!(waits.reason(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_ends_an_attempt_that_hangs() {
        let (waits, shutdown) = (Waits::default(), CancellationToken::new());
        let hanging =
            waits.until("the broker", &shutdown, |_| false, std::future::pending::<Result<(), Failed>>);
        let stop = async {
            sleep(PAUSE_MAX).await;
            shutdown.cancel();
        };
        let (outcome, ()) = tokio::join!(hanging, stop);
        assert!(outcome.unwrap().is_none());
    }
}
