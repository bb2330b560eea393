//! One mail to one recipient: its identity and its life cycle.

use std::fmt;

use uuid::Uuid;

/// The namespace of the ids below; never changes, or mails would be sent twice under two ids.
const MESSAGE_IDS: Uuid = Uuid::from_u128(0x8f0c_6f52_5d1e_4c53_9b1b_0a7e_6a2d_41c7);

/// How far a notification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing was tried yet.
    Pending,
    /// A sender holds it, until its lease ends.
    Sending,
    /// An attempt ended without a decision; there will be another.
    Retrying,
    /// The mail server has accepted it.
    Sent,
    /// It will not be sent; the row says why.
    Failed,
    /// It is not sent: a later mail covers it.
    Superseded,
}

/// What can happen to a notification.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A sender takes it: it is due, or its former sender's lease has ended.
    Claimed,
    /// The mail server has accepted it.
    Accepted,
    /// Not now: the server said so, was unavailable, or did not report the outcome.
    Deferred,
    /// Never: the server refused it for good, or no mail can be made of it.
    Refused,
    /// All attempts are used up.
    Exhausted,
    /// A later crossing's mail takes its place.
    Superseded,
}

impl State {
    /// All states.
    pub const ALL: [Self; 6] =
        [Self::Pending, Self::Sending, Self::Retrying, Self::Sent, Self::Failed, Self::Superseded];

    /// The life cycle. What is not here cannot happen, and changes nothing.
    pub fn after(self, event: Event) -> Option<Self> {
        match (self, event) {
            (Self::Pending | Self::Retrying | Self::Sending, Event::Claimed) => Some(Self::Sending),
            (Self::Pending | Self::Retrying | Self::Sending, Event::Superseded) => Some(Self::Superseded),
            (Self::Sending, Event::Accepted) => Some(Self::Sent),
            (Self::Sending, Event::Deferred) => Some(Self::Retrying),
            (Self::Sending, Event::Refused | Event::Exhausted) => Some(Self::Failed),
            _ => None,
        }
    }

    /// The states that `event` can happen in.
    pub fn before(event: Event) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |state| state.after(event).is_some())
    }

    /// The state's name in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Sending => "sending",
            Self::Retrying => "retrying",
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Superseded => "superseded",
        }
    }
}

/// A mail's `Message-ID`, with its angle brackets: the same for every attempt, so that a mail server or a mailbox
/// can recognise a repeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageId(String);

impl MessageId {
    /// The id of the mail about a crossing or a notice to a recipient, from a sender in `domain`.
    pub fn derive(cause_id: &str, recipient: &str, domain: &str) -> Self {
        // Neither contains a line break, so two different pairs never have the same name.
        let name = format!("{cause_id}\n{recipient}");
        Self(format!("<{}@{domain}>", Uuid::new_v5(&MESSAGE_IDS, name.as_bytes())))
    }

    /// An id as it was stored.
    pub(crate) fn stored(text: String) -> Self {
        Self(text)
    }

    /// The part that is unique to the mail: letters, digits and hyphens.
    pub(crate) fn unique(&self) -> &str {
        let inner = self.0.trim_start_matches('<');
        inner.split_once('@').map_or(inner, |(unique, _)| unique)
    }

    /// The id as the header has it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENTS: [Event; 6] = [
        Event::Claimed,
        Event::Accepted,
        Event::Deferred,
        Event::Refused,
        Event::Exhausted,
        Event::Superseded,
    ];

    #[test]
    fn the_life_cycle_is_this_table() {
        let events = EVENTS;
        let table: Vec<String> = State::ALL
            .into_iter()
            .flat_map(|state| events.into_iter().map(move |event| (state, event)))
            .filter_map(|(state, event)| {
                Some(format!("{} --{event:?}--> {}", state.as_str(), state.after(event)?.as_str()))
            })
            .collect();
        insta::assert_snapshot!(table.join("\n"), @r"
        pending --Claimed--> sending
        pending --Superseded--> superseded
        sending --Claimed--> sending
        sending --Accepted--> sent
        sending --Deferred--> retrying
        sending --Refused--> failed
        sending --Exhausted--> failed
        sending --Superseded--> superseded
        retrying --Claimed--> sending
        retrying --Superseded--> superseded
        ");
    }

    #[test]
    fn the_ends_are_final() {
        for event in EVENTS {
            assert_eq!(State::Superseded.after(event), None);
            assert_eq!(State::Sent.after(event), None);
            assert_eq!(State::Failed.after(event), None);
        }
    }

    #[test]
    fn a_message_id_is_stable_and_unique() {
        let id = MessageId::derive("north:2026-11:80", "ops@north.example", "example.com");
        insta::assert_snapshot!(id, @"<a7e40ae4-30b7-5385-8308-ce27c14413b9@example.com>");
        assert_eq!(id, MessageId::derive("north:2026-11:80", "ops@north.example", "example.com"));
        assert_ne!(id, MessageId::derive("north:2026-11:100", "ops@north.example", "example.com"));
        assert_ne!(id, MessageId::derive("north:2026-11:80", "cto@north.example", "example.com"));
    }
}
