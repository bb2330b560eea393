//! Limits on what one caller may use at once, within the limits for all callers: one that wants too much is
//! refused, and the others are served.

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
use crate::access::token::{Hash, Principal};

/// Questions to other services. One caller may ask fewer at once than the aggregator has connections for
/// questions, so that one is always left for others. A page of the dashboard asks four at once, so some wait.
const QUESTIONS: PlaceBounds = PlaceBounds { each_max: 3, each_waiting_max: 12, all_max: 32 };

/// Live listeners. Each holds a connection and its backlog. A caller has one for each open tab of everyone
/// who uses its token.
const LISTENERS: PlaceBounds = PlaceBounds { each_max: 100, each_waiting_max: 0, all_max: 1_000 };

/// Sign-ins from one address, which may be a proxy for many people. They take milliseconds, unless the body
/// does not arrive.
const SIGN_INS: PlaceBounds = PlaceBounds { each_max: 16, each_waiting_max: 16, all_max: 64 };

/// Timeout of a sign-in, including its body.
const SIGN_IN_WITHIN: Duration = Duration::from_secs(5);

/// Concurrent requests of one caller: half of all, because a large source may send many over many
/// connections.
pub const REQUESTS_EACH_MAX: usize = 256;

/// Counters of requests in progress. Two callers may share one; then they share its bound.
const COUNTERS: usize = 4_096;

/// What counts as one caller.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Who {
    /// An operator's token and the sessions that were opened with it.
    Operator([u8; 32]),
    /// A tenant, whichever of its tokens it uses.
    Tenant(TenantId),
    /// A source with its push token.
    Source(SourceId),
    /// A caller that is not authenticated.
    Address(IpAddr),
}

impl Who {
    /// The caller behind a valid token.
    pub fn of(principal: &Principal, token: Hash) -> Self {
        match principal {
            Principal::Operator => Self::Operator(token.into_bytes()),
            Principal::Tenant(tenant) => Self::Tenant(tenant.clone()),
        }
    }

    /// The network that a request comes from: for IPv6 the prefix that is assigned to one customer.
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
    /// Counts a request of this caller until the returned guard is dropped.
    pub fn request(&self, who: &Who) -> Result<InHand, ApiError> {
        self.requests.take(who).ok_or(ApiError::TooManyAtOnce)
    }
}

/// Requests in progress by caller. Counters instead of a map: a limit check is answered in microseconds, and
/// would wait for the map's lock.
struct Requests {
    counters: Box<[AtomicUsize]>,
    /// Random, so that nobody can choose a name that shares another caller's counter.
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

/// Bounds the resources of callers that have not signed in yet, before the body is read.
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
    fn a_caller_gets_at_most_half_of_all_concurrent_requests() {
        let quotas = Quotas::default();
        let (one, other) = (Who::Tenant(TenantId::parse("one").unwrap()), Who::at([192, 0, 2, 1].into()));
        let mut in_hand: Vec<_> =
            (0..REQUESTS_EACH_MAX).map(|_| quotas.request(&one).ok().unwrap()).collect();
        assert!(matches!(quotas.request(&one), Err(ApiError::TooManyAtOnce)));
        assert!(quotas.request(&other).is_ok());
        in_hand.pop();
        assert!(quotas.request(&one).is_ok(), "and a refusal takes nothing");
    }

    #[test]
    fn an_address_is_counted_by_its_customers_network() {
        let who = |text: &str| Who::at(text.parse().unwrap());
        assert_eq!(who("2001:db8:1:2::1"), who("2001:db8:1:2:ffff::9"));
        assert_ne!(who("2001:db8:1:2::1"), who("2001:db8:1:3::1"));
        assert_eq!(who("::ffff:192.0.2.1"), who("192.0.2.1"));
        assert_ne!(who("192.0.2.1"), who("192.0.2.2"));
    }
}
