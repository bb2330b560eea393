//! `[collector]`

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use catalog::sealing::OpeningKey;
use chassis::Validate;
use secrecy::SecretString;
use serde::Deserialize;

/// More sweeps at once would need more memory than one collector has.
const CONCURRENCY_MAX: usize = 256;

/// The smallest page that still holds 250 rows.
const PAGE_BYTES_MIN: usize = 256 * 1024;

/// The settings of the collector.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where sources push executions to.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Time between two sweeps of a source without an interval of its own.
    #[serde(default = "default_poll_interval", deserialize_with = "chassis::duration::deserialize")]
    pub poll_interval: Duration,
    /// Sweeps at once.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// How long one request to a source may take, its body included.
    #[serde(default = "default_request_timeout", deserialize_with = "chassis::duration::deserialize")]
    pub request_timeout: Duration,
    /// How far a source's clock may be behind ours; also covers the commit of a row that has just stopped.
    #[serde(default = "default_clock_skew", deserialize_with = "chassis::duration::deserialize")]
    pub clock_skew: Duration,
    /// A source whose clock is further from ours than this, ahead or behind, is shown with a warning.
    #[serde(default = "default_clock_skew_warning", deserialize_with = "chassis::duration::deserialize")]
    pub clock_skew_warning: Duration,
    /// The largest answer that is read.
    #[serde(default = "default_page_bytes_max")]
    pub page_bytes_max: usize,
    /// Rows that a source keeps before it prunes the oldest (n8n's `EXECUTIONS_DATA_PRUNE_MAX_COUNT`): n8n
    /// does not report it, so the warning before a loss goes by this.
    #[serde(default = "default_assumed_rows_kept")]
    pub assumed_rows_kept: u64,
    /// The private key that opens the sources' API keys: X25519, base64.
    pub secret_key: SecretString,
    /// Whether a source may be at a loopback, private or link-local address. Off, because whoever may add a
    /// source could otherwise make the collector connect to anything in its own network.
    #[serde(default)]
    pub allow_private_addresses: bool,
}

impl Validate for Settings {
    fn validate(&self) -> Result<(), String> {
        for (name, duration) in [
            ("poll_interval", self.poll_interval),
            ("request_timeout", self.request_timeout),
            ("clock_skew_warning", self.clock_skew_warning),
        ] {
            if duration.is_zero() {
                return Err(format!("{name} must not be zero"));
            }
        }
        if !(1..=CONCURRENCY_MAX).contains(&self.concurrency) {
            return Err(format!("concurrency must be 1 to {CONCURRENCY_MAX}"));
        }
        if self.page_bytes_max < PAGE_BYTES_MIN {
            return Err(format!("page_bytes_max must be at least {PAGE_BYTES_MIN}: a page has 250 rows"));
        }
        if self.assumed_rows_kept == 0 {
            return Err("assumed_rows_kept must not be zero".to_owned());
        }
        OpeningKey::parse(&self.secret_key).map_err(|error| format!("secret_key: {error}"))?;
        Ok(())
    }
}

fn default_listen() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 8081).into()
}

fn default_poll_interval() -> Duration {
    Duration::from_secs(10 * 60)
}

/// A sweep of a distant source takes an estimated second: a handshake and seven requests, each a round trip
/// and n8n's own time. 16 at once would just manage ten thousand sources in ten minutes; this leaves room for
/// slow and failing ones.
fn default_concurrency() -> usize {
    64
}

fn default_request_timeout() -> Duration {
    Duration::from_secs(20)
}

fn default_clock_skew() -> Duration {
    Duration::from_secs(5)
}

fn default_clock_skew_warning() -> Duration {
    Duration::from_secs(30)
}

fn default_page_bytes_max() -> usize {
    8 * 1024 * 1024
}

fn default_assumed_rows_kept() -> u64 {
    10_000
}

#[cfg(test)]
mod tests {
    use catalog::sealing::KeyPair;

    use super::*;

    fn settings() -> Settings {
        serde_json::from_value(serde_json::json!({ "secret_key": "" }))
            .map(|settings| Settings { secret_key: KeyPair::generate().secret, ..settings })
            .unwrap()
    }

    #[test]
    fn the_defaults_are_valid_and_keep_to_public_addresses() {
        assert_eq!(settings().validate(), Ok(()));
        assert!(!settings().allow_private_addresses);
    }

    #[test]
    fn mistakes_are_named() {
        for (wrong, word) in [
            (Settings { poll_interval: Duration::ZERO, ..settings() }, "poll_interval"),
            (Settings { clock_skew_warning: Duration::ZERO, ..settings() }, "clock_skew_warning"),
            (Settings { concurrency: 0, ..settings() }, "concurrency"),
            (Settings { page_bytes_max: 1, ..settings() }, "page_bytes_max"),
            (Settings { assumed_rows_kept: 0, ..settings() }, "assumed_rows_kept"),
            (Settings { secret_key: "short".into(), ..settings() }, "secret_key"),
        ] {
            assert!(wrong.validate().unwrap_err().contains(word), "{word}");
        }
    }
}
