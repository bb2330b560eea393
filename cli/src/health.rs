//! `flowmeter health`: a probe for containers, whose images have no other client.

use std::{io::Write, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use url::Url;

/// A service that does not answer by then is not healthy; shorter than a container's own time-out.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// Arguments of `flowmeter health`.
#[derive(Debug, Args)]
pub struct Health {
    /// The address to ask.
    #[arg(default_value = "http://127.0.0.1:9100/readyz")]
    url: Url,
}

impl Health {
    /// Succeeds if the answer is 200.
    pub async fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).no_proxy().build()?;
        let answer = client
            .get(self.url.clone())
            .send()
            .await
            .with_context(|| format!("no answer from {} within {ANSWER_WITHIN:?}", self.url))?;
        let status = answer.status();
        let body = answer.text().await.unwrap_or_default();
        if !status.is_success() {
            bail!("{} answers {status}: {}", self.url, body.trim());
        }
        // A container keeps this line, with the warnings of a service that is ready.
        writeln!(out, "{} answers {status}: {}", self.url, body.trim().replace('\n', "; "))?;
        Ok(())
    }
}
