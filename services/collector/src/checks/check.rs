//! The standing of a source apart from its executions: whether its clock is right, whether one n8n uses its
//! push token, and whether that n8n pushes for this source only. Determined at the end of each sweep and
//! published with it. If pushes show a change, the sweep comes at once.

use jiff::{SignedDuration, Timestamp};
use metering::SourceId;
use sqlx::PgPool;

use crate::{
    checks::{clock_skew::Reading, instances::beside_each_other, senders::Note, standing::Standing},
    store::{self, checks::Stored},
};

/// Other sources that are listed.
const SOURCES_NAMED_MAX: i64 = 10;

/// The inputs of a check.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// The skew above which the clock is reported as wrong.
    pub skew_max: SignedDuration,
    /// Whether the source has a push token.
    pub pushes: bool,
    /// The time.
    pub now: Timestamp,
}

/// Determines a source's standing, stores it, and logs what begins and what ends. `polled_skew_ms` is what
/// the sweep has measured.
pub async fn settle(
    pool: &PgPool,
    source: &SourceId,
    polled_skew_ms: Option<i64>,
    terms: Terms,
) -> Result<Standing, sqlx::Error> {
    let before = store::checks::stored(pool, source).await?;
    let measured = polled_skew_ms.map(|skew_ms| Reading { skew_ms, at: terms.now });
    let standing = look(pool, source, &before, measured, terms).await?;
    store::checks::keep(pool, source, measured, &standing).await?;
    log(source, &before, &standing);
    Ok(standing)
}

/// Stores what a push says about its sender. If that changes the source's standing, the source is swept at
/// once.
pub async fn note(
    pool: &PgPool,
    source: &SourceId,
    note: Note,
    skew_max: SignedDuration,
    now: Timestamp,
) -> Result<(), sqlx::Error> {
    if note.is_empty() {
        return Ok(());
    }
    if let Some(skew) = note.skew {
        store::checks::note_skew(pool, source, skew).await?;
    }
    if let Some(instance) = &note.instance {
        store::checks::note_instance(pool, source, instance, now).await?;
    }
    let before = store::checks::stored(pool, source).await?;
    let terms = Terms { skew_max, pushes: true, now };
    let standing = look(pool, source, &before, None, terms).await?;
    let is_news = standing.clock_wrong_since != before.clock_wrong_since
        || standing.token_shared_since != before.token_shared_since
        || standing.doubled_since != before.doubled_since;
    if is_news { store::limits::sweep_at(pool, &[source.as_str()], now).await } else { Ok(()) }
}

async fn look(
    pool: &PgPool,
    source: &SourceId,
    before: &Stored,
    measured: Option<Reading>,
    Terms { skew_max, pushes, now }: Terms,
) -> Result<Standing, sqlx::Error> {
    let clock = Reading::of(measured.or(before.polled), before.pushed, now);
    // Without a recent measurement, a clock that was wrong is taken to be still wrong.
    let is_wrong = match clock {
        Some(clock) => clock.is_wrong(skew_max, before.clock_wrong_since.is_some()),
        None => before.clock_wrong_since.is_some(),
    };
    // Most sources do not push, and their sweeps need no more queries.
    let (instances, same_instance) = match pushes {
        true => (
            beside_each_other(&store::checks::pushing(pool, source, now).await?),
            store::checks::same_instance(pool, source, now, SOURCES_NAMED_MAX).await?,
        ),
        false => Default::default(),
    };
    let since = |is_so: bool, before: Option<Timestamp>| is_so.then(|| before.unwrap_or(now));
    Ok(Standing {
        clock,
        clock_wrong_since: since(is_wrong, before.clock_wrong_since),
        token_shared_since: since(!instances.is_empty(), before.token_shared_since),
        instances,
        doubled_since: since(!same_instance.is_empty(), before.doubled_since),
        same_instance,
    })
}

/// Logs a problem once when it begins and once when it ends.
fn log(source: &SourceId, before: &Stored, now: &Standing) {
    let skew_ms = now.clock.map(|clock| clock.skew_ms);
    match (before.clock_wrong_since, now.clock_wrong_since) {
        (None, Some(_)) => tracing::warn!(
            %source, skew_ms,
            "the source's clock is wrong, so executions may count in the wrong period: set it by NTP"
        ),
        (Some(_), None) => tracing::info!(%source, skew_ms, "the source's clock is right again"),
        _ => {}
    }
    match (before.token_shared_since, now.token_shared_since) {
        (None, Some(_)) => tracing::warn!(
            %source, instances = now.instances.join(" "),
            "several n8n instances push with the token of one source, so executions are lost: give each a source and a token"
        ),
        (Some(_), None) => {
            tracing::info!(%source, "only one n8n instance pushes with the source's token again")
        }
        _ => {}
    }
    match (before.doubled_since, now.doubled_since) {
        (None, Some(_)) => tracing::warn!(
            %source, other_sources = now.same_instance.join(" "),
            "one n8n instance pushes for several sources, so executions count more than once: keep one of the sources"
        ),
        (Some(_), None) => {
            tracing::info!(%source, "the source's n8n instance pushes for no other source any more")
        }
        _ => {}
    }
}
