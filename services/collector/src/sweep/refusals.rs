//! Runs that n8n's hook has refused before they started, if n8n lists them as errors: before 2.40, and with
//! `N8N_PRE_EXECUTE_ERROR_CREATES_EXECUTION`. They must not count, but a push is only a claim, and whoever
//! has the token could claim it for every run that failed. So the claim makes the sweep read the execution's
//! own data, and these decide.

use serde_json::Value;

/// Executions whose data one sweep reads: ten seconds at some 20 ms each. Those beyond are published as the
/// list shows them, so a source that refuses more than this between two sweeps has some of them counted.
pub const READ_MAX: usize = 500;

/// The errors by which the hook refuses.
const REFUSAL_NAMES: [&str; 2] = ["RefusedBeforeStart", "ResponseError"];

/// Whether an execution's data are those of a run that was refused before it started: its error has such a
/// name, and n8n has written one entry, failed without an error of its own, for a node that never ran. A
/// workflow can throw an error of any name, but then the entry of the node that threw has it.
pub fn is_refused(execution: &Value) -> bool {
    let result = execution.pointer("/data/resultData");
    let name = result.and_then(|result| result.pointer("/error/name")).and_then(Value::as_str);
    let nodes = result.and_then(|result| result.get("runData")).and_then(Value::as_object);
    let mut entries =
        nodes.into_iter().flat_map(|nodes| nodes.values()).flat_map(|runs| runs.as_array()).flatten();
    let is_shape = entries.next().is_some_and(|entry| {
        entry.get("executionStatus").and_then(Value::as_str) == Some("error")
            && entry.get("error").is_none_or(Value::is_null)
    }) && entries.next().is_none();
    name.is_some_and(|name| REFUSAL_NAMES.contains(&name)) && is_shape
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn with(name: &str, run_data: Value) -> Value {
        json!({"status": "error", "data": {"resultData": {"error": {"name": name}, "runData": run_data}}})
    }

    #[test]
    fn only_a_run_that_never_ran_was_refused() {
        let never_ran = json!({"startTime": 1, "executionTime": 0, "executionStatus": "error", "source": []});
        let ran = json!({"startTime": 1, "executionTime": 3, "executionStatus": "success"});
        let threw =
            json!({"startTime": 1, "executionStatus": "error", "error": {"name": "RefusedBeforeStart"}});
        for name in ["RefusedBeforeStart", "ResponseError"] {
            assert!(is_refused(&with(name, json!({"Webhook": [never_ran]}))), "{name}");
            for run_data in [
                json!({}),
                json!({"Function": [threw]}),
                json!({"Webhook": [ran], "Function": [threw]}),
                json!({"Webhook": [ran], "Function": [never_ran]}),
                json!({"Webhook": [never_ran, never_ran]}),
            ] {
                assert!(!is_refused(&with(name, run_data.clone())), "{name} {run_data}");
            }
        }
        assert!(!is_refused(&with("NodeApiError", json!({"Webhook": [never_ran]}))));
        assert!(!is_refused(&json!({"status": "error"})));
    }

    #[test]
    fn a_recorded_run_that_failed_was_not_refused() {
        let folder = std::path::PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/n8n");
        let text = std::fs::read_to_string(folder.join("exec-error-includeData.json")).unwrap();
        let recorded: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(recorded["body"]["data"]["resultData"]["error"]["name"], "NodeOperationError");
        assert!(!is_refused(&recorded["body"]));
    }
}
