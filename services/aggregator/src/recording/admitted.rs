//! When the limit check admitted an execution: a claim by the source's hook. The gateway uses it to settle
//! the reservation once the execution is counted (ADR 0021).

use jiff::Timestamp;

/// One slot of the gateway's tallies, in seconds.
const SLOT_SECONDS: i64 = 5;

/// Slots in one message: ten minutes.
const SLOTS_MAX: i64 = 120;

/// A claim is kept for this many slots: an hour.
const SLOTS_KEPT: i64 = 720;

/// The gateway's `START_MARGIN`, in seconds: its reservations reach this far back behind the watermark, and a
/// run starts within this time of its slot.
pub(crate) const MARGIN_SECONDS: i64 = 5;

/// The slot of an instant.
fn slot(at: Timestamp) -> i64 {
    at.as_second().div_euclid(SLOT_SECONDS)
}

/// The slot in which an execution was admitted; `None` if the claim is too old, or too far ahead, to settle
/// anything.
pub(crate) fn claimed(admitted_at: Option<Timestamp>, now: Timestamp) -> Option<i64> {
    let (slot, current) = (slot(admitted_at?), slot(now));
    (current - SLOTS_MAX..=current + 1 + MARGIN_SECONDS / SLOT_SECONDS).contains(&slot).then_some(slot)
}

/// The first slot that a message lists.
pub(crate) fn first_listed(complete_until: Timestamp, now: Timestamp) -> i64 {
    let since = complete_until.as_second().saturating_sub(MARGIN_SECONDS).div_euclid(SLOT_SECONDS);
    since.max(slot(now) - SLOTS_MAX + 2)
}

/// The first slot whose claims are kept.
pub(crate) fn first_kept(now: Timestamp) -> i64 {
    slot(now) - SLOTS_KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_from_another_time_settles_nothing_and_a_message_is_bounded() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let now = at("2026-11-24T12:00:00Z");
        assert_eq!(claimed(Some(now), now), Some(slot(now)));
        assert_eq!(claimed(Some(at("2026-11-24T11:49:00Z")), now), None);
        assert_eq!(claimed(Some(at("2026-11-24T12:01:00Z")), now), None);
        assert_eq!(claimed(None, now), None);
        assert_eq!(first_listed(at("2026-11-24T11:59:57Z"), now), slot(at("2026-11-24T11:59:52Z")));
        assert_eq!(first_listed(at("2026-10-24T11:59:57Z"), now), slot(now) - 118);
    }
}
