//! `[alerts]`

use std::net::IpAddr;

use chassis::Validate;
use lettre::{AsyncSmtpTransport, Tokio1Executor, message::Mailbox};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de::Error};
use url::Url;

/// What this service is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The mail server, as lettre reads it: `smtp://host:port`, `smtp://user:password@host:587?tls=required` or
    /// `smtps://user:password@host`; a secret because of the password.
    pub smtp_url: SecretString,
    /// The sender, e.g. `Flowmeter <alerts@example.com>`.
    #[serde(deserialize_with = "mailbox")]
    pub from: Mailbox,
    /// Where mails send people to look.
    pub dashboard_url: Url,
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), String> {
        check_smtp_url(self.smtp_url.expose_secret())?;
        if !AsRef::<str>::as_ref(&self.from.email).is_ascii() {
            return Err("from must be an ASCII address: not every mail server takes others".to_owned());
        }
        match self.dashboard_url.scheme() {
            "http" | "https" => Ok(()),
            _ => Err("dashboard_url must begin with http:// or https://".to_owned()),
        }
    }
}

/// The errors never repeat the address: it may hold a password.
fn check_smtp_url(text: &str) -> Result<(), String> {
    let usage =
        "use smtp://host:port, smtp://user:password@host:587?tls=required or smtps://user:password@host";
    let url = Url::parse(text).map_err(|_| format!("smtp_url is not an address: {usage}"))?;
    if AsyncSmtpTransport::<Tokio1Executor>::from_url(text).is_err() {
        return Err(format!("smtp_url is not the address of a mail server: {usage}"));
    }
    if url.username().is_empty() != url.password().is_none() {
        return Err("smtp_url: user and password go together".to_owned());
    }
    let encrypted =
        url.scheme() == "smtps" || url.query_pairs().any(|pair| pair == ("tls".into(), "required".into()));
    if url.password().is_some() && !encrypted && !is_this_machine(&url) {
        return Err(
            "smtp_url would send its password unencrypted: use smtps://, or add ?tls=required".to_owned()
        );
    }
    Ok(())
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

fn mailbox<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Mailbox, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        D::Error::custom(format!("from: {text:?} is not a sender: use e.g. `Flowmeter <alerts@example.com>`"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(smtp_url: &str, from: &str, dashboard_url: &str) -> Result<Settings, String> {
        let text = format!("smtp_url = {smtp_url:?}\nfrom = {from:?}\ndashboard_url = {dashboard_url:?}");
        let settings: Settings = toml::from_str(&text).map_err(|error| error.to_string())?;
        settings.validate().map(|()| settings)
    }

    const FROM: &str = "Flowmeter <alerts@example.com>";
    const DASHBOARD: &str = "https://usage.example.com";

    #[test]
    fn mail_servers_are_accepted() {
        for good in [
            "smtp://127.0.0.1:1025",
            "smtp://mail:25",
            "smtps://user:p%40ss@mail.example.com",
            "smtp://user:pass@mail.example.com:587?tls=required",
            "smtp://user:pass@localhost:1025",
        ] {
            settings(good, FROM, DASHBOARD).unwrap();
        }
    }

    #[test]
    fn mistakes_are_named_and_secrets_are_not() {
        for (url, word) in [
            ("", "not an address"),
            ("http://mail.example.com/hunter2", "mail server"),
            ("smtp://user:hunter2@mail.example.com", "unencrypted"),
            ("smtp://user@mail.example.com", "go together"),
            ("smtps://:hunter2@mail.example.com", "go together"),
        ] {
            let error = settings(url, FROM, DASHBOARD).unwrap_err();
            assert!(error.contains(word), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        assert!(settings("smtp://mail", "nobody", DASHBOARD).unwrap_err().contains("sender"));
        assert!(settings("smtp://mail", FROM, "ftp://x").unwrap_err().contains("dashboard_url"));
        let shown = format!("{:?}", settings("smtps://user:hunter2@mail", FROM, DASHBOARD).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
