//! Figures that add up: the sum of parts, and the rest of the whole. Pure.

use proto::v1;

/// The sum of the parts.
pub fn sum<'a>(parts: impl Iterator<Item = &'a v1::Totals>) -> v1::Totals {
    parts.fold(v1::Totals::default(), |sum, part| each(&sum, part, u64::saturating_add, i64::saturating_add))
}

/// The executions that are in none of the parts, without adjustments, which are shown separately.
pub fn rest<'a>(whole: &v1::Totals, parts: impl Iterator<Item = &'a v1::Totals>) -> v1::Totals {
    let executions = v1::Totals {
        counted: whole.counted.saturating_add_signed(whole.adjusted.saturating_neg()),
        adjusted: 0,
        ..*whole
    };
    parts.fold(executions, |rest, part| each(&rest, part, u64::saturating_sub, i64::saturating_sub))
}

fn each(
    one: &v1::Totals,
    other: &v1::Totals,
    of: fn(u64, u64) -> u64,
    of_signed: fn(i64, i64) -> i64,
) -> v1::Totals {
    v1::Totals {
        counted: of(one.counted, other.counted),
        uncounted: of(one.uncounted, other.uncounted),
        success: of(one.success, other.success),
        error: of(one.error, other.error),
        crashed: of(one.crashed, other.crashed),
        canceled: of(one.canceled, other.canceled),
        duration_ms: of(one.duration_ms, other.duration_ms),
        late: of(one.late, other.late),
        voided: of(one.voided, other.voided),
        adjusted: of_signed(one.adjusted, other.adjusted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executions(counted: u64) -> v1::Totals {
        v1::Totals { counted, success: counted, ..v1::Totals::default() }
    }

    #[test]
    fn parts_rest_and_adjusted_add_up_to_the_whole() {
        let parts = [executions(7), executions(2)];
        for adjusted in [-12, -3, 0, 5] {
            let whole =
                v1::Totals { counted: 12_u64.saturating_add_signed(adjusted), adjusted, ..executions(12) };
            let rest = rest(&whole, parts.iter());
            let counted = sum(parts.iter().chain([&rest])).counted;
            assert_eq!(counted.saturating_add_signed(adjusted), whole.counted, "adjusted by {adjusted}");
            assert_eq!((rest.counted, rest.success, rest.adjusted), (3, 3, 0));
        }
    }
}
