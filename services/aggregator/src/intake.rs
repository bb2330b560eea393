//! From the partitions to transactions: each held partition is read by a task, each worker gathers what its partitions
//! bring into batches, and records one batch while it gathers the next.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use messaging::{Bus, InHand, Intake};
use metering::Clock;
use proto::{consumers::Consumer, subjects::PARTITIONS, v1};
use sqlx::PgPool;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    parcel::Parcel,
    record::{Item, Recorder},
};

/// Executions in one transaction: enough to spread its fixed cost, few enough to commit in a fraction of a second.
const EXECUTIONS_PER_BATCH: usize = 40_000;

/// Messages in one transaction: such as hold no execution or one.
const MESSAGES_PER_BATCH: usize = 10_000;

/// How long an idle worker waits for more once it has something: a few milliseconds of delay for many fewer commits.
const LINGER: Duration = Duration::from_millis(5);

/// The same while much comes in: every batch touches the rows of all its sources and tenants, so larger ones cost less.
const LINGER_BUSY: Duration = Duration::from_millis(150);

/// A batch of so many executions says that much comes in.
const BUSY_EXECUTIONS: usize = 1_000;

/// Messages that wait for a worker.
const WAITING_MAX: usize = 1_024;

/// Pause before a broken subscription is made again.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

type Message = InHand<v1::ExecutionBatch>;

/// What the tasks of the intake share.
#[derive(Clone)]
pub(crate) struct Executions {
    pub(crate) pool: PgPool,
    pub(crate) bus: Bus,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Executions {
    /// Reads the partitions that are held, with so many workers, until shutdown; then finishes what is in hand.
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
            let (batches, recorded) = mpsc::channel(1);
            tasks.spawn(gather(messages, batches, self.clock.clone()));
            let recorder = Recorder::new(self.pool.clone(), self.bus.clone(), self.clock.clone());
            tasks.spawn(record(recorder, recorded));
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

/// Reads one partition while it is held.
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
                    tracing::warn!(partition, error = messaging::consume::chain(&error), "cannot read");
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

/// Gathers messages into batches. While the recorder is busy a batch grows up to its bounds; where it is idle, a batch
/// goes after a few milliseconds.
async fn gather(
    mut messages: mpsc::Receiver<Message>,
    batches: mpsc::Sender<Vec<Item>>,
    clock: Arc<dyn Clock>,
) {
    let mut busy = false;
    while let Some(first) = messages.recv().await {
        let mut batch = Batch::default();
        batch.add(first, clock.as_ref()).await;
        let until = Instant::now() + if busy { LINGER_BUSY } else { LINGER };
        while !batch.is_full() {
            match timeout_at(until, messages.recv()).await {
                Ok(Some(message)) => batch.add(message, clock.as_ref()).await,
                Ok(None) | Err(_) => break,
            }
        }
        let place = loop {
            tokio::select! {
                biased;
                place = batches.reserve() => break place,
                Some(message) = messages.recv(), if !batch.is_full() => batch.add(message, clock.as_ref()).await,
            }
        };
        let Ok(place) = place else { return };
        busy = batch.executions >= BUSY_EXECUTIONS;
        place.send(batch.items);
    }
}

#[derive(Default)]
struct Batch {
    items: Vec<Item>,
    executions: usize,
}

impl Batch {
    fn is_full(&self) -> bool {
        self.executions >= EXECUTIONS_PER_BATCH || self.items.len() >= MESSAGES_PER_BATCH
    }

    async fn add(&mut self, mut in_hand: Message, clock: &dyn Clock) {
        let message = std::mem::take(&mut in_hand.delivery.message);
        match Parcel::read(message, clock.now()) {
            Ok(parcel) => {
                self.executions += parcel.executions.len();
                self.items.push(Item { in_hand, parcel });
            }
            Err(error) => in_hand.failed(&error).await,
        }
    }
}

async fn record(mut recorder: Recorder, mut batches: mpsc::Receiver<Vec<Item>>) {
    while let Some(batch) = batches.recv().await {
        let started_at = Instant::now();
        recorder.record(batch).await;
        metrics::histogram!("flowmeter_recording_seconds").record(started_at.elapsed().as_secs_f64());
    }
}
