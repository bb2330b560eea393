//! Load and baselines for `cargo xtask bench`, in a program of its own: `bench` is built without optimisations, and
//! figures of such code mean nothing. Each task prints one line of JSON.

mod ask;
mod bare;
mod baseline;
mod broker;
mod consume;
mod copy;
mod fetch;
mod figures;
mod history;
mod instances;
mod publish;
mod sources;
mod tenants;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Load for benchmarks.
#[derive(Debug, Parser)]
#[command(name = "flowmeter-load", version)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Send requests to the limit check over connections that are kept open, as fast as it answers or at a fixed rate.
    Ask(ask::Ask),
    /// Serve a bare handler in place of the limit check: the most that any could answer.
    Bare(bare::Bare),
    /// GET the same paths of many n8n instances and throw the answers away: the most that any collector could do.
    Fetch(fetch::Fetch),
    /// Publish the figures of many tenants for the gateway, as the aggregator would.
    Figures(figures::Figures),
    /// Publish many n8n instances for the collector, as the gateway would.
    Sources(sources::Sources),
    /// Publish many tenants, each with a source, for the aggregator, as the gateway would.
    Tenants(tenants::Tenants),
    /// Publish executions, as the collector would.
    Publish(publish::Publish),
    /// Read the executions that the stream holds, and acknowledge each message.
    Consume(consume::Consume),
    /// Copy rows into a table like the aggregator's.
    Copy(copy::Copy),
    /// Record the executions that the stream holds in the obvious way: one statement for each batch.
    Baseline(baseline::Baseline),
}

#[tokio::main]
async fn main() -> ExitCode {
    // Only the first call counts, and this is the only one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let outcome = match Arguments::parse().task {
        Task::Ask(task) => task.run().await,
        Task::Bare(task) => task.run().await,
        Task::Fetch(task) => task.run().await,
        Task::Figures(task) => task.run().await,
        Task::Sources(task) => task.run().await,
        Task::Tenants(task) => task.run().await,
        Task::Publish(task) => task.run().await,
        Task::Consume(task) => task.run().await,
        Task::Copy(task) => task.run().await,
        Task::Baseline(task) => task.run().await,
    };
    match outcome {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
