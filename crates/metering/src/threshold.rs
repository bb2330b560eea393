//! When usage has reached a share of a limit.

use std::fmt;

/// A share of a limit, in whole percent: 1 to 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Percent(u16);

/// The number is not a share of a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a threshold: use 1 to 1000 percent")]
pub struct InvalidPercent(u32);

impl Percent {
    /// Reads a share in percent.
    pub fn new(percent: u32) -> Result<Self, InvalidPercent> {
        match u16::try_from(percent) {
            Ok(value @ 1..=1_000) => Ok(Self(value)),
            _ => Err(InvalidPercent(percent)),
        }
    }

    /// The share in percent.
    pub fn get(self) -> u32 {
        u32::from(self.0)
    }

    /// Whether `used` has reached this share of `limit`. A limit of zero is reached by the first execution.
    pub fn reached(self, used: u64, limit: u64) -> bool {
        used > 0 && u128::from(used) * 100 >= u128::from(limit) * u128::from(self.0)
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} %", self.0)
    }
}

/// The thresholds that `used` has reached, ascending.
pub fn crossed(thresholds: &[Percent], used: u64, limit: u64) -> Vec<Percent> {
    let mut reached: Vec<Percent> =
        thresholds.iter().copied().filter(|threshold| threshold.reached(used, limit)).collect();
    reached.sort_unstable();
    reached.dedup();
    reached
}

#[cfg(test)]
mod tests {
    use super::*;

    fn percent(value: u32) -> Percent {
        Percent::new(value).unwrap()
    }

    #[test]
    fn a_threshold_is_reached_exactly_at_its_share() {
        assert!(!percent(80).reached(79, 100));
        assert!(percent(80).reached(80, 100));
        // 80 % of 3 is 2.4: two executions are less, three are more.
        assert!(!percent(80).reached(2, 3));
        assert!(percent(80).reached(3, 3));
    }

    #[test]
    fn extremes_do_not_overflow() {
        assert!(percent(1_000).reached(u64::MAX, u64::MAX / 10));
        assert!(!percent(100).reached(0, 0));
        assert!(percent(100).reached(1, 0));
        assert!(Percent::new(0).is_err() && Percent::new(1_001).is_err());
    }

    #[test]
    fn one_step_may_cross_several() {
        assert_eq!(crossed(&[percent(100), percent(80), percent(80)], 150, 100), [percent(80), percent(100)]);
    }
}
