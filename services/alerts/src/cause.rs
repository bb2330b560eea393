//! Why a mail is sent.

use jiff::Timestamp;

use crate::{Alert, MailBody, Notice};

/// What one mail is about.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// A tenant has crossed a threshold.
    Crossing(Box<Alert>),
    /// The operator has something to act on.
    Notice(Box<Notice>),
}

impl Cause {
    /// What identifies it: the crossing's id, or the notice's.
    pub fn id(&self) -> &str {
        match self {
            Self::Crossing(alert) => &alert.crossing_id,
            Self::Notice(notice) => &notice.id,
        }
    }

    /// The mail's date.
    pub fn recorded_at(&self) -> Timestamp {
        match self {
            Self::Crossing(alert) => alert.leaves_at,
            Self::Notice(notice) => notice.sealed.sealed_at,
        }
    }

    /// The mail itself; always the same.
    pub fn body(&self) -> Result<MailBody, askama::Error> {
        match self {
            Self::Crossing(alert) => MailBody::of(alert),
            Self::Notice(notice) => MailBody::notice(notice),
        }
    }
}
