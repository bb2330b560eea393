//! Many concurrent requests of one caller: each is answered or refused, and counting continues.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
};

use serde_json::Value;

use crate::harness::{Harness, Runs, SOURCE, TENANT};

/// More than the aggregator's connections for requests, and more than one caller may have at once.
const CALLERS: usize = 24;

#[test]
fn many_concurrent_requests_of_one_caller_do_not_disturb_counting() {
    let bench = Harness::with_tenant("questions", 100_000);
    bench.run(SOURCE, Runs::good(500));
    bench.await_counted(TENANT, 500);
    let start = bench.usage(TENANT)["period"]["start"].as_str().unwrap().to_owned();
    let path = format!("/v1/tenants/{TENANT}/usage/explain?period={start}");

    let (over, answered, refused) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let counted = thread::scope(|scope| {
        for _ in 0..CALLERS {
            let gateway = bench.gateway();
            let (path, over, answered, refused) = (&path, &over, &answered, &refused);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    let (status, answer) = gateway.try_get(path).expect("an answer");
                    match status {
                        200 => {
                            let answer: Value = serde_json::from_str(&answer).expect("JSON");
                            assert!(answer["executions"].is_array(), "{answer}");
                            answered.fetch_add(1, Ordering::Relaxed);
                        }
                        429 => {
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                        _ => panic!("{status}: {answer}"),
                    }
                }
            });
        }
        bench.run(SOURCE, Runs::good(300));
        let counted = bench.await_counted(TENANT, 800);
        over.store(true, Ordering::Relaxed);
        counted
    });
    assert_eq!(counted, 800);
    let (answered, refused) = (answered.into_inner(), refused.into_inner());
    println!("{answered} requests were answered and {refused} refused while 300 executions were counted");
    assert!(answered > 0, "some are answered");
    assert!(refused > 0, "{CALLERS} at once are more than one caller may have");
    bench.finish();
}
