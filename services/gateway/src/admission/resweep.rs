//! Refusals that the next sweep may show to be false.
//!
//! Runs that were allowed within [`START_MARGIN`] before the watermark are counted twice until it moves (see
//! `admission`). If a run is refused meanwhile, its tenant's sources are swept soon after, not at the end of
//! their interval: by then the refusals themselves have ended the burst, and nothing is counted twice.
//!
//! [`START_MARGIN`]: crate::admission::known::START_MARGIN

use std::time::Duration;

use messaging::{Bus, ask::AskError, error_chain};
use metering::TenantId;
use proto::{subjects::Question, v1};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Tenants that wait for a sweep request. Further ones wait for their regular sweep.
const WAITING_MAX: usize = 1_024;

/// The collector only notes the request.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Reports doubtful refusals.
#[derive(Debug, Clone)]
pub struct Resweeps(mpsc::Sender<TenantId>);

/// Receives doubtful refusals.
pub struct ResweepRequests(mpsc::Receiver<TenantId>);

/// Both ends.
pub fn channel() -> (Resweeps, ResweepRequests) {
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    (Resweeps(sender), ResweepRequests(receiver))
}

impl Resweeps {
    /// Reports that a run of the tenant was refused while others may be counted twice.
    pub fn request(&self, tenant: &TenantId) {
        // If the queue is full or closed, the sweep comes when its interval ends.
        let _ = self.0.try_send(tenant.clone());
    }
}

impl ResweepRequests {
    /// Asks for sweeps until `shutdown`.
    pub async fn ask(mut self, bus: Bus, shutdown: CancellationToken) {
        while let Some(Some(tenant)) = shutdown.run_until_cancelled(self.0.recv()).await {
            let question = v1::SweepQuestion { tenant_id: tenant.to_string() };
            let asked: Result<(), AskError> = bus.ask(Question::Sweep, &question, ANSWER_WITHIN).await;
            if let Err(error) = asked {
                tracing::warn!(%tenant, error = error_chain(&error), "cannot request the sweep that settles a refusal");
            }
        }
    }
}
