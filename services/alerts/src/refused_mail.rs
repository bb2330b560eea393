//! Mails that a recipient never got, as a fact for the operator.

use prost::Message;

use metering::SafeText;

/// Refusals that one mail to the operator lists; the rest is a number.
const LISTED_MAX: usize = 20;

/// Longest reason, in characters; it quotes a mail server.
const REASON_CHARS_MAX: usize = 200;

/// Mails that will not be sent.
#[derive(Clone, PartialEq, Message)]
pub struct RefusedMail {
    /// The first of them.
    #[prost(message, repeated, tag = "1")]
    pub refusals: Vec<Refusal>,
    /// When the first was refused.
    #[prost(message, optional, tag = "2")]
    pub refused_at: Option<prost_types::Timestamp>,
}

/// A mail that will not be sent.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Refusal {
    /// To whom.
    #[prost(string, tag = "1")]
    pub recipient: String,
    /// Why, in the server's words.
    #[prost(string, tag = "2")]
    pub reason: String,
}

impl RefusedMail {
    /// One refusal.
    pub fn one(recipient: &str, reason: &str, refused_at: jiff::Timestamp) -> Self {
        let refusal = Refusal {
            recipient: SafeText::clean(recipient, REASON_CHARS_MAX).to_string(),
            reason: SafeText::clean(reason, REASON_CHARS_MAX).to_string(),
        };
        Self { refusals: vec![refusal], refused_at: Some(proto::timestamp(refused_at)) }
    }

    /// Both, the earlier first.
    pub fn and(mut self, later: Self) -> Self {
        let free = LISTED_MAX.saturating_sub(self.refusals.len());
        self.refusals.extend(later.refusals.into_iter().take(free));
        self
    }

    /// Whether this address is among the refused ones.
    pub fn names(&self, recipient: &str) -> bool {
        self.refusals.iter().any(|refusal| refusal.recipient.eq_ignore_ascii_case(recipient))
    }
}
