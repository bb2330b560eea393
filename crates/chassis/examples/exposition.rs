//! Every metric with a value, as `/metrics` shows it: for `promtool check metrics`.

use chassis::measures::{self, Kind};
use metrics_exporter_prometheus::PrometheusBuilder;

fn main() -> anyhow::Result<()> {
    let handle = PrometheusBuilder::new().set_buckets(&[0.1, 1.0])?.install_recorder()?;
    measures::describe();
    for (kind, name, _) in measures::MEASURES {
        match kind {
            Kind::Counter => metrics::counter!(name).increment(1),
            Kind::Gauge => metrics::gauge!(name).set(1.0),
            Kind::Histogram => metrics::histogram!(name).record(0.5),
        }
    }
    measures::measure_process();
    print!("{}", handle.render());
    Ok(())
}
