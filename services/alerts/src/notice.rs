//! A notice to the operator: the facts of one topic and subject, sealed, and the mail's language and date.

use catalog::Language;
use jiff::Timestamp;

use crate::Fact;

/// Everything that a mail to the operator is made from. It never changes afterwards.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// The key of its first fact.
    pub id: String,
    /// All facts in one.
    pub fact: Fact,
    /// How many there are.
    pub facts: u64,
    /// When the first was found.
    pub first_at: Timestamp,
    /// When the last was found.
    pub last_at: Timestamp,
    /// How it is mailed.
    pub sealed: Sealed,
}

/// How a notice is mailed, fixed when it is sealed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The mail's date.
    pub sealed_at: Timestamp,
    /// The language of the mail.
    pub language: Language,
    /// The dashboard that the mail links to.
    pub dashboard_url: String,
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// One fact, found at noon.
    pub(crate) fn notice(fact: Fact, language: Language) -> Notice {
        Notice {
            id: fact.key(),
            facts: 1,
            first_at: "2026-11-24T12:00:00Z".parse().unwrap(),
            last_at: "2026-11-24T12:00:00Z".parse().unwrap(),
            sealed: Sealed {
                sealed_at: "2026-11-24T12:01:00Z".parse().unwrap(),
                language,
                dashboard_url: "https://usage.example.com/".into(),
            },
            fact,
        }
    }

    /// Many facts in half an hour.
    pub(crate) fn notice_of_many(fact: Fact, language: Language) -> Notice {
        Notice { facts: 1_204, last_at: "2026-11-24T12:30:00Z".parse().unwrap(), ..notice(fact, language) }
    }
}
