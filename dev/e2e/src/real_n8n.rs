//! A real n8n: started here in main or queue mode, or one that runs already.

mod installation;
mod instance;
mod queue;
mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use stack::{Api, binaries};

pub use installation::DatabaseCopy;
use installation::{Installation, Printed};
pub use instance::Instance;
pub use queue::{Backends, Queue, RedisInput};
pub use rows::{Row, Run, second};

/// The largest page that n8n returns.
const PAGE_ROWS: u32 = 250;

/// Far more than an instance keeps (10,000 rows by default): a list that goes on for ever is an error.
const PAGES_MAX: u32 = 1_000;

/// A running n8n.
#[derive(Debug)]
pub struct RealN8n {
    /// Where its API answers.
    pub url: String,
    /// Where its production webhooks answer: the same, except in queue mode.
    pub webhook_url: String,
    /// A key of its public API.
    pub key: String,
    scripts: PathBuf,
    // What we have started and must stop.
    started: Option<Started>,
}

#[derive(Debug)]
enum Started {
    Main(Installation),
    Queue(Queue),
}

impl RealN8n {
    /// One that runs already, and is left running.
    pub fn running(scripts: PathBuf, url: &str, key: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { webhook_url: url.clone(), url, key: key.to_owned(), scripts, started: None }
    }

    fn main(installation: Installation) -> Result<Self> {
        let printed = installation.start()?;
        let url = printed.value("N8N_BASE_URL")?;
        Ok(Self {
            webhook_url: url.clone(),
            url,
            key: printed.value("N8N_API_KEY")?,
            scripts: installation.scripts().to_owned(),
            started: Some(Started::Main(installation)),
        })
    }

    fn queue(queue: Queue, scripts: PathBuf, printed: &Printed) -> Result<Self> {
        Ok(Self {
            url: printed.value("N8N_BASE_URL")?,
            webhook_url: queue.webhook_url(),
            key: printed.value("N8N_API_KEY")?,
            scripts,
            started: Some(Started::Queue(queue)),
        })
    }

    /// Runs the prepared workflows through their webhooks; each answer comes after its execution has ended.
    pub fn make_executions(&self, good: u32, bad: u32) -> Result<()> {
        let mut script = Command::new("bash");
        script.arg(self.scripts.join("make-executions.sh")).arg(&self.webhook_url);
        script.args([good.to_string(), bad.to_string()]);
        if !binaries::run(&mut script)?.success() {
            bail!("make-executions.sh did not make {good} good and {bad} bad executions");
        }
        Ok(())
    }

    /// Makes a workflow like the prepared one that succeeds, with its webhook at `path` and with a new tag. Returns its id.
    pub fn make_tagged(&self, path: &str, tag: &str) -> Result<String> {
        let api = self.api();
        let listed = api.get("/api/v1/workflows?name=meter%20ok")?;
        let model = listed.pointer("/data/0").context("n8n lacks the prepared workflow")?;
        let mut nodes = model.get("nodes").context("the prepared workflow has no nodes")?.clone();
        for node in nodes.as_array_mut().into_iter().flatten().filter(|node| node.get("webhookId").is_some())
        {
            node["webhookId"] = json!(path);
            node["parameters"]["path"] = json!(path);
        }
        let workflow = json!({
            "name": path, "nodes": nodes, "connections": model.get("connections"),
            "settings": { "executionOrder": "v1" },
        });
        let id = own_id(&api.post("/api/v1/workflows", &workflow)?)?;
        let tag = own_id(&api.post("/api/v1/tags", &json!({ "name": tag }))?)?;
        api.put(&format!("/api/v1/workflows/{id}/tags"), &json!([{ "id": tag }]))?;
        api.post(&format!("/api/v1/workflows/{id}/activate"), &json!({}))?;
        Ok(id)
    }

    /// Its own list under the counting rule: counted executions by workflow that stopped in `[start, end)`.
    pub fn counted_by_workflow(&self, start: &str, end: &str) -> Result<BTreeMap<String, u64>> {
        let mut counted = BTreeMap::new();
        for row in self.list()? {
            let stopped_at = second(row.stopped_at());
            if row.counts() && second(start) <= stopped_at && stopped_at < second(end) {
                *counted.entry(row.workflow().to_owned()).or_default() += 1;
            }
        }
        Ok(counted)
    }

    /// Its public API.
    pub fn api(&self) -> Api {
        Api::new(&self.url).with_header("x-n8n-api-key", self.key.clone())
    }

    /// Everything that it lists.
    pub fn list(&self) -> Result<Vec<Row>> {
        let api = self.api();
        let mut rows = Vec::new();
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let page = api.get(&format!("/api/v1/executions?limit={PAGE_ROWS}{cursor}"))?;
            let data = page.get("data").and_then(Value::as_array).context("n8n's answer has no list")?;
            rows.extend(data.iter().cloned().map(Row::new));
            match page.get("nextCursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(rows),
            }
        }
        bail!("n8n's list has more than {PAGES_MAX} pages")
    }

    /// The ids of the executions in its list that have ended.
    pub fn ended_ids(&self) -> Result<BTreeSet<u64>> {
        let ended = self.list()?.into_iter().filter(Row::has_ended);
        ended.map(|row| Ok(row.run()?.id)).collect()
    }

    /// Restarts the instance; `between` may change its files while it is stopped.
    pub fn restart(&mut self, between: impl FnOnce(&Installation) -> Result<()>) -> Result<()> {
        let Some(Started::Main(installation)) = &self.started else {
            bail!("only an n8n in main mode that was started here can be restarted");
        };
        installation.stop()?;
        between(installation)?;
        installation.start()?;
        Ok(())
    }

    /// Stops it, if we have started it.
    pub fn stop(&mut self) -> Result<()> {
        match self.started.take() {
            Some(Started::Main(installation)) => installation.stop(),
            Some(Started::Queue(mut queue)) => queue.stop(),
            None => Ok(()),
        }
    }
}

fn own_id(made: &Value) -> Result<String> {
    Ok(made.get("id").and_then(Value::as_str).context("n8n has made something without an id")?.to_owned())
}

impl Drop for RealN8n {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("n8n may still run: {error:#}");
        }
    }
}
