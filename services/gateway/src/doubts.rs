//! Refusals that the next sweep may show to be false.
//!
//! Runs that were allowed within [`START_MARGIN`] before W stand twice until W moves (see `admission`). Where a run is refused
//! meanwhile, its tenant's sources are swept soon after, and not when their interval ends: by then the refusals
//! themselves have ended the burst, and nothing stands twice.
//!
//! [`START_MARGIN`]: crate::admission::START_MARGIN

use std::time::Duration;

use messaging::{Bus, ask::AskError, error_chain};
use metering::TenantId;
use proto::{subjects::Question, v1};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Tenants that wait to be told of. Beyond it one is told of with its next W.
const WAITING_MAX: usize = 1_024;

/// The collector only notes it.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Where doubts are told.
#[derive(Debug, Clone)]
pub struct Doubts(mpsc::Sender<TenantId>);

/// Doubts to be acted on.
pub struct Doubted(mpsc::Receiver<TenantId>);

/// Both ends.
pub fn channel() -> (Doubts, Doubted) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Doubts(sender), Doubted(receiver))
}

impl Doubts {
    /// A run of the tenant was refused while others may stand twice.
    pub fn tell(&self, tenant: &TenantId) {
        // Where there is no room, or nobody listens any more, the sweep comes when its interval ends.
        let _ = self.0.try_send(tenant.clone());
    }
}

impl Doubted {
    /// Asks for sweeps until `shutdown`.
    pub async fn ask(mut self, bus: Bus, shutdown: CancellationToken) {
        while let Some(Some(tenant)) = shutdown.run_until_cancelled(self.0.recv()).await {
            let question = v1::SweepQuestion { tenant_id: tenant.to_string() };
            let asked: Result<(), AskError> = bus.ask(Question::Sweep, &question, ANSWER_WITHIN).await;
            if let Err(error) = asked {
                tracing::warn!(%tenant, error = error_chain(&error), "cannot ask for the sweep that settles a refusal");
            }
        }
    }
}
