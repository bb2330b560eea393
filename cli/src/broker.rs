//! The connection to the broker, as the operator.

use std::path::PathBuf;

use clap::Args;
use messaging::{Bus, BusConfig, ConnectError};
use proto::{Namespace, streams::Capacity};
use secrecy::SecretString;

use crate::secret_file::{self, SecretFileError};

/// The operator's name on the broker: of its user, and of the inbox that the permissions let it read.
const OPERATOR: &str = "operator";

/// Where the broker is, and who connects.
#[derive(Debug, Args)]
pub struct BrokerArgs {
    /// Where NATS is; several brokers of one cluster, separated by commas. Also read from NATS_URL.
    #[arg(long, env = "FLOWMETER_NATS_URL", hide_env_values = true, global = true)]
    nats_url: Option<String>,
    /// Fallback for `nats_url`: the name that other NATS tools use.
    #[arg(long, env = "NATS_URL", hide = true, hide_env_values = true, global = true)]
    nats_url_fallback: Option<String>,
    /// The NATS user, if the broker has permissions.
    #[arg(long, env = "FLOWMETER_NATS_USER", global = true)]
    nats_user: Option<String>,
    /// That user's password.
    #[arg(long, env = "FLOWMETER_NATS_PASSWORD", hide_env_values = true, global = true)]
    nats_password: Option<SecretString>,
    /// A file with that password; the password itself has precedence.
    #[arg(long, env = "FLOWMETER_NATS_PASSWORD_FILE", value_name = "FILE", global = true)]
    nats_password_file: Option<PathBuf>,
    /// The first token of every subject.
    #[arg(long, env = "FLOWMETER_NAMESPACE", default_value = Namespace::DEFAULT, global = true)]
    namespace: String,
}

/// The broker cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    /// `--namespace` is not one.
    #[error(transparent)]
    Namespace(#[from] proto::subjects::InvalidNamespace),
    /// The password's file cannot be read.
    #[error("FLOWMETER_NATS_PASSWORD_FILE")]
    PasswordFile(#[from] SecretFileError),
    /// No connection.
    #[error("FLOWMETER_NATS_URL, FLOWMETER_NATS_USER and FLOWMETER_NATS_PASSWORD name no usable broker")]
    Connect(#[from] ConnectError),
}

impl BrokerArgs {
    /// The first token of every subject.
    pub fn namespace(&self) -> Result<Namespace, BrokerError> {
        // An empty variable counts as unset.
        let name = if self.namespace.is_empty() { Namespace::DEFAULT } else { &self.namespace };
        Ok(Namespace::parse(name)?)
    }

    /// Connects to the broker.
    pub async fn connect(self) -> Result<Bus, BrokerError> {
        let namespace = self.namespace()?;
        let set = |text: Option<String>| text.filter(|text| !text.is_empty());
        let url = set(self.nats_url).or_else(|| set(self.nats_url_fallback));
        let config = BusConfig {
            url: url.unwrap_or_else(|| "nats://127.0.0.1:4222".to_owned()),
            user: set(self.nats_user),
            password: secret_file::either(self.nats_password, self.nats_password_file.as_deref())?,
            // The command line creates no stream.
            capacity: Capacity::default(),
        };
        Ok(Bus::connect(OPERATOR, namespace, &config).await?)
    }
}
