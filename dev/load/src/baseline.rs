//! The obvious aggregator, to compare with: batches of 5,000 executions, each written by one statement that skips
//! recorded executions, adds up the rest and fills the outbox.

use std::{
    collections::{BTreeMap, HashMap},
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use futures_util::StreamExt;
use prost::Message;
use proto::v1;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::{broker::Broker, consume};

/// Executions in one statement.
const BATCH: usize = 5_000;

/// Its tables: the executions under their key, usage by workflow and by tenant, and the outbox.
const SCHEMA: &str = "
    DROP SCHEMA IF EXISTS baseline CASCADE;
    CREATE SCHEMA baseline;
    CREATE TABLE baseline.executions (
        source integer, epoch integer, id bigint, workflow integer NOT NULL, status smallint NOT NULL,
        started_at timestamptz, stopped_at timestamptz NOT NULL,
        PRIMARY KEY (source, epoch, id));
    CREATE TABLE baseline.usage (
        source integer, workflow integer, month timestamptz, executions bigint NOT NULL, failed bigint NOT NULL,
        duration_ms bigint NOT NULL, PRIMARY KEY (source, workflow, month)) WITH (fillfactor = 50);
    CREATE TABLE baseline.totals (
        source integer, month timestamptz, executions bigint NOT NULL, threshold integer NOT NULL DEFAULT 0,
        PRIMARY KEY (source, month)) WITH (fillfactor = 50);
    CREATE TABLE baseline.outbox (number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, source integer, total bigint)";

const RECORD: &str = "
    WITH fresh AS (
        INSERT INTO baseline.executions
        SELECT source, 1, id, workflow, status, to_timestamp(started_at), to_timestamp(stopped_at)
        FROM UNNEST($1::integer[], $2::bigint[], $3::integer[], $4::smallint[], $5::float8[], $6::float8[])
            AS rows (source, id, workflow, status, started_at, stopped_at)
        ON CONFLICT DO NOTHING
        RETURNING *),
    counted AS (
        INSERT INTO baseline.usage AS kept
        SELECT source, workflow, date_trunc('month', stopped_at, 'UTC'), count(*), count(*) FILTER (WHERE status = 2),
            sum(extract(epoch FROM stopped_at - started_at) * 1000)::bigint
        FROM fresh GROUP BY 1, 2, 3
        ON CONFLICT (source, workflow, month) DO UPDATE SET executions = kept.executions + excluded.executions,
            failed = kept.failed + excluded.failed, duration_ms = kept.duration_ms + excluded.duration_ms),
    totals AS (
        INSERT INTO baseline.totals AS kept
        SELECT source, date_trunc('month', stopped_at, 'UTC'), count(*) FROM fresh GROUP BY 1, 2
        ON CONFLICT (source, month) DO UPDATE SET executions = kept.executions + excluded.executions
        RETURNING source, executions)
    INSERT INTO baseline.outbox (source, total) SELECT source, executions FROM totals";

/// Arguments of `flowmeter-load baseline`.
#[derive(Debug, Args)]
pub struct Baseline {
    #[command(flatten)]
    broker: Broker,
    /// The database; a schema `baseline` is created in it, and dropped.
    #[arg(long)]
    database: String,
    /// Messages to read.
    #[arg(long)]
    messages: u64,
}

#[derive(Default)]
struct Batch {
    rows: Vec<v1::Execution>,
    keys: Vec<(i32, i32)>,
    messages: Vec<async_nats::jetstream::Message>,
}

impl Baseline {
    /// Records everything that the stream holds.
    pub async fn run(self) -> Result<Value> {
        let bus = self.broker.connect().await?;
        let mut connection =
            PgConnection::connect(&self.database).await.context("cannot connect to the database")?;
        sqlx::raw_sql(SCHEMA).execute(&mut connection).await?;
        let mut names = Names::default();
        let begun = Instant::now();
        let mut messages = consume::open(&bus).await?;
        let (mut batch, mut executions) = (Batch::default(), 0);
        for read in 1..=self.messages {
            let message = messages.next().await.context("the subscription ended")??;
            let parcel = v1::ExecutionBatch::decode(message.payload.clone())?;
            let source = names.source(parcel.source_id);
            for row in parcel.executions {
                batch.keys.push((source, names.workflow(source, &row.workflow_id)));
                batch.rows.push(row);
            }
            batch.messages.push(message);
            if batch.rows.len() >= BATCH || read == self.messages {
                executions += batch.rows.len();
                record(&mut connection, std::mem::take(&mut batch)).await?;
            }
        }
        let seconds = begun.elapsed().as_secs_f64();
        let recorded: i64 = sqlx::query_scalar("SELECT sum(executions)::bigint FROM baseline.totals")
            .fetch_one(&mut connection)
            .await?;
        sqlx::raw_sql("DROP SCHEMA baseline CASCADE").execute(&mut connection).await?;
        if recorded == 0 {
            bail!("nothing was recorded");
        }
        Ok(json!({ "executions": executions, "recorded": recorded, "seconds": seconds }))
    }
}

async fn record(connection: &mut PgConnection, batch: Batch) -> Result<()> {
    let ids: Result<Vec<i64>, _> = batch.rows.iter().map(|row| row.execution_id.parse()).collect();
    let statuses: Result<Vec<i16>, _> = batch.rows.iter().map(|row| i16::try_from(row.status)).collect();
    let seconds = |at: &Option<prost_types::Timestamp>| {
        at.as_ref().map(|at| at.seconds as f64 + f64::from(at.nanos) / 1e9)
    };
    sqlx::query(RECORD)
        .bind(batch.keys.iter().map(|(source, _)| *source).collect::<Vec<_>>())
        .bind(ids?)
        .bind(batch.keys.iter().map(|(_, workflow)| *workflow).collect::<Vec<_>>())
        .bind(statuses?)
        .bind(batch.rows.iter().map(|row| seconds(&row.started_at)).collect::<Vec<_>>())
        .bind(batch.rows.iter().map(|row| seconds(&row.stopped_at)).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    for message in batch.messages {
        message.ack().await.map_err(|error| anyhow::anyhow!("cannot acknowledge: {error}"))?;
    }
    Ok(())
}

/// Numbers for names, in order of appearance.
#[derive(Default)]
struct Names {
    sources: HashMap<String, i32>,
    workflows: BTreeMap<i32, HashMap<String, i32>>,
}

impl Names {
    fn source(&mut self, name: String) -> i32 {
        let next = i32::try_from(self.sources.len()).unwrap_or(i32::MAX);
        *self.sources.entry(name).or_insert(next)
    }

    fn workflow(&mut self, source: i32, name: &str) -> i32 {
        let workflows = self.workflows.entry(source).or_default();
        let next = i32::try_from(workflows.len()).unwrap_or(i32::MAX);
        match workflows.get(name) {
            Some(number) => *number,
            None => *workflows.entry(name.to_owned()).or_insert(next),
        }
    }
}
