//! A running gateway and a client for it.

use std::time::Duration;

use catalog::sealing::KeyPair;
use gateway::{Gateway, GatewaySettings, start_on};
use proto::v1;
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use testkit::{TestBed, eventually};
use tokio::net::TcpListener;
use url::Url;

/// The configured operator token of every test.
pub const OPERATOR: &str = "operator-token-for-tests-only";

/// The time of the simulated clock.
pub const NOW: &str = "2026-11-24T12:00:00Z";

/// A running gateway and its environment.
pub struct Harness {
    pub bench: TestBed,
    pub keys: KeyPair,
    base: String,
    http: reqwest::Client,
}

impl Harness {
    /// A gateway on a free port.
    pub async fn start() -> Self {
        Self::on(TestBed::of::<Gateway>(NOW).await).await
    }

    /// A gateway on this bench.
    pub async fn on(bench: TestBed) -> Self {
        let keys = KeyPair::generate();
        let base = serve(&bench, &keys).await;
        Self { bench, keys, base, http: reqwest::Client::new() }
    }

    /// A gateway with this public address.
    pub async fn at(public_url: &str) -> Self {
        let (bench, keys) = (TestBed::of::<Gateway>(NOW).await, KeyPair::generate());
        let public_url = Some(public_url.parse().unwrap());
        let base = serve_at(bench.context.clone(), keys.public.clone(), public_url).await;
        Self { bench, keys, base, http: reqwest::Client::new() }
    }

    /// The address of a second gateway on the same database and broker.
    pub async fn replica(&self) -> String {
        serve(&self.bench, &self.keys).await
    }

    pub fn base(&self) -> &str {
        &self.base
    }

    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_to(&self.base, method, path)
    }

    pub fn request_to(&self, base: &str, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{base}{path}"))
    }

    /// Asks as the operator.
    pub async fn ask(&self, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        self.ask_as(OPERATOR, method, path, body).await
    }

    pub async fn ask_as(&self, token: &str, method: Method, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = self.request(method, path).bearer_auth(token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer(request).await
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask(Method::GET, path, None).await;
        assert_eq!(status, 200, "GET {path}: {body}");
        body
    }

    pub async fn put(&self, path: &str, body: Value) -> Value {
        let (status, answer) = self.ask(Method::PUT, path, Some(body)).await;
        assert_eq!(status, 200, "PUT {path}: {answer}");
        answer
    }

    /// The plan `pro` with this limit, and the tenants `north` and `south` on it.
    pub async fn with_tenants(&self, limit: u64) {
        self.put("/v1/plans/pro", plan(limit)).await;
        for tenant in ["north", "south"] {
            self.put(&format!("/v1/tenants/{tenant}"), json!({"name": tenant, "plan": "pro"})).await;
        }
    }

    /// A new token of a tenant.
    pub async fn token_of(&self, tenant: &str) -> String {
        let (status, body) = self.ask(Method::POST, "/v1/tokens", Some(json!({"tenant": tenant}))).await;
        assert_eq!(status, 201, "{body}");
        body["token"].as_str().unwrap().to_owned()
    }

    /// Publishes figures as the aggregator does, and waits until they are shown.
    pub async fn counted(&self, usage: v1::UsageCounted) {
        let (tenant, as_of) =
            (usage.tenant_id.clone(), proto::required_instant(usage.as_of.as_ref(), "as_of"));
        self.bench.publish(self.bench.namespace().usage_counted(&tenant), &usage).await;
        let as_of = as_of.unwrap().to_string();
        let expected = usage.totals.unwrap().counted;
        eventually("the figures are shown", || async {
            let shown = self.get(&format!("/v1/usage/{tenant}")).await;
            (shown["as_of"] == as_of.as_str() && shown["counted"].as_u64().is_none_or(|c| c == expected))
                .then_some(())
        })
        .await;
    }

    pub async fn finish(self) {
        self.bench.finish().await;
    }
}

/// A gateway with threads, connections and a subscription of its own that can be killed: it stops at once and
/// returns no units.
pub struct Killable {
    pub base: String,
    runtime: tokio::runtime::Runtime,
}

impl Killable {
    /// A gateway on the world's database and namespace.
    pub async fn start(world: &Harness) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let url = world.bench.database_url.clone();
        let (context, keys) = (world.bench.context.clone(), world.keys.public.clone());
        let started = runtime.spawn(async move {
            let settings = chassis::DatabaseSettings {
                url: url.into(),
                connections_max: 4,
                migrations: chassis::Migrations::Apply,
            };
            let migrators = <Gateway as chassis::Service>::migrators();
            let pool = chassis::open_database("gateway", &settings, &migrators).await.unwrap();
            let context = chassis::Context { pool, tasks: chassis::Tasks::default(), ..context };
            serve_on(context, keys).await
        });
        Self { base: started.await.unwrap(), runtime }
    }

    /// Stops everything immediately.
    pub fn kill(self) {
        self.runtime.shutdown_background();
    }
}

async fn serve(bench: &TestBed, keys: &KeyPair) -> String {
    serve_on(bench.context.clone(), keys.public.clone()).await
}

async fn serve_on(context: chassis::Context, public_key: String) -> String {
    serve_at(context, public_key, None).await
}

async fn serve_at(context: chassis::Context, public_key: String, public_url: Option<Url>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listen = listener.local_addr().unwrap();
    let settings = GatewaySettings {
        listen,
        operator_token: OPERATOR.into(),
        public_url,
        collector_public_key: public_key,
        metering_stale_after: Duration::from_secs(30 * 60),
        refusals_kept: chassis::KeepFor::days(400),
    };
    start_on(listener, context, settings).unwrap();
    format!("http://{listen}")
}

/// Status and JSON of an answer; null if the body is empty.
pub async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.unwrap();
    let status = response.status().as_u16();
    let body = response.bytes().await.unwrap();
    let json = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    (status, json)
}

pub fn plan(limit: u64) -> Value {
    json!({"name": "Pro", "monthly_limit": limit})
}

pub fn at(text: &str) -> Option<prost_types::Timestamp> {
    Some(proto::timestamp(text.parse().unwrap()))
}

pub fn period(start: &str, end: &str) -> Option<v1::Period> {
    Some(v1::Period { start: at(start), end: at(end) })
}

pub fn november() -> Option<v1::Period> {
    period("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")
}

/// Figures of November, complete until a minute before [`NOW`].
pub fn usage(tenant: &str, counted: u64, revision: u64) -> v1::UsageCounted {
    v1::UsageCounted {
        tenant_id: tenant.to_owned(),
        period: november(),
        revision,
        totals: Some(v1::Totals {
            counted,
            success: counted,
            duration_ms: 40 * counted,
            ..v1::Totals::default()
        }),
        as_of: at(NOW),
        complete_until: at("2026-11-24T11:59:00Z"),
        counted_complete: counted,
        plan_id: "pro".to_owned(),
        ..v1::UsageCounted::default()
    }
}
