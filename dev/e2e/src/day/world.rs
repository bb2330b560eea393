//! A stack, a real n8n with the hook, and the command line, as an operator has them.

use std::{
    fs,
    process::{Command, Output},
    sync::atomic::AtomicU64,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use stack::{Api, Project, Stack, wait};

use crate::real_n8n::{Instance, RealN8n};

pub const TENANT: &str = "north";
pub const SOURCE: &str = "north-n8n";

/// A prepared workflow that succeeds. It answers when its run has ended.
const PATH: &str = "meter-ok";

/// The tag of the workflow that belongs to another tenant.
pub const TAG: &str = "customer-south";

/// That workflow answers here.
pub const TAGGED_PATH: &str = "meter-south";

/// For calls to be answered and counted on a busy machine.
pub const WITHIN: Duration = Duration::from_secs(180);

/// The world of the day.
pub struct Day {
    pub project: Project,
    pub stack: Stack,
    pub n8n: RealN8n,
    /// Of the source.
    pub push_token: String,
    /// The id of the workflow that has a tag.
    pub tagged_workflow: String,
    /// Runs that callers saw refused.
    pub refused: AtomicU64,
}

/// What the caller of a webhook got.
pub struct Answer {
    pub status: u16,
    pub text: String,
}

impl Day {
    /// Applies a plan, a tenant and a source, and starts n8n with the hook.
    pub fn begin(project: Project, stack: Stack, instance: &Instance, wait_ms: u32) -> Result<Self> {
        apply(&stack, &manifest("http://127.0.0.1:9", "none", 10), &["--prune"])?;
        let issued = stack.gateway().post(&format!("/v1/sources/{SOURCE}/push-token"), &Value::Null)?;
        let token = issued.get("token").and_then(Value::as_str).context("no push token was issued")?;
        let push_token = token.to_owned();
        let hook = project.root().join("deploy/n8n/flowmeter-hooks.js").display().to_string();
        let environment = [
            ("EXTERNAL_HOOK_FILES", hook),
            ("FLOWMETER_PUSH_URL", stack.push_url()),
            ("FLOWMETER_PUSH_TOKEN", token.to_owned()),
            ("FLOWMETER_WAIT_MS", wait_ms.to_string()),
            ("FLOWMETER_GATEWAY_URL", stack.gateway().base().to_owned()),
        ];
        let n8n = instance.start(stack.profile(), &environment)?;
        let tagged_workflow = n8n.make_tagged(TAGGED_PATH, TAG)?;
        // As it is pasted from the editor's address bar.
        let editor = format!("{}/home/workflows", n8n.url);
        apply(&stack, &manifest(&editor, &n8n.key, 10), &[])?;
        let day = Self { project, stack, n8n, push_token, tagged_workflow, refused: AtomicU64::new(0) };
        wait::until("the first sweep", WITHIN, || {
            let source = day.gateway().get(&format!("/v1/sources/{SOURCE}"))?;
            Ok(source.pointer("/status/complete_until").filter(|until| !until.is_null()).map(|_| ()))
        })?;
        Ok(day)
    }

    pub fn gateway(&self) -> Api {
        self.stack.gateway()
    }

    pub fn usage(&self) -> Result<Value> {
        self.gateway().get(&format!("/v1/usage/{TENANT}"))
    }

    pub fn counted(&self) -> Result<u64> {
        Ok(self.usage()?.get("counted").and_then(Value::as_u64).unwrap_or_default())
    }

    /// Waits for a count, and returns what there is in any case.
    pub fn await_counted(&self, expected: u64) -> Result<u64> {
        let counted = wait::until("the count", WITHIN, || {
            Ok(Some(self.counted()?).filter(|counted| *counted >= expected))
        });
        counted.or_else(|_| self.counted())
    }

    /// Gives the tenant this limit, as an override of the plan's.
    pub fn limit(&self, limit: u64) -> Result<()> {
        let tenant = json!({
            "name": "North", "plan": "start", "language": "es", "time_zone": "Europe/Madrid",
            "alert_recipients": ["ops@north.example"], "limit_override": limit,
        });
        self.gateway().put(&format!("/v1/tenants/{TENANT}"), &tenant)?;
        // The limit holds within a second; the runs that follow must not meet the old one.
        let path = format!("/v1/admissions/{TENANT}");
        wait::until("the limit to hold", WITHIN, || {
            let shown = self.gateway().get(&path)?.get("limit").and_then(Value::as_u64);
            Ok((shown == Some(limit)).then_some(()))
        })
    }

    /// Calls the webhook so many times at the same moment.
    pub fn call(&self, calls: u64) -> Result<Vec<Answer>> {
        self.call_at(PATH, calls)
    }

    /// The same for another webhook.
    pub fn call_at(&self, path: &str, calls: u64) -> Result<Vec<Answer>> {
        let path = &format!("/webhook/{path}");
        thread::scope(|scope| {
            let callers: Vec<_> = (0..calls)
                .map(|_| {
                    scope.spawn(move || {
                        let client = Api::new(&self.n8n.webhook_url).answering_within(WITHIN);
                        let (status, text) = client.try_post(path, &json!({ "n": {} }))?;
                        Ok(Answer { status, text })
                    })
                })
                .collect();
            callers
                .into_iter()
                .map(|caller| caller.join().map_err(|_| anyhow!("a caller has failed"))?)
                .collect()
        })
    }

    /// Runs the command line.
    pub fn flowmeter(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(self.stack.cli());
        command.args(arguments).envs(self.stack.cli_environment()).env("FLOWMETER_AUTHOR", "operator");
        command.output().context("cannot start the command line")
    }

    /// Applies a file, whatever comes of it.
    pub fn try_apply(&self, manifest: &str, more: &[&str]) -> Result<Output> {
        try_apply(&self.stack, manifest, more)
    }

    /// Subjects of the mails to the tenant.
    pub fn mails(&self) -> Result<Vec<String>> {
        let mails = self.stack.sandbox().get("/control/mail")?;
        let subject = |mail: &Value| Some(mail.get("subject")?.as_str()?.to_owned());
        let to_tenant = |mail: &&Value| mail.to_string().contains("ops@north.example");
        Ok(mails.as_array().into_iter().flatten().filter(to_tenant).filter_map(subject).collect())
    }

    pub fn end(mut self) -> Result<()> {
        self.n8n.stop()?;
        self.stack.stop()
    }
}

/// A file with the day's plan, tenant and source.
pub fn manifest(base_url: &str, key: &str, limit: u64) -> String {
    format!(
        "plans: [{{id: start, name: Start, monthly_limit: {limit}, thresholds_percent: [50, 80, 100]}}]
tenants: [{{id: {TENANT}, name: North, plan: start, language: es, time_zone: Europe/Madrid, alert_recipients: [ops@north.example]}}]
sources: [{{id: {SOURCE}, tenant: {TENANT}, base_url: '{base_url}', api_key: '{key}', poll_interval: 10s}}]
"
    )
}

fn apply(stack: &Stack, manifest: &str, more: &[&str]) -> Result<()> {
    let output = try_apply(stack, manifest, more)?;
    if !output.status.success() {
        bail!("the file was not applied: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}

fn try_apply(stack: &Stack, manifest: &str, more: &[&str]) -> Result<Output> {
    let file = stack.profile().folder().join("catalog.yaml");
    fs::write(&file, manifest).context("cannot write the file")?;
    let mut command = Command::new(stack.cli());
    command.args(["apply", "-f"]).arg(&file).args(more).envs(stack.cli_environment());
    command.output().context("cannot start the command line")
}
