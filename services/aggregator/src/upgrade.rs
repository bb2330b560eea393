//! What earlier versions have left behind.

use messaging::{
    Bus,
    consume::{self, chain},
};
use proto::consumers::Consumer;

/// Removes the consumer that read all executions before partitions were shared: the broker would keep its place for ever, and
/// whoever watches consumers would see it fall behind. Nothing is lost by it. The stream keeps messages by age, not until they
/// are acknowledged, and the consumers of the partitions read it from its first message on: what the old one had not
/// acknowledged comes again, and what it had is a repeat.
pub(crate) async fn remove_whole_consumer(bus: Bus) {
    match consume::remove(&bus, Consumer::AGGREGATOR_EXECUTIONS_WHOLE).await {
        Ok(true) => tracing::info!("removed the consumer that read all partitions"),
        Ok(false) => {}
        Err(error) => {
            tracing::warn!(error = chain(&error), "an old consumer stays on the broker until the next start");
        }
    }
}
