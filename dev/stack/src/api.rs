//! A small HTTP client for the gateway's API and the sandbox's control API.

use std::{
    io::{BufRead, BufReader},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use ureq::Agent;

/// Longer than any answer should take.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// A probe must not hold up the loop that calls it.
const PROBE_WITHIN: Duration = Duration::from_secs(2);

/// One HTTP API with JSON bodies.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    headers: Vec<(&'static str, String)>,
    agent: Agent,
}

impl Api {
    /// The API at this address, e.g. `http://127.0.0.1:8080`.
    pub fn new(base: &str) -> Self {
        Self { base: base.trim_end_matches('/').to_owned(), headers: Vec::new(), agent: agent(ANSWER_WITHIN) }
    }

    /// The same with a bearer token.
    #[must_use]
    pub fn with_token(self, token: &str) -> Self {
        self.with_header("authorization", format!("Bearer {token}"))
    }

    /// The same with a header on each request.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: String) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The same with another timeout for one answer.
    #[must_use]
    pub fn answering_within(self, within: Duration) -> Self {
        Self { agent: agent(within), ..self }
    }

    /// Its address.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// GET, which must succeed.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.send("GET", path, None)
    }

    /// PUT, which must succeed.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("PUT", path, Some(body))
    }

    /// POST, which must succeed.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send("POST", path, Some(body))
    }

    /// DELETE, which must succeed.
    pub fn delete(&self, path: &str) -> Result<()> {
        let (status, text) = self.exchange("DELETE", path, None)?;
        success("DELETE", path, status, text).map(drop)
    }

    /// POST of a JSON text as it is, which must succeed: for texts that a value cannot hold.
    pub fn post_text(&self, path: &str, body: String) -> Result<Value> {
        let (status, text) = self.exchange("POST", path, Some(body))?;
        success("POST", path, status, text).map(|text| serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// POST, whatever comes of it: the status and the text of the answer.
    pub fn try_post(&self, path: &str, body: &Value) -> Result<(u16, String)> {
        self.exchange("POST", path, Some(body.to_string()))
    }

    /// POST, whatever comes of it; `None` if there is no answer in time.
    pub fn post_in_time(&self, path: &str, body: &Value) -> Result<Option<(u16, String)>> {
        match self.try_post(path, body) {
            Err(error) if is_timeout(&error) => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// GET, whatever comes of it: the status and the text of the answer.
    pub fn try_get(&self, path: &str) -> Result<(u16, String)> {
        self.exchange("GET", path, None)
    }

    /// GET of an answer that is not JSON, such as `/metrics`.
    pub fn text(&self, path: &str) -> Result<String> {
        self.answer("GET", path, None)
    }

    /// GET of an endless answer, line by line: live events.
    pub fn stream(&self, path: &str) -> Result<impl BufRead + Send + use<>> {
        let endless: Agent = Agent::config_builder().timeout_connect(Some(PROBE_WITHIN)).build().into();
        let request = endless.get(format!("{}{path}", self.base));
        let request =
            self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let response = request.call().with_context(|| format!("no answer to GET {}{path}", self.base))?;
        Ok(BufReader::new(response.into_body().into_reader()))
    }

    /// The JSON body of a successful answer; null if it has none.
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        Ok(serde_json::from_str(&self.answer(method, path, body)?).unwrap_or(Value::Null))
    }

    fn answer(&self, method: &str, path: &str, body: Option<&Value>) -> Result<String> {
        let (status, text) = self.exchange(method, path, body.map(Value::to_string))?;
        success(method, path, status, text)
    }

    fn exchange(&self, method: &str, path: &str, body: Option<String>) -> Result<(u16, String)> {
        let request = ureq::http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        let request =
            self.headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
        let sent = match body {
            Some(body) => {
                let request = request.header("content-type", "application/json").body(body)?;
                self.agent.run(request)
            }
            None => self.agent.run(request.body(())?),
        };
        let mut response = sent.with_context(|| format!("no answer to {method} {}{path}", self.base))?;
        let text = response.body_mut().read_to_string().context("the answer was cut short")?;
        Ok((response.status().as_u16(), text))
    }
}

fn success(method: &str, path: &str, status: u16, text: String) -> Result<String> {
    if !(200..300).contains(&status) {
        bail!("{method} {path} answers {status}: {text}");
    }
    Ok(text)
}

fn is_timeout(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ureq::Error::Timeout(_)))
}

/// Whether a GET of this address answers 200 now.
pub fn answers_ok(url: &str) -> bool {
    agent(PROBE_WITHIN).get(url).call().is_ok_and(|response| response.status() == 200)
}

fn agent(within: Duration) -> Agent {
    Agent::config_builder().timeout_global(Some(within)).http_status_as_error(false).build().into()
}
