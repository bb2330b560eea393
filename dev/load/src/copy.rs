//! Rows copied into a table like the aggregator's, none of them a repeat: an upper bound for any aggregator that keeps
//! every execution under its key.

use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use futures_util::future::try_join_all;
use jiff::{SignedDuration, Timestamp, civil::Date, tz::TimeZone};
use metering::{Clock, SystemClock};
use serde_json::{Value, json};
use tokio_postgres::{
    Client, NoTls,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};

/// The table, in the aggregator's schema.
const TABLE: &str = "bench_copy";

/// The columns that the aggregator copies, with their types on the wire.
const COLUMNS: [(&str, Type); 14] = [
    ("execution_id", Type::INT8),
    ("stopped_at", Type::TIMESTAMPTZ),
    ("recorded_at", Type::TIMESTAMPTZ),
    ("started_at", Type::TIMESTAMPTZ),
    ("period_start", Type::TIMESTAMPTZ),
    ("source_number", Type::INT4),
    ("epoch", Type::INT4),
    ("month", Type::DATE),
    ("workflow_number", Type::INT4),
    ("tenant_number", Type::INT4),
    ("status", Type::INT2),
    ("mode", Type::INT2),
    ("counted", Type::BOOL),
    ("late", Type::BOOL),
];

/// Time between two executions of a source.
const APART: SignedDuration = SignedDuration::from_millis(500);

/// Arguments of `flowmeter-load copy`.
#[derive(Debug, Args)]
pub struct Copy {
    /// The database, with the aggregator's schema in it.
    #[arg(long)]
    database: String,
    /// Connections that copy at once, each the rows of its own sources.
    #[arg(long)]
    connections: u32,
    /// Rows of all connections together.
    #[arg(long)]
    rows: u64,
    /// Rows in one transaction.
    #[arg(long, default_value_t = 20_000)]
    batch: u64,
    /// Sources that the rows belong to.
    #[arg(long, default_value_t = 1_000)]
    sources: u32,
    /// Which indexes the table has.
    #[arg(long)]
    indexes: Indexes,
}

/// Which indexes the table has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Indexes {
    /// Those of the aggregator's table.
    All,
    /// The primary key alone.
    Key,
}

impl Copy {
    /// Copies everything into a new table, and drops it.
    pub async fn run(self) -> Result<Value> {
        if self.connections == 0 || self.connections > self.sources {
            bail!("--connections must be 1 to the number of sources");
        }
        let admin = connect(&self.database).await?;
        let now = SystemClock.now();
        self.create(&admin, now).await?;
        let clients = try_join_all((0..self.connections).map(|_| connect(&self.database))).await?;
        let begun = Instant::now();
        let copying = clients.iter().zip(0..).map(|(client, number)| self.copy(client, number, now));
        try_join_all(copying).await?;
        let seconds = begun.elapsed().as_secs_f64();
        admin.batch_execute(&format!("DROP TABLE {TABLE}")).await?;
        Ok(json!({ "rows": self.rows, "seconds": seconds }))
    }

    async fn create(&self, admin: &Client, now: Timestamp) -> Result<()> {
        let like = match self.indexes {
            Indexes::All => "LIKE executions INCLUDING ALL",
            Indexes::Key => {
                "LIKE executions INCLUDING DEFAULTS, PRIMARY KEY (source_number, epoch, execution_id, month)"
            }
        };
        let month = month_of(now);
        let next = month.saturating_add(jiff::Span::new().months(1));
        let sql = format!(
            "DROP TABLE IF EXISTS {TABLE};
             CREATE TABLE {TABLE} ({like}) PARTITION BY RANGE (month);
             CREATE TABLE {TABLE}_month PARTITION OF {TABLE} FOR VALUES FROM ('{month}') TO ('{next}')"
        );
        admin.batch_execute(&sql).await.context("cannot create the table")
    }

    /// Copies the rows of one connection's sources, batch by batch.
    async fn copy(&self, client: &Client, number: u32, now: Timestamp) -> Result<()> {
        let names = COLUMNS.each_ref().map(|(name, _)| *name).join(", ");
        let types = COLUMNS.each_ref().map(|(_, of)| of.clone());
        let statement = format!("COPY {TABLE} ({names}) FROM STDIN (FORMAT binary)");
        let sources: Vec<u32> =
            (0..self.sources).filter(|source| source % self.connections == number).collect();
        let each = self.batch.div_ceil(sources.len() as u64);
        let (share, mut copied) = (self.rows / u64::from(self.connections), 0);
        while copied < share {
            let sink = client.copy_in(&statement).await?;
            let writer = BinaryCopyInWriter::new(sink, &types);
            tokio::pin!(writer);
            let first = copied / sources.len() as u64;
            for source in &sources {
                for id in first..first + each {
                    let row = Row::new(source.cast_signed(), id.cast_signed(), now);
                    writer.as_mut().write(&row.values()).await?;
                }
            }
            writer.finish().await?;
            copied += each * sources.len() as u64;
        }
        Ok(())
    }
}

struct Row {
    source: i32,
    id: i64,
    workflow: i32,
    started_at: Timestamp,
    stopped_at: Timestamp,
    recorded_at: Timestamp,
    month: Date,
    period_start: Timestamp,
}

impl Row {
    fn new(source: i32, id: i64, now: Timestamp) -> Self {
        let month = month_of(now);
        let period_start = month.to_zoned(TimeZone::UTC).map_or(now, |zoned| zoned.timestamp());
        let stopped_at = period_start + APART * i32::try_from(id).unwrap_or(i32::MAX);
        let started_at = stopped_at - SignedDuration::from_secs(1);
        let workflow = source * 10 + i32::try_from(id % 10).unwrap_or(0);
        Self { source, id, workflow, started_at, stopped_at, recorded_at: now, month, period_start }
    }

    fn values(&self) -> [&(dyn ToSql + Sync); 14] {
        [
            &self.id,
            &self.stopped_at,
            &self.recorded_at,
            &self.started_at,
            &self.period_start,
            &self.source,
            &1_i32,
            &self.month,
            &self.workflow,
            &self.source,
            &0_i16,
            &0_i16,
            &true,
            &false,
        ]
    }
}

fn month_of(instant: Timestamp) -> Date {
    instant.to_zoned(TimeZone::UTC).date().first_of_month()
}

async fn connect(database: &str) -> Result<Client> {
    let (client, connection) =
        tokio_postgres::connect(database, NoTls).await.context("cannot connect to the database")?;
    // Ends with the client.
    tokio::spawn(connection);
    client.batch_execute("SET search_path = aggregator").await?;
    Ok(client)
}
