//! The life cycle of a sealed report, as a transition table.
//!
//! ```text
//! sealed ──▶ sending ──▶ accepted ──▶ confirmed        rejected  refused, not executed, quantity given back
//!    ▲          │ ▲                                    late      too late for the invoice
//!    │          ▼ │(resending)                         stuck     only an operator can settle it
//!    └─────── unknown ──▶ accepted | stuck | late
//! ```
//!
//! `sending` is the first attempt that may arrive; `resending` is one that follows an attempt of unknown fate, so
//! that a refusal does not prove that nothing was counted.

use std::time::Duration;

use jiff::Timestamp;
use metering::{Period, TenantId};

use crate::{
    identifier::{Destination, Identifier},
    outcome::Outcome,
};
use metering::later;

/// Stripe remembers an identifier for at least 24 hours. We stop relying on it an hour before that.
pub const RESEND_WINDOW: Duration = Duration::from_secs(23 * 60 * 60);

/// Summaries are eventually consistent: an empty receipt counts only when it is still empty this much later.
pub const ABSENCE_STABLE_AFTER: Duration = Duration::from_secs(10 * 60);

/// The state of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Recorded; never sent, or proven not to have arrived.
    Sealed,
    /// An attempt is under way, the first that may arrive.
    Sending,
    /// An attempt is under way after one of unknown fate.
    Resending,
    /// Sent, and nobody knows whether it arrived.
    Unknown,
    /// Stripe accepted it.
    Accepted,
    /// Stripe's summary of the closed period counts it.
    Confirmed,
    /// Refused and not executed; its quantity went back to the account.
    Rejected,
    /// Too late for the invoice. Never sent; an operator bills it.
    Late,
    /// Neither sending nor waiting can settle it; an operator looks.
    Stuck,
}

/// What happens to a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// An attempt begins.
    Begun,
    /// Stripe accepted it, now or earlier.
    Taken,
    /// This attempt was not executed, and a later one may be.
    NotExecuted,
    /// This attempt may have been executed.
    Unclear,
    /// Refused for good.
    Refused,
    /// Refused because of its age.
    TooOld,
    /// Stripe says that the sealed row has changed.
    Tampered,
    /// The window for sending is over.
    WindowOver,
    /// The receipt shows the quantity.
    ReceiptFound,
    /// The receipt is empty, and stays so.
    ReceiptAbsent,
    /// The receipt shows something else.
    ReceiptStrange,
    /// The period's summary agrees.
    Agreed,
}

/// The event cannot happen in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a report in the state {} has no transition for {event:?}", state.as_str())]
pub struct Impossible {
    state: State,
    event: Event,
}

impl State {
    /// All states.
    pub const ALL: [Self; 9] = [
        Self::Sealed,
        Self::Sending,
        Self::Resending,
        Self::Unknown,
        Self::Accepted,
        Self::Confirmed,
        Self::Rejected,
        Self::Late,
        Self::Stuck,
    ];

    /// Applies the transition table.
    pub fn after(self, event: Event) -> Result<Self, Impossible> {
        use State as S;
        Ok(match (self, event) {
            (S::Sealed, Event::Begun) => S::Sending,
            (S::Sealed, Event::Refused) => S::Rejected,
            (S::Sealed, Event::WindowOver) => S::Late,

            (S::Sending, Event::Taken) => S::Accepted,
            (S::Sending, Event::NotExecuted) => S::Sealed,
            (S::Sending, Event::Unclear) => S::Unknown,
            (S::Sending, Event::Refused) => S::Rejected,
            (S::Sending, Event::TooOld) => S::Late,
            (S::Sending, Event::Tampered) => S::Stuck,

            (S::Unknown, Event::Begun) => S::Resending,
            (S::Unknown, Event::ReceiptFound) => S::Accepted,
            (S::Unknown, Event::ReceiptAbsent) => S::Sealed,
            (S::Unknown, Event::ReceiptStrange) => S::Stuck,

            (S::Resending, Event::Taken) => S::Accepted,
            (S::Resending, Event::NotExecuted | Event::Unclear) => S::Unknown,
            // An earlier attempt may have arrived, so a refusal now proves nothing about it.
            (S::Resending, Event::Refused | Event::TooOld | Event::Tampered) => S::Stuck,

            (S::Accepted, Event::Agreed) => S::Confirmed,
            (state, event) => return Err(Impossible { state, event }),
        })
    }

    /// Whether it still has to be settled with Stripe; the tenant's next report waits for it.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Sealed | Self::Sending | Self::Resending | Self::Unknown)
    }

    /// Its name in the database and in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sealed => "sealed",
            Self::Sending => "sending",
            Self::Resending => "resending",
            Self::Unknown => "unknown",
            Self::Accepted => "accepted",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Late => "late",
            Self::Stuck => "stuck",
        }
    }

    /// The state with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl Event {
    /// What an outcome means for the report.
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Accepted | Outcome::Duplicate => Self::Taken,
            Outcome::KeyReused(_) => Self::Tampered,
            Outcome::Refused(_) => Self::Refused,
            Outcome::TooOld(_) => Self::TooOld,
            Outcome::Unauthorized(_) | Outcome::NoMeter(_) | Outcome::Busy(_) => Self::NotExecuted,
            Outcome::Failed(_) | Outcome::NoAnswer(_) => Self::Unclear,
        }
    }
}

/// A sealed report. What it reports never changes; its progress does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its name at Stripe.
    pub identifier: Identifier,
    /// Whose usage.
    pub tenant: TenantId,
    /// In which period.
    pub period: Period,
    /// Its number within the tenant's period.
    pub version: u32,
    /// Where it goes.
    pub destination: Destination,
    /// Executions; negative for a correction.
    pub quantity: i64,
    /// The event's time at Stripe, in whole seconds.
    pub event_at: Timestamp,
    /// From here on the invoice may be final.
    pub send_before: Timestamp,
    /// Its state.
    pub state: State,
    /// The first attempt that may have arrived.
    pub first_attempt_at: Option<Timestamp>,
    /// Attempts so far.
    pub attempts: u32,
    /// Incremented when the idempotency key must not be used again.
    pub key_generation: u32,
    /// Since when the receipt has been found empty.
    pub absent_since: Option<Timestamp>,
}

/// What to do next about an open report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Send it: the first time, or protected by its identifier.
    Send,
    /// Check in the minute's summary whether it arrived.
    ReadReceipt,
    /// Give up: it was never sent and may no longer be.
    GiveUp,
    /// Nothing to do, for now or for good.
    Wait,
}

impl Report {
    /// The idempotency key of the next attempt.
    pub fn idempotency_key(&self) -> String {
        format!("{}-{}", self.identifier, self.key_generation)
    }

    /// What to do at `now`.
    pub fn next_step(&self, now: Timestamp) -> Step {
        let in_time = now < self.send_before;
        let is_protected = self.first_attempt_at.is_none_or(|first| now < later(first, RESEND_WINDOW));
        match self.state {
            State::Sealed if in_time => Step::Send,
            State::Sealed => Step::GiveUp,
            State::Unknown if in_time && is_protected => Step::Send,
            State::Unknown => match self.absent_since {
                Some(since) if now < later(since, ABSENCE_STABLE_AFTER) => Step::Wait,
                _ => Step::ReadReceipt,
            },
            // Under way elsewhere, or left over by a crash: the next lease turns it into unknown.
            State::Sending | State::Resending => Step::Wait,
            State::Accepted | State::Confirmed | State::Rejected | State::Late | State::Stuck => Step::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EVENTS: [Event; 12] = [
        Event::Begun,
        Event::Taken,
        Event::NotExecuted,
        Event::Unclear,
        Event::Refused,
        Event::TooOld,
        Event::Tampered,
        Event::WindowOver,
        Event::ReceiptFound,
        Event::ReceiptAbsent,
        Event::ReceiptStrange,
        Event::Agreed,
    ];

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn report(state: State) -> Report {
        let period = Period { start: at("2026-11-01T00:00:00Z"), end: at("2026-12-01T00:00:00Z") };
        let tenant = TenantId::parse("north").unwrap();
        Report {
            identifier: Identifier::of("live", "executions", &tenant, period, 1),
            tenant,
            period,
            version: 1,
            destination: Destination { customer: "cus_north".into(), event_name: "executions".into() },
            quantity: 7,
            event_at: at("2026-11-24T11:55:00Z"),
            send_before: at("2026-12-01T00:55:00Z"),
            state,
            first_attempt_at: None,
            attempts: 0,
            key_generation: 1,
            absent_since: None,
        }
    }

    #[test]
    fn every_outcome_has_the_effect_of_the_table() {
        let text = String::new;
        for (outcome, first, again) in [
            (Outcome::Accepted, State::Accepted, State::Accepted),
            (Outcome::Duplicate, State::Accepted, State::Accepted),
            (Outcome::KeyReused(text()), State::Stuck, State::Stuck),
            (Outcome::Refused(text()), State::Rejected, State::Stuck),
            (Outcome::TooOld(text()), State::Late, State::Stuck),
            (Outcome::Unauthorized(text()), State::Sealed, State::Unknown),
            (Outcome::NoMeter(text()), State::Sealed, State::Unknown),
            (Outcome::Busy(text()), State::Sealed, State::Unknown),
            (Outcome::Failed(text()), State::Unknown, State::Unknown),
            (Outcome::NoAnswer(text()), State::Unknown, State::Unknown),
        ] {
            assert_eq!(State::Sending.after(Event::of(&outcome)), Ok(first), "{outcome:?}");
            assert_eq!(State::Resending.after(Event::of(&outcome)), Ok(again), "{outcome:?}");
        }
    }

    #[test]
    fn a_final_state_is_never_left() {
        for state in [State::Confirmed, State::Rejected, State::Late, State::Stuck] {
            for event in EVENTS {
                assert!(state.after(event).is_err(), "{state:?} {event:?}");
            }
        }
    }

    #[test]
    fn states_keep_their_names() {
        for state in State::ALL {
            assert_eq!(State::parse(state.as_str()), Some(state));
        }
        assert_eq!(State::parse("open"), None);
    }

    #[test]
    fn a_blind_resend_ends_an_hour_before_the_identifier_does() {
        let unknown = Report { first_attempt_at: Some(at("2026-11-24T12:00:00Z")), ..report(State::Unknown) };
        assert_eq!(unknown.next_step(at("2026-11-25T10:59:59Z")), Step::Send);
        assert_eq!(unknown.next_step(at("2026-11-25T11:00:00Z")), Step::ReadReceipt);
    }

    #[test]
    fn absence_is_believed_only_when_it_lasts() {
        let now = at("2026-11-25T12:00:00Z");
        let unknown = Report {
            first_attempt_at: Some(at("2026-11-24T12:00:00Z")),
            absent_since: Some(now),
            ..report(State::Unknown)
        };
        assert_eq!(unknown.next_step(at("2026-11-25T12:09:59Z")), Step::Wait);
        assert_eq!(unknown.next_step(at("2026-11-25T12:10:00Z")), Step::ReadReceipt);
    }

    #[test]
    fn nothing_is_sent_when_the_invoice_may_be_final() {
        let now = at("2026-12-01T00:55:00Z");
        assert_eq!(report(State::Sealed).next_step(now), Step::GiveUp);
        let fresh = Report { first_attempt_at: Some(at("2026-12-01T00:54:00Z")), ..report(State::Unknown) };
        assert_eq!(fresh.next_step(now), Step::ReadReceipt, "a re-send could land on no invoice");
    }

    #[test]
    fn a_new_generation_is_a_new_key() {
        let first = report(State::Unknown);
        let second = Report { key_generation: 2, ..first.clone() };
        assert_ne!(first.idempotency_key(), second.idempotency_key());
    }

    proptest! {
        /// Doubt about an attempt that may have arrived ends only by an answer, a receipt or an operator.
        #[test]
        fn doubt_never_turns_into_a_refusal(events in proptest::collection::vec(0..EVENTS.len(), 0..40)) {
            let (mut state, mut in_doubt) = (State::Sealed, false);
            for event in events.into_iter().map(|index| EVENTS[index]) {
                let Ok(next) = state.after(event) else { continue };
                match event {
                    Event::Unclear => in_doubt = true,
                    Event::ReceiptAbsent => in_doubt = false,
                    _ => {}
                }
                if in_doubt {
                    let allowed = [State::Unknown, State::Resending, State::Accepted, State::Confirmed, State::Stuck];
                    prop_assert!(allowed.contains(&next), "{state:?} {event:?} {next:?}");
                }
                state = next;
            }
        }
    }
}
