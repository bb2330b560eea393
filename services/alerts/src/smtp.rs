//! The mail server.

use std::time::{Duration, SystemTime};

use catalog::{InvalidMailAddress, MailAddress};
use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    address::AddressError,
    message::{
        Mailbox, MultiPart, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
    transport::smtp::PoolConfig,
};
use metering::SafeText;
use secrecy::{ExposeSecret, SecretString};
use tokio::time::timeout;

use crate::{Cause, Event, MessageId};

/// A mail that is not accepted by then counts as deferred. Less than a server may take (RFC 5321 allows
/// minutes), but senders are few and a repeat is recognised by its `Message-ID`.
pub const SEND_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest subject, in characters: that of two names of 200 and the words around them.
const SUBJECT_CHARS_MAX: usize = 600;

/// The server refuses us, not the mail: log in first, or the log-in failed. The mails are sent once a person
/// has corrected the settings.
const LOG_IN_CODES: [u16; 4] = [530, 534, 535, 538];

/// A mail was not accepted, or it is not known whether it was.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The recipient is not an address.
    #[error("cannot send to the recipient")]
    Recipient(#[source] InvalidMailAddress),
    /// The mail library does not accept the recipient, though the check does.
    #[error("the recipient is not a mail address")]
    Address(#[source] AddressError),
    /// The recipient has letters beyond ASCII before the @, and the server does not accept such addresses.
    #[error("the mail server does not accept addresses beyond ASCII (SMTPUTF8)")]
    NoSmtpUtf8,
    /// The bodies cannot be rendered.
    #[error("cannot write the mail")]
    Write(#[source] askama::Error),
    /// The headers cannot be built.
    #[error("cannot assemble the mail")]
    Assemble(#[source] lettre::error::Error),
    /// The server refused it, or cannot be reached, or its answer was lost.
    // Not a source: its text contains its own sources already.
    #[error("the mail server did not take it: {0}")]
    Server(lettre::transport::smtp::Error),
    /// The server did not answer.
    #[error("the mail server did not answer within {SEND_TIMEOUT:?}")]
    Timeout,
}

impl SendError {
    /// What it means for the notification.
    pub fn event(&self) -> Event {
        match self {
            Self::Recipient(_) | Self::Address(_) | Self::NoSmtpUtf8 | Self::Write(_) | Self::Assemble(_) => {
                Event::Refused
            }
            // Whatever is no clear answer about this mail (no connection, no encryption, no log-in) is the
            // server's or the settings' fault, and passes once that is fixed.
            Self::Server(error) => match error.status().map(u16::from) {
                Some(code) if LOG_IN_CODES.contains(&code) => Event::Deferred,
                _ if error.is_permanent() => Event::Refused,
                _ => Event::Deferred,
            },
            Self::Timeout => Event::Deferred,
        }
    }
}

/// Sends mails.
#[derive(Clone)]
pub struct Mailer {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
}

impl Mailer {
    /// A mailer that sends through the server at `smtp_url`. Connects only when there is something to send.
    pub fn new(smtp_url: &SecretString, from: Mailbox) -> Result<Self, lettre::transport::smtp::Error> {
        // One connection per mail. lettre bounds the connecting only, so a send is bounded from outside, and a
        // connection that was left in the middle of a command must not carry another mail: its late answer would
        // be taken for that mail's.
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(smtp_url.expose_secret())?
            .timeout(Some(SEND_TIMEOUT))
            .pool_config(PoolConfig::new().max_size(0))
            .build();
        Ok(Self { transport, from })
    }

    /// The id of the mail about a cause to a recipient.
    pub fn message_id(&self, cause_id: &str, recipient: &str) -> MessageId {
        MessageId::derive(cause_id, recipient, self.from.email.domain())
    }

    /// Sends one mail to one recipient, and returns when the server has accepted it.
    pub async fn send(
        &self,
        cause: &Cause,
        recipient: &str,
        message_id: &MessageId,
    ) -> Result<(), SendError> {
        let to = MailAddress::parse(recipient).map_err(SendError::Recipient)?;
        let message = assemble(self.from.clone(), cause, &to, message_id)?;
        match timeout(SEND_TIMEOUT, self.transport.send(message)).await {
            Ok(Ok(_)) => Ok(()),
            // The library has asked the server what it supports, and sent nothing.
            Ok(Err(error)) if to.needs_smtputf8() && error.is_client() => Err(SendError::NoSmtpUtf8),
            Ok(Err(error)) => Err(SendError::Server(error)),
            Err(_) => Err(SendError::Timeout),
        }
    }
}

/// The same bytes for every attempt. Envelope and header have the recipient's domain as A-labels, which every server
/// accepts.
fn assemble(
    from: Mailbox,
    cause: &Cause,
    recipient: &MailAddress,
    message_id: &MessageId,
) -> Result<Message, SendError> {
    let to = Address::new(recipient.local(), recipient.domain()).map_err(SendError::Address)?;
    let body = cause.body().map_err(SendError::Write)?;
    // RFC 3834: keeps automatic replies away.
    let auto_submitted =
        HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned());
    let bodies = MultiPart::alternative()
        .boundary(message_id.unique())
        .singlepart(SinglePart::builder().header(ContentType::TEXT_PLAIN).body(body.text))
        .singlepart(SinglePart::builder().header(ContentType::TEXT_HTML).body(body.html));
    Message::builder()
        .from(from)
        .to(to.into())
        // One line, whatever the names in it contain.
        .subject(String::from(SafeText::clean(&body.subject, SUBJECT_CHARS_MAX)))
        .date(SystemTime::from(cause.recorded_at()))
        .message_id(Some(message_id.to_string()))
        .raw_header(auto_submitted)
        .multipart(bodies)
        .map_err(SendError::Assemble)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Alert,
        alert::samples::{north, south},
    };

    fn raw(alert: Alert) -> String {
        let from = "Flowmeter <alerts@example.com>".parse().unwrap();
        let id = MessageId::derive(&alert.crossing_id, "ops@north.example", "example.com");
        let to = MailAddress::parse("ops@north.example").unwrap();
        let message = assemble(from, &Cause::Crossing(Box::new(alert)), &to, &id).unwrap();
        String::from_utf8(message.formatted()).unwrap()
    }

    #[test]
    fn the_headers_are_those_of_an_automatic_mail() {
        let raw = raw(north());
        let (headers, _) = raw.split_once("\r\n\r\n").unwrap();
        insta::assert_snapshot!(headers.replace("\r\n", "\n"));
    }

    #[test]
    fn every_attempt_sends_the_same_bytes() {
        assert_eq!(raw(south()), raw(south()));
    }

    #[test]
    fn a_name_cannot_add_a_header() {
        let alert = Alert { tenant_name: "North\r\nBcc: all@north.example".into(), ..north() };
        let raw = raw(alert);
        let (headers, _) = raw.split_once("\r\n\r\n").unwrap();
        assert!(!headers.lines().any(|line| line.starts_with("Bcc")), "{headers}");
        let turned = Alert { tenant_name: "North \u{202e}rehtona\0".into(), ..north() };
        let from: Mailbox = "alerts@example.com".parse().unwrap();
        let id = MessageId::derive("c", "r", "example.com");
        let message = assemble(
            from,
            &Cause::Crossing(Box::new(turned)),
            &MailAddress::parse("ops@north.example").unwrap(),
            &id,
        )
        .unwrap();
        let subject = format!("{:?}", message.headers().get::<lettre::message::header::Subject>());
        assert!(subject.contains("North \u{fffd}rehtona\u{fffd}"), "{subject}");
    }

    #[tokio::test]
    async fn an_invalid_address_is_refused() {
        let from: Mailbox = "alerts@example.com".parse().unwrap();
        let mailer = Mailer::new(&"smtp://127.0.0.1:1".into(), from).unwrap();
        let id = MessageId::derive("c", "r", "example.com");
        for bad in ["ops@-", "ops@@at.example", "a..b@dot.example"] {
            let error = mailer.send(&Cause::Crossing(Box::new(north())), bad, &id).await.unwrap_err();
            assert_eq!(error.event(), Event::Refused, "{bad}");
        }
    }

    #[test]
    fn the_library_sends_to_whatever_the_check_accepts() {
        let from: Mailbox = "alerts@example.com".parse().unwrap();
        let id = MessageId::derive("c", "r", "example.com");
        for good in
            ["ops@bücher.example", "josé@loc.example", "o'hara+x@mail", "a!#$%&'*+-/=?^_`{|}~z@x.example"]
        {
            let to = MailAddress::parse(good).unwrap();
            assemble(from.clone(), &Cause::Crossing(Box::new(north())), &to, &id).unwrap();
        }
    }
}
