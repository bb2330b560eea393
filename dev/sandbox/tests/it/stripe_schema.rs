//! The stand-in's answers fit Stripe's own OpenAPI description.

use serde_json::Value;

use crate::harness::{Harness, recording};

/// Stripe's description of its objects.
struct Schemas(Value);

impl Schemas {
    fn load() -> Self {
        Self(recording("stripe/openapi-billing.json")["components"]["schemas"].take())
    }

    /// Asserts that every required property is present, and that every property is in the schema and fits it.
    fn assert_fits(&self, name: &str, value: &Value) {
        self.check(&self.0[name], value, name);
    }

    fn check(&self, schema: &Value, value: &Value, path: &str) {
        let schema = self.resolve(schema);
        if value.is_null() {
            assert_eq!(schema["nullable"], true, "{path} may not be null");
            return;
        }
        if let Some(choices) = schema["anyOf"].as_array() {
            assert!(!choices.is_empty(), "{path}");
            return self.check(&choices[0], value, path);
        }
        if let Some(allowed) = schema["enum"].as_array() {
            assert!(allowed.contains(value), "{path} is {value}");
        }
        match schema["type"].as_str() {
            Some("object") => self.check_object(schema, value, path),
            Some("string") => assert!(value.is_string(), "{path} is {value}"),
            Some("integer") => assert!(value.is_i64() || value.is_u64(), "{path} is {value}"),
            Some("number") => assert!(value.is_number(), "{path} is {value}"),
            Some("boolean") => assert!(value.is_boolean(), "{path} is {value}"),
            Some("array") => {
                for item in value.as_array().unwrap_or_else(|| panic!("{path} is {value}")) {
                    self.check(&schema["items"], item, path);
                }
            }
            other => panic!("{path}: a schema of type {other:?}"),
        }
    }

    fn check_object(&self, schema: &Value, value: &Value, path: &str) {
        let fields = value.as_object().unwrap_or_else(|| panic!("{path} is {value}"));
        for required in schema["required"].as_array().into_iter().flatten() {
            assert!(fields.contains_key(required.as_str().unwrap()), "{path} lacks {required}");
        }
        for (key, field) in fields {
            let path = format!("{path}.{key}");
            match (&schema["properties"][key], &schema["additionalProperties"]) {
                (property, _) if property.is_object() => self.check(property, field, &path),
                (_, extra) if extra.is_object() => self.check(extra, field, &path),
                _ => panic!("{path} is not in the schema"),
            }
        }
    }

    fn resolve<'s>(&'s self, schema: &'s Value) -> &'s Value {
        match schema["$ref"].as_str() {
            Some(reference) => &self.0[reference.strip_prefix("#/components/schemas/").unwrap()],
            None => schema,
        }
    }
}

#[tokio::test]
async fn every_object_fits_the_schema() {
    let schemas = Schemas::load();
    let bench = Harness::new().await;
    let now = metering::Clock::now(bench.sandbox.clock()).as_second();

    let customer =
        bench.stripe_post("/customers", "name=North&email=ops@north.example&metadata[tenant]=north");
    let customer = customer.await.json();
    schemas.assert_fits("customer", &customer);
    let customer_id = customer["id"].as_str().unwrap();
    let form = "event_name=executions&display_name=Executions&default_aggregation[formula]=sum";
    let meter = bench.stripe_post("/billing/meters", form).await.json();
    schemas.assert_fits("billing.meter", &meter);
    let meter_id = meter["id"].as_str().unwrap();

    let form = format!(
        "event_name=executions&identifier=e1&timestamp={now}\
         &payload[stripe_customer_id]={customer_id}&payload[value]=7"
    );
    let event = bench.stripe_post("/billing/meter_events", &form).await.json();
    schemas.assert_fits("billing.meter_event", &event);

    let (start, end) = (now - now % 60, now - now % 60 + 60);
    let query = format!("customer={customer_id}&start_time={start}&end_time={end}");
    let summaries =
        bench.stripe_get(&format!("/billing/meters/{meter_id}/event_summaries?{query}")).await.json();
    assert_eq!(summaries["object"], "list");
    schemas.assert_fits("billing.meter_event_summary", &summaries["data"][0]);

    let form = "event_name=executions&type=cancel&cancel[identifier]=e1";
    let adjustment = bench.stripe_post("/billing/meter_event_adjustments", form).await.json();
    schemas.assert_fits("billing.meter_event_adjustment", &adjustment);

    let listed = bench.stripe_get("/billing/meters?status=active").await.json();
    schemas.assert_fits("billing.meter", &listed["data"][0]);
    let listed = bench.stripe_get("/customers?limit=1").await.json();
    schemas.assert_fits("customer", &listed["data"][0]);
    let archived = bench.stripe_post(&format!("/billing/meters/{meter_id}/deactivate"), "").await.json();
    schemas.assert_fits("billing.meter", &archived);
}

#[tokio::test]
async fn every_refusal_fits_the_schema() {
    let schemas = Schemas::load();
    let bench = Harness::new().await;
    let answers = [
        (400, bench.stripe_post("/billing/meter_events", "event_name=executions").await),
        (400, bench.stripe_post("/billing/meter_events", "colour=red").await),
        (404, bench.stripe_get("/billing/meters/mtr_none").await),
        (404, bench.stripe_get("/customers/cus_none").await),
        (404, bench.stripe_get("/nosuch").await),
    ];
    for (status, answer) in answers {
        assert_eq!(answer.status, status, "{}", answer.text);
        schemas.assert_fits("error", &answer.json());
    }
}
