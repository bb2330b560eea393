//! What one caller may take at once, before what all together may: one that asks for too much is refused and the others are
//! served.

use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use chassis::{NoPlace, PlaceBounds, Places};
use metering::{SourceId, TenantId};
use tokio::time::timeout;

use super::{App, error::ApiError};
use crate::tokens::{Hash, Principal};

/// Questions to other services. Fewer of one caller than the aggregator has connections for questions, so that one is always
/// left for the others. A page of the dashboard asks four at once: some wait.
const QUESTIONS: PlaceBounds = PlaceBounds { each_max: 3, each_waiting_max: 12, all_max: 32 };

/// Live listeners. Each holds a connection and its backlog. One caller's are the open tabs of all that use its token.
const LISTENERS: PlaceBounds = PlaceBounds { each_max: 100, each_waiting_max: 0, all_max: 1_000 };

/// Sign-ins of one address, which may be a proxy for many people. They take milliseconds; only a body that does not come holds
/// its place.
const SIGN_INS: PlaceBounds = PlaceBounds { each_max: 16, each_waiting_max: 16, all_max: 64 };

/// A sign-in has this long for its body and its answer.
const SIGN_IN_WITHIN: Duration = Duration::from_secs(5);

/// Requests of one caller at once: half of all, because one source of a large host asks over many connections.
pub const REQUESTS_EACH_MAX: usize = 256;

/// Counters of requests in hand. Two callers may share one; then they share its bound.
const COUNTERS: usize = 4_096;

/// Who is counted as one caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// An operator's token and the sessions that were opened with it.
    Operator([u8; 32]),
    /// A tenant, whichever of its tokens it uses.
    Tenant(TenantId),
    /// A source with its push token.
    Source(SourceId),
    /// Somebody who has not said who they are.
    Address(IpAddr),
}

impl Who {
    /// The caller behind a good token.
    pub fn of(principal: &Principal, token: Hash) -> Self {
        match principal {
            Principal::Operator => Self::Operator(token.into_bytes()),
            Principal::Tenant(tenant) => Self::Tenant(tenant.clone()),
        }
    }

    /// The network that a request comes from: of IPv6 the part that is given to one customer.
    fn at(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(ip) => Self::Address(IpAddr::V6(((u128::from(ip) >> 64) << 64).into())),
            v4 => Self::Address(v4),
        }
    }
}

/// The quotas of a gateway.
pub struct Quotas {
    /// Questions to other services.
    pub questions: Arc<Places<Who>>,
    /// Live listeners.
    pub listeners: Arc<Places<Who>>,
    sign_ins: Arc<Places<Who>>,
    requests: Arc<Requests>,
}

impl Default for Quotas {
    fn default() -> Self {
        Self {
            questions: Places::new(QUESTIONS),
            listeners: Places::new(LISTENERS),
            sign_ins: Places::new(SIGN_INS),
            requests: Arc::default(),
        }
    }
}

impl Quotas {
    /// Counts a request of this caller until what is returned is dropped.
    pub fn request(&self, who: &Who) -> Result<InHand, ApiError> {
        self.requests.take(who).ok_or(ApiError::TooManyAtOnce)
    }
}

/// Requests in hand by caller. Counters and no map: a limit check is answered in microseconds, and would wait for the map.
struct Requests {
    counters: Box<[AtomicUsize]>,
    /// Nobody can choose a name to share a counter with another.
    random: RandomState,
}

impl Default for Requests {
    fn default() -> Self {
        let counters = (0..COUNTERS).map(|_| AtomicUsize::new(0)).collect();
        Self { counters, random: RandomState::new() }
    }
}

impl Requests {
    fn take(self: &Arc<Self>, who: &Who) -> Option<InHand> {
        let place = usize::try_from(self.random.hash_one(who) % COUNTERS as u64).ok()?;
        let in_hand = InHand { requests: self.clone(), place };
        let before = self.counters.get(place)?.fetch_add(1, Ordering::Relaxed);
        (before < REQUESTS_EACH_MAX).then_some(in_hand)
    }
}

/// A request that is being answered.
pub struct InHand {
    requests: Arc<Requests>,
    place: usize,
}

impl Drop for InHand {
    fn drop(&mut self) {
        if let Some(counter) = self.requests.counters.get(self.place) {
            counter.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl From<NoPlace> for ApiError {
    fn from(full: NoPlace) -> Self {
        match full {
            NoPlace::Own => Self::TooManyAtOnce,
            NoPlace::Common => Self::Overloaded,
        }
    }
}

/// Bounds what somebody may hold who has not signed in yet, before the body is read.
pub async fn bound_sign_ins(State(app): State<App>, request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let who = Who::at(peer.unwrap_or(IpAddr::from([0, 0, 0, 0])));
    let signing_in = async {
        let _place = app.quotas.sign_ins.enter(who).await?;
        Ok::<_, ApiError>(next.run(request).await)
    };
    match timeout(SIGN_IN_WITHIN, signing_in).await {
        Ok(answer) => answer.into_response(),
        Err(_) => ApiError::Timeout.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_with_half_of_all_requests_gets_no_more_until_one_ends() {
        let quotas = Quotas::default();
        let (one, other) = (Who::Tenant(TenantId::parse("one").unwrap()), Who::at([192, 0, 2, 1].into()));
        let mut in_hand: Vec<_> =
            (0..REQUESTS_EACH_MAX).map(|_| quotas.request(&one).ok().unwrap()).collect();
        assert!(matches!(quotas.request(&one), Err(ApiError::TooManyAtOnce)));
        assert!(quotas.request(&other).is_ok());
        in_hand.pop();
        assert!(quotas.request(&one).is_ok(), "and a refusal has taken nothing");
    }

    #[test]
    fn an_address_is_counted_by_what_one_customer_is_given() {
        let who = |text: &str| Who::at(text.parse().unwrap());
        assert_eq!(who("2001:db8:1:2::1"), who("2001:db8:1:2:ffff::9"));
        assert_ne!(who("2001:db8:1:2::1"), who("2001:db8:1:3::1"));
        assert_eq!(who("::ffff:192.0.2.1"), who("192.0.2.1"));
        assert_ne!(who("192.0.2.1"), who("192.0.2.2"));
    }
}
