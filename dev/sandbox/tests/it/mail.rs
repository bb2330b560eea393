//! The mail server, over a socket.

use sandbox::mail::{LINE_BYTES_MAX, MailFault, RECIPIENTS_MAX};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::harness::Harness;

/// A mail client that shows every reply.
struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(bench: &Harness) -> Self {
        let mut client = Self(BufReader::new(TcpStream::connect(bench.sandbox.smtp_addr()).await.unwrap()));
        assert_eq!(client.reply().await.as_deref(), Some("220"));
        client
    }

    async fn greeted(bench: &Harness) -> Self {
        let mut client = Self::connect(bench).await;
        assert_eq!(client.say("EHLO here.example").await.as_deref(), Some("250"));
        client
    }

    /// The code of the next reply, past its continuation lines; `None` when the server hangs up.
    async fn reply(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).await.unwrap_or(0) == 0 {
                return None;
            }
            if line.as_bytes().get(3) == Some(&b' ') {
                return Some(line[..3].to_owned());
            }
        }
    }

    async fn write(&mut self, text: &str) {
        self.0.get_mut().write_all(text.as_bytes()).await.unwrap();
    }

    async fn say(&mut self, line: &str) -> Option<String> {
        self.write(&format!("{line}\r\n")).await;
        self.reply().await
    }

    async fn send(&mut self, to: &[&str], message: &str) -> Option<String> {
        assert_eq!(self.say("MAIL FROM:<alerts@flowmeter.example> SIZE=100").await.as_deref(), Some("250"));
        for to in to {
            assert_eq!(self.say(&format!("RCPT TO:<{to}>")).await.as_deref(), Some("250"));
        }
        assert_eq!(self.say("DATA").await.as_deref(), Some("354"));
        self.say(&format!("{message}\r\n.")).await
    }
}

const ALTERNATIVES: &str = "From: Flowmeter <alerts@flowmeter.example>\r\nTo: ops@north.example\r\n\
    Subject: =?utf-8?q?L=C3=ADmite?= alcanzado\r\nMessage-ID: <m1@flowmeter.example>\r\nMIME-Version: 1.0\r\n\
    Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\
    80 of 100\r\n..hidden\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>80 of 100</p>\r\n--b--";

#[tokio::test]
async fn a_message_is_accepted_and_shown() {
    let bench = Harness::new().await;
    let mut client = Client::greeted(&bench).await;
    assert_eq!(
        client.send(&["ops@north.example", "cfo@north.example"], ALTERNATIVES).await.as_deref(),
        Some("250")
    );
    assert_eq!(client.say("QUIT").await.as_deref(), Some("221"));
    assert_eq!(client.reply().await, None);

    let shown = bench.control_get("/mail").await;
    assert_eq!(shown[0]["to"], serde_json::json!(["ops@north.example", "cfo@north.example"]));
    assert_eq!(shown[0]["subject"], "L\u{ed}mite alcanzado");
    assert_eq!(shown[0]["message_id"], "m1@flowmeter.example");
    assert_eq!(shown[0]["html"].as_str().map(str::trim), Some("<p>80 of 100</p>"));
    let message = &bench.sandbox.mail().messages()[0];
    assert_eq!(
        message.text.as_deref().map(str::trim_end),
        Some("80 of 100\r\n.hidden"),
        "dots are unstuffed"
    );
}

#[tokio::test]
async fn a_plain_message_has_no_html() {
    let bench = Harness::new().await;
    let mut client = Client::greeted(&bench).await;
    client.send(&["ops@north.example"], "Subject: hello\r\n\r\nonly text").await;
    let message = &bench.sandbox.mail().messages()[0];
    assert_eq!((message.text.as_deref().map(str::trim_end), &message.html), (Some("only text"), &None));
}

#[tokio::test]
async fn commands_out_of_order_are_refused() {
    let bench = Harness::new().await;
    let mut client = Client::connect(&bench).await;
    assert_eq!(client.say("MAIL FROM:<a@b.example>").await.as_deref(), Some("503"));
    client.say("EHLO here.example").await;
    assert_eq!(client.say("RCPT TO:<a@b.example>").await.as_deref(), Some("503"));
    assert_eq!(client.say("mail from:<a@b.example>").await.as_deref(), Some("250"));
    assert_eq!(client.say("DATA").await.as_deref(), Some("503"));
    assert_eq!(client.say("RSET").await.as_deref(), Some("250"));
    assert_eq!(client.say("RCPT TO:<a@b.example>").await.as_deref(), Some("503"));
    assert_eq!(client.say("NOOP").await.as_deref(), Some("250"));
    assert_eq!(client.say("WHAT").await.as_deref(), Some("502"));
    assert_eq!(client.say("MAIL FROM:<a@b.example> SIZE=999999999").await.as_deref(), Some("552"));
}

#[tokio::test]
async fn too_long_lines_and_too_many_recipients_are_refused_and_the_session_goes_on() {
    let bench = Harness::new().await;
    let mut client = Client::greeted(&bench).await;
    let long = "x".repeat(LINE_BYTES_MAX * 3);
    assert_eq!(client.say(&format!("NOOP {long}")).await.as_deref(), Some("500"));
    assert_eq!(client.send(&["a@b.example"], &long).await.as_deref(), Some("554"));
    client.say("MAIL FROM:<a@b.example>").await;
    for index in 0..RECIPIENTS_MAX {
        assert_eq!(client.say(&format!("RCPT TO:<r{index}@b.example>")).await.as_deref(), Some("250"));
    }
    assert_eq!(client.say("RCPT TO:<one@more.example>").await.as_deref(), Some("452"));
    assert!(bench.sandbox.mail().messages().is_empty());
}

#[tokio::test]
async fn recipients_are_refused_on_demand() {
    let bench = Harness::new().await;
    bench.sandbox.mail().fault(MailFault::Reject451, Some(1));
    bench.sandbox.mail().fault_for("gone@north.example", MailFault::Reject550, None);
    let mut client = Client::greeted(&bench).await;
    client.say("MAIL FROM:<a@b.example>").await;
    assert_eq!(client.say("RCPT TO:<ops@north.example>").await.as_deref(), Some("451"));
    assert_eq!(client.say("RCPT TO:<ops@north.example>").await.as_deref(), Some("250"));
    assert_eq!(client.say("RCPT TO:<gone@north.example>").await.as_deref(), Some("550"));
}

#[tokio::test]
async fn a_reply_can_get_lost_after_the_message_was_accepted() {
    let bench = Harness::new().await;
    bench.control("/mail/fault", serde_json::json!({"kind": "drop_after_data", "count": 1})).await;
    let mut client = Client::greeted(&bench).await;
    assert_eq!(client.send(&["ops@north.example"], "Subject: one\r\n\r\nbody").await, None);
    assert_eq!(bench.sandbox.mail().messages().len(), 1);
    let mut client = Client::greeted(&bench).await;
    assert_eq!(client.send(&["ops@north.example"], "Subject: two\r\n\r\nbody").await.as_deref(), Some("250"));
}

#[tokio::test]
async fn several_clients_talk_at_once() {
    let bench = Harness::new().await;
    let mut clients = Vec::new();
    for _ in 0..8 {
        clients.push(Client::greeted(&bench).await);
    }
    for client in &mut clients {
        assert_eq!(client.send(&["a@b.example"], "Subject: hi\r\n\r\nx").await.as_deref(), Some("250"));
    }
    assert_eq!(bench.sandbox.mail().messages().len(), 8);
}
