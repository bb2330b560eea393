//! A running sandbox and a client for it.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use reqwest::{Client, RequestBuilder, Response};
use sandbox::{Sandbox, SandboxOptions};
use serde_json::Value;

/// Longer than any answer that is not meant to be late.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause between two checks of a condition.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The sandbox of one test.
pub struct Harness {
    pub sandbox: Sandbox,
    client: Client,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub async fn of(response: Response) -> Self {
        let headers = response.headers().clone();
        let content_type = headers.get("content-type").map(|it| it.to_str().unwrap().to_owned());
        Self {
            status: response.status().as_u16(),
            content_type: content_type.unwrap_or_default(),
            headers,
            text: response.text().await.unwrap(),
        }
    }

    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

impl Harness {
    pub async fn new() -> Self {
        Self::with(SandboxOptions::default()).await
    }

    pub async fn with(options: SandboxOptions) -> Self {
        // Tests of one process race for the first call; for the others it is already done.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let sandbox = Sandbox::start(options).await.unwrap();
        Self { sandbox, client: Client::builder().timeout(PATIENCE).build().unwrap() }
    }

    /// A call to the API of the instance `north`, with its key.
    pub async fn n8n(&self, path_and_query: &str) -> Answer {
        let url = format!("{}/api/v1{path_and_query}", self.sandbox.n8n_url("north"));
        send(self.client.get(url).header("X-N8N-API-KEY", "key-north")).await
    }

    pub fn get(&self, url: String) -> RequestBuilder {
        self.client.get(url)
    }

    pub fn delete(&self, url: String) -> RequestBuilder {
        self.client.delete(url)
    }

    pub fn post(&self, url: String) -> RequestBuilder {
        self.client.post(url)
    }

    /// The ids of a list call, in order.
    pub async fn n8n_ids(&self, path_and_query: &str) -> Vec<String> {
        let answer = self.n8n(path_and_query).await.json();
        let rows = answer["data"].as_array().unwrap_or_else(|| panic!("{answer}"));
        rows.iter().map(|row| row["id"].as_str().unwrap().to_owned()).collect()
    }

    pub async fn stripe_get(&self, path_and_query: &str) -> Answer {
        let url = format!("{}v1{path_and_query}", self.sandbox.stripe_url());
        send(self.client.get(url).bearer_auth("sk_test_sandbox")).await
    }

    /// A form-encoded call that has not been sent yet.
    pub fn stripe_call(&self, path: &str, form: &str) -> RequestBuilder {
        self.client
            .post(format!("{}v1{path}", self.sandbox.stripe_url()))
            .bearer_auth("sk_test_sandbox")
            .header("content-type", "application/x-www-form-urlencoded")
            .body(form.to_owned())
    }

    pub async fn stripe_post(&self, path: &str, form: &str) -> Answer {
        send(self.stripe_call(path, form)).await
    }

    pub async fn control(&self, path: &str, body: Value) -> Answer {
        send(self.client.post(format!("{}/control{path}", self.sandbox.url())).json(&body)).await
    }

    pub async fn control_get(&self, path: &str) -> Value {
        send(self.client.get(format!("{}/control{path}", self.sandbox.url()))).await.json()
    }
}

pub async fn send(request: RequestBuilder) -> Answer {
    Answer::of(request.send().await.unwrap()).await
}

/// Polls until a condition holds. (`testkit` has the same for services, but depends on the database.)
pub async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE * 2;
    while !so() {
        assert!(Instant::now() < deadline, "timed out waiting until {what}");
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

/// A file of the shared recordings.
pub fn recording(path: &str) -> Value {
    let shared = std::env::var_os("FLOWMETER_SHARED").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared")),
        PathBuf::from,
    );
    let path = shared.join("data").join(path);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}
