//! `[alerts]`

use std::{net::IpAddr, ops::RangeInclusive, time::Duration};

use catalog::{Language, MailAddress};
use chassis::Validate;
use lettre::{AsyncSmtpTransport, Tokio1Executor, message::Mailbox};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, de::Error};
use url::Url;

/// Recipients of the operator's mails; bounds what one fact may cause. As many as a tenant has.
const OPERATOR_RECIPIENTS_MAX: usize = 20;

/// A threshold or two, the limit itself, and one more if the limit was raised.
const TENANT_MAILS_PER_DAY: usize = 4;

/// At least one beside the limit's own.
const TENANT_MAILS_PER_DAY_RANGE: RangeInclusive<usize> = 2..=100;

/// Longer than the time between the messages of one burst of runs.
const WARNING_DELAY: Duration = Duration::from_secs(10);

/// A later warning would be useless.
const WARNING_DELAY_MAX: Duration = Duration::from_secs(60 * 60);

/// Most shorter failures of a source end by themselves.
const OPERATOR_FAILING_AFTER: Duration = Duration::from_secs(30 * 60);

/// Settings of this service.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The mail server, as lettre reads it: `smtp://host:port`, `smtp://user:password@host:587?tls=required` or
    /// `smtps://user:password@host`; a secret because of the password. Without one, mails are recorded and not sent.
    pub smtp_url: Option<SecretString>,
    /// The sender, e.g. `Flowmeter <alerts@example.com>`.
    #[serde(deserialize_with = "mailbox")]
    pub from: Mailbox,
    /// The dashboard that mails link to.
    pub dashboard_url: Url,
    /// Who is notified of problems, as mail addresses: a list, or text with commas.
    #[serde(default, deserialize_with = "recipients")]
    pub operator_recipients: Vec<String>,
    /// The language of those mails: `en` or `es`.
    #[serde(default, deserialize_with = "language")]
    pub operator_language: Language,
    /// Threshold mails of one tenant that are sent in any 24 hours. The last of them is kept for the limit
    /// itself; further crossings are summarised in one.
    #[serde(default = "default_tenant_mails_per_day")]
    pub tenant_mails_per_day: usize,
    /// A mail about a threshold below the limit waits this long for a higher one, which takes its place.
    #[serde(default = "default_warning_delay", with = "chassis::duration")]
    pub warning_delay: Duration,
    /// Shorter failures of a source are not reported.
    #[serde(default = "default_failing_after", with = "chassis::duration")]
    pub operator_failing_after: Duration,
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), String> {
        self.smtp_url.as_ref().map_or(Ok(()), |url| check_smtp_url(url.expose_secret()))?;
        if !AsRef::<str>::as_ref(&self.from.email).is_ascii() {
            return Err("from must be an ASCII address: not every mail server accepts others".to_owned());
        }
        check_recipients(&self.operator_recipients)?;
        if !TENANT_MAILS_PER_DAY_RANGE.contains(&self.tenant_mails_per_day) {
            let (least, most) = TENANT_MAILS_PER_DAY_RANGE.into_inner();
            return Err(format!("tenant_mails_per_day: use {least} to {most}"));
        }
        if self.warning_delay > WARNING_DELAY_MAX {
            return Err(format!("warning_delay: use at most {} s", WARNING_DELAY_MAX.as_secs()));
        }
        match self.dashboard_url.scheme() {
            "http" | "https" => Ok(()),
            _ => Err("dashboard_url must begin with http:// or https://".to_owned()),
        }
    }
}

fn check_recipients(recipients: &[String]) -> Result<(), String> {
    if recipients.len() > OPERATOR_RECIPIENTS_MAX {
        return Err(format!("operator_recipients: at most {OPERATOR_RECIPIENTS_MAX}"));
    }
    let checked = recipients.iter().try_for_each(|text| MailAddress::parse(text).map(|_| ()));
    checked.map_err(|error| format!("operator_recipients: {error}"))
}

/// The errors never repeat the address: it may hold a password.
fn check_smtp_url(text: &str) -> Result<(), String> {
    let usage = "use smtp://host:port, smtp://user:password@host:587?tls=required or smtps://user:password@host, and percent-encode \
         special characters of the user and the password";
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

/// The environment has no lists.
#[derive(Deserialize)]
#[serde(untagged)]
enum Recipients {
    List(Vec<String>),
    Text(String),
}

fn recipients<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let list = match Recipients::deserialize(deserializer)? {
        Recipients::List(list) => list,
        Recipients::Text(text) => text.split(',').map(|address| address.trim().to_owned()).collect(),
    };
    Ok(list.into_iter().filter(|address| !address.is_empty()).collect())
}

fn language<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Language, D::Error> {
    Language::parse(&String::deserialize(deserializer)?)
        .map_err(|_| D::Error::custom("operator_language: use `en` or `es`"))
}

fn default_tenant_mails_per_day() -> usize {
    TENANT_MAILS_PER_DAY
}

fn default_warning_delay() -> Duration {
    WARNING_DELAY
}

fn default_failing_after() -> Duration {
    OPERATOR_FAILING_AFTER
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

    fn with_operator(lines: &str) -> Result<Settings, String> {
        let text =
            format!("smtp_url = \"smtp://mail\"\nfrom = {FROM:?}\ndashboard_url = {DASHBOARD:?}\n{lines}");
        let settings: Settings = toml::from_str(&text).map_err(|error| error.to_string())?;
        settings.validate().map(|()| settings)
    }

    #[test]
    fn operator_recipients_are_optional() {
        let silent = with_operator("").unwrap();
        assert!(silent.operator_recipients.is_empty());
        assert_eq!(silent.operator_failing_after, OPERATOR_FAILING_AFTER);
        let both = ["ops@example.com", "cto@example.com"];
        for list in [
            "operator_recipients = [\"ops@example.com\", \"cto@example.com\"]",
            "operator_recipients = \"ops@example.com, cto@example.com\"",
        ] {
            assert_eq!(with_operator(list).unwrap().operator_recipients, both);
        }
        let spanish = with_operator("operator_language = \"es\"\noperator_failing_after = \"5m\"").unwrap();
        assert_eq!(spanish.operator_language, Language::Spanish);
        assert_eq!(spanish.operator_failing_after, Duration::from_secs(300));
    }

    #[test]
    fn mistakes_about_the_operator_are_named() {
        let many: Vec<String> =
            (0..=OPERATOR_RECIPIENTS_MAX).map(|n| format!("ops{n}@example.com")).collect();
        for (lines, word) in [
            ("operator_recipients = [\"ops\"]".to_owned(), "\"ops\" is not"),
            ("operator_recipients = [\"a@example.com\\r\\nBcc: b@example.com\"]".to_owned(), "is not a mail"),
            (format!("operator_recipients = {many:?}"), "at most"),
            ("operator_language = \"fr\"".to_owned(), "use `en` or `es`"),
            ("tenant_mails_per_day = 1".to_owned(), "use 2 to 100"),
        ] {
            let error = with_operator(&lines).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn a_mail_server_is_optional() {
        let text = format!("from = {FROM:?}\ndashboard_url = {DASHBOARD:?}");
        let settings: Settings = toml::from_str(&text).unwrap();
        assert!(settings.validate().is_ok() && settings.smtp_url.is_none());
    }

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
            ("smtps://user:hun#ter2@mail.example.com", "percent-encode"),
            ("smtps://user:hun/ter2@mail.example.com", "percent-encode"),
            ("smtps://user:hun?ter2@mail.example.com", "percent-encode"),
            ("http://mail.example.com/hunter2", "mail server"),
            ("smtp://user:hunter2@mail.example.com", "unencrypted"),
            ("smtp://user@mail.example.com", "go together"),
            ("smtps://:hunter2@mail.example.com", "go together"),
        ] {
            let error = settings(url, FROM, DASHBOARD).unwrap_err();
            assert!(error.contains(word), "{error}");
            assert!(!error.contains("hunter2") && !error.contains("ter2"), "{error}");
        }
        assert!(settings("smtp://mail", "nobody", DASHBOARD).unwrap_err().contains("sender"));
        assert!(settings("smtp://mail", FROM, "ftp://x").unwrap_err().contains("dashboard_url"));
        let shown = format!("{:?}", settings("smtps://user:hunter2@mail", FROM, DASHBOARD).unwrap());
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
