//! The aggregator's connections to Postgres, by purpose: slow or too frequent questions must not take the
//! connections used for counting.

use std::time::Duration;

use chassis::{PoolBounds, pool_beside};
use serde::Deserialize;
use sqlx::PgPool;

/// The database cancels a question's statement after this time: a second before the gateway stops waiting, so
/// that no statement runs for a caller that has gone.
const QUESTION_STATEMENT_MAX: Duration = Duration::from_secs(4);

/// A question that gets no connection within this time is refused, and can be asked again.
const QUESTION_ACQUIRE_MAX: Duration = Duration::from_secs(3);

/// The most connections of one pool: beyond that, Postgres has fewer cores than statements.
const CONNECTIONS_MAX: u32 = 64;

/// `[aggregator.pools]`: connections to Postgres. Those of `database.connections_max` are for the rest: the catalog, leases,
/// the outbox.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PoolSettings {
    /// For recording: one for each worker. Each worker's transaction needs one.
    pub recording: Option<u32>,
    /// For publishing usage. One more holds the publisher's turn.
    pub publishing: u32,
    /// For closing periods, folding and retention. Two more are open while old months go and while executions are mapped.
    pub closing: u32,
    /// For questions: of the dashboard, the API, audits, and corrections.
    pub questions: u32,
}

impl Default for PoolSettings {
    fn default() -> Self {
        Self { recording: None, publishing: 3, closing: 3, questions: 4 }
    }
}

impl PoolSettings {
    /// The first invalid setting, and its valid range.
    pub(crate) fn validate(&self) -> Result<(), String> {
        for (name, connections) in [
            ("recording", self.recording.unwrap_or(1)),
            ("publishing", self.publishing),
            ("closing", self.closing),
            ("questions", self.questions),
        ] {
            if !(1..=CONNECTIONS_MAX).contains(&connections) {
                return Err(format!("pools.{name} must be 1 to {CONNECTIONS_MAX}"));
            }
        }
        Ok(())
    }
}

/// A pool for each kind of work.
pub(crate) struct Pools {
    pub(crate) recording: PgPool,
    pub(crate) publishing: PgPool,
    /// The connection that holds the publisher's turn while the publisher uses others. It has no other use,
    /// so nobody who holds one of the others waits for it.
    pub(crate) publishing_turn: PgPool,
    pub(crate) closing: PgPool,
    pub(crate) questions: PgPool,
}

impl Pools {
    /// Pools in addition to the service's common one. Each connects on first use.
    pub(crate) fn beside(common: &PgPool, settings: PoolSettings, workers: usize) -> Self {
        let workers = u32::try_from(workers).unwrap_or(CONNECTIONS_MAX);
        let pool = |connections| pool_beside(common, PoolBounds::of(connections));
        let questions = PoolBounds {
            acquire_timeout: QUESTION_ACQUIRE_MAX,
            statement_timeout: Some(QUESTION_STATEMENT_MAX),
            ..PoolBounds::of(settings.questions)
        };
        Self {
            recording: pool(settings.recording.unwrap_or(workers)),
            publishing: pool(settings.publishing),
            publishing_turn: pool(1),
            closing: pool(settings.closing),
            questions: pool_beside(common, questions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_without_connections_is_refused_by_name() {
        assert_eq!(PoolSettings::default().validate(), Ok(()));
        let none = PoolSettings { questions: 0, ..PoolSettings::default() };
        assert!(none.validate().is_err_and(|reason| reason.contains("pools.questions")));
        let many = PoolSettings { recording: Some(65), ..PoolSettings::default() };
        assert!(many.validate().is_err_and(|reason| reason.contains("pools.recording")));
    }
}
