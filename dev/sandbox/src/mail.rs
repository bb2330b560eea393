//! A mail sink: a real SMTP server that delivers to nobody and shows what it accepted.

mod server;
mod session;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use mail_parser::MessageParser;
use metering::Clock as _;
use serde::{Deserialize, Serialize};

pub(crate) use server::serve;
pub use session::{LINE_BYTES_MAX, MESSAGE_BYTES_MAX, RECIPIENTS_MAX};

use crate::changes::Changes;
use crate::clock::SandboxClock;
use crate::faults::Faults;

/// Most messages kept; the oldest are dropped.
pub const MESSAGES_MAX: usize = 10_000;

/// A message as it was accepted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// The envelope's sender.
    pub from: String,
    /// The envelope's recipients.
    pub to: Vec<String>,
    /// The subject, decoded.
    pub subject: String,
    /// The plain text part.
    pub text: Option<String>,
    /// The HTML part.
    pub html: Option<String>,
    /// The `Message-ID`, without its angle brackets.
    pub message_id: Option<String>,
    /// All headers, as they were sent.
    pub headers: Vec<(String, String)>,
    /// When it was accepted.
    pub received_at: Timestamp,
}

/// What the SMTP server does wrong on demand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MailFault {
    /// Refuses a recipient for now: 451.
    #[serde(rename = "reject_451", alias = "451")]
    Reject451,
    /// Refuses a recipient for good: 550.
    #[serde(rename = "reject_550", alias = "550")]
    Reject550,
    /// Accepts the message and cuts the connection before the reply.
    DropAfterData,
}

/// A fault, for every recipient or for one.
#[derive(Debug, Clone)]
pub(crate) struct ArmedMailFault {
    pub(crate) fault: MailFault,
    pub(crate) recipient: Option<String>,
}

/// The sink. Cloning it gives another handle to the same sink.
#[derive(Debug, Clone)]
pub struct Mail {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    messages: Mutex<VecDeque<Message>>,
    faults: Faults<ArmedMailFault>,
    /// Whether the server accepts addresses beyond ASCII.
    smtputf8: AtomicBool,
    clock: SandboxClock,
    changes: Changes,
}

impl Mail {
    pub(crate) fn new(messages: VecDeque<Message>, clock: SandboxClock, changes: Changes) -> Self {
        let messages = Mutex::new(messages);
        Self {
            shared: Arc::new(Shared {
                messages,
                faults: Faults::default(),
                smtputf8: AtomicBool::new(true),
                clock,
                changes,
            }),
        }
    }

    /// Every message accepted, oldest first.
    pub fn messages(&self) -> Vec<Message> {
        self.lock().iter().cloned().collect()
    }

    /// Forgets every message.
    pub fn clear(&self) {
        self.lock().clear();
        self.shared.changes.mark();
    }

    /// Arms a fault for the next recipients or messages: `count` of them, or all until cleared.
    pub fn fault(&self, fault: MailFault, count: Option<u32>) {
        self.shared.faults.arm(ArmedMailFault { fault, recipient: None }, count);
    }

    /// Arms a fault for one recipient.
    pub fn fault_for(&self, recipient: &str, fault: MailFault, count: Option<u32>) {
        self.shared.faults.arm(ArmedMailFault { fault, recipient: Some(recipient.to_owned()) }, count);
    }

    /// Whether the server offers SMTPUTF8 and accepts addresses beyond ASCII; it does by default.
    pub fn offer_smtputf8(&self, offered: bool) {
        self.shared.smtputf8.store(offered, Ordering::Relaxed);
    }

    pub(crate) fn offers_smtputf8(&self) -> bool {
        self.shared.smtputf8.load(Ordering::Relaxed)
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// The fault for this recipient.
    pub(crate) fn recipient_fault(&self, recipient: &str) -> Option<MailFault> {
        let fits = |armed: &ArmedMailFault| {
            armed.fault != MailFault::DropAfterData
                && armed.recipient.as_deref().is_none_or(|only| only.eq_ignore_ascii_case(recipient))
        };
        self.shared.faults.take_if(fits).map(|armed| armed.fault)
    }

    /// Whether the reply to this message gets lost.
    pub(crate) fn drops_reply(&self, recipients: &[String]) -> bool {
        let fits = |armed: &ArmedMailFault| {
            armed.fault == MailFault::DropAfterData
                && armed.recipient.as_ref().is_none_or(|only| recipients.contains(only))
        };
        self.shared.faults.take_if(fits).is_some()
    }

    /// Keeps a message. What cannot be parsed is kept too, as text: the sender's mistake must be visible.
    pub(crate) fn take(&self, from: String, to: Vec<String>, raw: &[u8]) {
        let received_at = self.shared.clock.now();
        let message = parse(from, to, raw, received_at);
        let mut messages = self.lock();
        if messages.len() == MESSAGES_MAX {
            messages.pop_front();
        }
        messages.push_back(message);
        self.shared.changes.mark();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.shared.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn parse(from: String, to: Vec<String>, raw: &[u8], received_at: Timestamp) -> Message {
    let Some(parsed) = MessageParser::default().parse(raw) else {
        return Message {
            from,
            to,
            subject: String::new(),
            text: Some(String::from_utf8_lossy(raw).into_owned()),
            html: None,
            message_id: None,
            headers: Vec::new(),
            received_at,
        };
    };
    // The parser offers a converted body where a part is missing; a test must see what was really sent.
    let has = |bodies: &[u32], kind: &str| {
        bodies.first().and_then(|id| parsed.parts.get(usize::try_from(*id).ok()?)).is_some_and(|part| {
            match kind {
                "text" => matches!(part.body, mail_parser::PartType::Text(_)),
                _ => matches!(part.body, mail_parser::PartType::Html(_)),
            }
        })
    };
    let text = has(&parsed.text_body, "text").then(|| parsed.body_text(0)).flatten();
    let html = has(&parsed.html_body, "html").then(|| parsed.body_html(0)).flatten();
    Message {
        from,
        to,
        subject: parsed.subject().unwrap_or_default().to_owned(),
        text: text.map(|text| text.into_owned()),
        html: html.map(|html| html.into_owned()),
        message_id: parsed.message_id().map(str::to_owned),
        headers: parsed
            .headers_raw()
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect(),
        received_at,
    }
}
