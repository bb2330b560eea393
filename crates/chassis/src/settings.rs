//! Configuration: a file, overridden by the environment, read and validated once.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use config::{Config, Environment, File, FileFormat};
use proto::streams::Capacity;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use url::Url;

/// Prefix of environment variables: `FLOWMETER__NATS__URL` is `url` in section `[nats]`.
const PREFIX: &str = "FLOWMETER";
const SEPARATOR: &str = "__";

/// The common sections and keys.
const COMMON: [&str; 6] = ["namespace", "database", "nats", "telemetry", "ops", "clock"];

/// The services' own sections. One file or environment may configure all of them: each reads its own and the common ones.
const SERVICES: [&str; 5] = ["collector", "aggregator", "billing", "alerts", "gateway"];

/// Settings that all services have.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommonSettings {
    /// Prefix of subjects and streams.
    #[serde(default = "default_namespace")]
    pub namespace: String,
    /// `[database]`
    pub database: DatabaseSettings,
    /// `[nats]`
    pub nats: NatsSettings,
    /// `[telemetry]`
    #[serde(default)]
    pub telemetry: TelemetrySettings,
    /// `[ops]`
    #[serde(default)]
    pub ops: OpsSettings,
    /// `[clock]`
    #[serde(default)]
    pub clock: ClockSettings,
}

/// `[database]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSettings {
    /// `postgres://user:password@host:port/database`; a secret because of the password.
    pub url: SecretString,
    /// Connections for the service's work. One more listens for the outbox, and a service may have pools of
    /// its own.
    #[serde(default = "default_connections_max")]
    pub connections_max: u32,
    /// What a start does about migrations that are missing.
    #[serde(default)]
    pub migrations: Migrations,
}

/// What a start does about migrations that are missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Migrations {
    /// Applies them.
    #[default]
    Apply,
    /// Waits until the task `migrate` has applied them.
    Check,
}

/// `[nats]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NatsSettings {
    /// `nats://host:port`; several brokers of one cluster, separated by commas.
    pub url: String,
    /// The service's user, if the broker has permissions.
    pub user: Option<String>,
    /// That user's password.
    pub password: Option<SecretString>,
    /// Replicas of each stream: 1 on one node, 3 in a cluster.
    #[serde(default = "default_replicas")]
    pub replicas: usize,
    /// Bytes that the streams of executions may hold together, in equal parts; the broker reserves them.
    #[serde(default = "default_executions_bytes_max")]
    pub executions_bytes_max: u64,
    /// Bytes that each of the other streams may hold; the broker reserves them.
    #[serde(default = "default_events_bytes_max")]
    pub events_bytes_max: u64,
    /// How long a message waits for a source, tenant or plan that the catalog does not have yet, before it is a dead
    /// letter.
    #[serde(default = "default_patience", with = "crate::duration")]
    pub patience: Duration,
}

/// `[telemetry]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// How log lines look.
    pub format: LogFormat,
    /// Which log lines and spans: a `tracing` filter, e.g. `info,collector=debug`.
    pub filter: String,
    /// Where spans go: the base URL of an OTLP receiver over HTTP; `/v1/traces` is added. Nowhere if missing.
    pub otlp_endpoint: Option<Url>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For machines.
    Json,
    /// For people.
    Pretty,
}

/// `[ops]`
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpsSettings {
    /// Where `/healthz`, `/readyz` and `/metrics` are served.
    pub listen: SocketAddr,
}

/// `[clock]`
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClockSettings {
    /// Follow a simulated clock, for demonstrations and tests. The machine's clock if missing.
    pub follow: Option<Url>,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { format: LogFormat::Json, filter: "info".to_owned(), otlp_endpoint: None }
    }
}

impl Default for OpsSettings {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9100)) }
    }
}

fn default_namespace() -> String {
    proto::Namespace::DEFAULT.to_owned()
}

fn default_connections_max() -> u32 {
    8
}

fn default_replicas() -> usize {
    Capacity::default().replicas
}

fn default_executions_bytes_max() -> u64 {
    Capacity::default().executions_bytes_max
}

fn default_events_bytes_max() -> u64 {
    Capacity::default().events_bytes_max
}

fn default_patience() -> Duration {
    messaging::PATIENCE
}

impl NatsSettings {
    pub(crate) fn capacity(&self) -> Capacity {
        Capacity {
            replicas: self.replicas,
            executions_bytes_max: self.executions_bytes_max,
            events_bytes_max: self.events_bytes_max,
        }
    }
}

/// Checks what types cannot express. Called once, before anything is started.
pub trait Validate {
    /// The first thing that is wrong, and what to write instead.
    fn validate(&self) -> Result<(), String>;
}

impl Validate for CommonSettings {
    fn validate(&self) -> Result<(), String> {
        proto::Namespace::parse(&self.namespace).map_err(|error| error.to_string())?;
        check_database_url(self.database.url.expose_secret())?;
        messaging::check_brokers(&self.nats.url).map_err(|error| error.to_string())?;
        if self.database.connections_max < 2 {
            return Err(
                "database.connections_max must be at least 2: the readiness check needs one".to_owned()
            );
        }
        if !(1..=5).contains(&self.nats.replicas) {
            return Err("nats.replicas must be 1 to 5".to_owned());
        }
        if self.nats.user.is_some() != self.nats.password.is_some() {
            return Err("nats.user and nats.password go together".to_owned());
        }
        Ok(())
    }
}

/// Refuses an address whose password would be read as a host, a database or an option: the connection would
/// then fail at a place that does not exist, and the error would not mention the password. Never repeats the
/// address.
fn check_database_url(url: &str) -> Result<(), String> {
    let Some(("postgres" | "postgresql", rest)) = url.split_once("://") else {
        return Err("database.url must begin with postgres://".to_owned());
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let after = rest.strip_prefix(authority).unwrap_or_default();
    let (path, query) = after.split_once('?').unwrap_or((after, ""));
    // In options, an `@` may only be in a value: `?user=me@example`.
    let in_name =
        query.split('&').any(|option| option.split('=').next().is_some_and(|name| name.contains('@')));
    let cut = path.contains('@') || after.contains('#') || in_name;
    if cut || Url::parse(url).is_err() {
        return Err(
            "database.url cannot be read; percent-encode special characters of the user and the password: \
             `#` as %23, `/` as %2F, `?` as %3F, `@` as %40, `%` as %25"
                .to_owned(),
        );
    }
    Ok(())
}

/// The configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file or the environment cannot be read, or a value has the wrong type or is missing.
    #[error("cannot read the configuration")]
    Read(#[source] config::ConfigError),
    /// A section of this name does not exist.
    #[error("unknown setting `{0}`: the sections are {1}")]
    Unknown(String, String),
    /// A value is not acceptable.
    #[error("wrong configuration: {0}")]
    Invalid(String),
}

/// Reads the configuration of `service`: common sections, and the section named after it. Other services' sections are
/// ignored; an unknown section, or a misspelt key in the common ones or the service's own, is an error.
pub fn load<S: DeserializeOwned + Validate>(
    service: &str,
    file: Option<&Path>,
) -> Result<(CommonSettings, S), SettingsError> {
    load_with(service, file, Environment::with_prefix(PREFIX))
}

/// Reads `[database]` and `[telemetry]`, which are all that the task `migrate` needs: a Job that runs it gets no other secret.
pub fn load_for_migration(
    file: Option<&Path>,
) -> Result<(DatabaseSettings, TelemetrySettings), SettingsError> {
    let mut sections = read_sections(file, Environment::with_prefix(PREFIX))?;
    let mut take = |name| sections.remove(name).unwrap_or_else(|| toml::Table::new().into());
    let database: DatabaseSettings = part(take("database"), Some("database"))?;
    let telemetry = part(take("telemetry"), Some("telemetry"))?;
    check_database_url(database.url.expose_secret()).map_err(SettingsError::Invalid)?;
    Ok((database, telemetry))
}

fn read_sections(file: Option<&Path>, environment: Environment) -> Result<toml::Table, SettingsError> {
    let mut builder = Config::builder();
    if let Some(path) = file {
        builder = builder.add_source(File::from(PathBuf::from(path)).format(FileFormat::Toml));
    }
    // An empty variable counts as unset: that is how an unset one looks in a compose file.
    let environment = environment.prefix_separator(SEPARATOR).separator(SEPARATOR).ignore_empty(true);
    let config = builder.add_source(environment).build().map_err(SettingsError::Read)?;
    config.try_deserialize::<toml::Table>().map_err(SettingsError::Read)
}

fn load_with<S: DeserializeOwned + Validate>(
    service: &str,
    file: Option<&Path>,
    environment: Environment,
) -> Result<(CommonSettings, S), SettingsError> {
    let mut sections = read_sections(file, environment)?;
    let own = sections.remove(service).unwrap_or_else(|| toml::Table::new().into());
    sections.retain(|key, _| !SERVICES.contains(&key));
    if let Some(unknown) = sections.keys().find(|key| !COMMON.contains(&key.as_str())) {
        let known = [&COMMON[..], &SERVICES[..]].concat().join(", ");
        return Err(SettingsError::Unknown(unknown.clone(), known));
    }
    let common: CommonSettings = part(sections.into(), None)?;
    let own: S = part(own, Some(service))?;
    common.validate().map_err(SettingsError::Invalid)?;
    own.validate().map_err(|reason| SettingsError::Invalid(format!("[{service}] {reason}")))?;
    Ok((common, own))
}

/// Deserializes one part, with the leniency of environment variables: `"8"` is a number where one is
/// expected.
fn part<T: DeserializeOwned>(table: toml::Value, section: Option<&str>) -> Result<T, SettingsError> {
    let named = |error: config::ConfigError| match section {
        Some(section) => SettingsError::Invalid(format!("[{section}] {error}")),
        None => SettingsError::Invalid(error.to_string()),
    };
    let text = toml::to_string(&table).map_err(|error| SettingsError::Invalid(error.to_string()))?;
    let config = Config::builder().add_source(File::from_str(&text, FileFormat::Toml)).build();
    config.map_err(named)?.try_deserialize().map_err(named)
}

/// Durations as people write them (`10m`, `1h 30m`, `250ms`), for `#[serde(with = "chassis::duration")]`.
pub mod duration {
    use super::Duration;
    use serde::{Deserialize, Deserializer, de::Error};

    /// Reads a duration from text.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        let signed: jiff::SignedDuration = text.parse().map_err(|_| {
            D::Error::custom(format!("{text:?} is not a duration: use e.g. `10m` or `250ms`"))
        })?;
        Duration::try_from(signed).map_err(|_| D::Error::custom(format!("{text:?} is negative")))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Own {
        #[serde(with = "crate::duration")]
        every: Duration,
    }

    impl Validate for Own {
        fn validate(&self) -> Result<(), String> {
            if self.every.is_zero() { Err("every must not be zero".to_owned()) } else { Ok(()) }
        }
    }

    fn load_text(text: &str) -> Result<(CommonSettings, Own), SettingsError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        load("tester", Some(file.path()))
    }

    const FILE: &str =
        "[database]\nurl = \"postgres://root@127.0.0.1/x\"\n[nats]\nurl = \"nats://127.0.0.1\"\n";

    #[test]
    fn missing_settings_have_defaults() {
        let (common, own) = load_text(&format!("{FILE}[tester]\nevery = \"10m\"")).unwrap();
        assert_eq!(common.namespace, "flowmeter");
        assert!(common.ops.listen.ip().is_loopback());
        assert_eq!(own.every, Duration::from_secs(600));
    }

    #[test]
    fn mistakes_are_named() {
        for (text, word) in [
            ("[tester]\nevery = \"soon\"", "soon"),
            ("[tester]\nevery = \"0s\"", "every must not be zero"),
            ("[tester]\nevery = \"1s\"\nevry = 1", "evry"),
            ("[tester]\nevery = \"1s\"\n[natz]\nurl = \"\"", "natz"),
        ] {
            let error = load_text(&format!("{FILE}{text}")).unwrap_err();
            assert!(format!("{error}").contains(word), "{error}");
        }
        assert!(load_text("[tester]\nevery = \"1s\"").is_err(), "no database, no broker");
    }

    #[test]
    fn one_file_holds_the_sections_of_all_services() {
        let text = format!(
            "{FILE}[tester]\nevery = \"1s\"\n[billing]\nstripe_key = \"sk\"\n[collector]\nlisten = \"x\""
        );
        assert_eq!(load_text(&text).unwrap().1.every, Duration::from_secs(1));
        let variables = [
            ("FLOWMETER__DATABASE__URL", "postgres://h/x"),
            ("FLOWMETER__NATS__URL", "nats://h"),
            ("FLOWMETER__TESTER__EVERY", "1s"),
            ("FLOWMETER__COLLECTOR__ALLOW_PRIVATE_ADDRESSES", "true"),
            ("FLOWMETER__ALERTS__OPERATOR_RECIPIENTS", "ops@example.com"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::with_prefix(PREFIX).source(Some(variables.into()));
        assert!(load_with::<Own>("tester", None, environment).is_ok());
        for (wrong, word) in
            [("[colector]\nlisten = \"x\"", "colector"), ("[billing]\na = 1\n[tester]\nevry = 1", "evry")]
        {
            let error = load_text(&format!("{FILE}{wrong}")).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let variables = [
            ("FLOWMETER__DATABASE__URL", "postgres://h/x"),
            ("FLOWMETER__DATABASE__CONNECTIONS_MAX", ""),
            ("FLOWMETER__NATS__URL", "nats://one:4222,nats://two:4222"),
            ("FLOWMETER__NATS__USER", ""),
            ("FLOWMETER__NATS__PASSWORD", ""),
            ("FLOWMETER__NATS__PATIENCE", ""),
            ("FLOWMETER__TELEMETRY__OTLP_ENDPOINT", ""),
            ("FLOWMETER__CLOCK__FOLLOW", ""),
            ("FLOWMETER__NAMESPACE", ""),
            ("FLOWMETER__UNKNOWN__KEY", ""),
            ("FLOWMETER__TESTER__EVERY", "1s"),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = Environment::with_prefix(PREFIX).source(Some(variables.into()));
        let (common, _) = load_with::<Own>("tester", None, environment).unwrap();
        assert_eq!(common.namespace, "flowmeter");
        assert_eq!(common.database.connections_max, default_connections_max());
        assert!(common.nats.user.is_none() && common.nats.password.is_none());
        assert_eq!(common.nats.patience, default_patience());
    }

    #[test]
    fn a_raw_special_character_in_a_password_is_refused_with_the_remedy() {
        let all = ["a#b", "a/b", "a?b", "1#b", "1/b", "1?b", "12/3?4@b", "p@s/s"];
        for password in all {
            let url = format!("postgres://u:{password}@h/x");
            let error = check_database_url(&url).unwrap_err();
            assert!(error.contains("percent-encode") && !error.contains("u:"), "{url}: {error}");
            let text =
                format!("[database]\nurl = \"{url}\"\n[nats]\nurl = \"nats://h\"\n[tester]\nevery = \"1s\"");
            assert!(load_text(&text).is_err(), "{url}");
        }
        for good in [
            "postgres://u:a@b@h/x",
            "postgres://u:a%23b%2Fc%3Fd%40e@h:5432/x?sslmode=require",
            "postgresql://h/x?user=me@example",
            "postgres://u@[::1]:5432/x",
            "postgres:///x?host=/run/postgresql",
        ] {
            assert_eq!(check_database_url(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let text = "[database]\nurl = \"postgres://u:hunter2@h/x\"\n[nats]\nurl = \"nats://h\"\n[tester]\nevery = \"1s\"";
        let (common, _) = load_text(text).unwrap();
        assert!(!format!("{common:?}").contains("hunter2"));
    }
}
