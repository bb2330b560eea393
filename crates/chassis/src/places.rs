//! Places for work, bounded for each principal first and for all together second: a principal that asks for
//! too much is refused before it takes what the others need.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many places there are.
#[derive(Debug, Clone, Copy)]
pub struct PlaceBounds {
    /// Places that one principal has at once.
    pub each_max: usize,
    /// Requests of one principal that may wait for a place, in order; the next one is refused.
    pub each_waiting_max: usize,
    /// Places of all principals together.
    pub all_max: usize,
}

/// There is no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoPlace {
    /// This principal has all of its places, and as many wait for one as are allowed to.
    #[error("too much at once from one caller")]
    Own,
    /// All places are taken, by several principals.
    #[error("too much at once from all callers")]
    Common,
}

/// Places, by principal.
#[derive(Debug)]
pub struct Places<K> {
    bounds: PlaceBounds,
    all: Arc<Semaphore>,
    /// Only of principals that have a place or wait for one, which bounds them.
    lines: Mutex<HashMap<K, Line>>,
}

/// One principal's places.
#[derive(Debug)]
struct Line {
    own: Arc<Semaphore>,
    /// Those that have a place or wait for one.
    inside: usize,
}

/// A place, until it is dropped.
#[derive(Debug)]
pub struct Place<K: Eq + Hash + Clone> {
    // Dropped in this order: the next in line must find the common place free.
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _inside: Inside<K>,
}

/// Counts as one in its line until it is dropped, whether it waits or has a place.
#[derive(Debug)]
struct Inside<K: Eq + Hash + Clone> {
    places: Arc<Places<K>>,
    who: K,
}

impl<K: Eq + Hash + Clone> Places<K> {
    /// All places are free.
    pub fn new(bounds: PlaceBounds) -> Arc<Self> {
        Arc::new(Self { bounds, all: Arc::new(Semaphore::new(bounds.all_max)), lines: Mutex::default() })
    }

    /// A place for this principal. Waits only for others of the same principal, and only if the bounds allow
    /// it.
    pub async fn enter(self: &Arc<Self>, who: K) -> Result<Place<K>, NoPlace> {
        let (own, inside) = self.line_up(who)?;
        let own = own.acquire_owned().await.map_err(|_| NoPlace::Own)?;
        let all = self.all.clone().try_acquire_owned().map_err(|_| NoPlace::Common)?;
        Ok(Place { _all: all, _own: own, _inside: inside })
    }

    fn line_up(self: &Arc<Self>, who: K) -> Result<(Arc<Semaphore>, Inside<K>), NoPlace> {
        let PlaceBounds { each_max, each_waiting_max, .. } = self.bounds;
        let mut lines = self.lock();
        let line = lines
            .entry(who.clone())
            .or_insert_with(|| Line { own: Arc::new(Semaphore::new(each_max)), inside: 0 });
        if line.inside >= each_max + each_waiting_max {
            return Err(NoPlace::Own);
        }
        line.inside += 1;
        Ok((line.own.clone(), Inside { places: self.clone(), who }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Line>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash + Clone> Drop for Inside<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut line) = self.places.lock().entry(self.who.clone()) {
            line.get_mut().inside -= 1;
            if line.get().inside == 0 {
                line.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn places(each_max: usize, each_waiting_max: usize, all_max: usize) -> Arc<Places<&'static str>> {
        Places::new(PlaceBounds { each_max, each_waiting_max, all_max })
    }

    #[tokio::test]
    async fn a_principal_cannot_take_the_places_of_the_others() {
        let places = places(2, 0, 3);
        let (one, two) = (places.enter("a").await.unwrap(), places.enter("a").await.unwrap());
        assert_eq!(places.enter("a").await.unwrap_err(), NoPlace::Own);
        let other = places.enter("b").await.unwrap();
        assert_eq!(places.enter("c").await.unwrap_err(), NoPlace::Common);
        drop((one, two, other));
        assert!(places.lock().is_empty(), "nothing is kept of principals that left");
        assert!(places.enter("c").await.is_ok());
    }

    #[tokio::test]
    async fn waiters_keep_their_order_and_one_that_gives_up_leaves_the_line() {
        let places = places(1, 2, 9);
        let first = places.enter("a").await.unwrap();
        let mut second = Box::pin(places.enter("a"));
        let mut third = Box::pin(places.enter("a"));
        assert!(second.as_mut().now_or_never().is_none() && third.as_mut().now_or_never().is_none());
        assert_eq!(places.enter("a").await.unwrap_err(), NoPlace::Own, "no more may wait");
        drop(second);
        assert!(third.as_mut().now_or_never().is_none(), "the place is still taken");
        drop(first);
        let third = third.await.unwrap();
        drop(third);
        assert!(places.lock().is_empty());
    }
}
