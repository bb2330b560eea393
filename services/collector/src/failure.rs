//! Why a sweep failed, and what a person can do about it.

use std::time::Duration;

use catalog::{sealing::CannotOpen, store::CatalogError};
use messaging::{PublishError, consume::chain};
use metering::{NAME_CHARS_MAX, SafeText};
use proto::v1::FailureReason;

use crate::{cursor::Begin, n8n::N8nError};

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
    /// The database failed.
    #[error("cannot keep the cursor")]
    Store(#[from] sqlx::Error),
    /// The stored state makes no sense.
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
    /// Hardly a row can be read: not the rows are wrong then.
    #[error("more than {0} rows of one sweep cannot be read")]
    Unreadable(usize),
    /// The sweep took longer than it may.
    #[error("not done within {0:?}")]
    TooSlow(Duration),
    /// What was seen cannot be in the database that the cursor was read from: a new epoch has to begin.
    #[error("execution ids are handed out again: the database was restored, or it is another one")]
    Contradicted(Begin),
    /// What was read at the beginning of the sweep is not there at its end.
    #[error("executions disappear while they are read")]
    Changed,
    /// Another collector has taken the source over.
    #[error("the lease is lost")]
    LeaseLost,
}

/// A failure, told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For programs.
    pub reason: FailureReason,
    /// For a person: what happened and what to do.
    pub detail: String,
    /// How long the source asks to be left alone.
    pub retry_after: Option<Duration>,
}

impl SweepError {
    /// What is told of it.
    pub fn failure(&self) -> Failure {
        let named = what_to_do_by_name(self);
        let (reason, what_to_do) = match self {
            Self::Read(error) => told(error),
            Self::OpenKey(_) => (
                FailureReason::SecretUnreadable,
                "Set the source's API key again, or give the collector its key back.",
            ),
            Self::Publish(_) | Self::Store(_) | Self::Damaged(_) | Self::Catalog(_) | Self::LeaseLost => (
                FailureReason::Internal,
                "The source is not to blame: look at Flowmeter's broker and database.",
            ),
            Self::Endless { .. } | Self::TooSlow(_) => (
                FailureReason::TooLarge,
                "Let n8n prune its executions (EXECUTIONS_DATA_PRUNE), or delete old ones.",
            ),
            Self::Contradicted(_) | Self::Changed => (
                FailureReason::Unreadable,
                "Check that one n8n at a time answers at this address, and that nobody restores it just now.",
            ),
            Self::ForeignIds(_) => (
                FailureReason::Unreadable,
                "This version meters sources whose execution ids are decimal numbers. Keep n8n's engine at one that \
                 gives such ids, or update Flowmeter; nothing of this source is counted until then.",
            ),
            Self::Unreadable(_) => (
                FailureReason::Unreadable,
                "Look at the dead letters, and check that the address is that of an n8n this version knows.",
            ),
        };
        let happened = match self {
            // The sentence begins with the cause: a person knows which source it is about.
            Self::Read(error) => sentence(&chain(error)),
            other => sentence(&chain(other)),
        };
        let retry_after = match self {
            Self::Read(N8nError::RateLimited { retry_after }) => *retry_after,
            _ => None,
        };
        let what_to_do = named.as_deref().unwrap_or(what_to_do);
        // It quotes the source and what stands before it.
        let detail = SafeText::clean(&format!("{happened} {what_to_do}"), DETAIL_CHARS_MAX).into();
        Failure { reason, detail, retry_after }
    }
}

/// What to do where that names something of the answer.
fn what_to_do_by_name(error: &SweepError) -> Option<String> {
    match error {
        SweepError::Read(N8nError::Redirected { address: Some(address), .. }) => {
            Some(format!("Set the source's address to {address}."))
        }
        _ => None,
    }
}

fn told(error: &N8nError) -> (FailureReason, &'static str) {
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
            "Set the source's address to the one where n8n is, or, where that is a page to log in, let requests to \
             /api/v1 past what stands in front of n8n.",
        ),
        N8nError::Proxy { .. } => (
            FailureReason::Unauthorized,
            "The API key is not to blame: let the collector's requests to /api/v1 past the proxy, or give the source an \
             address behind it.",
        ),
        N8nError::NoApi(_) => (
            FailureReason::Unreadable,
            "Turn n8n's public API on (N8N_PUBLIC_API_DISABLED), and check the source's address: it is the one of the \
             editor, without /api/v1.",
        ),
        N8nError::Encoded(_) | N8nError::StuckCursor | N8nError::BadCursor => (
            FailureReason::Unreadable,
            "Look at what stands between the collector and n8n: a cache or proxy that changes its answers.",
        ),
        N8nError::Unauthorized | N8nError::Key => (
            FailureReason::Unauthorized,
            "Create an API key in n8n (Settings, n8n API) and set it on the source.",
        ),
        N8nError::Forbidden => {
            (FailureReason::Unauthorized, "Give the API key the scopes execution:list and execution:read.")
        }
        N8nError::RateLimited { .. } => (
            FailureReason::RateLimited,
            "Raise the key's limit in n8n, or let the source be swept less often.",
        ),
        N8nError::NotJson { .. } => (
            FailureReason::Unreadable,
            "Wait for n8n to start, and check the source's address: it is the one of the editor, without /api/v1.",
        ),
        N8nError::BadRequest(_) | N8nError::Status { .. } | N8nError::Shape(_) => (
            FailureReason::Unreadable,
            "Look at n8n's log, and check that the address is that of an n8n this version knows.",
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
             check the source's address: it is the one of the editor, without /api/v1."
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
