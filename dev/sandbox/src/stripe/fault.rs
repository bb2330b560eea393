//! What can go wrong between a client and Stripe, before or after the call had its effect.

use std::time::Duration;

use serde::Deserialize;

/// How long a call hangs before its connection is cut; every sane client has given up by then.
pub(crate) const HANG: Duration = Duration::from_secs(120);

/// A fault of the Stripe stand-in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StripeFault {
    /// The effect happens, the answer never comes.
    TimeoutAfter,
    /// Nothing happens, and no answer comes.
    TimeoutBefore,
    /// The effect happens, the answer is a 500 (which the idempotency key keeps).
    #[serde(rename = "http_500_after")]
    Http500After,
    /// Nothing happens, the answer is a 500 (which the idempotency key keeps).
    #[serde(rename = "http_500_before")]
    Http500Before,
    /// The effect happens, a proxy answers 502 with HTML.
    #[serde(rename = "html_502_after")]
    Html502After,
    /// Nothing happens, a proxy answers 502 with HTML.
    #[serde(rename = "html_502")]
    Html502,
    /// The effect happens, the connection is cut before the answer.
    DropAfter,
    /// Nothing happens, the connection is cut.
    DropBefore,
    /// 429: too many requests. Nothing happens.
    RateLimit,
    /// 429: another call has the lock. Nothing happens.
    LockTimeout,
}

/// What the client sees of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// The answer itself.
    Whole,
    /// A 500 in its place, saved for the idempotency key as if it were the answer.
    ServerError,
    /// A proxy's page in its place.
    ProxyPage,
    /// Nothing, for a long time.
    Hang,
    /// Nothing, at once.
    Cut,
    /// A refusal in its place: no work was begun.
    RateLimited,
    /// A refusal in its place: no work was begun.
    Locked,
}

impl StripeFault {
    /// Whether the call has its effect.
    pub(crate) fn has_effect(self) -> bool {
        matches!(
            self,
            StripeFault::TimeoutAfter
                | StripeFault::Http500After
                | StripeFault::Html502After
                | StripeFault::DropAfter
        )
    }

    pub(crate) fn delivery(self) -> Delivery {
        match self {
            StripeFault::TimeoutAfter | StripeFault::TimeoutBefore => Delivery::Hang,
            StripeFault::Http500After | StripeFault::Http500Before => Delivery::ServerError,
            StripeFault::Html502After | StripeFault::Html502 => Delivery::ProxyPage,
            StripeFault::DropAfter | StripeFault::DropBefore => Delivery::Cut,
            StripeFault::RateLimit => Delivery::RateLimited,
            StripeFault::LockTimeout => Delivery::Locked,
        }
    }
}
