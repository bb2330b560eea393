//! One SMTP session, as RFC 5321 defines it.

use std::io;
use std::time::Duration;

use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};

use super::{Mail, MailFault};

/// Largest message, announced by `SIZE`.
pub const MESSAGE_BYTES_MAX: usize = 10 * 1024 * 1024;
/// Longest line, with its end and the dot that stuffing may add: RFC 5321 section 4.5.3.1.6.
pub const LINE_BYTES_MAX: usize = 1_001;
/// Most recipients of one message: RFC 5321 section 4.5.3.1.8.
pub const RECIPIENTS_MAX: usize = 100;
/// How long a client may be silent: RFC 5321 section 4.5.3.2.7.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// A session in progress.
pub(super) struct Session<S> {
    stream: BufReader<S>,
    mail: Mail,
    greeted: bool,
    from: Option<String>,
    to: Vec<String>,
}

/// What follows a reply.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Continue,
    Close,
}

/// A line of the client.
enum Line {
    Text(Vec<u8>),
    TooLong,
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(super) fn new(stream: S, mail: Mail) -> Self {
        Self { stream: BufReader::new(stream), mail, greeted: false, from: None, to: Vec::new() }
    }

    /// Talks until the client quits, hangs up or falls silent.
    pub(super) async fn run(mut self) -> io::Result<()> {
        self.reply("220 sandbox.localhost ESMTP").await?;
        loop {
            let line = match self.line().await? {
                Line::End => return Ok(()),
                Line::TooLong => {
                    self.reply("500 5.5.2 line too long").await?;
                    continue;
                }
                Line::Text(line) => String::from_utf8_lossy(&line).trim_end().to_owned(),
            };
            if self.command(&line).await? == Next::Close {
                return self.stream.get_mut().shutdown().await;
            }
        }
    }

    async fn command(&mut self, line: &str) -> io::Result<Next> {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" if !rest.is_empty() => {
                self.begin();
                let size = format!("250-SIZE {MESSAGE_BYTES_MAX}");
                let last = if self.mail.offers_smtputf8() { "250 SMTPUTF8" } else { "250 HELP" };
                let features = ["250-sandbox.localhost", &size, "250-PIPELINING", "250-8BITMIME", last];
                self.reply(&features.join("\r\n")).await?;
            }
            "HELO" if !rest.is_empty() => {
                self.begin();
                self.reply("250 sandbox.localhost").await?;
            }
            "EHLO" | "HELO" => self.reply("501 5.5.4 a domain is required").await?,
            "MAIL" => self.mail_from(rest).await?,
            "RCPT" => self.rcpt_to(rest).await?,
            "DATA" => return self.data().await,
            "RSET" => {
                self.reset();
                self.reply("250 2.0.0 ok").await?;
            }
            "NOOP" => self.reply("250 2.0.0 ok").await?,
            "VRFY" => self.reply("252 2.1.5 cannot verify, will take it").await?,
            "QUIT" => {
                self.reply("221 2.0.0 bye").await?;
                return Ok(Next::Close);
            }
            _ => self.reply("502 5.5.1 command not implemented").await?,
        }
        Ok(Next::Continue)
    }

    fn begin(&mut self) {
        self.greeted = true;
        self.reset();
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    async fn mail_from(&mut self, rest: &str) -> io::Result<()> {
        let reply = match path(rest, "FROM:") {
            _ if !self.greeted => "503 5.5.1 say EHLO first",
            _ if self.from.is_some() => "503 5.5.1 sender already given",
            None => "501 5.5.4 syntax: MAIL FROM:<address>",
            Some((_, parameters)) if declared_size(parameters) > MESSAGE_BYTES_MAX => {
                "552 5.3.4 message too big"
            }
            Some((address, _)) => {
                self.from = Some(address.to_owned());
                "250 2.1.0 ok"
            }
        };
        self.reply(reply).await
    }

    async fn rcpt_to(&mut self, rest: &str) -> io::Result<()> {
        let reply = match path(rest, "TO:") {
            _ if self.from.is_none() => "503 5.5.1 say MAIL first",
            None | Some(("", _)) => "501 5.5.4 syntax: RCPT TO:<address>",
            _ if self.to.len() >= RECIPIENTS_MAX => "452 4.5.3 too many recipients",
            Some((address, _)) if !address.is_ascii() && !self.mail.offers_smtputf8() => {
                "553 5.6.7 address beyond ASCII"
            }
            Some((address, _)) => match self.mail.recipient_fault(address) {
                Some(MailFault::Reject451) => "451 4.3.0 try again later",
                Some(MailFault::Reject550) => "550 5.1.1 no such mailbox",
                Some(MailFault::DropAfterData) | None => {
                    self.to.push(address.to_owned());
                    "250 2.1.5 ok"
                }
            },
        };
        self.reply(reply).await
    }

    async fn data(&mut self) -> io::Result<Next> {
        if self.to.is_empty() {
            self.reply("503 5.5.1 say RCPT first").await?;
            return Ok(Next::Continue);
        }
        self.reply("354 end with <CRLF>.<CRLF>").await?;
        let mut message = Vec::new();
        let mut refusal = None;
        loop {
            match self.line().await? {
                Line::End => return Ok(Next::Close),
                Line::TooLong => refusal = Some("554 5.6.0 line too long"),
                Line::Text(line) if line == b".\r\n" || line == b".\n" => break,
                Line::Text(line) => {
                    // The client doubles a dot at the start of a line.
                    let line = line.strip_prefix(b".").unwrap_or(&line);
                    if message.len() + line.len() > MESSAGE_BYTES_MAX {
                        refusal = Some("552 5.3.4 message too big");
                    } else {
                        message.extend_from_slice(line);
                    }
                }
            }
        }
        let from = self.from.take().unwrap_or_default();
        let to = std::mem::take(&mut self.to);
        if let Some(refusal) = refusal {
            self.reply(refusal).await?;
            return Ok(Next::Continue);
        }
        let drops_reply = self.mail.drops_reply(&to);
        self.mail.take(from, to, &message);
        if drops_reply {
            return Ok(Next::Close);
        }
        self.reply("250 2.0.0 taken").await?;
        Ok(Next::Continue)
    }

    /// The next line with its end. A line that is too long is read to its end and discarded.
    async fn line(&mut self) -> io::Result<Line> {
        let mut line = Vec::new();
        let mut too_long = false;
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX);
        loop {
            let mut limited = (&mut self.stream).take(limit);
            let read = limited.read_until(b'\n', &mut line);
            let count = tokio::time::timeout(IDLE_MAX, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
            if count == 0 {
                return Ok(Line::End);
            }
            if line.ends_with(b"\n") {
                return Ok(if too_long || line.len() > LINE_BYTES_MAX {
                    Line::TooLong
                } else {
                    Line::Text(line)
                });
            }
            too_long = too_long || line.len() >= LINE_BYTES_MAX;
            if too_long {
                line.clear();
            }
        }
    }

    async fn reply(&mut self, text: &str) -> io::Result<()> {
        let stream = self.stream.get_mut();
        stream.write_all(text.as_bytes()).await?;
        stream.write_all(b"\r\n").await?;
        stream.flush().await
    }
}

/// The address in `FROM:<address> PARAMETERS`, and the parameters.
fn path<'l>(rest: &'l str, keyword: &str) -> Option<(&'l str, &'l str)> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    let (address, parameters) = rest[keyword.len()..].trim_start().strip_prefix('<')?.split_once('>')?;
    Some((address, parameters))
}

/// The `SIZE=` parameter; 0 if there is none.
fn declared_size(parameters: &str) -> usize {
    let size = |parameter: &str| {
        let (name, value) = parameter.split_once('=')?;
        if name.eq_ignore_ascii_case("SIZE") { value.parse().ok() } else { None }
    };
    parameters.split_ascii_whitespace().find_map(size).unwrap_or(0)
}
