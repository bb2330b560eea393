//! Splits a cost by quantities. Pure.
//!
//! The shares are whole minor units that add up to the cost: each part gets its exact share rounded down, and
//! the remaining units go, one each, to the parts that lost most by rounding, of equal ones to the first.

/// The shares of `amount_minor` by `quantities`, in their order. All are zero if the quantities add up to
/// zero.
pub fn by_quantity(amount_minor: i64, quantities: &[i64]) -> Vec<i64> {
    let whole: i128 = quantities.iter().copied().map(i128::from).sum();
    if whole == 0 {
        return vec![0; quantities.len()];
    }
    let exact = |quantity: i64| i128::from(amount_minor) * i128::from(quantity);
    let mut shares: Vec<i128> = quantities.iter().map(|of| exact(*of).div_euclid(whole)).collect();
    let mut by_loss: Vec<(i128, usize)> =
        quantities.iter().enumerate().map(|(place, of)| (exact(*of).rem_euclid(whole), place)).collect();
    by_loss.sort_by_key(|(loss, place)| (std::cmp::Reverse(*loss), *place));
    // Rounding has cut less than one unit from each part.
    let left = usize::try_from(i128::from(amount_minor) - shares.iter().sum::<i128>()).unwrap_or(0);
    for (_, place) in by_loss.into_iter().take(left) {
        if let Some(share) = shares.get_mut(place) {
            *share += 1;
        }
    }
    let fitting = |share: i128| i64::try_from(share).unwrap_or(if share < 0 { i64::MIN } else { i64::MAX });
    shares.into_iter().map(fitting).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn units_left_by_rounding_go_to_the_parts_that_lost_most() {
        assert_eq!(by_quantity(100, &[1, 1, 1]), [34, 33, 33]);
        assert_eq!(by_quantity(10, &[6, 3, 2]), [5, 3, 2]);
        // 48 executions, adjusted by -3.
        assert_eq!(by_quantity(450, &[40, 8, -3]), [400, 80, -30]);
        assert_eq!(by_quantity(0, &[5, -5]), [0, 0]);
    }

    proptest! {
        #[test]
        fn shares_add_up_to_the_amount(
            amount in 0_i64..1_000_000_000,
            parts in prop::collection::vec(0_i64..1_000_000, 1..50),
            adjusted in -1_000_i64..1_000,
        ) {
            let mut quantities = parts;
            quantities.push(adjusted);
            prop_assume!(quantities.iter().sum::<i64>() > 0);
            prop_assert_eq!(by_quantity(amount, &quantities).iter().sum::<i64>(), amount);
        }
    }
}
