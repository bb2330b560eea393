//! A real n8n: started by the scripts beside the recorded facts, or one that runs already.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use stack::{Api, ports};

use crate::binaries;

/// The most that n8n gives at once.
const PAGE_ROWS: u32 = 250;

/// Far more than an instance keeps (10,000 rows by default): a list that goes on for ever is an error.
const PAGES_MAX: u32 = 1_000;

/// Counted runs: n8n's own quota.
const COUNTED_MODES: [&str; 5] = ["webhook", "trigger", "retry", "cli", "evaluation"];
const COUNTED_STATUSES: [&str; 3] = ["success", "error", "crashed"];

/// A running n8n.
#[derive(Debug)]
pub struct RealN8n {
    /// Its address.
    pub url: String,
    /// A key of its public API.
    pub key: String,
    scripts: PathBuf,
    // The folder of an instance that we have started and stop again.
    started_in: Option<PathBuf>,
}

impl RealN8n {
    /// Starts n8n in a folder, installed there the first time (minutes).
    pub fn start(scripts: &Path, folder: &Path) -> Result<Self> {
        Self::start_with(scripts, folder, &[])
    }

    /// The same with settings of n8n's own, which do not reach one that runs already.
    pub fn start_with(scripts: &Path, folder: &Path, environment: &[(&str, String)]) -> Result<Self> {
        let script = scripts.join("start-n8n.sh");
        if !script.is_file() {
            bail!("{} is not there: name the folder with `--shared`", script.display());
        }
        let port = ports::free()?;
        println!("Starting a real n8n in {} (the first time takes minutes)", folder.display());
        let output = Command::new("bash")
            .arg(&script)
            .arg(folder)
            .arg(port.to_string())
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .context("cannot start bash")?;
        if !output.status.success() {
            bail!("start-n8n.sh failed ({})", output.status);
        }
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let values: BTreeMap<&str, &str> = printed.lines().filter_map(|line| line.split_once('=')).collect();
        let value = |name: &str| {
            let found = values.get(name).map(ToString::to_string);
            found.with_context(|| format!("start-n8n.sh printed no {name}"))
        };
        Ok(Self {
            url: value("N8N_BASE_URL")?,
            key: value("N8N_API_KEY")?,
            scripts: scripts.to_owned(),
            started_in: Some(folder.to_owned()),
        })
    }

    /// One that runs already, and is left running.
    pub fn running(scripts: &Path, url: &str, key: &str) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self { url, key: key.to_owned(), scripts: scripts.to_owned(), started_in: None }
    }

    /// Runs the prepared workflows through their webhooks; each answer comes after its execution has ended.
    pub fn make_executions(&self, good: u32, bad: u32) -> Result<()> {
        let mut script = Command::new("bash");
        script.arg(self.scripts.join("make-executions.sh")).arg(&self.url);
        script.args([good.to_string(), bad.to_string()]);
        if !binaries::run(&mut script)?.success() {
            bail!("make-executions.sh did not make {good} good and {bad} bad executions");
        }
        Ok(())
    }

    /// Its own list under the counting rule: counted executions by workflow that stopped in `[start, end)`.
    pub fn counted_by_workflow(&self, start: &str, end: &str) -> Result<BTreeMap<String, u64>> {
        let mut counted = BTreeMap::new();
        for row in self.list()? {
            let text = |field: &str| row.get(field).and_then(Value::as_str).unwrap_or_default();
            let stopped_at = second(text("stoppedAt"));
            let counts = COUNTED_MODES.contains(&text("mode")) && COUNTED_STATUSES.contains(&text("status"));
            if counts && second(start) <= stopped_at && stopped_at < second(end) {
                *counted.entry(text("workflowId").to_owned()).or_default() += 1;
            }
        }
        Ok(counted)
    }

    fn list(&self) -> Result<Vec<Value>> {
        let api = Api::new(&self.url).with_header("x-n8n-api-key", self.key.clone());
        let mut rows = Vec::new();
        let mut cursor = String::new();
        for _ in 0..PAGES_MAX {
            let page = api.get(&format!("/api/v1/executions?limit={PAGE_ROWS}{cursor}"))?;
            let data = page.get("data").and_then(Value::as_array).context("n8n's answer has no list")?;
            rows.extend(data.iter().cloned());
            match page.get("nextCursor").and_then(Value::as_str) {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(rows),
            }
        }
        bail!("n8n's list has more than {PAGES_MAX} pages")
    }

    /// Stops it, if we have started it.
    pub fn stop(&mut self) -> Result<()> {
        if let Some(folder) = self.started_in.take() {
            binaries::run(Command::new("bash").arg(self.scripts.join("stop-n8n.sh")).arg(folder))?;
        }
        Ok(())
    }
}

impl Drop for RealN8n {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("n8n may still run: {error:#}");
        }
    }
}

/// A UTC instant to the second, which compares as text.
pub fn second(instant: &str) -> &str {
    instant.get(..19).unwrap_or(instant)
}
