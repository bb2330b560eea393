//! The clock of a service: the machine's, or a simulated one that is followed over HTTP.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use metering::{Clock, SimulatedClock, SystemClock};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use url::Url;

/// Interval for reading the simulated clock; a jump is seen at most this late.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);

/// A clock that does not answer by then keeps its last offset.
const FOLLOW_TIMEOUT: Duration = Duration::from_secs(2);

#[derive(Deserialize)]
struct Answer {
    offset_ms: i64,
}

/// The clock to follow cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the simulated clock at {url}")]
pub struct ClockError {
    url: Url,
    source: reqwest::Error,
}

/// The clock that the configuration asks for.
pub async fn start(follow: Option<&Url>, tasks: &crate::Tasks) -> Result<Arc<dyn Clock>, ClockError> {
    let Some(url) = follow.cloned() else { return Ok(Arc::new(SystemClock)) };
    tracing::warn!(%url, "running on a simulated clock");
    let failed = |source| ClockError { url: url.clone(), source };
    let client = reqwest::Client::builder().timeout(FOLLOW_TIMEOUT).build().map_err(failed)?;
    let first = offset(&client, &url).await.map_err(failed)?;
    let clock = SimulatedClock::running_ahead(first);
    tasks.spawn(keep_following(client, url, clock.clone(), tasks.shutdown()));
    Ok(Arc::new(clock))
}

async fn keep_following(
    client: reqwest::Client,
    url: Url,
    clock: SimulatedClock,
    shutdown: CancellationToken,
) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(FOLLOW_INTERVAL) => {}
        }
        match offset(&client, &url).await {
            Ok(offset) => clock.set_offset(offset),
            Err(error) => tracing::debug!(%error, "the simulated clock does not answer"),
        }
    }
}

async fn offset(client: &reqwest::Client, url: &Url) -> Result<SignedDuration, reqwest::Error> {
    let answer: Answer = client.get(url.clone()).send().await?.error_for_status()?.json().await?;
    Ok(SignedDuration::from_millis(answer.offset_ms))
}
