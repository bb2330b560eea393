//! The guests of a cluster's play, and what they share with the player.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard, atomic::AtomicBool},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    cast::Month,
    delays::{Asked, Uncounted},
};

/// Pause between an answer and the next question.
pub const ASK_EVERY: Duration = Duration::from_millis(200);

/// The share of a month's questions that the limit allows, in percent.
const LIMIT_PERCENT: u64 = 40;

/// A tenant that asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guest {
    /// Its id.
    pub tenant: &'static str,
    /// Its one source.
    pub source: &'static str,
    /// Its hard limit.
    pub limit: Option<u64>,
}

impl Guest {
    /// The guests of a play whose shorter month has this length.
    pub fn all(month: Duration) -> Vec<Self> {
        let questions = u64::try_from(month.as_millis() / ASK_EVERY.as_millis()).unwrap_or(u64::MAX);
        let limit = (questions * LIMIT_PERCENT / 100).max(1);
        vec![
            Self { tenant: "limited", source: "limited-n8n", limit: Some(limit) },
            Self { tenant: "unlimited", source: "unlimited-n8n", limit: None },
        ]
    }

    /// Their plan: without fresh figures, runs are refused, so that a limit holds in every case.
    pub fn plan(&self) -> Value {
        json!({
            "name": self.tenant, "monthly_limit": self.limit, "limit_kind": "hard",
            "outage_rule": if self.limit.is_some() { "closed" } else { "open" },
            // Five runs a second of one workflow look like a loop.
            "admission": { "loop_rule": "off" },
        })
    }
}

/// What the guests and the player share.
#[derive(Default)]
pub struct Shared {
    /// The guests stop asking.
    pub ends: AtomicBool,
    /// Read while a guest asks and runs; written while nobody may.
    pub going: RwLock<()>,
    /// What came of asking.
    pub asked: Mutex<Asked>,
    /// Of the tenant without a limit.
    pub uncounted: Mutex<(Option<Month>, Uncounted)>,
}

/// Decides when the guests ask.
#[derive(Clone)]
pub struct Months(pub Arc<Shared>);

impl Months {
    /// Holds the guests up until the answer is dropped. What they have run is counted meanwhile.
    pub fn pause(&self) -> RwLockWriteGuard<'_, ()> {
        self.0.going.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next month has begun; everything of the last one is counted.
    pub fn turn_to(&self, month: Month) {
        *lock(&self.0.uncounted) = (Some(month), Uncounted::default());
    }
}

/// A lock that a panicked thread has left is taken all the same.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
