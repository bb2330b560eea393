//! The result of one call to Stripe, in the cases that billing has to distinguish.

/// The outcome of sending one meter event. The text is for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted. Whether it is counted, only the summaries show.
    Accepted,
    /// An event with this identifier was accepted before: an earlier attempt had arrived.
    Duplicate,
    /// The idempotency key was used with other parameters: a sealed row has changed, which must never happen.
    KeyReused(String),
    /// Refused for good; not executed.
    Refused(String),
    /// Refused because the event is too old; not executed.
    TooOld(String),
    /// The API key does not permit this; not executed.
    Unauthorized(String),
    /// No active meter has this event name; not executed.
    NoMeter(String),
    /// Too many calls, or another call holds the lock; not executed.
    Busy(String),
    /// Stripe answered that it failed: executed or not, and the same idempotency key would repeat the
    /// failure.
    Failed(String),
    /// No answer, or an unreadable one: executed or not.
    NoAnswer(String),
}

/// Why something could not be read from Stripe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The API key does not permit this.
    #[error("Stripe does not accept the key: {0}")]
    Unauthorized(String),
    /// There is no such customer.
    #[error("Stripe has no such customer: {0}")]
    NoCustomer(String),
    /// No active meter has this event name.
    #[error("Stripe has no active meter for the event name {0}")]
    NoMeter(String),
    /// No usable answer; worth another try.
    #[error("Stripe cannot be read now: {0}")]
    Unavailable(String),
}
