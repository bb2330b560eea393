//! Units of a tenant's period that a replica holds and spends in memory.
//!
//! # Why the limit cannot be exceeded
//!
//! The ledger in Postgres has three parts for each tenant: *tallies*, how many runs were allowed, by time;
//! *leases*, for each replica how many units it was granted and has neither tallied nor returned; and the
//! limit check's formula over both, computed under the tenant's lock, with the watermark `W`:
//!
//! ```text
//! used = max(counted, accounted for at W + tallies since W + outstanding units that could be spent since W)
//! ```
//!
//! 1. A unit is granted, under the lock, only while `used` with all outstanding units is below the bound, and
//!    is outstanding from that transaction on. So `used <= bound` always holds, whoever holds the units.
//! 2. A run is allowed by spending a unit of the replica's own lease, or by a decision that is stored and
//!    tallied before the answer. Spending moves the unit from *unspent* to *spent, not tallied*; both are
//!    outstanding. The replica's next transaction under the lock (`ledger`) tallies the spent units and
//!    records the outstanding ones. Tallies and leases are always read in one statement, so a unit is seen in
//!    at least one of the two.
//! 3. Only the holder changes its row in `leases` and its rows in `tallies`, in one transaction at a time
//!    (`TenantLease`), and always to absolute figures: the units it holds, and the units it spent in each row's
//!    time. So a transaction whose outcome is unknown is simply repeated. The rows of the runs themselves
//!    (`write_behind`) do not count against the limit: they let a repeated id find its answer. If such a row
//!    exists already, another replica has decided the run too, and tallies it; the holder then subtracts its
//!    own unit.
//! 4. A unit cannot be spent after `expires_at`. If its holder has died, nobody knows whether the unit was
//!    spent. It counts as spent at `expires_at`, the latest possible instant, until the watermark has passed
//!    that by [`START_MARGIN`]; a run that spent it is then counted or listed as running, and the unit is
//!    free. The row is never deleted before, because another replica may still decide with an older
//!    watermark. None of this depends on how many replicas hold units of a tenant, or which: each has its own
//!    row.
//! 5. A watermark older than another replica's is sound: the formula holds for every watermark.
//! 6. A changed limit: each replica reads the catalog's version from Postgres every [`CONTACT_INTERVAL`], and
//!    spends nothing if the last reading is older than [`CONTACT_AGE_MAX`]. The terms of a lease are compared
//!    with the catalog for each run. So a lowered limit ends all spending under the old one within that time,
//!    even without the broker.
//!
//! The clocks of gateways and the watermark are assumed to differ by less than [`START_MARGIN`].
//!
//! # False refusals
//!
//! A run is refused although units are left if other replicas hold them, or if runs are counted twice:
//!
//! ```text
//! units that cannot be used now = sum over the other replicas of what they hold
//!                              <= sum of min(LEASE_MAX, free at the grant / SHARE)
//!                               = 0 once the free units have been below NEAR at each grant
//!                               + runs allowed in the START_MARGIN before W, and at most a row of tallies before that
//!                                 (not those that are counted with an `admitted_at`)
//!                               = 0 from the sweep on that such a refusal requests (`resweeps`)
//! ```
//!
//! Units that another replica has spent and not tallied are part of what it holds: they count until the
//! watermark has passed the lease.
//!
//! A living replica returns what it does not need: near the limit within [`REFRESH_INTERVAL`] (if idle all of
//! it, else seven eighths), otherwise after at most [`REFRESH_INTERVAL_FAR`], in turn: due leases are
//! refreshed one to four at a time. A dead replica's units are free once the watermark has passed
//! `expires_at`, which is at most [`LEASE_TIME`] after the grant.
//!
//! [`START_MARGIN`]: crate::admission::known::START_MARGIN

use std::time::Duration;

use jiff::SignedDuration;

/// The largest lease: at most this many units are uncertain after a crash.
pub const LEASE_MAX: u64 = 10_000;

/// Size of a replica's first lease, while it does not know the rate yet.
const LEASE_FIRST: u64 = 16;

/// A lease is at most one eighth of the free units: eight replicas can take one each and some are left.
const SHARE: u64 = 8;

/// With fewer free units nothing is leased: each run is decided under the lock and stored before the answer.
pub const NEAR: u64 = 64;

/// A lease expires after this time; bounds how long a crash holds units back.
pub const LEASE_TIME: SignedDuration = SignedDuration::from_secs(10);

/// A lease is refreshed after this time: units that are not needed are returned.
pub const REFRESH_INTERVAL: Duration = Duration::from_secs(1);

/// The same for a lease in use, far from the limit and more than half left, because a refresh costs a
/// transaction.
pub const REFRESH_INTERVAL_FAR: Duration = Duration::from_secs(4);

/// A lease lasts twice this long at the observed rate. It is refreshed while half of it is left, so that a
/// commit that takes a second or two on a busy disk blocks nobody.
pub const LEASE_SPAN: Duration = Duration::from_secs(4);

/// How often a replica checks whether its catalog is current and whether others decide for its tenants.
pub const CONTACT_INTERVAL: Duration = Duration::from_millis(250);

/// Nothing is spent if the last check is older, so that a changed limit holds everywhere within a second.
pub const CONTACT_AGE_MAX: Duration = Duration::from_millis(900);

/// How many units a replica should hold that has spent `spent` in `elapsed`, with `free` units left to grant
/// (`None` if there is no bound).
pub fn size(spent: u64, elapsed: Duration, free: Option<u64>) -> u64 {
    let needed = if spent == 0 { 0 } else { needed(spent, elapsed) };
    match free {
        Some(free) if free < NEAR => 0,
        Some(free) => needed.min(free / SHARE),
        None => needed,
    }
}

/// Twice the need of [`LEASE_SPAN`] at this rate, so that a lease follows a growing rate in a few steps.
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
        assert_eq!(size(1_000, second, Some(NEAR - 1)), 0, "near the limit the ledger decides each run");
        assert_eq!(size(0, second, None), 0, "a replica that spends nothing returns everything");
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
                // Enough is left for seven others that ask for as much.
                prop_assert!(granted >= LEASE_FIRST.min(free / SHARE));
                prop_assert!(free - granted >= granted * (SHARE - 1));
            }
            let unbounded = size(spent, elapsed, None);
            prop_assert_eq!(granted, if free < NEAR { 0 } else { unbounded.min(free / SHARE) });
        }
    }
}
