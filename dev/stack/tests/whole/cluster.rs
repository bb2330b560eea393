//! Three brokers: the streams of a living installation follow `nats.replicas`, and any one broker may be lost.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{ConnectOptions, ServerAddr, jetstream};
use futures_util::TryStreamExt;
use proto::{Namespace, streams::Stream};
use serde_json::json;
use stack::{
    Api, Backing, Profile, Program, Project, Stack,
    cluster::{Brokers, NODES},
    database, nats,
    services::{self, Options},
    wait,
};

use crate::harness::{Runs, SOURCE, TENANT};

/// A broker that is restarted copies all streams again.
const SOON: Duration = Duration::from_secs(120);

/// Executions of one step.
const STEP: u64 = 10;

struct Cluster {
    brokers: Brokers,
    broker_logs: Profile,
    stack: Stack,
    ran: u64,
}

impl Cluster {
    fn start() -> Self {
        let project = Project::find().unwrap();
        let broker_logs = Profile::fresh(&project, "whole/cluster-brokers").unwrap();
        let brokers = Brokers::start(&broker_logs, None).unwrap();
        let server = std::env::var("DATABASE_URL").expect("run the tests with `cargo xtask test`");
        let database_url = database::replace(&server, "flowmeter_whole_cluster").unwrap();
        let backing = Backing { database_url, broker: brokers.access() };
        let options = Options::new(services::binaries_beside_test().unwrap(), backing)
            .with("COLLECTOR__CLOCK_SKEW", "1s")
            .with("NATS__REPLICAS", "1")
            .with_variable("SSL_CERT_FILE", &brokers.authority().display().to_string())
            .with_variable("SSL_CERT_DIR", "/etc/ssl/certs");
        let profile = Profile::fresh(&project, "whole/cluster").unwrap();
        let stack = Stack::start(profile, options).unwrap();
        let cluster = Self { brokers, broker_logs, stack, ran: 0 };
        let (gateway, sandbox) = (cluster.gateway(), cluster.stack.sandbox());
        gateway.put("/v1/plans/start", &json!({ "name": "Start" })).unwrap();
        gateway.put(&format!("/v1/tenants/{TENANT}"), &json!({ "name": TENANT, "plan": "start" })).unwrap();
        sandbox.post(&format!("/control/n8n/{SOURCE}"), &json!({})).unwrap();
        let source = json!({ "tenant": TENANT, "kind": "n8n", "api_key": format!("key-{SOURCE}"),
                             "base_url": format!("{}/n8n/{SOURCE}", sandbox.base()), "poll_interval": "1s" });
        gateway.put(&format!("/v1/sources/{SOURCE}"), &source).unwrap();
        cluster
    }

    fn gateway(&self) -> Api {
        self.stack.gateway()
    }

    fn run(&mut self) {
        let runs = Runs::good(STEP);
        let body =
            json!({ "workflow": runs.workflow, "mode": runs.mode, "status": runs.status, "count": STEP });
        self.stack.sandbox().post(&format!("/control/n8n/{SOURCE}/run"), &body).unwrap();
        self.ran += STEP;
    }

    /// Waits until what has run is counted; more is a double count.
    fn await_counted(&self) {
        let counted = wait::until(&format!("{} counted executions", self.ran), SOON, || {
            // The gateway may be restarting, or its broker may be lost.
            let Ok(usage) = self.gateway().get(&format!("/v1/usage/{TENANT}")) else { return Ok(None) };
            Ok(usage["counted"].as_u64().filter(|counted| *counted >= self.ran))
        });
        assert_eq!(counted.unwrap(), self.ran);
    }

    /// Restarts each service with this many replicas of the streams, while executions arrive.
    fn reconfigure(&mut self, replicas: usize) {
        self.stack.set("NATS__REPLICAS", &replicas.to_string());
        for service in Program::SERVICES {
            self.run();
            self.stack.stop_one(service).unwrap();
            self.stack.restart(service).unwrap();
        }
        self.await_replicas(replicas);
        self.await_counted();
    }

    /// Waits until each stream and each durable consumer has as many copies, all of them up to date.
    fn await_replicas(&self, replicas: usize) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let context = runtime.block_on(self.connect());
        wait::until(&format!("{replicas} copies of each stream"), SOON, || {
            let copies = runtime.block_on(copies(&context));
            Ok((copies == BTreeSet::from([replicas])).then_some(()))
        })
        .unwrap();
    }

    async fn connect(&self) -> jetstream::Context {
        let addresses: Vec<ServerAddr> =
            self.brokers.url().split(',').map(|url| url.parse().unwrap()).collect();
        let password = self.brokers.password(nats::ADMIN).to_owned();
        let client = ConnectOptions::with_user_and_password(nats::ADMIN.to_owned(), password)
            .add_root_certificates(self.brokers.authority())
            .require_tls(true)
            .connect(addresses)
            .await
            .unwrap();
        jetstream::new(client)
    }
}

/// How many current copies the streams and consumers have; 0 stands for one that is not settled.
async fn copies(context: &jetstream::Context) -> BTreeSet<usize> {
    let mut found = BTreeSet::new();
    for stream in Stream::all() {
        let Ok(stream) = context.get_stream(stream.name(&Namespace::default())).await else {
            return BTreeSet::from([0]);
        };
        let info = stream.cached_info();
        found.insert(settled(info.config.num_replicas, info.cluster.as_ref()));
        let Ok(consumers) = stream.consumers().try_collect::<Vec<_>>().await else {
            return BTreeSet::from([0]);
        };
        let durable = consumers.iter().filter(|consumer| consumer.config.durable_name.is_some());
        found.extend(durable.map(|consumer| settled(info.config.num_replicas, consumer.cluster.as_ref())));
    }
    found
}

fn settled(wanted: usize, cluster: Option<&jetstream::stream::ClusterInfo>) -> usize {
    let current = cluster.map(|cluster| {
        let others = cluster.replicas.iter().filter(|peer| peer.current && !peer.offline).count();
        usize::from(cluster.leader.is_some()) + others
    });
    if current == Some(wanted) { wanted } else { 0 }
}

#[test]
fn the_streams_follow_the_configured_replicas_and_any_broker_may_be_lost() {
    let mut cluster = Cluster::start();
    cluster.run();
    cluster.await_counted();
    cluster.await_replicas(1);

    cluster.reconfigure(3);
    for number in 1..=NODES {
        cluster.brokers.process(number).unwrap().kill().unwrap();
        cluster.run();
        cluster.await_counted();
        cluster.brokers.restart(&cluster.broker_logs, number).unwrap();
        cluster.await_replicas(3);
    }

    cluster.reconfigure(1);
    cluster.run();
    cluster.await_counted();
    cluster.stack.stop().unwrap();
    cluster.brokers.stop().unwrap();
}
