//! The section `[gateway]`.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use catalog::sealing::SealingKey;
use chassis::{KeepFor, Validate};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::Url;

/// Shortest operator token: 24 random characters cannot be guessed over a network.
const OPERATOR_TOKEN_CHARS_MIN: usize = 24;

/// Fewest different characters in it. The 48 of `openssl rand -hex 24` nearly always contain all 16.
const OPERATOR_TOKEN_DISTINCT_MIN: usize = 8;

/// Covers the current period and the previous one, whatever the calendar.
const REFUSALS_KEPT_DAYS_MIN: i32 = 64;

/// The gateway's configuration.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewaySettings {
    /// Where the API and the dashboard are served.
    #[serde(default = "default_listen")]
    pub listen: SocketAddr,
    /// Grants full access; random, at least 24 characters.
    pub operator_token: SecretString,
    /// The gateway's public address. With `https`, session cookies are sent encrypted only. Its path is the
    /// one under which a proxy serves the gateway.
    pub public_url: Option<Url>,
    /// Sources' API keys are sealed with it; only the collector can open them.
    pub collector_public_key: String,
    /// The limit check does not rely on older figures.
    #[serde(default = "default_metering_stale_after", with = "chassis::duration")]
    pub metering_stale_after: Duration,
    /// How long figures of refused runs are kept.
    #[serde(default = "default_refusals_kept")]
    pub refusals_kept: KeepFor,
}

impl Validate for GatewaySettings {
    fn validate(&self) -> Result<(), String> {
        check_operator_token(self.operator_token.expose_secret())?;
        SealingKey::parse(&self.collector_public_key)
            .map_err(|error| format!("collector_public_key: {error}"))?;
        if self.metering_stale_after.is_zero() {
            return Err("metering_stale_after must not be zero: every limit check would be blind".to_owned());
        }
        if !self.refusals_kept.is_at_least_days(REFUSALS_KEPT_DAYS_MIN) {
            return Err(format!(
                "refusals_kept must be at least {REFUSALS_KEPT_DAYS_MIN}d: two periods are compared"
            ));
        }
        self.public_url.as_ref().map_or(Ok(()), check_public_url)
    }
}

fn check_public_url(url: &Url) -> Result<(), String> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("public_url must begin with http:// or https://".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("public_url must end with its path: without `?` and `#`".to_owned());
    }
    // The path is used in a cookie and compared with request paths, so it must have only one spelling.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-._~/".contains(c);
    if !url.path().chars().all(is_plain) || url.path().contains("//") {
        return Err("the path of public_url must be of letters, digits and `-._~/`".to_owned());
    }
    Ok(())
}

/// Refuses tokens that are obviously not random. Randomness cannot be proven, but people have used tokens
/// like these.
fn check_operator_token(token: &str) -> Result<(), String> {
    let advice = "`openssl rand -hex 24` makes one";
    let characters: Vec<char> = token.chars().collect();
    if characters.len() < OPERATOR_TOKEN_CHARS_MIN {
        return Err(format!(
            "operator_token must have at least {OPERATOR_TOKEN_CHARS_MIN} characters; {advice}"
        ));
    }
    let distinct = characters.iter().collect::<BTreeSet<_>>().len();
    if distinct < OPERATOR_TOKEN_DISTINCT_MIN {
        return Err(format!(
            "operator_token has only {distinct} different characters and can be guessed; use a random one: {advice}"
        ));
    }
    let repeats =
        |length: usize| characters.iter().zip(characters.iter().skip(length)).all(|(one, next)| one == next);
    if (1..=characters.len() / 2).any(repeats) {
        return Err(format!(
            "operator_token repeats a shorter text and can be guessed; use a random one: {advice}"
        ));
    }
    Ok(())
}

fn default_listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 8080))
}

/// A year, and the period before it.
fn default_refusals_kept() -> KeepFor {
    KeepFor::days(400)
}

/// Three sweeps at the collector's default interval.
fn default_metering_stale_after() -> Duration {
    Duration::from_secs(30 * 60)
}

#[cfg(test)]
mod tests {
    use catalog::sealing::KeyPair;

    use super::*;

    fn settings() -> GatewaySettings {
        GatewaySettings {
            listen: default_listen(),
            operator_token: "a-token-of-24-characters".into(),
            public_url: None,
            collector_public_key: KeyPair::generate().public,
            metering_stale_after: default_metering_stale_after(),
            refusals_kept: default_refusals_kept(),
        }
    }

    #[test]
    fn mistakes_are_named() {
        assert_eq!(settings().validate(), Ok(()));
        let short = GatewaySettings { operator_token: "short".into(), ..settings() };
        assert!(short.validate().unwrap_err().contains("operator_token"));
        let no_key = GatewaySettings { collector_public_key: "x".into(), ..settings() };
        assert!(no_key.validate().unwrap_err().contains("collector_public_key"));
        let public =
            |url: &str| GatewaySettings { public_url: Some(url.parse().unwrap()), ..settings() }.validate();
        for good in ["http://127.0.0.1:8080", "https://example.com/meter/", "https://example.com/a/b-c"] {
            assert_eq!(public(good), Ok(()));
        }
        for bad in [
            "ftp://example.com",
            "https://example.com/?a",
            "https://example.com/#a",
            "https://example.com/a;b",
            "https://example.com//a",
        ] {
            assert!(public(bad).unwrap_err().contains("public_url"), "{bad}");
        }
        let blind = GatewaySettings { metering_stale_after: Duration::ZERO, ..settings() };
        assert!(blind.validate().unwrap_err().contains("metering_stale_after"));
        let kept = |days| GatewaySettings { refusals_kept: KeepFor::days(days), ..settings() }.validate();
        assert!(kept(63).unwrap_err().contains("refusals_kept"));
        assert_eq!(kept(64), Ok(()));
    }

    #[test]
    fn an_operator_token_that_is_not_random_is_refused_with_the_reason() {
        let refusal = |token: &str| {
            GatewaySettings { operator_token: token.into(), ..settings() }.validate().unwrap_err()
        };
        for (token, reason) in [
            ("aaaaaaaaaaaaaaaaaaaaaaaa", "only 1 different"),
            ("0123456012345601234560123456", "only 7 different"),
            ("changemechangemechangeme", "only 7 different"),
            ("operator-1operator-1operator-1", "repeats"),
            ("0123456789ab0123456789ab", "repeats"),
            ("abcdefgh", "at least 24"),
        ] {
            let refused = refusal(token);
            assert!(refused.contains(reason) && refused.contains("openssl rand"), "{token}: {refused}");
            assert!(!refused.contains(token));
        }
        let random = "3f1c9a77d0e2b6584c1f9e0a";
        let settings = GatewaySettings { operator_token: random.into(), ..settings() };
        assert_eq!(settings.validate(), Ok(()));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert!(!format!("{:?}", settings()).contains("24-characters"));
    }
}
