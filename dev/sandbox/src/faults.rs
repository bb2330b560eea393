//! Faults on demand, for the next calls to a stand-in.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Most faults in the queue; a test that arms more has a mistake.
const ARMED_MAX: usize = 100;

/// A queue of armed faults. Each applies to the next `count` calls it fits, or, without a count, until cleared.
#[derive(Debug)]
pub(crate) struct Faults<K> {
    armed: Mutex<VecDeque<Armed<K>>>,
}

#[derive(Debug)]
struct Armed<K> {
    kind: K,
    left: Option<u32>,
}

impl<K> Default for Faults<K> {
    fn default() -> Self {
        Self { armed: Mutex::new(VecDeque::new()) }
    }
}

impl<K: Clone> Faults<K> {
    /// Queues a fault behind those already armed. Beyond the bound the oldest gives way.
    pub(crate) fn arm(&self, kind: K, count: Option<u32>) {
        let mut armed = self.lock();
        if armed.len() == ARMED_MAX {
            armed.pop_front();
        }
        armed.push_back(Armed { kind, left: count });
    }

    /// Forgets every armed fault.
    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// The fault of this call: the first armed one, if it fits the call.
    ///
    /// Only the first is considered, so that a start-up phase (HTML, then 404, then JSON) keeps its order.
    pub(crate) fn take_if(&self, fits: impl FnOnce(&K) -> bool) -> Option<K> {
        let mut armed = self.lock();
        while armed.front().is_some_and(|first| first.left == Some(0)) {
            armed.pop_front();
        }
        let first = armed.front_mut().filter(|first| fits(&first.kind))?;
        if let Some(left) = &mut first.left {
            *left -= 1;
        }
        Some(first.kind.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<Armed<K>>> {
        self.armed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_faults_run_out_in_order() {
        let faults = Faults::default();
        faults.arm("a", Some(2));
        faults.arm("b", Some(1));
        let taken: Vec<_> = std::iter::from_fn(|| faults.take_if(|_| true)).collect();
        assert_eq!(taken, ["a", "a", "b"]);
    }

    #[test]
    fn a_fault_without_a_count_lasts_until_cleared() {
        let faults = Faults::default();
        faults.arm("a", None);
        assert!((0..10).all(|_| faults.take_if(|_| true) == Some("a")));
        faults.clear();
        assert_eq!(faults.take_if(|_| true), None);
    }

    #[test]
    fn a_call_it_does_not_fit_leaves_it_armed() {
        let faults = Faults::default();
        faults.arm("a", Some(1));
        assert_eq!(faults.take_if(|_| false), None);
        assert_eq!(faults.take_if(|_| true), Some("a"));
    }
}
