//! Shares the partitions of the executions among replicas. A lease only saves work and decides who reads. The
//! recording transaction ensures that nothing is counted twice, so two replicas that read the same partition
//! for a while do no harm.

use std::{collections::BTreeSet, time::Duration};

use chassis::Rounds;
use messaging::error_chain;
use proto::subjects::PARTITIONS;
use sqlx::PgPool;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store;

/// A killed replica's partitions are free this long after its last renewal.
const LEASE: Duration = Duration::from_secs(4);

/// Well within the lease: three renewals may fail.
const RENEW_INTERVAL: Duration = Duration::from_secs(1);

/// The leases of this process.
pub(crate) struct Leases {
    pool: PgPool,
    replica: Uuid,
    held: watch::Sender<BTreeSet<u32>>,
}

impl Leases {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool, replica: Uuid::new_v4(), held: watch::Sender::default() }
    }

    /// The partitions that this process may read.
    pub(crate) fn held(&self) -> watch::Receiver<BTreeSet<u32>> {
        self.held.subscribe()
    }

    /// Renews until shutdown, then releases all leases.
    pub(crate) async fn run(self, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(RENEW_INTERVAL, shutdown);
        let mut renewed_at = Instant::now();
        while rounds.next().await {
            let asked_at = Instant::now();
            match self.renew().await {
                Ok(held) => {
                    renewed_at = asked_at;
                    self.hold(held);
                }
                Err(error) => {
                    tracing::warn!(
                        error = error_chain(&error),
                        "cannot renew the leases of partitions; trying again"
                    );
                    if renewed_at.elapsed() > LEASE {
                        self.hold(BTreeSet::new());
                    }
                }
            }
        }
        self.hold(BTreeSet::new());
        if let Err(error) = store::release(&self.pool, self.replica).await {
            tracing::warn!(
                error = error_chain(&error),
                "cannot release the leases of partitions; others take them when they expire"
            );
        }
    }

    async fn renew(&self) -> Result<BTreeSet<u32>, sqlx::Error> {
        let partitions = i32::try_from(PARTITIONS).unwrap_or(i32::MAX);
        let held = store::renew(&self.pool, self.replica, partitions, LEASE.as_secs_f64()).await?;
        Ok(held.into_iter().filter_map(|partition| u32::try_from(partition).ok()).collect())
    }

    fn hold(&self, partitions: BTreeSet<u32>) {
        self.held.send_if_modified(|held| {
            let changed = *held != partitions;
            if changed {
                tracing::info!(?partitions, "reading these partitions of the executions");
                *held = partitions;
            }
            changed
        });
    }
}
