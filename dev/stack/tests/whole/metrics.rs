//! What a monitoring system reads of every service.

use stack::{Api, Program};

use crate::harness::{Harness, Runs, SOURCE, TENANT};

#[test]
fn every_metric_has_a_help_text_and_the_operators_figures_are_exported() {
    let bench = Harness::with_tenant("metrics", 10);
    bench.run(SOURCE, Runs::good(9));
    bench.await_counted(TENANT, 9);
    let shown = |service: Program| Api::new(&bench.stack.ops_url(service).unwrap()).text("/metrics").unwrap();
    let has = |service: Program, line: &'static str| {
        bench.until(&format!("{line} of {service:?}"), || {
            shown(service).lines().any(|shown| shown.starts_with(line)).then_some(())
        });
    };
    has(Program::Collector, "flowmeter_sources{state=\"ok\"} 1");
    has(Program::Collector, "flowmeter_sources{state=\"failing\"} 0");
    has(Program::Collector, "flowmeter_source_lag_max_seconds ");
    has(Program::Gateway, "flowmeter_tenants{usage=\"near\"} 1");
    has(Program::Gateway, "flowmeter_tenants{usage=\"over\"} 0");
    has(Program::Gateway, "flowmeter_reservations_open 0");
    has(Program::Gateway, "flowmeter_dead_letters 0");
    has(Program::Gateway, "flowmeter_stream_bytes_ratio{stream=");
    for service in Program::SERVICES {
        let text = shown(service);
        assert!(text.contains("process_resident_memory_bytes "), "{service:?} shows its process");
        for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()) {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} of {service:?} has no help text");
        }
    }
    bench.finish();
}
