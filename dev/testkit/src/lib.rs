//! What integration tests need: a database and a namespace of their own on the real Postgres and the real
//! NATS, a clock that stands still, and waiting for a state instead of sleeping.
//!
//! `cargo xtask test` starts both and sets their addresses; by hand, set `DATABASE_URL` and `NATS_URL`.

#![allow(clippy::expect_used, clippy::panic, reason = "a test that cannot go on ends here")]

mod eventually;
mod reads;
mod topic;

use std::{env, sync::Arc, time::Duration};

use chassis::{Context, DatabaseSettings, Migrations, PoolBounds, Service, Tasks, Warnings};
use jiff::Timestamp;
use messaging::{Bus, BusConfig, Outgoing};
use metering::{Clock, SimulatedClock};
use prost::Message;
use proto::{
    Namespace,
    streams::{Capacity, Stream},
    subjects::PARTITIONS,
    v1,
};
use sqlx::{AssertSqlSafe, Connection, PgConnection, PgPool};
use uuid::Uuid;

pub use eventually::{PATIENCE, eventually};
pub use reads::Counted;
pub use topic::Topic;

/// Connections of one test; many tests share one server.
const CONNECTIONS_MAX: u32 = 6;

/// How long a test's message waits for the entry that it refers to, before it becomes a dead letter.
const PATIENCE_FOR_UNKNOWN: Duration = Duration::from_secs(3);

/// Room for each stream of one test; the broker reserves it.
const STREAM_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// A database, a namespace and a clock for one test.
pub struct TestBed {
    /// What a service is started with.
    pub context: Context,
    /// The clock that `context` reads; it stands still until it is moved.
    pub clock: SimulatedClock,
    /// The address of this test's database.
    pub database_url: String,
    looks: PgPool,
    database: String,
    server_url: String,
}

impl TestBed {
    /// A test bed for the service `S`, with its schema migrated. The clock stands at `now`.
    pub async fn of<S: Service>(now: &str) -> Self {
        Self::with_connections::<S>(now, CONNECTIONS_MAX).await
    }

    /// A test bed whose service has one connection to its database: code that holds it while it waits for another one
    /// deadlocks. [`Self::pool`] is a separate pool, for the test's own queries.
    pub async fn narrow<S: Service>(now: &str) -> Self {
        let mut bench = Self::with_connections::<S>(now, 1).await;
        let bounds = PoolBounds { acquire_timeout: PATIENCE, ..PoolBounds::of(CONNECTIONS_MAX) };
        bench.looks = chassis::pool_beside(&bench.context.pool, bounds);
        bench
    }

    async fn with_connections<S: Service>(now: &str, connections_max: u32) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let server_url = required("DATABASE_URL");
        let unique = Uuid::new_v4().simple().to_string();
        let database = format!("flowmeter_test_{unique}");
        execute(&server_url, &format!("CREATE DATABASE {database}")).await;
        let database_url = with_database(&server_url, &database);
        let settings = DatabaseSettings {
            url: database_url.clone().into(),
            connections_max,
            migrations: Migrations::Apply,
        };
        let pool = chassis::open_database(S::NAME, &settings, &S::migrators()).await.expect("database");
        let clock = SimulatedClock::standing_at(now.parse::<Timestamp>().expect("an instant"));
        let bus = bus(S::NAME, &format!("t{}", &unique[..16])).await;
        let looks = pool.clone();
        let (tasks, warnings) = (Tasks::default(), Warnings::default());
        let context = Context { clock: Arc::new(clock.clone()), pool, bus, tasks, warnings };
        Self { context, clock, database_url, looks, database, server_url }
    }

    /// Switches to another schema of this test's database, for the service and for the test's own queries.
    pub fn use_pool(&mut self, pool: &PgPool) {
        self.context.pool = pool.clone();
        self.looks = pool.clone();
    }

    /// The service's database.
    pub fn pool(&self) -> &PgPool {
        &self.looks
    }

    /// The subjects and streams of this test.
    pub fn namespace(&self) -> &Namespace {
        self.context.bus.namespace()
    }

    /// Publishes a message as another service would, under a fresh message id. Returns its stream sequence.
    pub async fn publish(&self, subject: String, message: &impl Message) -> u64 {
        self.publish_as(subject, &Uuid::new_v4().to_string(), message).await
    }

    /// Publishes under a given message id.
    pub async fn publish_as(&self, subject: String, message_id: &str, message: &impl Message) -> u64 {
        let message = Outgoing::new(subject, message_id.to_owned(), message, self.clock.now());
        self.context.bus.publish(message).await.expect("published")
    }

    /// Publishes bytes that may not be a message at all.
    pub async fn publish_bytes(&self, subject: String, payload: &[u8]) -> u64 {
        let message = Outgoing {
            subject,
            message_id: Uuid::new_v4().to_string(),
            payload: payload.to_vec().into(),
            traceparent: None,
            occurred_at: self.clock.now(),
        };
        self.context.bus.publish(message).await.expect("published")
    }

    /// Publishes a catalog value, as the gateway would.
    pub async fn publish_entry<E: catalog::Entry>(&self, entry: &E, revision: u64) {
        let subject = self.namespace().catalog(E::KIND, entry.id());
        self.publish(subject, &entry.to_message(revision)).await;
    }

    /// Everything published on a topic, from the first message on; e.g. `usage.threshold`.
    pub async fn topic<M: Message + Default>(&self, stream: Stream, topic: &str) -> Topic<M> {
        Topic::open(&self.context.bus, [stream], topic).await
    }

    /// All executions that are published, from the first message on; those of a source in order.
    pub async fn executions(&self) -> Topic<v1::ExecutionBatch> {
        let streams = (0..PARTITIONS).map(Stream::Executions);
        Topic::open(&self.context.bus, streams, "executions").await
    }

    /// Stops the loops as a shutdown would, and prepares fresh ones, as a restart does.
    pub async fn restart(&mut self) {
        self.context.tasks.stop().await;
        self.context.tasks = Tasks::default();
    }

    /// Stops everything and removes the database and the streams.
    pub async fn finish(self) {
        self.context.tasks.stop().await;
        for stream in Stream::all() {
            let _ = self.context.bus.jetstream().delete_stream(stream.name(self.namespace())).await;
        }
        self.looks.close().await;
        self.context.pool.close().await;
        execute(&self.server_url, &format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database)).await;
    }
}

async fn bus(service: &'static str, namespace: &str) -> Bus {
    let capacity = Capacity {
        executions_bytes_max: u64::from(PARTITIONS) * STREAM_BYTES_MAX,
        events_bytes_max: STREAM_BYTES_MAX,
        ..Capacity::default()
    };
    let config = BusConfig { url: required("NATS_URL"), user: None, password: None, capacity };
    let namespace = Namespace::parse(namespace).expect("a namespace");
    let bus = Bus::connect(service, namespace, &config).await.expect("broker");
    // A test publishes and reads in place of the other services.
    bus.ensure_all_streams().await.expect("streams");
    bus.with_patience(PATIENCE_FOR_UNKNOWN)
}

fn required(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| {
        panic!("{name} is not set: run `cargo xtask test`, or set DATABASE_URL and NATS_URL yourself")
    })
}

fn with_database(server_url: &str, database: &str) -> String {
    let (server, _) = server_url.rsplit_once('/').expect("a database in DATABASE_URL");
    format!("{server}/{database}")
}

async fn execute(url: &str, statement: &str) {
    let mut connection = PgConnection::connect(url).await.expect("Postgres answers");
    // The names are made above, from a UUID.
    sqlx::query(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.expect(statement);
    connection.close().await.expect("closed");
}
