//! Whether the stream of a source's partition is still the one that its cursor refers to.
//!
//! A cursor says what was published. If the broker was created anew, or restored from a backup, that is not
//! what the stream holds: batches that nobody had read are gone, and its sequences start over, or are
//! assigned a second time. So each sweep compares the life of the stream with the one that the cursor knows.
//! In another life everything that the source still shows is read and published again; the aggregator knows
//! what it has counted. Until that is done the source does not publish its completeness.
//!
//! A stream that was set back keeps its name and its creation time. It is recognised by the cursor's anchor,
//! a message with the instant at which the broker accepted it: the stream has not come that far again, or has
//! another message there. The sweep that finds this marks the stream as one of another life, for all its
//! sources and for the aggregator. What is not recognised is a loss after the last anchor, because then the
//! anchor is still there.

use jiff::Timestamp;
use messaging::{Bus, Life, LifeError};
use metering::SourceId;
use proto::streams::Stream;
use uuid::Uuid;

/// What a cursor remembers of the stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamMark {
    /// The life in which the cursor's sequence was assigned; `None` before the first sweep that asked for it.
    pub life: Option<String>,
    /// A message that this life holds.
    pub anchor: Option<Anchor>,
    /// The sweep has found another life than the cursor's; not stored.
    pub is_new: bool,
}

/// A message of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Anchor {
    /// Its sequence.
    pub sequence: u64,
    /// When the broker accepted it.
    pub taken_at: Timestamp,
}

/// The stream as a sweep finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its life.
    pub life: String,
    /// Whether it is not the one that the cursor refers to.
    pub is_another: bool,
}

/// Checks the stream at the beginning of a sweep.
pub async fn look(
    bus: &Bus,
    source: &SourceId,
    mark: &StreamMark,
    published_through: u64,
) -> Result<Found, LifeError> {
    let stream = Stream::executions_of(source.as_str());
    let life = bus.life(stream).await?;
    if mark.life.as_ref().is_some_and(|known| *known != life.id) {
        return Ok(Found { life: life.id, is_another: true });
    }
    if !is_set_back(bus, stream, &life, mark.anchor, published_through).await? {
        return Ok(Found { life: life.id, is_another: false });
    }
    let another = bus.begin_life(stream, &life, &Uuid::new_v4().simple().to_string()).await?;
    Ok(Found { life: another.id, is_another: true })
}

async fn is_set_back(
    bus: &Bus,
    stream: Stream,
    life: &Life,
    anchor: Option<Anchor>,
    published_through: u64,
) -> Result<bool, LifeError> {
    if published_through > life.last_sequence {
        return Ok(true);
    }
    let Some(anchor) = anchor else { return Ok(false) };
    // An anchor that has grown too old is gone, which proves nothing.
    let taken_at = bus.taken_at(stream, anchor.sequence).await?;
    Ok(taken_at.is_some_and(|taken_at| taken_at != anchor.taken_at))
}

/// The mark for the next sweep; `None` if the stream was replaced while this sweep published.
pub async fn mark(
    bus: &Bus,
    source: &SourceId,
    found: &Found,
    known: Option<Anchor>,
    published_through: u64,
) -> Result<Option<StreamMark>, LifeError> {
    let stream = Stream::executions_of(source.as_str());
    let life = bus.life(stream).await?;
    if life.id != found.life || published_through > life.last_sequence {
        return Ok(None);
    }
    let known = known.filter(|anchor| !found.is_another && anchor.sequence == published_through);
    let anchor = match known {
        Some(anchor) => Some(anchor),
        None if published_through == 0 => None,
        None => {
            let taken_at = bus.taken_at(stream, published_through).await?;
            taken_at.map(|taken_at| Anchor { sequence: published_through, taken_at })
        }
    };
    Ok(Some(StreamMark { life: Some(life.id), anchor, is_new: found.is_another }))
}
