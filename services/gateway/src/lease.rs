//! Units of a tenant's period that a replica holds and spends in memory.
//!
//! # Why the limit cannot be overshot
//!
//! The ledger in Postgres keeps three things of a tenant: *tallies*, how many runs were allowed, by when; *leases*, for each
//! replica how many units it was handed and has neither tallied nor given back; and the limit check's formula over both,
//! computed under the tenant's lock:
//!
//! ```text
//! used = max(counted, accounted for at W + tallies since W + outstanding units that could be spent since W)
//! ```
//!
//! 1. A unit is handed out only while `used` with all outstanding units is below the bound, under the lock, and is
//!    outstanding from that transaction on. So at every moment `used <= bound`, whoever holds the units.
//! 2. A run is allowed by spending a unit of one's own lease, or by a decision that is written and tallied before the
//!    answer. Spending moves the unit from *unspent* to *spent, not tallied*; both are outstanding. The replica's next
//!    transaction under the lock (`settle`) tallies what was spent and says what is outstanding then. Whoever reads tallies
//!    and leases reads both in one statement, so a unit is seen in one of the two, never in neither.
//! 3. Only the holder changes its row in `leases` and its rows in `tallies`, in one transaction at a time (`Desk`), and
//!    always to absolute figures that it knows: what it holds, and what it has spent in each row's time. A transaction
//!    whose outcome is lost is simply made again. The rows of the runs themselves (`write_down`) stand against nothing: they
//!    let a repeated id find its answer. Where one was there, another replica has decided the run too, and tallies it;
//!    then the holder takes its own unit from its figure.
//! 4. A unit cannot be spent after `expires_at`. Its holder may be dead and the unit spent or not: nobody knows. It
//!    counts as spent at `expires_at`, the latest instant possible, until W has passed that by [`START_MARGIN`]; then
//!    a run that it became is counted or listed as running, and the unit is free. The row is never deleted before,
//!    because another replica may still decide with an older W.
//!    Nothing of this asks how many replicas hold units of a tenant at once, or who they are: each has its own row.
//! 5. An older W than another replica's is sound: the formula holds for any W for itself.
//! 6. A changed limit: each replica reads the catalog's version from Postgres every [`CONTACT_INTERVAL`], and spends
//!    nothing when the last reading is older than [`CONTACT_AGE_MAX`]. What a lease was granted under is compared with
//!    the catalog at each run. So a lowered limit ends all spending under the old one within that time, also with the
//!    broker away.
//!
//! The clocks of gateways and the instants of W are taken to differ by less than [`START_MARGIN`].
//!
//! # False refusals
//!
//! A run is refused although units are left when other replicas hold them, or when runs stand twice:
//!
//! ```text
//! units that cannot be used now = sum over the other replicas of what they hold
//!                              <= sum of min(LEASE_MAX, free at the grant / SHARE)
//!                               = 0 once the free units have been below NEAR at each grant
//!                               + runs allowed in the START_MARGIN before W, and at most a row of tallies before that
//!                                 (not those that are counted and say when they were allowed)
//!                               = 0 from the sweep on that such a refusal asks for (`doubts`)
//! ```
//!
//! What another replica has spent and not tallied is in what it holds: it stands until W has passed the lease.
//!
//! A living replica gives back what it does not need: where the limit is near within [`REFRESH_INTERVAL`] (idle: all; else
//! seven eighths), elsewhere at most [`REFRESH_INTERVAL_FAR`] later, and in its turn: leases that are due are looked at one
//! to four at a time. A dead one's units are free when W has passed `expires_at`, at most [`LEASE_TIME`] after the grant.
//!
//! [`START_MARGIN`]: crate::admission::START_MARGIN

use std::time::Duration;

use jiff::SignedDuration;

/// No lease is larger: at most this many units are unsure after a crash.
pub const LEASE_MAX: u64 = 10_000;

/// First lease of a replica that does not know the rate yet.
const LEASE_FIRST: u64 = 16;

/// A lease is at most this part of what is free: eight replicas can take one each and something is left.
const SHARE: u64 = 8;

/// With fewer free units nothing is leased: each run is decided under the lock and written before the answer.
pub const NEAR: u64 = 64;

/// A lease is spent within this time at the latest; bounds how long a crash keeps units.
pub const LEASE_TIME: SignedDuration = SignedDuration::from_secs(10);

/// A lease is looked at again after this time: what is not needed is given back.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The same for a lease that is used and far from the limit, of which more than half is left: to look is a transaction.
pub const REFRESH_INTERVAL_FAR: Duration = Duration::from_secs(4);

/// A lease lasts twice this long at the rate that was seen. It is looked at again while half of it is left: a commit that
/// takes a second or two on a busy disk stops nobody.
pub const LEASE_SPAN: Duration = Duration::from_secs(4);

/// How often a replica asks whether its catalog is current and whether others decide for its tenants.
pub const CONTACT_INTERVAL: Duration = Duration::from_millis(250);

/// Nothing is spent where the last answer to that is older: a changed limit holds within a second everywhere.
pub const CONTACT_AGE_MAX: Duration = Duration::from_millis(900);

/// How many units a replica should hold that has spent `spent` in `elapsed`, with `free` units left to hand out
/// (nothing where there is no bound).
pub fn size(spent: u64, elapsed: Duration, free: Option<u64>) -> u64 {
    let needed = if spent == 0 { 0 } else { needed(spent, elapsed) };
    match free {
        Some(free) if free < NEAR => 0,
        Some(free) => needed.min(free / SHARE),
        None => needed,
    }
}

/// Twice what [`LEASE_SPAN`] has needed: a growing rate is followed in a few steps.
fn needed(spent: u64, elapsed: Duration) -> u64 {
    let elapsed_ms = elapsed.as_millis().max(1);
    let wanted = u128::from(spent) * 2 * LEASE_SPAN.as_millis() / elapsed_ms;
    u64::try_from(wanted).unwrap_or(LEASE_MAX).clamp(LEASE_FIRST, LEASE_MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_lease_follows_the_rate_and_shrinks_near_the_limit() {
        let second = Duration::from_secs(1);
        assert_eq!(size(1_000, second, None), 8_000);
        assert_eq!(size(1_000, second, Some(4_000)), 500);
        assert_eq!(size(1_000, second, Some(NEAR - 1)), 0, "near the limit each run asks the ledger");
        assert_eq!(size(0, second, None), 0, "who spends nothing gives everything back");
        assert_eq!(size(1, second, None), LEASE_FIRST);
        assert_eq!(size(u64::MAX, Duration::ZERO, None), LEASE_MAX);
    }

    proptest! {
        /// The ledger itself is tested on Postgres, with gateways that are killed: `tests/it/leases.rs`.
        #[test]
        fn a_grant_is_needed_bounded_and_leaves_units_for_others(
            spent in 0_u64..1_000_000,
            elapsed_ms in 0_u64..60_000,
            free in 0_u64..2_000_000,
        ) {
            let elapsed = Duration::from_millis(elapsed_ms);
            let granted = size(spent, elapsed, Some(free));
            prop_assert!(granted <= LEASE_MAX);
            prop_assert!(granted * SHARE <= free, "{granted} of {free} free units");
            prop_assert_eq!(granted > 0, spent > 0 && free >= NEAR, "{} units", granted);
            if granted > 0 {
                // What is left is enough for seven others that ask for as much.
                prop_assert!(granted >= LEASE_FIRST.min(free / SHARE));
                prop_assert!(free - granted >= granted * (SHARE - 1));
            }
            let unbounded = size(spent, elapsed, None);
            prop_assert_eq!(granted, if free < NEAR { 0 } else { unbounded.min(free / SHARE) });
        }
    }
}
