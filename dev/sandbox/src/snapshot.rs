//! The state of the sandbox in a file, so that a demo continues where it stopped.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::changes::Changes;
use crate::mail::Message;
use crate::n8n::Instance;
use crate::stripe::Account;

/// How often the state is written while it changes.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);
/// A write that takes long is followed by a pause this many times as long, so that writing costs at most 5 %.
const PAUSE_PER_WRITE: u32 = 20;

/// Everything that survives a restart. Faults and spans do not.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) clock_offset_ms: i64,
    pub(crate) n8n: BTreeMap<String, Instance>,
    pub(crate) stripe: Account,
    pub(crate) mail: VecDeque<Message>,
}

/// Why a state file could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file exists and cannot be read.
    #[error("could not read the state in {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file does not hold a state of this version.
    #[error("{} does not hold a sandbox's state; remove it to begin afresh", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// The state cannot be encoded as JSON.
    #[error("could not encode the state")]
    Encode(#[source] serde_json::Error),
    /// The file cannot be written.
    #[error("could not write the state to {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Reads the state; without a file it is empty.
pub(crate) fn load(path: &Path) -> Result<Snapshot, SnapshotError> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Snapshot::default()),
        Err(source) => return Err(SnapshotError::Read { path: path.to_owned(), source }),
    };
    serde_json::from_slice(&bytes).map_err(|source| SnapshotError::Parse { path: path.to_owned(), source })
}

/// Writes a temporary file and renames it: a crash leaves the old state or the new one, never half of one.
fn write(path: &Path, snapshot: &Snapshot) -> Result<(), SnapshotError> {
    let bytes = serde_json::to_vec(snapshot).map_err(SnapshotError::Encode)?;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    std::fs::write(&beside, bytes)
        .and_then(|()| std::fs::rename(&beside, path))
        .map_err(|source| SnapshotError::Write { path: path.to_owned(), source })
}

/// Writes the state whenever it has changed, and one last time when cancelled.
pub(crate) async fn keep(
    path: PathBuf,
    changes: Changes,
    take: impl Fn() -> Snapshot + Send + 'static,
    stop: CancellationToken,
) {
    // Not the current count: changes between the load and the first poll of this task must be written too.
    let mut written = 0;
    let mut pause = WRITE_INTERVAL;
    loop {
        let stopping = tokio::select! {
            () = stop.cancelled() => true,
            () = tokio::time::sleep(pause) => false,
        };
        let count = changes.count();
        if count != written {
            let began = Instant::now();
            let snapshot = take();
            let target = path.clone();
            let outcome = tokio::task::spawn_blocking(move || write(&target, &snapshot)).await;
            match outcome {
                Ok(Ok(())) => written = count,
                Ok(Err(error)) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "could not write the sandbox's state"
                ),
                Err(error) => tracing::warn!(%error, "could not write the sandbox's state"),
            }
            pause = (began.elapsed() * PAUSE_PER_WRITE).max(WRITE_INTERVAL);
        }
        if stopping {
            return;
        }
    }
}
