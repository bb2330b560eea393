//! The `[billing]` section of the configuration.

use std::time::Duration;

use chassis::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

use crate::ledger::{GRACE_MARGIN, SEND_MARGIN};

/// Longest environment name; it goes into every identifier's hash and into logs.
const ENVIRONMENT_CHARS_MAX: usize = 32;

/// Stripe accepts no events of a period later than this after its end, whatever the account's settings.
const INVOICE_GRACE_MAX: Duration = Duration::from_secs(72 * 60 * 60);

/// The end of a period takes at least this long to be counted and to reach billing: a poll or two, the count,
/// the next report.
const COUNTING_TIME: Duration = Duration::from_secs(5 * 60);

/// Longest interval between two reports.
const REPORT_INTERVAL_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Sending ends early enough for the longest call, and begins after the last usage was counted.
const _: () = assert!(crate::stripe::REQUEST_TIMEOUT_MAX.as_secs() < SEND_MARGIN.as_secs());
const _: () = assert!(SEND_MARGIN.as_secs() < GRACE_MARGIN.as_secs());

/// The settings of billing.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Part of every identifier: two installations on one Stripe account need different ones.
    #[serde(default = "default_environment")]
    pub environment: String,
    /// A tenant's new usage is reported this often; at once when its period closes.
    #[serde(with = "chassis::duration", default = "default_report_interval")]
    pub report_interval: Duration,
    /// Events are dated at least this far in the past, so that their minute is over.
    #[serde(with = "chassis::duration", default = "default_seal_delay")]
    pub seal_delay: Duration,
    /// How long Stripe leaves an invoice open after its period has ended: usage sent later is on no invoice.
    #[serde(with = "chassis::duration", default = "default_invoice_grace")]
    pub invoice_grace: Duration,
    /// How long a call to Stripe may take.
    #[serde(with = "chassis::duration", default = "default_request_timeout")]
    pub request_timeout: Duration,
    /// Base URL of Stripe's API; unset for Stripe itself.
    pub stripe_url: Option<Url>,
    /// The secret key. Without one, usage is recorded and nothing is reported.
    pub stripe_key: Option<SecretString>,
}

fn default_environment() -> String {
    "live".to_owned()
}

fn default_report_interval() -> Duration {
    Duration::from_secs(5 * 60)
}

fn default_seal_delay() -> Duration {
    Duration::from_secs(5 * 60)
}

fn default_invoice_grace() -> Duration {
    Duration::from_secs(60 * 60)
}

fn default_request_timeout() -> Duration {
    Duration::from_secs(20)
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), String> {
        let length = self.environment.len();
        if length == 0
            || length > ENVIRONMENT_CHARS_MAX
            || !self.environment.chars().all(|c| c.is_ascii_graphic())
        {
            return Err(format!(
                "environment: use 1 to {ENVIRONMENT_CHARS_MAX} printable characters without spaces"
            ));
        }
        if self.report_interval < Duration::from_secs(60) {
            return Err("report_interval must be at least 1m: one report per customer and minute".to_owned());
        }
        if self.report_interval > REPORT_INTERVAL_MAX {
            return Err("report_interval must be at most 24h: only a report shows a wrong customer or meter"
                .to_owned());
        }
        if self.seal_delay > Duration::from_secs(60 * 60) {
            return Err("seal_delay must be at most 1h".to_owned());
        }
        if self.invoice_grace < GRACE_MARGIN + COUNTING_TIME || self.invoice_grace > INVOICE_GRACE_MAX {
            return Err("invoice_grace must be 10m to 72h: the last 5m of it are for sending, and the end of a period \
                        is counted before them; with less, its last usage would reach no invoice"
                .to_owned());
        }
        if self.request_timeout.is_zero() || self.request_timeout > crate::stripe::REQUEST_TIMEOUT_MAX {
            return Err("request_timeout must be more than 0s and at most 30s".to_owned());
        }
        match &self.stripe_key {
            Some(key) if !is_secret_key(key.expose_secret()) => {
                Err("stripe_key must be a secret or restricted key: it begins with `sk_` or `rk_`".to_owned())
            }
            _ => Ok(()),
        }
    }
}

fn is_secret_key(key: &str) -> bool {
    (key.starts_with("sk_") || key.starts_with("rk_")) && key.chars().all(|c| c.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            environment: default_environment(),
            report_interval: default_report_interval(),
            seal_delay: default_seal_delay(),
            invoice_grace: default_invoice_grace(),
            request_timeout: default_request_timeout(),
            stripe_url: None,
            stripe_key: None,
        }
    }

    #[test]
    fn the_defaults_are_valid() {
        assert_eq!(settings().validate(), Ok(()));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = [
            (Settings { environment: String::new(), ..settings() }, "environment"),
            (Settings { report_interval: Duration::from_secs(59), ..settings() }, "report_interval"),
            (Settings { report_interval: Duration::from_secs(86_401), ..settings() }, "report_interval"),
            (Settings { invoice_grace: Duration::ZERO, ..settings() }, "invoice_grace"),
            // Sending would end before anything of the period's end is counted.
            (Settings { invoice_grace: GRACE_MARGIN, ..settings() }, "no invoice"),
            (Settings { invoice_grace: Duration::from_secs(599), ..settings() }, "no invoice"),
            (Settings { request_timeout: Duration::from_secs(31), ..settings() }, "request_timeout"),
            (Settings { stripe_key: Some("pk_test_1".into()), ..settings() }, "stripe_key"),
        ];
        for (settings, word) in wrong {
            assert!(settings.validate().unwrap_err().contains(word), "{word}");
        }
    }
}
