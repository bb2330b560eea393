//! Every metric of every service: its kind, its name and its help text.

use metrics_process::Collector;

use self::Kind::{Counter, Gauge, Histogram};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution.
    Histogram,
}

/// All of them. A test compares the list with the sources; `promtool check metrics` reads it in `cargo xtask verify`.
pub const MEASURES: [(Kind, &str, &str); 41] = [
    (Counter, "flowmeter_admissions_total", "Answers of the limit check, by verdict and reason."),
    (Counter, "flowmeter_authentication_failures_total", "Requests without a valid token."),
    (Counter, "flowmeter_billing_attempts_total", "Attempts to send a report to Stripe, by outcome."),
    (Gauge, "flowmeter_billing_paused", "Pauses of reporting that an operator has to end."),
    (Counter, "flowmeter_crossings_total", "Thresholds that tenants crossed, by outcome."),
    (Gauge, "flowmeter_dead_letters", "Dead letters in the stream; flowmeter dead list shows them."),
    (Counter, "flowmeter_dead_letters_total", "Messages that became dead letters in this process."),
    (
        Counter,
        "flowmeter_executions_corrected_total",
        "Recorded executions that the poll has corrected, by what differed.",
    ),
    (
        Counter,
        "flowmeter_executions_mapped_total",
        "Executions without a tenant that an attribution has assigned to one.",
    ),
    (
        Counter,
        "flowmeter_executions_of_workflows_not_shown_total",
        "Pushed executions of workflows beyond the bound, counted under one until a poll shows theirs.",
    ),
    (Counter, "flowmeter_executions_published_total", "Executions that the collector has published."),
    (Counter, "flowmeter_executions_recorded_total", "New executions that the aggregator has recorded."),
    (Counter, "flowmeter_executions_retired_total", "Executions that were dropped with their month."),
    (Histogram, "flowmeter_http_request_seconds", "Time to answer a request, by route."),
    (Counter, "flowmeter_http_requests_total", "Answered requests, by method, route and status."),
    (Histogram, "flowmeter_ledger_write_seconds", "Time to record admitted runs."),
    (
        Counter,
        "flowmeter_live_messages_unreadable_total",
        "Messages that a live view could not read, by topic.",
    ),
    (Counter, "flowmeter_mails_total", "Mails, by outcome."),
    (Histogram, "flowmeter_message_seconds", "Time to handle a message, by consumer."),
    (Counter, "flowmeter_messages_published_total", "Messages that were published."),
    (Counter, "flowmeter_messages_total", "Consumed messages, by consumer and outcome."),
    (Counter, "flowmeter_operator_facts_total", "Facts for the operator, by topic and outcome."),
    (Counter, "flowmeter_operator_notices_total", "Notices to the operator, by topic and outcome."),
    (
        Counter,
        "flowmeter_placement_questions_failed_total",
        "Questions about a workflow's tags and project that the collector did not answer.",
    ),
    (Counter, "flowmeter_pushed_executions_total", "Pushed executions, by outcome."),
    (
        Counter,
        "flowmeter_pushed_far_ids_total",
        "Pushed executions whose id is far from what the source has shown.",
    ),
    (Counter, "flowmeter_pushes_total", "Requests that pushed executions, by status."),
    (Counter, "flowmeter_recording_retried_total", "Retried recordings."),
    (Histogram, "flowmeter_recording_seconds", "Time to record a batch of executions."),
    (Counter, "flowmeter_refusals_total", "Refused runs, by reason."),
    (
        Gauge,
        "flowmeter_reservations_open",
        "Admitted runs that are not counted yet; the same in each gateway.",
    ),
    (Counter, "flowmeter_rows_set_aside_total", "Rows that could not be read and were set aside, by table."),
    (
        Gauge,
        "flowmeter_source_clock_skew_max_seconds",
        "How far the clock of an active source is from ours, ahead or behind; the largest of all.",
    ),
    (Gauge, "flowmeter_source_lag_max_seconds", "Age of the oldest completeness among active sources."),
    (
        Gauge,
        "flowmeter_source_warnings",
        "Active sources with a warning, by kind: clock, shared_push_token or same_instance.",
    ),
    (Gauge, "flowmeter_sources", "Sources, by state: ok, failing, new or inactive."),
    (Gauge, "flowmeter_stream_bytes_ratio", "Share of its capacity that a stream uses."),
    (Gauge, "flowmeter_stream_messages", "Messages in a stream."),
    (Histogram, "flowmeter_sweep_seconds", "Time to sweep a source."),
    (Counter, "flowmeter_sweeps_total", "Sweeps, by outcome."),
    (
        Gauge,
        "flowmeter_tenants",
        "Tenants, by usage of their limit: within, near (80 %), over, unlimited or unknown; the same in each gateway.",
    ),
];

/// Gives every metric its help text. Call it once a recorder is installed.
pub fn describe() {
    for (kind, name, help) in MEASURES {
        match kind {
            Counter => metrics::describe_counter!(name, help),
            Gauge => metrics::describe_gauge!(name, help),
            Histogram => metrics::describe_histogram!(name, help),
        }
    }
    Collector::default().describe();
}

/// Reads what the process uses: CPU, memory, file descriptors, threads. Call it before the metrics are rendered.
pub fn measure_process() {
    Collector::default().collect();
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use super::*;

    #[test]
    fn every_metric_in_the_sources_has_a_help_text_and_vice_versa() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let mut used = BTreeSet::new();
        for folder in ["services", "crates"] {
            read_into(&root.join(folder), &mut used);
        }
        let described: BTreeSet<String> = MEASURES.iter().map(|(_, name, _)| (*name).to_owned()).collect();
        assert_eq!(used, described);
        assert_eq!(described.len(), MEASURES.len(), "each is listed once");
    }

    #[test]
    fn names_and_help_texts_are_as_prometheus_wants_them() {
        for (kind, name, help) in MEASURES {
            assert_eq!(kind == Counter, name.ends_with("_total"), "{name}");
            assert!(help.ends_with('.') && help.len() > 10, "{name}: {help}");
        }
    }

    /// The names in `counter!("...")` and its siblings.
    fn read_into(folder: &Path, used: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read_into(&path, used);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                for start in ["counter!(", "gauge!(", "histogram!("] {
                    let calls =
                        text.split(start).skip(1).filter_map(|rest| rest.trim_start().strip_prefix('"'));
                    let names = calls.filter_map(|rest| rest.split('"').next());
                    used.extend(names.filter(|name| name.starts_with("flowmeter_")).map(str::to_owned));
                }
            }
        }
    }
}
