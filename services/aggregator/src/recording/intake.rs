//! From partitions to transactions: a task reads each leased partition, and each worker gathers the messages
//! of its partitions into groups and records one group while it gathers the next.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jiff::SignedDuration;
use messaging::{Bus, InHand, Intake};
use metering::Clock;
use proto::{consumers::Consumer, subjects::PARTITIONS, v1};
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, interval_at, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::recording::{
    batch::Batch,
    record::{Item, PROGRESS_INTERVAL, Recorder, report_progress},
};

/// Maximum executions in one transaction. A transaction updates the rows of all its sources, tenants and
/// workflows, so the larger it is, the cheaper each execution. Batches get smaller if this many take longer
/// than [`RECORDING_TIME`].
const EXECUTIONS_PER_BATCH: usize = 120_000;

/// Maximum messages in one transaction: bounds groups of messages with no execution or only one.
const MESSAGES_PER_BATCH: usize = 20_000;

/// Target time for recording a group. Messages that are read but not recorded must not wait until the broker
/// redelivers them: one group being recorded and one being gathered stay well within the consumer's ack wait.
const RECORDING_TIME: Duration = Duration::from_secs(1);

/// Smallest limit of a group, as a percentage of the largest, however long recording takes.
const FILL_PERCENT_MIN: usize = 5;

/// How long an idle worker waits for more messages: a few milliseconds of delay for far fewer commits.
const LINGER: Duration = Duration::from_millis(5);

/// The same under load: every group touches the rows of all its sources and tenants, so larger ones cost
/// less.
const LINGER_BUSY: Duration = Duration::from_millis(150);

/// A group of at least this many executions counts as load.
const BUSY_EXECUTIONS: usize = 1_000;

/// Messages queued for a worker, besides those that its partitions have fetched.
const WAITING_MAX: usize = 64;

/// Pause before a broken subscription is opened again.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

type Message = InHand<v1::ExecutionBatch>;

/// What the tasks of the intake share.
#[derive(Clone)]
pub(crate) struct Executions {
    pub(crate) pool: PgPool,
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long an ended period waits for sources that are not complete.
    pub(crate) grace: SignedDuration,
}

impl Executions {
    /// Reads the leased partitions with this many workers until shutdown, then finishes the messages in
    /// flight.
    pub(crate) async fn run(
        self,
        workers: usize,
        held: watch::Receiver<BTreeSet<u32>>,
        shutdown: CancellationToken,
    ) {
        let mut tasks = tokio::task::JoinSet::new();
        let mut inboxes = Vec::new();
        for _ in 0..workers {
            let (inbox, messages) = mpsc::channel(WAITING_MAX);
            let (groups, recorded) = mpsc::channel(1);
            let fill = Arc::new(Fill::default());
            tasks.spawn(gather(messages, groups, fill.clone(), self.clock.clone()));
            let recorder = Recorder::new(self.pool.clone(), self.bus.clone(), self.clock.clone(), self.grace);
            tasks.spawn(record(recorder, recorded, fill));
            inboxes.push(inbox);
        }
        for (partition, inbox) in (0..PARTITIONS).zip(inboxes.iter().cycle()) {
            let reader =
                Reader { executions: self.clone(), partition, inbox: inbox.clone(), held: held.clone() };
            tasks.spawn(reader.run(shutdown.clone()));
        }
        // The workers end when no reader can send any more.
        drop(inboxes);
        while tasks.join_next().await.is_some() {}
    }
}

/// Reads one partition while this replica holds its lease.
struct Reader {
    executions: Executions,
    partition: u32,
    inbox: mpsc::Sender<Message>,
    held: watch::Receiver<BTreeSet<u32>>,
}

impl Reader {
    async fn run(mut self, shutdown: CancellationToken) {
        while !shutdown.is_cancelled() {
            let partition = self.partition;
            tokio::select! {
                () = shutdown.cancelled() => return,
                held = self.held.wait_for(|held| held.contains(&partition)) => if held.is_err() { return },
            }
            let Executions { bus, clock, .. } = self.executions.clone();
            match Intake::open(bus, clock, Consumer::aggregator_executions(partition)).await {
                Ok(intake) => self.read(intake, &shutdown).await,
                Err(error) => {
                    tracing::warn!(
                        partition,
                        error = messaging::error_chain(&error),
                        "cannot read a partition of the executions; trying again"
                    );
                    sleep(RESUBSCRIBE_PAUSE).await;
                }
            }
        }
    }

    async fn read(&mut self, mut intake: Intake<v1::ExecutionBatch>, shutdown: &CancellationToken) {
        let partition = self.partition;
        loop {
            let message = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                _ = self.held.wait_for(|held| !held.contains(&partition)) => break,
                message = intake.next() => message,
            };
            match message {
                Some(message) => {
                    if let Err(unsent) = self.inbox.send(message).await {
                        unsent.0.hand_back().await;
                        break;
                    }
                }
                None => sleep(RESUBSCRIBE_PAUSE).await,
            }
        }
        intake.hand_back().await;
    }
}

/// Gathers messages into groups. While the recorder is busy, a group grows up to its limits and its messages
/// are reported to the broker as in progress; while it is idle, a group is recorded after a few milliseconds.
async fn gather(
    mut messages: mpsc::Receiver<Message>,
    groups: mpsc::Sender<Group>,
    fill: Arc<Fill>,
    clock: Arc<dyn Clock>,
) {
    let mut busy = false;
    while let Some(first) = messages.recv().await {
        let mut group = Group::default();
        group.add(first, clock.as_ref()).await;
        let until = Instant::now() + if busy { LINGER_BUSY } else { LINGER };
        while !group.is_full(&fill) {
            match timeout_at(until, messages.recv()).await {
                Ok(Some(message)) => group.add(message, clock.as_ref()).await,
                Ok(None) | Err(_) => break,
            }
        }
        let mut progress = interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        let place = loop {
            tokio::select! {
                biased;
                place = groups.reserve() => break place,
                _ = progress.tick() => report_progress(&group.items).await,
                Some(message) = messages.recv(), if !group.is_full(&fill) => group.add(message, clock.as_ref()).await,
            }
        };
        let Ok(place) = place else { return };
        busy = group.executions >= BUSY_EXECUTIONS;
        place.send(group);
    }
}

#[derive(Default)]
struct Group {
    items: Vec<Item>,
    executions: usize,
}

impl Group {
    fn is_full(&self, fill: &Fill) -> bool {
        self.percent() >= fill.percent()
    }

    /// Its size as a percentage of the largest group.
    fn percent(&self) -> usize {
        let of_executions = self.executions * 100 / EXECUTIONS_PER_BATCH;
        of_executions.max(self.items.len() * 100 / MESSAGES_PER_BATCH)
    }

    async fn add(&mut self, mut in_hand: Message, clock: &dyn Clock) {
        let message = std::mem::take(&mut in_hand.delivery.message);
        match Batch::read(message, clock.now()) {
            Ok(batch) => {
                self.executions += batch.executions.len();
                self.items.push(Item { in_hand, batch });
            }
            Err(error) => in_hand.failed(&error).await,
        }
    }
}

/// The percentage of the largest group that this machine currently records in [`RECORDING_TIME`].
struct Fill(AtomicUsize);

impl Default for Fill {
    fn default() -> Self {
        Self(AtomicUsize::new(100))
    }
}

impl Fill {
    fn percent(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Learns from the time that a group of `percent` took. Small groups are ignored: most of their time is
    /// fixed cost.
    fn learn(&self, percent: usize, took: Duration) {
        if percent * 2 < self.percent() {
            return;
        }
        let next = percent as u128 * RECORDING_TIME.as_micros() / took.as_micros().max(1);
        let next = usize::try_from(next).unwrap_or(100).clamp(FILL_PERCENT_MIN, 100);
        self.0.store(next, Ordering::Relaxed);
    }
}

async fn record(mut recorder: Recorder, mut groups: mpsc::Receiver<Group>, fill: Arc<Fill>) {
    while let Some(group) = groups.recv().await {
        let (started_at, percent) = (Instant::now(), group.percent());
        recorder.record(group.items).await;
        let took = started_at.elapsed();
        fill.learn(percent, took);
        metrics::histogram!("flowmeter_recording_seconds").record(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_shrink_on_a_slow_machine_and_grow_again() {
        let fill = Fill::default();
        fill.learn(100, RECORDING_TIME * 4);
        assert_eq!(fill.percent(), 25);
        fill.learn(3, RECORDING_TIME);
        assert_eq!(fill.percent(), 25, "a small group is ignored");
        fill.learn(25, Duration::MAX);
        assert_eq!(fill.percent(), FILL_PERCENT_MIN);
        fill.learn(FILL_PERCENT_MIN, RECORDING_TIME / 4);
        fill.learn(20, RECORDING_TIME / 10);
        assert_eq!(fill.percent(), 100);
    }
}
