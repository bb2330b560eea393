//! What became of one call to Stripe, as far as billing has to tell cases apart.

/// The outcome of sending one meter event. The text is for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Taken. Not yet counted: only the summaries tell.
    Accepted,
    /// An event with this identifier was taken before: an earlier attempt had arrived.
    Duplicate,
    /// The idempotency key was used with other parameters: a sealed row has changed, which must never happen.
    KeyReused(String),
    /// Refused for good; not executed.
    Refused(String),
    /// Refused because the event is too old; not executed.
    TooOld(String),
    /// The key is not good for this; not executed.
    Unauthorized(String),
    /// No active meter takes this event name; not executed.
    NoMeter(String),
    /// Too many calls, or another call has the lock; not executed.
    Busy(String),
    /// Stripe failed and said so: executed or not, and the idempotency key would repeat the failure.
    Failed(String),
    /// No answer, or one that cannot be read: executed or not.
    NoAnswer(String),
}

/// Why something could not be read from Stripe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The key is not good for this.
    #[error("Stripe does not accept the key: {0}")]
    Unauthorized(String),
    /// There is no such customer.
    #[error("Stripe has no such customer: {0}")]
    NoCustomer(String),
    /// No active meter has this event name.
    #[error("Stripe has no active meter for the event name {0}")]
    NoMeter(String),
    /// No answer that can be used; worth another try.
    #[error("Stripe cannot be read now: {0}")]
    Unavailable(String),
}
