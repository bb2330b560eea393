//! Why a sweep failed, and what an operator can do about it.

use std::time::Duration;

use catalog::{sealing::CannotOpen, store::CatalogError};
use messaging::{LifeError, PublishError, error_chain};
use metering::{NAME_CHARS_MAX, SafeText};
use proto::v1::FailureReason;

use crate::{n8n::client::N8nError, sweep::cursor::Begin};

/// A sweep has failed.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The source did not answer as it should.
    #[error("cannot read the source")]
    Read(#[from] N8nError),
    /// The API key cannot be opened.
    #[error("cannot open the API key")]
    OpenKey(#[from] CannotOpen),
    /// The broker did not take a message.
    #[error("cannot publish")]
    Publish(#[from] PublishError),
    /// The broker does not answer whether its stream is the one that the cursor refers to.
    #[error("cannot check the broker's stream")]
    Stream(#[from] LifeError),
    /// The stream is not the one of the beginning of the sweep.
    #[error("the broker's stream was replaced while the source was swept")]
    StreamReplaced,
    /// The database failed.
    #[error("cannot store the cursor")]
    Store(#[from] sqlx::Error),
    /// The stored state is invalid.
    #[error("the stored {0} is damaged")]
    Damaged(&'static str),
    /// The catalog failed.
    #[error("cannot read the catalog")]
    Catalog(#[from] CatalogError),
    /// A list that does not end.
    #[error("more than {pages_max} pages of {what} executions")]
    Endless {
        /// Which list.
        what: &'static str,
        /// The bound.
        pages_max: u32,
    },
    /// The source numbers its executions in a way that this version cannot meter.
    #[error("execution id {0:?} is not a decimal number")]
    ForeignIds(SafeText),
    /// Hardly any row can be read: then the fault is not in the rows.
    #[error("more than {0} rows of one sweep cannot be read")]
    Unreadable(usize),
    /// The sweep took longer than it may.
    #[error("not finished within {0:?}")]
    TooSlow(Duration),
    /// What was seen cannot be in the database that the cursor was read from: a new epoch has to begin.
    #[error("execution ids are handed out again: the database was restored, or it is another one")]
    Contradicted(Begin),
    /// What was read at the beginning of the sweep is not there at its end.
    #[error("executions disappear while they are read")]
    Changed,
    /// Another collector has taken the source over.
    #[error("the lease was lost")]
    LeaseLost,
}

/// A failure, as it is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub reason: FailureReason,
    /// For the operator: what happened and what to do.
    pub detail: String,
    /// How long the source asks to wait.
    pub retry_after: Option<Duration>,
}

impl SweepError {
    /// The failure to publish.
    pub fn failure(&self) -> Failure {
        let named = what_to_do_by_name(self);
        let (reason, what_to_do) = match self {
            Self::Read(error) => advice(error),
            Self::OpenKey(_) => (
                FailureReason::SecretUnreadable,
                "Set the source's API key again, or restore the collector's secret key.",
            ),
            Self::Publish(_)
            | Self::Stream(_)
            | Self::StreamReplaced
            | Self::Store(_)
            | Self::Damaged(_)
            | Self::Catalog(_)
            | Self::LeaseLost => (
                FailureReason::Internal,
                "The source is not to blame: check Flowmeter's broker and database.",
            ),
            Self::Endless { .. } | Self::TooSlow(_) => (
                FailureReason::TooLarge,
                "Let n8n prune its executions (EXECUTIONS_DATA_PRUNE), or delete old ones.",
            ),
            Self::Contradicted(_) | Self::Changed => (
                FailureReason::Unreadable,
                "Check that only one n8n answers at this address, and that it is not being restored right now.",
            ),
            Self::ForeignIds(_) => (
                FailureReason::Unreadable,
                "This version meters sources whose execution ids are decimal numbers. Keep n8n's engine at one that \
                 gives such ids, or update Flowmeter; nothing of this source is counted until then.",
            ),
            Self::Unreadable(_) => (
                FailureReason::Unreadable,
                "Check the dead letters, and that the address belongs to a supported version of n8n.",
            ),
        };
        let happened = match self {
            // Begins with the cause: the reader knows which source it is about.
            Self::Read(error) => sentence(&error_chain(error)),
            other => sentence(&error_chain(other)),
        };
        let retry_after = match self {
            Self::Read(N8nError::RateLimited { retry_after }) => *retry_after,
            _ => None,
        };
        let what_to_do = named.as_deref().unwrap_or(what_to_do);
        // It quotes the source and any proxy in front of it.
        let detail = SafeText::clean(&format!("{happened} {what_to_do}"), DETAIL_CHARS_MAX).into();
        Failure { reason, detail, retry_after }
    }
}

/// The advice, if it quotes the answer.
fn what_to_do_by_name(error: &SweepError) -> Option<String> {
    match error {
        SweepError::Read(N8nError::Redirected { address: Some(address), .. }) => {
            Some(format!("Set the source's address to {address}."))
        }
        _ => None,
    }
}

fn advice(error: &N8nError) -> (FailureReason, &'static str) {
    match error {
        N8nError::Address(_) => (
            FailureReason::Unreachable,
            "Give the source a public address, or set collector.allow_private_addresses.",
        ),
        N8nError::Path => (FailureReason::Unreachable, "Correct the source's address."),
        N8nError::Unreachable(_) | N8nError::TimedOut(_) | N8nError::Away(_) => {
            (FailureReason::Unreachable, "Check that n8n runs, and that the collector can reach its address.")
        }
        N8nError::Redirected { .. } => (
            FailureReason::Unreachable,
            "Set the source's address to n8n's own, or, if it redirects to a login page, let requests to /api/v1 \
             through what is in front of n8n.",
        ),
        N8nError::Proxy { .. } => (
            FailureReason::Unauthorized,
            "The API key is not to blame: let the collector's requests to /api/v1 through the proxy, or give the \
             source an address behind it.",
        ),
        N8nError::NoApi(_) => (
            FailureReason::Unreadable,
            "Turn n8n's public API on (N8N_PUBLIC_API_DISABLED), and check the source's address: it is the \
             editor's, without /api/v1.",
        ),
        N8nError::Encoded(_) | N8nError::StuckCursor | N8nError::BadCursor => (
            FailureReason::Unreadable,
            "Check for a cache or proxy between the collector and n8n that changes its answers.",
        ),
        N8nError::Unauthorized | N8nError::Key => (
            FailureReason::Unauthorized,
            "Create an API key in n8n (Settings, n8n API) and set it on the source.",
        ),
        N8nError::Forbidden => {
            (FailureReason::Unauthorized, "Give the API key the scopes execution:list and execution:read.")
        }
        N8nError::RateLimited { .. } => {
            (FailureReason::RateLimited, "Raise the key's limit in n8n, or sweep the source less often.")
        }
        N8nError::NotJson { .. } => (
            FailureReason::Unreadable,
            "Wait for n8n to start, and check the source's address: it is the editor's, without /api/v1.",
        ),
        N8nError::BadRequest(_) | N8nError::Status { .. } | N8nError::Shape(_) => (
            FailureReason::Unreadable,
            "Check n8n's log, and that the address belongs to a supported version of n8n.",
        ),
        N8nError::TooLarge(_) => {
            (FailureReason::TooLarge, "Check the source's address, or raise collector.page_bytes_max.")
        }
    }
}

/// Longest detail, in characters: two sentences with a quotation.
const DETAIL_CHARS_MAX: usize = 3 * NAME_CHARS_MAX;

fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => format!("{}{}.", first.to_uppercase(), letters.as_str().trim_end_matches('.')),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_happened_and_what_to_do() {
        let error = SweepError::Read(N8nError::NotJson {
            content_type: SafeText::clean("text/html", NAME_CHARS_MAX),
        });
        let failure = error.failure();
        assert_eq!(failure.reason, FailureReason::Unreadable);
        assert_eq!(
            failure.detail,
            "Answered with text/html: n8n is starting up or the address is wrong. Wait for n8n to start, and \
             check the source's address: it is the editor's, without /api/v1."
        );
    }

    #[test]
    fn a_failure_of_our_own_does_not_blame_the_source() {
        let failure = SweepError::Store(sqlx::Error::PoolTimedOut).failure();
        assert_eq!(failure.reason, FailureReason::Internal);
        assert!(failure.detail.contains("not to blame"), "{}", failure.detail);
    }

    #[test]
    fn the_time_a_source_asks_for_is_kept() {
        let retry_after = Some(Duration::from_secs(7));
        let failure = SweepError::Read(N8nError::RateLimited { retry_after }).failure();
        assert_eq!((failure.reason, failure.retry_after), (FailureReason::RateLimited, retry_after));
    }
}
