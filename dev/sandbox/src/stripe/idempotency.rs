//! Idempotency keys: the first answer to a key is repeated until the key expires, even a 500.

use std::collections::{HashMap, HashSet};

use axum::http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::StripeError;

/// How long an answer is kept: Stripe removes keys once they are at least a day old.
const KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Most answers kept; when full, the old ones go first.
const SAVED_MAX: usize = 50_000;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Saved {
    fingerprint: String,
    status: u16,
    body: Value,
    saved_at: Timestamp,
}

/// The answers given so far, and the keys of the calls in progress.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct Idempotency {
    saved: HashMap<String, Saved>,
    #[serde(skip)]
    in_flight: HashSet<String>,
}

/// What to do with a call that carries a key.
#[derive(Debug, PartialEq)]
pub(crate) enum Begun {
    /// It is new; `end` it.
    Execute,
    /// It was answered before.
    Replay(StatusCode, Value),
}

impl Idempotency {
    pub(crate) fn begin(
        &mut self,
        key: &str,
        fingerprint: &str,
        now: Timestamp,
    ) -> Result<Begun, StripeError> {
        if let Some(saved) = self.saved.get(key).filter(|saved| now.duration_since(saved.saved_at) < KEPT) {
            if saved.fingerprint != fingerprint {
                return Err(StripeError::IdempotencyMismatch(key.to_owned()));
            }
            let status = StatusCode::from_u16(saved.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            return Ok(Begun::Replay(status, saved.body.clone()));
        }
        if !self.in_flight.insert(key.to_owned()) {
            return Err(StripeError::IdempotencyInUse(key.to_owned()));
        }
        Ok(Begun::Execute)
    }

    /// Keeps the answer to a key.
    pub(crate) fn save(
        &mut self,
        key: &str,
        fingerprint: &str,
        status: StatusCode,
        body: Value,
        now: Timestamp,
    ) {
        if self.saved.len() >= SAVED_MAX {
            self.forget_older_half();
        }
        let saved =
            Saved { fingerprint: fingerprint.to_owned(), status: status.as_u16(), body, saved_at: now };
        self.saved.insert(key.to_owned(), saved);
    }

    /// Ends the call with this key, whatever its outcome.
    pub(crate) fn end(&mut self, key: &str) {
        self.in_flight.remove(key);
    }

    fn forget_older_half(&mut self) {
        let mut times: Vec<Timestamp> = self.saved.values().map(|saved| saved.saved_at).collect();
        times.sort_unstable();
        if let Some(median) = times.get(times.len() / 2).copied() {
            self.saved.retain(|_, saved| saved.saved_at > median);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_795_484_000 + seconds).unwrap()
    }

    #[test]
    fn a_saved_answer_is_replayed_for_a_day_even_if_it_is_a_500() {
        let mut keys = Idempotency::default();
        assert_eq!(keys.begin("k", "f", at(0)), Ok(Begun::Execute));
        keys.save("k", "f", StatusCode::INTERNAL_SERVER_ERROR, Value::Null, at(0));
        keys.end("k");
        let replayed = keys.begin("k", "f", at(60));
        assert_eq!(replayed, Ok(Begun::Replay(StatusCode::INTERNAL_SERVER_ERROR, Value::Null)));
        assert_eq!(keys.begin("k", "f", at(86_400)), Ok(Begun::Execute));
    }

    #[test]
    fn a_key_belongs_to_its_parameters_and_to_one_call_at_a_time() {
        let mut keys = Idempotency::default();
        assert_eq!(keys.begin("k", "f", at(0)), Ok(Begun::Execute));
        assert_eq!(keys.begin("k", "f", at(0)), Err(StripeError::IdempotencyInUse("k".into())));
        keys.save("k", "f", StatusCode::OK, Value::Null, at(0));
        keys.end("k");
        assert_eq!(keys.begin("k", "other", at(1)), Err(StripeError::IdempotencyMismatch("k".into())));
    }
}
