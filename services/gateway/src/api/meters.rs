//! Metrics of every answer.
//!
//! Looking a metric up by its labels costs more than incrementing it. So each thread caches the metrics that
//! it has looked up: there are few, like routes, methods, statuses and reasons.

use std::{cell::RefCell, time::Duration};

use axum::http::StatusCode;
use foldhash::{HashMap, HashMapExt};
use metrics::{Counter, Histogram};

/// The metrics of one route.
struct Route {
    seconds: Histogram,
    /// By method and status.
    requests: HashMap<(&'static str, u16), Counter>,
}

/// A verdict is counted, and a refusal also by its reason.
struct Verdict {
    answers: Counter,
    refusals: Option<Counter>,
}

thread_local! {
    static ROUTES: RefCell<HashMap<Box<str>, Route>> = RefCell::new(HashMap::new());
    static VERDICTS: RefCell<HashMap<(bool, &'static str), Verdict>> = RefCell::new(HashMap::new());
}

/// Records an answer and its duration.
pub fn answered(method: &'static str, route: &str, status: StatusCode, taken: Duration) {
    ROUTES.with_borrow_mut(|routes| {
        if let Some(known) = routes.get_mut(route) {
            known.answered(method, route, status, taken);
        } else {
            let seconds = metrics::histogram!("flowmeter_http_request_seconds", "route" => route.to_owned());
            let mut new = Route { seconds, requests: HashMap::new() };
            new.answered(method, route, status, taken);
            routes.insert(route.into(), new);
        }
    });
}

impl Route {
    fn answered(&mut self, method: &'static str, route: &str, status: StatusCode, taken: Duration) {
        let requests = self.requests.entry((method, status.as_u16())).or_insert_with(|| {
            let (route, status) = (route.to_owned(), status.as_str().to_owned());
            metrics::counter!("flowmeter_http_requests_total", "method" => method, "route" => route, "status" => status)
        });
        requests.increment(1);
        self.seconds.record(taken.as_secs_f64());
    }
}

/// Counts a verdict of the limit check.
pub fn decided(allowed: bool, reason: &'static str) {
    VERDICTS.with_borrow_mut(|verdicts| {
        let verdict = verdicts.entry((allowed, reason)).or_insert_with(|| {
            let verdict = if allowed { "allowed" } else { "refused" };
            let answers =
                metrics::counter!("flowmeter_admissions_total", "verdict" => verdict, "reason" => reason);
            let refusals =
                (!allowed).then(|| metrics::counter!("flowmeter_refusals_total", "reason" => reason));
            Verdict { answers, refusals }
        });
        verdict.answers.increment(1);
        if let Some(refusals) = &verdict.refusals {
            refusals.increment(1);
        }
    });
}
