//! Which thresholds are mailed, and when: only the highest of a change, never a lower one after a higher one,
//! and a bounded number of mails of a tenant in a day
//! ([ADR 0028](../../../docs/adr/0028-one-mail-for-a-change.md)).
//!
//! A crossing is recorded whatever is mailed, once in a period. If the day's mails are used up, its mail
//! waits. The last waiting mail names all thresholds; those before it are superseded.

use jiff::{SignedDuration, Timestamp};
use metering::Period;

use crate::Crossing;

/// The time over which mails are counted.
pub const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Why a crossing is not mailed: the same change has crossed a higher threshold.
pub const SAME_CHANGE: &str = "a higher threshold was crossed at the same time";

/// Why a crossing is not mailed: a higher threshold of the same limit was crossed before.
pub const LOWER: &str = "a higher threshold was crossed before";

/// An earlier crossing of the tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The crossing.
    pub id: String,
    /// The period.
    pub period: Period,
    /// The share of the limit.
    pub percent: u32,
    /// The limit at the crossing.
    pub limit: u64,
    /// When its mail was sent, or will be; `None` if it has none.
    pub mailed_at: Option<Timestamp>,
    /// Whether a mail of it is not sent yet.
    pub is_open: bool,
    /// Thresholds that this mail names beside its own.
    pub folded: Vec<u32>,
}

/// What happens to a crossing's mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pace {
    /// There is none, for this reason.
    Skip(&'static str),
    /// There is one.
    Mail {
        /// When it may be sent, if that is later than now.
        release_at: Option<Timestamp>,
        /// Crossings whose mails it replaces.
        supersedes: Vec<String>,
        /// Their thresholds, which it names.
        folded: Vec<u32>,
    },
}

/// How many mails of a tenant are sent, and how soon.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// At most this many are sent in a [`DAY`]. The last of them is kept for the limit itself.
    pub mails_per_day: usize,
    /// A mail about a threshold below the limit waits this long for a higher one, which takes its place: a
    /// burst of runs crosses several within seconds, in as many messages.
    pub warning_delay: SignedDuration,
}

/// Decides on a crossing; `earlier` holds what the tenant has crossed in the same period and in the last
/// [`DAY`].
pub fn pace(crossing: &Crossing, earlier: &[Earlier], rules: Rules, now: Timestamp) -> Pace {
    let percent = crossing.percent.get();
    if percent < crossing.highest_percent {
        return Pace::Skip(SAME_CHANGE);
    }
    let of_period = |known: &&Earlier| known.period == crossing.period;
    // If the limit was raised since, the lower threshold is news.
    if earlier.iter().filter(of_period).any(|known| known.percent > percent && known.limit >= crossing.limit)
    {
        return Pace::Skip(LOWER);
    }
    let waits = |known: &&Earlier| known.mailed_at.is_some_and(|instant| instant > now);
    let replaced = earlier
        .iter()
        .filter(|known| known.is_open)
        .filter(|known| waits(known) || (known.period == crossing.period && known.percent <= percent));
    let mut folded: Vec<u32> =
        replaced.clone().flat_map(|known| known.folded.iter().copied().chain([known.percent])).collect();
    folded.retain(|other| *other != percent);
    folded.sort_unstable();
    folded.dedup();
    let supersedes: Vec<String> = replaced.map(|known| known.id.clone()).collect();
    let day_began = now.saturating_sub(DAY).unwrap_or(Timestamp::MIN);
    let mut mailed: Vec<Timestamp> = earlier
        .iter()
        .filter(|known| !supersedes.contains(&known.id))
        .filter_map(|known| known.mailed_at)
        .filter(|instant| *instant > day_began)
        .collect();
    mailed.sort_unstable();
    let is_limit = crossing.used >= crossing.limit;
    let most = if is_limit { rules.mails_per_day } else { rules.mails_per_day.saturating_sub(1) }.max(1);
    // It may be sent when this one of the day's mails is a day old.
    let release_at = mailed.len().checked_sub(most).and_then(|index| mailed.get(index));
    let release_at = release_at.map(|instant| instant.saturating_add(DAY).unwrap_or(Timestamp::MAX));
    let delay = if is_limit { SignedDuration::ZERO } else { rules.warning_delay };
    let settled_at = (!delay.is_zero()).then(|| now.saturating_add(delay).unwrap_or(Timestamp::MAX));
    let release_at = release_at.max(settled_at);
    Pace::Mail { release_at, supersedes, folded }
}

#[cfg(test)]
mod tests {
    use metering::{Percent, PlanId, TenantId};
    use proptest::prelude::*;

    use super::*;

    const FOUR_AT_ONCE: Rules = Rules { mails_per_day: 4, warning_delay: SignedDuration::ZERO };

    fn noon() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn november() -> Period {
        Period {
            start: "2026-11-01T00:00:00Z".parse().unwrap(),
            end: "2026-12-01T00:00:00Z".parse().unwrap(),
        }
    }

    fn crossing(percent: u32, limit: u64) -> Crossing {
        Crossing {
            id: format!("north:{percent}:{limit}"),
            tenant: TenantId::parse("north").unwrap(),
            plan: PlanId::parse("pro").unwrap(),
            period: november(),
            percent: Percent::new(percent).unwrap(),
            highest_percent: percent,
            limit,
            used: limit * u64::from(percent) / 100,
            crossed_at: noon(),
        }
    }

    fn sent(percent: u32, minutes_ago: i64) -> Earlier {
        Earlier {
            id: percent.to_string(),
            period: november(),
            percent,
            limit: 100,
            mailed_at: Some(noon() - SignedDuration::from_mins(minutes_ago)),
            is_open: false,
            folded: Vec::new(),
        }
    }

    fn at_once() -> Pace {
        Pace::Mail { release_at: None, supersedes: Vec::new(), folded: Vec::new() }
    }

    #[test]
    fn the_highest_of_a_change_is_mailed_and_never_a_lower_one_after_it() {
        let lower = Crossing { highest_percent: 100, ..crossing(80, 100) };
        assert_eq!(pace(&lower, &[], FOUR_AT_ONCE, noon()), Pace::Skip(SAME_CHANGE));
        assert_eq!(pace(&crossing(100, 100), &[], FOUR_AT_ONCE, noon()), at_once());
        assert_eq!(pace(&crossing(50, 100), &[sent(80, 90)], FOUR_AT_ONCE, noon()), Pace::Skip(LOWER));
        assert_eq!(
            pace(&crossing(80, 200), &[sent(100, 90)], FOUR_AT_ONCE, noon()),
            at_once(),
            "the limit was raised"
        );
    }

    #[test]
    fn the_next_mail_names_the_thresholds_of_a_waiting_one() {
        let waiting = Earlier { is_open: true, folded: vec![40], ..sent(50, -30) };
        let expected = Pace::Mail { release_at: None, supersedes: vec!["50".into()], folded: vec![40, 50] };
        assert_eq!(pace(&crossing(100, 100), std::slice::from_ref(&waiting), FOUR_AT_ONCE, noon()), expected);
        // A mail whose first attempt has failed counts as one that waits.
        let retried = Earlier { is_open: true, ..sent(50, 1) };
        let expected = Pace::Mail { release_at: None, supersedes: vec!["50".into()], folded: vec![50] };
        assert_eq!(pace(&crossing(80, 100), &[retried], FOUR_AT_ONCE, noon()), expected);
    }

    #[test]
    fn the_last_mail_of_a_day_is_kept_for_the_limit() {
        let day = [sent(10, 30), sent(20, 20), sent(30, 10)];
        let Pace::Mail { release_at, .. } = pace(&crossing(40, 100), &day, FOUR_AT_ONCE, noon()) else {
            panic!()
        };
        assert_eq!(release_at, Some(noon() - SignedDuration::from_mins(30) + DAY));
        assert_eq!(pace(&crossing(100, 100), &day, FOUR_AT_ONCE, noon()), at_once());
    }

    #[test]
    fn a_warning_waits_for_a_higher_one_and_the_limit_does_not() {
        let rules = Rules { warning_delay: SignedDuration::from_secs(10), ..FOUR_AT_ONCE };
        let later = noon() + SignedDuration::from_secs(10);
        let expected = Pace::Mail { release_at: Some(later), supersedes: Vec::new(), folded: Vec::new() };
        assert_eq!(pace(&crossing(50, 100), &[], rules, noon()), expected);
        assert_eq!(pace(&crossing(100, 100), &[], rules, noon()), at_once());
        let waiting = Earlier { mailed_at: Some(later), is_open: true, ..sent(50, 0) };
        let expected = Pace::Mail { release_at: None, supersedes: vec!["50".into()], folded: vec![50] };
        assert_eq!(pace(&crossing(100, 100), &[waiting], rules, noon()), expected);
    }

    proptest! {
        /// Whatever is crossed and when: no day has more mails than allowed.
        #[test]
        fn no_day_has_more_mails_than_allowed(
            mails_per_day in 1_usize..6,
            steps in prop::collection::vec((1_u32..120, 0_i64..400), 1..60),
        ) {
            let (mut earlier, mut now): (Vec<Earlier>, _) = (Vec::new(), noon());
            for (number, (percent, minutes)) in steps.into_iter().enumerate() {
                now += SignedDuration::from_mins(minutes);
                // Each has a limit of its own, so that none is a lower threshold of the same limit.
                let crossing = crossing(percent, 1_000 + number as u64);
                for known in &mut earlier {
                    known.is_open &= known.mailed_at.is_some_and(|instant| instant > now);
                }
                if let Pace::Mail { release_at, supersedes, folded } =
                    pace(&crossing, &earlier, Rules { mails_per_day, ..FOUR_AT_ONCE }, now)
                {
                    earlier.retain(|known| !supersedes.contains(&known.id));
                    let mailed_at = Some(release_at.unwrap_or(now));
                    let (period, limit) = (crossing.period, crossing.limit);
                    let id = number.to_string();
                    earlier.push(Earlier { id, period, percent, limit, mailed_at, is_open: true, folded });
                }
            }
            let mut mailed: Vec<_> = earlier.iter().filter_map(|known| known.mailed_at).collect();
            mailed.sort_unstable();
            for window in mailed.windows(mails_per_day + 1) {
                prop_assert!(window[mails_per_day].duration_since(window[0]) >= DAY, "{mailed:?}");
            }
        }
    }
}
