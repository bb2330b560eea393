//! Where the parts of an account go: usage from before a change of customer or meter is owed to the former
//! one.

use crate::{identifier::Destination, ledger::Ledger};

/// Parts that one account may have. Each comes from a change of customer or meter while a report was under
/// way; what further changes would add goes to the last part.
const PARTS_MAX: usize = 32;

/// A part of an account's total that is owed to a destination of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owed {
    /// The account's total at the end of the part.
    pub up_to: i64,
    /// Where it goes.
    pub destination: Destination,
}

/// Where the parts of an account go, at one instant.
#[derive(Debug, Clone, Default)]
pub struct Route {
    /// Parts that do not go where the rest goes, in the order of their use.
    pub owed: Vec<Owed>,
    /// Where the rest goes; `None` if it is not billed.
    pub rest: Option<Destination>,
    /// The tenant's destination by the last change; takes over what another destination refused.
    pub last: Option<Destination>,
}

/// What is sealed next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// The account's total when it is sealed.
    pub up_to: i64,
    /// Where it goes; `None` if it is not billed.
    pub destination: Option<Destination>,
    /// How many of the owed parts it settles.
    pub covers: usize,
}

impl Route {
    /// The next unreported part of `total`; consecutive parts with the same destination are one.
    pub fn next(&self, ledger: &Ledger, total: i64) -> Option<Part> {
        let owed = self.owed.iter().map(|owed| (owed.up_to.min(total), Some(&owed.destination)));
        let ends = owed.chain([(total, self.rest.as_ref())]);
        let mut part: Option<Part> = None;
        for (index, (up_to, destination)) in ends.enumerate() {
            let destination = self.replaced(ledger, destination);
            let covers = self.owed.len().min(index.saturating_add(1));
            part = match part {
                Some(open) if open.destination == destination => Some(Part { up_to, covers, ..open }),
                Some(open) if open.up_to != ledger.reported_total => return Some(open),
                // Nothing is left of it: a correction took back what came before.
                _ if up_to == ledger.reported_total => None,
                _ => Some(Part { up_to, destination, covers }),
            };
        }
        part.filter(|part| part.up_to != ledger.reported_total)
    }

    /// A destination that refused a report is replaced by the one that the operator has set since.
    fn replaced(&self, ledger: &Ledger, destination: Option<&Destination>) -> Option<Destination> {
        let refused = destination.is_some() && destination == ledger.refused.as_ref();
        self.last.as_ref().filter(|_| refused).or(destination).cloned()
    }
}

/// Records that the account's total so far is owed to `destination`, except what is already owed elsewhere.
pub fn bind(parts: &mut Vec<Owed>, total: i64, destination: &Destination) {
    let is_full = parts.len() >= PARTS_MAX;
    match parts.last_mut() {
        Some(last) if last.up_to == total => {}
        Some(last) if is_full || last.destination == *destination => last.up_to = total,
        _ => parts.push(Owed { up_to: total, destination: destination.clone() }),
    }
}

/// Records that a refused report's quantity, up to `reported`, stays owed to the destination it was sent to.
pub fn give_back(parts: &mut Vec<Owed>, reported: i64, destination: &Destination) {
    if parts.first().is_none_or(|first| first.destination != *destination) && parts.len() < PARTS_MAX {
        parts.insert(0, Owed { up_to: reported, destination: destination.clone() });
    }
}

#[cfg(test)]
mod tests {
    use metering::{Period, TenantId};
    use proptest::prelude::*;

    use super::*;

    fn to(customer: &str) -> Destination {
        Destination { customer: customer.to_owned(), event_name: "executions".to_owned() }
    }

    fn ledger(billable_total: i64, reported_total: i64) -> Ledger {
        let period = Period {
            start: "2026-11-01T00:00:00Z".parse().unwrap(),
            end: "2026-12-01T00:00:00Z".parse().unwrap(),
        };
        let ledger = Ledger::open(TenantId::parse("north").unwrap(), period);
        Ledger { billable_total, reported_total, ..ledger }
    }

    #[test]
    fn usage_from_before_a_change_goes_first_and_to_the_former_customer() {
        let route = Route {
            owed: vec![Owed { up_to: 14, destination: to("cus_old") }],
            rest: Some(to("cus_new")),
            last: Some(to("cus_new")),
        };
        let first = route.next(&ledger(20, 10), 20).unwrap();
        assert_eq!(first, Part { up_to: 14, destination: Some(to("cus_old")), covers: 1 });
        let second = Route { owed: Vec::new(), ..route }.next(&ledger(20, 14), 20).unwrap();
        assert_eq!(second, Part { up_to: 20, destination: Some(to("cus_new")), covers: 0 });
    }

    #[test]
    fn unbilled_usage_does_not_take_what_is_owed_with_it() {
        let route = Route { owed: vec![Owed { up_to: 14, destination: to("cus_old") }], ..Route::default() };
        assert_eq!(route.next(&ledger(20, 10), 20).unwrap().destination, Some(to("cus_old")));
        assert_eq!(route.next(&ledger(20, 14), 20).unwrap().destination, None);
    }

    #[test]
    fn a_refused_part_goes_to_the_customer_that_replaces_the_refused_one() {
        let mut refused = ledger(30, 0);
        refused.refused = Some(to("cus_typo"));
        let owed = vec![Owed { up_to: 30, destination: to("cus_typo") }];
        let route = |last: Option<Destination>| Route { owed: owed.clone(), rest: last.clone(), last };
        let next = |last| route(last).next(&refused, 30).unwrap();
        assert_eq!(next(Some(to("cus_right"))).destination, Some(to("cus_right")));
        assert_eq!(next(None).destination, Some(to("cus_typo")), "a deleted tenant still owes it");
    }

    #[test]
    fn a_correction_below_a_part_is_taken_from_that_part() {
        let route = Route {
            owed: vec![Owed { up_to: 14, destination: to("cus_old") }],
            rest: Some(to("cus_new")),
            last: None,
        };
        let part = route.next(&ledger(8, 10), 8).unwrap();
        assert_eq!((part.up_to, part.destination), (8, Some(to("cus_old"))));
    }

    #[test]
    fn parts_that_cancel_out_do_not_hide_the_next_one() {
        let owed = |up_to, customer| Owed { up_to, destination: to(customer) };
        let route = Route {
            owed: vec![owed(8, "cus_typo"), owed(10, "cus_right")],
            rest: Some(to("cus_new")),
            last: Some(to("cus_right")),
        };
        let ledger = Ledger { refused: Some(to("cus_typo")), ..ledger(12, 10) };
        let part = route.next(&ledger, 12).unwrap();
        assert_eq!(part, Part { up_to: 12, destination: Some(to("cus_new")), covers: 2 });
    }

    #[test]
    fn any_number_of_changes_takes_bounded_room() {
        let mut parts = Vec::new();
        for change in 1..1_000 {
            bind(&mut parts, change, &to(&format!("cus_{change}")));
        }
        assert_eq!((parts.len(), parts.last().unwrap().up_to), (PARTS_MAX, 999));
    }

    proptest! {
        /// However often customers change: everything is sealed, part by part, each to the customer it was
        /// used under.
        #[test]
        fn every_part_is_sealed_once_and_where_it_was_used(
            steps in proptest::collection::vec((1_i64..50, 0_usize..3, any::<bool>()), 1..30),
        ) {
            let customers = [to("cus_a"), to("cus_b"), to("cus_c")];
            let mut ledger = ledger(0, 0);
            let (mut route, mut used, mut sealed) = (Route::default(), [0_i64; 3], [0_i64; 3]);
            let mut current = 0;
            let index = |destination: &Destination| customers.iter().position(|one| one == destination).unwrap();
            for (usage, next, looks) in steps {
                if next != current {
                    bind(&mut route.owed, ledger.billable_total, &customers[current]);
                    current = next;
                }
                ledger.billable_total += usage;
                used[current] += usage;
                route.rest = Some(customers[current].clone());
                if looks && let Some(part) = route.next(&ledger, ledger.billable_total) {
                    sealed[index(&part.destination.unwrap())] += part.up_to - ledger.reported_total;
                    ledger.reported_total = part.up_to;
                    route.owed.drain(..part.covers);
                }
            }
            while let Some(part) = route.next(&ledger, ledger.billable_total) {
                sealed[index(&part.destination.unwrap())] += part.up_to - ledger.reported_total;
                ledger.reported_total = part.up_to;
                route.owed.drain(..part.covers);
            }
            prop_assert_eq!(sealed, used);
        }
    }
}
