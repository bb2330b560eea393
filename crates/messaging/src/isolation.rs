//! A broker of a cluster that is cut off its peers keeps its clients: it answers their pings, and hardly any of their requests
//! to JetStream. The client library does not notice. We do, and connect to another broker.

use std::time::Duration;

use async_nats::Client;
use futures_util::future::join_all;
use proto::streams::Stream;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{Bus, streams::is_not_there};

/// Interval between two rounds, and how long a question waits.
const ROUND_INTERVAL: Duration = Duration::from_secs(5);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(3);

/// Streams that a round asks about, in turn. One would not do: an isolated broker still answers for those that it led.
const STREAMS_A_ROUND: usize = 4;

/// Rounds in a row without an answer for half of the streams, until the broker counts as isolated. After the loss of
/// another broker, the election of the streams' leaders takes up to ten seconds, in which nobody answers either.
const FAILED_ROUNDS_MAX: u32 = 3;

impl Bus {
    /// Leaves brokers that are cut off their cluster, until `shutdown`. Does nothing on a single broker: there is no other
    /// one.
    pub async fn leave_isolated_brokers(self, shutdown: CancellationToken) {
        let streams = Stream::needed_by(self.service());
        let names: Vec<String> = streams.into_iter().map(|stream| stream.name(self.namespace())).collect();
        if names.is_empty() {
            return;
        }
        let mut turns = names.iter().cycle();
        let mut failed_rounds = 0;
        while !shutdown.is_cancelled() {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(ROUND_INTERVAL) => {}
            }
            if !self.is_connected() || !is_in_cluster(self.client()) {
                failed_rounds = 0;
                continue;
            }
            let asked: Vec<&String> = turns.by_ref().take(STREAMS_A_ROUND.min(names.len())).collect();
            let answers = join_all(asked.iter().map(|name| self.answers_for(name))).await;
            let silent = answers.iter().filter(|answered| !**answered).count();
            failed_rounds = if silent * 2 >= asked.len() { failed_rounds + 1 } else { 0 };
            if failed_rounds == FAILED_ROUNDS_MAX {
                failed_rounds = 0;
                self.leave().await;
            }
        }
    }

    async fn answers_for(&self, stream: &str) -> bool {
        match timeout(ANSWER_TIMEOUT, self.jetstream().get_stream(stream)).await {
            Ok(Ok(_)) => true,
            Ok(Err(error)) => is_not_there(&error),
            Err(_) => false,
        }
    }

    async fn leave(&self) {
        let broker = self.client().server_info().server_name;
        tracing::warn!(broker, "JetStream does not answer; connecting to another broker of the cluster");
        // Fails only if the client has ended.
        let _ = self.client().force_reconnect().await;
    }
}

fn is_in_cluster(client: &Client) -> bool {
    client.server_info().cluster.is_some_and(|name| !name.is_empty())
}
