//! When a mail that was not accepted is tried again.

use std::time::Duration;

use messaging::doubling;

use crate::MessageId;

/// Attempts of one mail; with the waits below the last comes about a day after the first. A mail server that is
/// unavailable for longer needs a person, who finds the rows as failed.
pub const ATTEMPTS_MAX: u32 = 20;

const WAIT_FIRST: Duration = Duration::from_secs(30);

/// Longer waits would make a mail late after the mail server is back.
const WAIT_MAX: Duration = Duration::from_secs(2 * 60 * 60);

/// Waits vary by this many thousandths up and down, so that mails deferred together do not come back together.
const SPREAD_PERMILLE: u32 = 200;

/// The wait after the attempt with this number (the first is 1); `None` after the last. The spread comes from
/// the mail's own id: different for every mail, the same in every run.
pub fn wait_after(attempt: u32, message: &MessageId) -> Option<Duration> {
    if attempt >= ATTEMPTS_MAX {
        return None;
    }
    let wait = doubling(WAIT_FIRST, attempt.into(), WAIT_MAX);
    let permille = 1_000 - SPREAD_PERMILLE + scatter(attempt, message) % (2 * SPREAD_PERMILLE + 1);
    Some(wait * permille / 1_000)
}

/// FNV-1a over the id and the attempt.
fn scatter(attempt: u32, message: &MessageId) -> u32 {
    message
        .as_str()
        .bytes()
        .chain(attempt.to_le_bytes())
        .fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn attempts_take_about_a_day(recipient in "[a-z]{1,20}@[a-z]{1,20}") {
            let message = MessageId::derive("north:2026-11:80", &recipient, "example.com");
            let waits: Vec<Duration> = (1..).map_while(|attempt| wait_after(attempt, &message)).collect();
            prop_assert_eq!(waits.len(), usize::try_from(ATTEMPTS_MAX).unwrap() - 1);
            let hours = waits.iter().sum::<Duration>().as_secs() / 3_600;
            prop_assert!((20..=28).contains(&hours), "{} hours", hours);
            prop_assert!(waits[0] >= WAIT_FIRST * 8 / 10 && waits[0] <= WAIT_FIRST * 12 / 10);
        }
    }

    #[test]
    fn mails_deferred_together_come_back_apart() {
        let wait = |name: &str| wait_after(9, &MessageId::derive(name, "ops@north.example", "example.com"));
        assert_ne!(wait("north:2026-11:80"), wait("north:2026-11:100"));
    }
}
