//! The streams of the contract: created if missing, brought up to date by their owner, and watched for how
//! full they are.

use std::time::Duration;

use async_nats::jetstream::{
    self, ErrorCode,
    context::{
        CreateStreamError, CreateStreamErrorKind, GetStreamError, GetStreamErrorKind, UpdateStreamError,
    },
    stream::Config,
};
use proto::streams::{ExecutionsBefore, Stream};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{Bus, error_chain};

/// Interval at which the owner checks its streams, and so the longest time that a deleted one is missing. A
/// round is one request for each stream.
const ROUND_INTERVAL: Duration = Duration::from_secs(15);

/// A stream this full is reported: at a steady rate, three sevenths of the time it took to get there is
/// left.
pub const FULL_WARN_RATIO: f64 = 0.7;

/// A stream that stays full is logged again after this time.
const FULL_LOG_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// The streams cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// A stream does not exist and cannot be created.
    #[error("cannot create the stream {name}; is JetStream on, and may this user create it?")]
    Create {
        /// The stream's name.
        name: String,
        /// Why.
        source: CreateStreamError,
    },
    /// It is not known whether a stream exists.
    #[error("cannot inspect the stream {name}; is JetStream on, and may this user read it?")]
    Look {
        /// The stream's name.
        name: String,
        /// Why.
        source: GetStreamError,
    },
    /// The stream of the previous version keeps the subjects of executions.
    #[error("cannot set aside the stream {name} of the previous version; the collector may, once it runs")]
    SetAside {
        /// The stream's name.
        name: String,
        /// Why.
        source: UpdateStreamError,
    },
}

impl StreamError {
    /// Whether the configuration of this service has to be changed; everything else is worth waiting for: a broker without
    /// a leader, out of space or still being set up.
    pub fn is_final(&self) -> bool {
        let Self::Create { source, .. } = self else { return false };
        let CreateStreamErrorKind::JetStream(error) = source.kind() else { return false };
        [ErrorCode::STREAM_REPLICAS_NOT_SUPPORTED, ErrorCode::STREAM_INVALID_CONFIG]
            .contains(&error.error_code())
    }
}

/// What the owner remembers of a stream between its rounds.
#[derive(Debug, Default, Clone)]
struct Watched {
    /// When it was last reported as nearly full.
    full_logged: Option<Instant>,
    /// The settings that could not be applied, as they were last reported.
    refused: Option<String>,
}

impl Bus {
    /// Creates the missing streams that this service needs, and brings those that it owns up to date with its
    /// settings.
    pub async fn ensure_streams(&self) -> Result<(), StreamError> {
        self.ensure(Stream::needed_by(self.service())).await
    }

    /// The same for all streams of the contract: for tests, and for tools whose user may do so.
    pub async fn ensure_all_streams(&self) -> Result<(), StreamError> {
        self.ensure(Stream::all().collect()).await
    }

    async fn ensure(&self, streams: Vec<Stream>) -> Result<(), StreamError> {
        let has_executions = streams.iter().any(|stream| matches!(stream, Stream::Executions(_)));
        let is_before = has_executions && self.set_aside().await?;
        for stream in streams {
            let info = self.find_or_create(stream, is_before).await?;
            if stream.owner() == self.service() {
                self.bring_up_to_date(stream, info, &mut Watched::default()).await;
            }
        }
        Ok(())
    }

    /// Looks after the streams that this service owns until `shutdown`: creates one that is gone, follows the settings, and
    /// reports how full each is.
    pub async fn keep_streams(self, shutdown: CancellationToken) {
        let owned = Stream::all().filter(|stream| stream.owner() == self.service());
        let mut owned: Vec<(Stream, Watched)> = owned.map(|stream| (stream, Watched::default())).collect();
        while !shutdown.is_cancelled() {
            for (stream, watched) in &mut owned {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    outcome = self.look_after(*stream, watched) => if let Err(error) = outcome {
                        tracing::warn!(error = error_chain(&error), "cannot check the streams; trying again");
                    },
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => {}
                () = sleep(ROUND_INTERVAL) => {}
            }
        }
    }

    async fn look_after(&self, stream: Stream, watched: &mut Watched) -> Result<(), StreamError> {
        let is_before = matches!(stream, Stream::Executions(_)) && self.is_set_aside().await?;
        let info = self.find_or_create(stream, is_before).await?;
        let info = self.bring_up_to_date(stream, info, watched).await;
        measure(stream, &info, watched);
        Ok(())
    }

    async fn find_or_create(
        &self,
        stream: Stream,
        is_before: bool,
    ) -> Result<jetstream::stream::Info, StreamError> {
        let (namespace, capacity) = (self.namespace(), self.capacity());
        let config = if is_before {
            ExecutionsBefore.copied_into(stream, namespace, capacity)
        } else {
            stream.config(namespace, capacity)
        };
        let name = config.name.clone();
        match self.jetstream().get_stream(&name).await {
            Ok(found) => return Ok(found.cached_info().clone()),
            Err(error) if is_not_there(&error) => {}
            Err(source) => return Err(StreamError::Look { name, source }),
        }
        match self.jetstream().create_stream(config).await {
            Ok(created) => Ok(created.cached_info().clone()),
            // Another service has just created it with settings of its own.
            Err(error) if is_there(&error) => {
                let found = self.jetstream().get_stream(&name).await;
                Ok(found.map_err(|source| StreamError::Look { name, source })?.cached_info().clone())
            }
            Err(source) => Err(StreamError::Create { name, source }),
        }
    }

    /// Applies what differs between the settings and the stream. A failure is not fatal: the stream stays as
    /// it is, and the next round tries again.
    async fn bring_up_to_date(
        &self,
        stream: Stream,
        info: jetstream::stream::Info,
        watched: &mut Watched,
    ) -> jetstream::stream::Info {
        let wanted = stream.config(self.namespace(), self.capacity());
        let (config, kept) = merged(&info, wanted);
        let name = &info.config.name;
        if kept != watched.refused {
            if let Some(kept) = &kept {
                tracing::warn!(stream = name, "{kept}");
            }
            watched.refused = kept;
        }
        if config == info.config {
            return info;
        }
        match self.jetstream().update_stream(&config).await {
            Ok(updated) => {
                tracing::info!(
                    stream = name,
                    replicas = updated.config.num_replicas,
                    bytes_max = updated.config.max_bytes,
                    age_max_s = updated.config.max_age.as_secs(),
                    "the stream's settings were changed"
                );
                updated
            }
            Err(error) => {
                let refused = Some(format!("cannot apply the settings: {}", error_chain(&error)));
                if refused != watched.refused {
                    tracing::warn!(
                        stream = name,
                        error = error_chain(&error),
                        "cannot change the stream's settings; it keeps its own"
                    );
                    watched.refused = refused;
                }
                info
            }
        }
    }

    /// Sets aside the stream of the previous version, so that its subjects are free for the streams that
    /// replace it, and nothing that it holds is lost. Returns whether it exists.
    async fn set_aside(&self) -> Result<bool, StreamError> {
        let Some(config) = self.before().await? else { return Ok(false) };
        let subjects = ExecutionsBefore.subjects_aside(self.namespace());
        if config.subjects != subjects {
            let name = config.name.clone();
            tracing::info!(stream = name, "stream set aside; the partition streams copy its messages");
            self.jetstream()
                .update_stream(Config { subjects, ..config })
                .await
                .map_err(|source| StreamError::SetAside { name, source })?;
        }
        Ok(true)
    }

    async fn is_set_aside(&self) -> Result<bool, StreamError> {
        Ok(self.before().await?.is_some())
    }

    async fn before(&self) -> Result<Option<Config>, StreamError> {
        let name = ExecutionsBefore.name(self.namespace());
        match self.jetstream().get_stream(&name).await {
            Ok(stream) => Ok(Some(stream.cached_info().config.clone())),
            Err(error) if is_not_there(&error) => Ok(None),
            Err(source) => Err(StreamError::Look { name, source }),
        }
    }
}

/// The stream's configuration with the settings that this contract decides; everything else that an operator
/// has set stays. A limit below what the stream holds is not applied, because the broker would delete
/// messages that are not read yet: then the second value says so.
fn merged(info: &jetstream::stream::Info, wanted: Config) -> (Config, Option<String>) {
    let now = &info.config;
    let mut kept = None;
    let holds = i64::try_from(info.state.bytes).unwrap_or(i64::MAX);
    let max_bytes = if wanted.max_bytes < now.max_bytes && wanted.max_bytes < holds {
        kept = Some(format!(
            "the stream holds {holds} bytes and the settings allow {}: it keeps its limit of {} until it holds less",
            wanted.max_bytes, now.max_bytes
        ));
        now.max_bytes
    } else {
        wanted.max_bytes
    };
    let config = Config {
        subjects: wanted.subjects,
        num_replicas: wanted.num_replicas,
        max_age: wanted.max_age,
        max_bytes,
        max_messages_per_subject: wanted.max_messages_per_subject,
        discard: wanted.discard,
        duplicate_window: wanted.duplicate_window,
        allow_direct: wanted.allow_direct,
        ..now.clone()
    };
    (config, kept)
}

/// How full the stream is, as a metric, and in the log from [`FULL_WARN_RATIO`] on.
fn measure(stream: Stream, info: &jetstream::stream::Info, watched: &mut Watched) {
    let messages = figure(info.state.messages);
    metrics::gauge!("flowmeter_stream_messages", "stream" => info.config.name.clone()).set(messages);
    if stream == Stream::Dead {
        metrics::gauge!("flowmeter_dead_letters").set(messages);
    }
    let Some(ratio) = fullness(info.state.bytes, info.config.max_bytes) else { return };
    let name = info.config.name.clone();
    metrics::gauge!("flowmeter_stream_bytes_ratio", "stream" => name.clone()).set(ratio);
    if ratio < FULL_WARN_RATIO {
        watched.full_logged = None;
        return;
    }
    if watched.full_logged.is_none_or(|at| at.elapsed() >= FULL_LOG_INTERVAL) {
        watched.full_logged = Some(Instant::now());
        tracing::warn!(
            stream = name,
            bytes = info.state.bytes,
            bytes_max = info.config.max_bytes,
            percent = format!("{:.0}", ratio * 100.0),
            "the stream is nearly full; a full stream refuses new messages: see docs/runbooks/full-stream.md"
        );
    }
}

/// Counts of messages are far below 2^32; a larger one is shown as that.
fn figure(count: u64) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The share of its capacity that a stream uses; `None` if it has no bound.
fn fullness(bytes: u64, bytes_max: i64) -> Option<f64> {
    let bytes_max = u64::try_from(bytes_max).ok().filter(|max| *max > 0)?;
    // In thousandths, which fit into an f64 without loss.
    let thousandths = u128::from(bytes) * 1_000 / u128::from(bytes_max);
    Some(f64::from(u32::try_from(thousandths).unwrap_or(u32::MAX)) / 1_000.0)
}

pub(crate) fn is_not_there(error: &GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND)
}

fn is_there(error: &CreateStreamError) -> bool {
    matches!(error.kind(), CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fullness_is_the_used_share_of_a_streams_capacity() {
        assert_eq!(fullness(0, 100), Some(0.0));
        assert_eq!(fullness(70, 100), Some(FULL_WARN_RATIO));
        assert_eq!(fullness(u64::MAX, 1), Some(4_294_967.295));
        assert_eq!(fullness(70, -1), None, "no bound");
    }
}
