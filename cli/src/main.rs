//! `flowmeter`: the command line of an operator.

mod amount;
#[cfg(test)]
mod answers;
mod apply;
mod attempt;
mod audit;
mod billing;
mod broker;
mod check;
mod client;
mod compare;
mod corrections;
mod damaged;
mod dead;
mod dead_letters;
mod environment;
mod event;
mod explain;
mod figures;
mod health;
mod init;
mod keys;
mod manifest;
mod payload;
mod period;
mod plans;
mod refusals;
mod secret_file;
mod sources;
mod subscriber;
mod table;
mod tenants;
mod terminal;
mod token;
mod unmapped;
mod unseen;
mod usage;
mod warning;
mod watch;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};

use crate::{broker::BrokerArgs, client::Client, client::GatewayArgs};

/// Meters workflow executions: the operator's command line.
#[derive(Debug, Parser)]
#[command(name = "flowmeter", version)]
struct Arguments {
    #[command(flatten)]
    connections: Connections,
    #[command(subcommand)]
    command: Command,
}

/// Where the gateway and the broker are, and who is asking.
#[derive(Debug, Args)]
struct Connections {
    #[command(flatten)]
    gateway: GatewayArgs,
    #[command(flatten)]
    broker: BrokerArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Creates and updates plans, tenants and sources from a YAML file.
    Apply(apply::Apply),
    /// Shows usage.
    Usage(usage::Usage),
    /// Compares a period with the one before it: up to the same point, and as a whole.
    Compare(compare::Compare),
    /// Shows the executions behind a period's figure.
    Explain(explain::Explain),
    /// Takes an execution out of the count, for good.
    Void(corrections::Void),
    /// Changes a period's count by hand.
    Adjust(corrections::Adjust),
    /// Lists what was corrected by hand.
    Corrections(corrections::Corrections),
    /// Changes a tenant's periods.
    #[command(subcommand)]
    Period(period::Period),
    /// Asks whether a tenant may run a workflow; exit code 0: allowed, 3: refused.
    Check(check::Check),
    /// Shows how many runs of a tenant were refused, by reason and workflow.
    Refusals(refusals::Refusals),
    /// Follows what the services publish, one line per event.
    Watch(watch::Watch),
    /// Lists what could not be reported to Stripe, and where its totals differ.
    Billing(billing::Billing),
    /// Messages that a service could not handle.
    #[command(subcommand)]
    Dead(dead::Dead),
    /// Creates the pair of keys that seals the sources' API keys.
    Keys,
    /// Makes the secrets of an installation once, and the files from which each service reads its own. For docker-compose.yml.
    Init(init::Init),
    /// Makes a user of the broker for a program of yours that reads some topics and does nothing else.
    Subscriber(subscriber::Subscribe),
    /// Tokens for the API and the dashboard.
    #[command(subcommand)]
    Token(token::Token),
    /// Shows the sources: how complete they are and what is wrong with them.
    #[command(visible_alias = "source")]
    Sources(sources::Sources),
    /// Shows executions that no attribution assigns to a tenant.
    Unmapped(unmapped::Unmapped),
    /// Lists the tenants.
    Tenants(tenants::Tenants),
    /// Lists the plans.
    Plans(plans::Plans),
    /// Checks that an address answers 200; for health checks in containers.
    Health(health::Health),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = start(arguments);
    match outcome {
        Ok(code) => code,
        // `flowmeter usage | head -1`: the reader has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flowmeter: {}", terminal::safe(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> anyhow::Result<ExitCode> {
    // Fails only if one is installed already, which is just as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(run(arguments, &mut terminal::SafeWriter::new(io::stdout())))
}

async fn run(arguments: Arguments, out: &mut dyn Write) -> anyhow::Result<ExitCode> {
    let Connections { gateway, broker } = arguments.connections;
    let client = || Client::new(&gateway);
    match arguments.command {
        Command::Apply(apply) => apply.run(&client()?, out).await?,
        Command::Usage(usage) => usage.run(&client()?, out).await?,
        Command::Compare(compare) => compare.run(&client()?, out).await?,
        Command::Explain(explain) => explain.run(&client()?, out).await?,
        Command::Void(void) => void.run(&client()?, out).await?,
        Command::Adjust(adjust) => adjust.run(&client()?, out).await?,
        Command::Corrections(corrections) => corrections.run(&client()?, out).await?,
        Command::Period(period) => period.run(&client()?, out).await?,
        Command::Check(check) => return check.run(&client()?, out).await,
        Command::Refusals(refusals) => refusals.run(&client()?, out).await?,
        Command::Watch(watch) => watch.run(&broker.connect().await?, out).await?,
        Command::Billing(billing) => billing.run(&broker.connect().await?, out).await?,
        Command::Dead(dead) => dead.run(&broker.connect().await?, out).await?,
        Command::Keys => keys::run(out)?,
        Command::Init(init) => init.run(out)?,
        Command::Subscriber(subscribe) => subscribe.run(&broker.namespace()?, out, &mut io::stderr())?,
        Command::Token(token) => token.run(&client()?, out).await?,
        Command::Sources(sources) => return sources.run(&client()?, out).await,
        Command::Unmapped(unmapped) => unmapped.run(&client()?, out).await?,
        Command::Tenants(tenants) => tenants.run(&client()?, out).await?,
        Command::Plans(plans) => plans.run(&client()?, out).await?,
        Command::Health(health) => health.run(out).await?,
    }
    Ok(ExitCode::SUCCESS)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
