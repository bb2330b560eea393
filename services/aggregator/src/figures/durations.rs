//! How long executions take, as a sketch: counts per bucket of a logarithmic scale. Pure.
//!
//! Sketches of parts add up to the sketch of the whole, in any order, and what was added can be subtracted
//! again, because a bucket depends only on the duration. A quantile is at most 1/32 (3.2 %) away from a
//! duration of the requested rank.

use std::ops::AddAssign;

use jiff::SignedDuration;

/// Buckets per power of two; a bucket is 1/16 of its lower bound wide, so its middle is within 1/32 of all it holds.
const STEPS: u64 = 16;

/// log2 of [`STEPS`].
const STEP_BITS: u32 = STEPS.trailing_zeros();

/// The longest duration with a bucket of its own, 34 years: bounds a sketch to some 600 buckets whatever a
/// source's clock says.
const MS_MAX: u64 = 1 << 40;

/// Counts of durations by bucket. Signed: a change may subtract.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Durations {
    /// By bucket, ascending; no zeros. A list, because most sketches are small.
    counts: Vec<(u16, i64)>,
}

/// The bytes are not a sketch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored durations are damaged")]
pub(crate) struct DamagedDurations;

impl Durations {
    /// Adds `count` executions of this duration; a negative count subtracts.
    pub(crate) fn add(&mut self, duration: SignedDuration, count: i64) {
        let ms =
            u64::try_from(duration.as_millis()).unwrap_or(if duration.is_negative() { 0 } else { MS_MAX });
        self.add_to(bucket_of(ms), count);
    }

    fn add_to(&mut self, bucket: u16, count: i64) {
        match self.counts.binary_search_by_key(&bucket, |(bucket, _)| *bucket) {
            Ok(place) => {
                let kept = self.counts.get_mut(place).map(|(_, kept)| {
                    *kept = kept.saturating_add(count);
                    *kept
                });
                if kept == Some(0) {
                    self.counts.remove(place);
                }
            }
            Err(place) if count != 0 => self.counts.insert(place, (bucket, count)),
            Err(_) => {}
        }
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many executions it holds.
    pub(crate) fn count(&self) -> i64 {
        self.counts.iter().map(|(_, count)| count).sum()
    }

    /// The duration in milliseconds that `percent` of all executions do not exceed; `None` if there are none.
    pub(crate) fn quantile_ms(&self, percent: u32) -> Option<u64> {
        let counts =
            || self.counts.iter().map(|(bucket, count)| (*bucket, u128::try_from(*count).unwrap_or(0)));
        let total: u128 = counts().map(|(_, count)| count).sum();
        // The rank is rounded up: p95 of one execution is that execution.
        let rank = (total * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        for (bucket, count) in counts() {
            seen += count;
            if seen >= rank {
                return Some(middle_of(bucket));
            }
        }
        None
    }

    /// Compact bytes: for each bucket its distance to the one before and its count, as varints.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.counts.len() * 3);
        let mut before = 0;
        for (bucket, count) in &self.counts {
            prost::encoding::encode_varint(u64::from(bucket - before), &mut bytes);
            prost::encoding::encode_varint(zigzag(*count), &mut bytes);
            before = *bucket;
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] has written.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Result<Self, DamagedDurations> {
        let mut sketch = Self::default();
        let mut bucket: u16 = 0;
        while !bytes.is_empty() {
            let mut next = || prost::encoding::decode_varint(&mut bytes).map_err(|_| DamagedDurations);
            let (distance, count) = (next()?, unzigzag(next()?));
            let distance = u16::try_from(distance).map_err(|_| DamagedDurations)?;
            bucket = bucket.checked_add(distance).ok_or(DamagedDurations)?;
            sketch.add_to(bucket, count);
        }
        Ok(sketch)
    }
}

impl AddAssign<&Self> for Durations {
    fn add_assign(&mut self, other: &Self) {
        if self.counts.is_empty() {
            self.counts.clone_from(&other.counts);
            return;
        }
        for (bucket, count) in &other.counts {
            self.add_to(*bucket, *count);
        }
    }
}

/// Below [`STEPS`] each millisecond has its own bucket; above, the leading bits choose.
fn bucket_of(ms: u64) -> u16 {
    let ms = ms.min(MS_MAX);
    let Some(shift) = ms.checked_ilog2().and_then(|log| log.checked_sub(STEP_BITS)) else {
        return u16::try_from(ms).unwrap_or(u16::MAX);
    };
    let bucket = u64::from(shift) * STEPS + (ms >> shift);
    u16::try_from(bucket).unwrap_or(u16::MAX)
}

/// The middle of a bucket, in milliseconds.
fn middle_of(bucket: u16) -> u64 {
    let bucket = u64::from(bucket);
    if bucket < 2 * STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let lowest =
        (STEPS + bucket % STEPS).checked_shl(u32::try_from(shift).unwrap_or(u32::MAX)).unwrap_or(MS_MAX);
    lowest + (1 << (shift - 1).min(u64::from(u32::BITS)))
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sketch(durations_ms: &[u64]) -> Durations {
        let mut sketch = Durations::default();
        for ms in durations_ms {
            sketch.add(SignedDuration::from_millis(i64::try_from(*ms).unwrap()), 1);
        }
        sketch
    }

    #[test]
    fn an_empty_sketch_has_no_quantile_and_one_execution_is_every_quantile() {
        assert_eq!(Durations::default().quantile_ms(50), None);
        let one = sketch(&[7]);
        assert_eq!((one.quantile_ms(50), one.quantile_ms(95)), (Some(7), Some(7)));
    }

    #[test]
    fn a_backward_clock_is_zero_and_an_absurd_one_is_bounded() {
        let mut sketch = Durations::default();
        sketch.add(SignedDuration::from_millis(-5), 1);
        sketch.add(SignedDuration::MAX, 1);
        assert_eq!(sketch.quantile_ms(50), Some(0));
        assert!(sketch.quantile_ms(95).unwrap() >= MS_MAX);
        assert!(bucket_of(u64::MAX) < 640);
    }

    #[test]
    fn damaged_bytes_are_refused() {
        assert_eq!(Durations::from_bytes(&[0x80]), Err(DamagedDurations));
        assert_eq!(Durations::from_bytes(&[0xff, 0xff, 0x7f, 2]), Err(DamagedDurations));
    }

    proptest! {
        #[test]
        fn quantiles_are_within_the_documented_error(
            mut durations in prop::collection::vec(0_u64..100_000_000, 1..300),
            percent in 1_u32..=100,
        ) {
            let found = sketch(&durations).quantile_ms(percent).unwrap();
            durations.sort_unstable();
            let rank = (durations.len() * percent as usize).div_ceil(100).max(1);
            let exact = durations[rank - 1];
            prop_assert!(found.abs_diff(exact) * 32 <= exact, "{found} for {exact}");
        }

        #[test]
        fn parts_add_up_and_can_be_subtracted(
            one in prop::collection::vec(0_u64..1 << 42, 0..50),
            other in prop::collection::vec(0_u64..1 << 42, 0..50),
        ) {
            let whole = sketch(&[one.clone(), other.clone()].concat());
            let mut merged = sketch(&one);
            merged += &sketch(&other);
            prop_assert_eq!(&merged, &whole);
            for ms in &other {
                merged.add(SignedDuration::from_millis(i64::try_from(*ms).unwrap()), -1);
            }
            prop_assert_eq!(&merged, &sketch(&one));
            prop_assert_eq!(Durations::from_bytes(&whole.to_bytes()), Ok(whole));
        }
    }
}
