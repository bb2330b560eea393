//! The simulated clock passes the end of a month.

use crate::harness::{Harness, Runs, SOURCE, TENANT};

#[test]
fn a_period_closes_when_its_sources_are_complete() {
    let bench = Harness::with_tenant("period-end", 1_000);
    bench.run(SOURCE, Runs::good(120));
    bench.run(SOURCE, Runs { mode: "manual", ..Runs::good(7) });
    bench.await_counted(TENANT, 120);
    bench.await_quiet();
    let period = bench.usage(TENANT)["period"].clone();

    let end = period["end"].as_str().unwrap();
    let past_the_end = end.replace("T00:00:00Z", "T00:10:00Z");
    assert_ne!(end, past_the_end, "a period ends at midnight UTC");
    let clock = serde_json::json!({ "now": past_the_end });
    bench.sandbox().post("/control/clock", &clock).unwrap();

    let closed = bench.until("the closed period", || {
        let periods = bench.gateway().get(&format!("/v1/usage/{TENANT}/periods")).unwrap();
        periods["periods"].as_array().unwrap().first().cloned()
    });
    assert_eq!(closed["period"], period);
    assert_eq!((closed["counted"].as_u64(), closed["uncounted"].as_u64()), (Some(120), Some(7)));
    assert_eq!(closed["incomplete_sources"], serde_json::json!([]));
    assert_eq!(bench.await_stripe_total(120), 120);

    bench.run(SOURCE, Runs::good(3));
    let fresh = bench.until("the new period", || {
        Some(bench.usage(TENANT)).filter(|usage| usage["counted"].as_u64() == Some(3))
    });
    assert_eq!(fresh["period"]["start"], period["end"]);
    bench.finish();
}
