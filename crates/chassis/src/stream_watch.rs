//! Notices when a stream was replaced.

use std::{error::Error, time::Duration};

use messaging::{Bus, Life, LifeError, error_chain};
use proto::streams::Stream;
use tokio_util::sync::CancellationToken;

use crate::Rounds;

/// Interval of the checks: a reader that starts meanwhile lacks values for this long.
const LOOK_INTERVAL: Duration = Duration::from_secs(15);

/// Calls `reconcile` whenever the stream was created again or set back since the last check, until
/// `shutdown`. A failure is logged with the words of `failure`; the next check tries again.
pub async fn on_replaced<T, E, W>(
    bus: &Bus,
    stream: Stream,
    failure: &'static str,
    shutdown: CancellationToken,
    reconcile: impl Fn() -> W,
) where
    E: Error + From<LifeError>,
    W: Future<Output = Result<T, E>>,
{
    let mut known: Option<Life> = None;
    let mut rounds = Rounds::new(LOOK_INTERVAL, shutdown);
    while rounds.next().await {
        match look(bus, stream, known.as_ref(), &reconcile).await {
            Ok(life) => known = Some(life),
            Err(error) => tracing::warn!(error = error_chain(&error), "{failure}"),
        }
    }
}

async fn look<T, E, W>(
    bus: &Bus,
    stream: Stream,
    known: Option<&Life>,
    reconcile: &impl Fn() -> W,
) -> Result<Life, E>
where
    E: From<LifeError>,
    W: Future<Output = Result<T, E>>,
{
    let life = bus.life(stream).await?;
    if known.is_some_and(|known| life.is_another_than(known)) {
        reconcile().await?;
    }
    Ok(life)
}
