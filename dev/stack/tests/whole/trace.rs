//! From the poll to the mail: one trace.

use std::collections::{BTreeMap, BTreeSet};

use crate::harness::{Harness, Runs, SOURCE};

#[test]
fn from_poll_to_mail_is_one_trace() {
    let bench = Harness::with_tenant("trace", 10);
    bench.run(SOURCE, Runs::good(9));
    bench.await_mails(1);
    let travelled = ["collector", "aggregator", "alerts"];
    bench.until("one trace through the collector, the aggregator and alerts", || {
        let spans = bench.sandbox().get("/control/spans").unwrap();
        let mut services: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for span in spans.as_array().unwrap() {
            let text = |field: &str| span[field].as_str().unwrap().to_owned();
            services.entry(text("trace_id")).or_default().insert(text("service"));
        }
        services.into_values().find(|seen| {
            travelled
                .iter()
                .all(|service| seen.iter().any(|name| name.trim_start_matches("flowmeter-") == *service))
        })
    });
    bench.finish();
}
