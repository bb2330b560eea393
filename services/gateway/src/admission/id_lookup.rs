//! Looks ids up in the ledger, many in one statement: if another replica decides for the tenant as well, it
//! may have given the verdict. Takes no lock, so a lookup blocks nobody.

use std::{
    collections::HashMap,
    mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use sqlx::PgPool;
use tokio::{sync::oneshot, time::timeout};

use crate::{
    admission::{
        run_key::RunKey,
        stored::verdicts,
        verdict::{AdmitError, Verdict},
    },
    store,
};

/// Timeout of one statement.
const FIND_TIMEOUT: Duration = Duration::from_secs(5);

/// Ids in one statement.
const IDS_MAX: usize = 512;

/// Requests that wait for their ids to be looked up.
#[derive(Default)]
pub struct Lookups {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: Vec<Waiting>,
    busy: bool,
}

struct Waiting {
    key: RunKey,
    answer: oneshot::Sender<Result<Option<Verdict>, Arc<AdmitError>>>,
}

impl Lookups {
    /// The verdict that the ledger has for an id; `None` if the id is new.
    pub async fn find(
        lookups: &Arc<Self>,
        pool: &PgPool,
        key: RunKey,
    ) -> Result<Option<Verdict>, AdmitError> {
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { key, answer };
        let is_busy = {
            let mut state = lookups.lock();
            state.waiting.push(waiting);
            mem::replace(&mut state.busy, true)
        };
        if !is_busy {
            let (lookups, pool) = (lookups.clone(), pool.clone());
            tokio::spawn(async move { while lookups.next(&pool).await {} });
        }
        answered.await.map_err(|_| AdmitError::Stopping)?.map_err(AdmitError::Together)
    }

    async fn next(&self, pool: &PgPool) -> bool {
        let batch = {
            let mut state = self.lock();
            let size = state.waiting.len().min(IDS_MAX);
            state.waiting.drain(..size).collect::<Vec<_>>()
        };
        match timeout(FIND_TIMEOUT, find(pool, &batch)).await.unwrap_or(Err(AdmitError::TimedOut)) {
            Ok(known) => {
                for Waiting { key, answer } in batch {
                    // The caller may be gone.
                    let _ = answer.send(Ok(known.get(&key).copied()));
                }
            }
            Err(error) => {
                let error = Arc::new(error);
                for waiting in batch {
                    let _ = waiting.answer.send(Err(error.clone()));
                }
            }
        }
        let mut state = self.lock();
        state.busy = !state.waiting.is_empty();
        state.busy
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn find(pool: &PgPool, batch: &[Waiting]) -> Result<HashMap<RunKey, Verdict>, AdmitError> {
    let keys: Vec<RunKey> = batch.iter().map(|waiting| waiting.key).collect();
    verdicts(store::admissions::find(pool, &keys).await?)
}
