//! Folds logged changes into the roll-ups: the changes of many transactions at once, so that a workflow that
//! runs in each of them is written once. One replica folds at a time; after a crash the changes are still in
//! the log.

use std::{sync::Arc, time::Duration};

use chassis::Rounds;
use messaging::{ask::Refusal, error_chain};
use sqlx::{PgConnection, PgPool};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    figures::rollup::{Changes, DamagedChange, Figures},
    store,
};

/// Logged changes that one transaction folds: bounds its memory and how long it holds the turn.
const CHANGES_PER_FOLD: i64 = 64;

/// Under load, folding takes one part in this many of the time: the longer it waits, the more changes each
/// write covers.
const FOLDS_PART: u32 = 12;

/// Folds.
pub(crate) struct Folder {
    pool: PgPool,
}

/// Changes could not be folded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FoldError {
    #[error("cannot write the roll-ups")]
    Database(#[from] sqlx::Error),
    #[error("logged change {number} cannot be folded")]
    Damaged { number: i64, source: DamagedChange },
}

impl From<FoldError> for Refusal {
    fn from(error: FoldError) -> Self {
        tracing::warn!(error = error_chain(&error), "cannot fold pending changes for a question");
        Self::unavailable("the figures cannot be brought up to date; ask again")
    }
}

impl Folder {
    pub(crate) fn new(pool: PgPool) -> Self {
        Self { pool }
    }

    /// Folds at this interval until shutdown; again at once while more is pending, and less often if it takes
    /// long.
    pub(crate) async fn run(self: Arc<Self>, every: Duration, shutdown: CancellationToken) {
        let mut rounds = Rounds::new(every, shutdown.clone());
        while rounds.next().await {
            let begun_at = Instant::now();
            loop {
                match self.fold().await {
                    Ok(count) if count < usize::try_from(CHANGES_PER_FOLD).unwrap_or(usize::MAX) => break,
                    Ok(_) if shutdown.is_cancelled() => return,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(error = error_chain(&error), "cannot write roll-ups; trying again");
                        break;
                    }
                }
            }
            rounds.spare(begun_at.elapsed(), FOLDS_PART);
        }
    }

    /// Folds the oldest pending changes. Returns how many; 0 while another replica folds.
    pub(crate) async fn fold(&self) -> Result<usize, FoldError> {
        let mut transaction = self.pool.begin().await?;
        if !store::try_fold_turn(&mut transaction).await? {
            return Ok(0);
        }
        let count = fold_some(&mut transaction).await?;
        store::forget_folded(&mut transaction).await?;
        transaction.commit().await?;
        Ok(count)
    }
}

/// Waits for the folder's turn, then folds all pending changes.
pub(crate) async fn catch_up(pool: &PgPool) -> Result<(), FoldError> {
    let mut transaction = pool.begin().await?;
    store::fold_turn(&mut transaction).await?;
    fold_waiting(&mut transaction).await?;
    transaction.commit().await?;
    Ok(())
}

/// Folds all pending changes in the caller's transaction, which holds the folder's turn.
pub(crate) async fn fold_waiting(connection: &mut PgConnection) -> Result<(), FoldError> {
    while fold_some(connection).await? > 0 {}
    Ok(())
}

async fn fold_some(connection: &mut PgConnection) -> Result<usize, FoldError> {
    let waiting = store::waiting(connection, CHANGES_PER_FOLD).await?;
    if waiting.is_empty() {
        return Ok(0);
    }
    let mut figures = Figures::default();
    for row in &waiting {
        let change = Changes::from_bytes(&row.change)
            .map_err(|source| FoldError::Damaged { number: row.number, source })?;
        figures.apply(&change);
        if row.hours_added {
            for (key, counted) in change.by_hour() {
                *figures.period_hours.entry(key).or_default() -= counted;
            }
        }
        if row.workflows_added {
            for (key, totals) in change.by_workflow() {
                figures.workflows.entry(key).or_default().totals += totals.negated();
            }
        }
    }
    store::add_figures(connection, &figures).await?;
    let numbers: Vec<i64> = waiting.iter().map(|row| row.number).collect();
    store::folded(connection, &numbers).await?;
    Ok(waiting.len())
}
