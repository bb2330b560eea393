//! The documentation's example, applied to a gateway as an operator does.

use std::{
    collections::BTreeSet,
    process::{Command, Output},
};

use serde_json::Value;
use stack::{Program, Project};

use crate::harness::Harness;

fn apply(bench: &Harness, more: &[&str]) -> Output {
    let example = Project::find().unwrap().root().join("docs/catalog.yaml");
    let mut command = Command::new(bench.stack.cli());
    command.args(["apply", "-f"]).arg(example).args(more).envs(bench.stack.cli_environment());
    command.envs([("NORTH_N8N_API_KEY", "key-north"), ("SHARED_N8N_API_KEY", "key-shared")]);
    command.output().unwrap()
}

fn printed(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_documented_catalog_can_be_applied_and_uses_every_setting() {
    let bench = Harness::start_some("catalog", &[Program::Gateway], |options| options);
    let first = printed(&apply(&bench, &[]));
    assert_eq!(first.lines().filter(|line| line.ends_with(" created")).count(), 10, "{first}");
    let again = printed(&apply(&bench, &[]));
    assert!(again.lines().all(|line| line.contains("unchanged")), "{again}");

    // The example has each field of the API's own description of a plan, a tenant and a source.
    let example = std::fs::read_to_string(Project::find().unwrap().root().join("docs/catalog.yaml")).unwrap();
    let api = bench.gateway().get("/openapi.json").unwrap();
    for schema in [
        "PlanInput",
        "AdmissionRuleJson",
        "RunCapsJson",
        "CountingJson",
        "PriceJson",
        "TenantInput",
        "SourceInput",
    ] {
        let described = api.pointer(&format!("/components/schemas/{schema}")).unwrap();
        // Where a field is needed only beside another, the description has a variant for each case.
        let variants = described.get("oneOf").and_then(|variants| variants.as_array());
        let objects = variants.map_or(vec![described], |variants| variants.iter().collect());
        let fields: BTreeSet<&String> =
            objects.iter().flat_map(|object| object["properties"].as_object().unwrap().keys()).collect();
        // The exponent is for programs: a file leaves it to the currency.
        for field in fields.into_iter().filter(|field| *field != "exponent") {
            assert!(
                example.contains(&format!("{field}:")),
                "{field} of {schema} is missing in docs/catalog.yaml"
            );
        }
    }

    // Somebody has set a customer by hand: applying the file would remove it.
    let path = "/v1/tenants/west";
    let mut west = serde_json::json!({ "name": "West", "plan": "trial", "stripe_customer_id": "cus_west" });
    bench.gateway().put(path, &west).unwrap();
    let refused = apply(&bench, &[]);
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && complaint.contains("--prune"), "{complaint}");
    let text = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(text.contains("removes stripe_customer_id (was cus_west)"), "{text}");
    west = bench.gateway().get(path).unwrap();
    assert_eq!(west["stripe_customer_id"], "cus_west");
    printed(&apply(&bench, &["--prune"]));
    assert_eq!(bench.gateway().get(path).unwrap()["stripe_customer_id"], Value::Null);
    bench.finish();
}
