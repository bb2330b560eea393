//! The sandbox as a process: `flowmeter-sandbox --listen 127.0.0.1:4100 --smtp 127.0.0.1:4125 --demo`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use sandbox::{Sandbox, SandboxOptions};
use tokio::signal::unix::{SignalKind, signal};

/// Stand-ins for n8n, Stripe, a mail server and an OTLP collector.
#[derive(Debug, Parser)]
#[command(name = "flowmeter-sandbox", version)]
struct Arguments {
    /// Where to serve HTTP.
    #[arg(long, default_value = "127.0.0.1:4100")]
    listen: SocketAddr,
    /// Where to serve SMTP.
    #[arg(long, default_value = "127.0.0.1:4125")]
    smtp: SocketAddr,
    /// Set up the demo's tenants, with background load.
    #[arg(long)]
    demo: bool,
    /// Keep the state in this file across restarts.
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    match run(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let sandbox = Sandbox::start(SandboxOptions {
        listen: arguments.listen,
        smtp: arguments.smtp,
        state: arguments.state,
        demo: arguments.demo,
        ..SandboxOptions::default()
    })
    .await?;
    // A caller that asked for port 0 reads the ports here.
    println!("HTTP={}", sandbox.url());
    println!("SMTP={}", sandbox.smtp_url());
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        _ = terminate.recv() => {}
    }
    sandbox.stop().await;
    Ok(())
}
