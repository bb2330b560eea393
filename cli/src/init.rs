//! `flowmeter init`: makes the secrets of an installation once, and the files from which each part reads its own.
//!
//! It runs at each start of the Compose file, before everything else. Secrets stay in one folder that nothing else can read.
//! Each service gets a folder with one file of settings, so that none sees another's.

mod readers;
mod secrets;

use std::{io::Write, path::PathBuf};

use anyhow::{Context, Result, ensure};
use catalog::sealing::{KeyPair, OpeningKey};
use clap::Args;
use rand::{CryptoRng, SeedableRng, rngs::StdRng};
use secrecy::{ExposeSecret, SecretString};

use self::{readers::Readers, secrets::Secrets};

/// The services. Each is a role of Postgres with a schema of its own, and a user of the broker.
const SERVICES: [&str; 5] = ["collector", "aggregator", "billing", "alerts", "gateway"];

/// Random bytes of a password or token.
const RANDOM_BYTES: usize = 24;

/// Names of secrets, as files and for `--show`.
const SUPERUSER: &str = "postgres_superuser";
const OPERATOR_TOKEN: &str = "operator_token";
const SECRET_KEY: &str = "collector_secret_key";

/// Arguments of `flowmeter init`.
#[derive(Debug, Args)]
pub struct Init {
    /// The folder that keeps the secrets, a file for each. Keep a copy of it.
    #[arg(long)]
    secrets: PathBuf,
    /// Print this secret, e.g. `operator_token`, and do nothing else.
    #[arg(long, value_name = "SECRET", conflicts_with = "settings")]
    show: Option<String>,
    /// The folder to write settings to: a folder for each service, and for `nats`, `postgres` and `operator`.
    #[arg(long)]
    settings: Option<PathBuf>,
    /// Numeric user that owns the files of services and operator; those of the servers keep the user that runs this.
    #[arg(long, requires = "settings")]
    owner: Option<u32>,
    /// Postgres, as services reach it.
    #[arg(long, value_name = "HOST:PORT/DATABASE", default_value = "postgres:5432/flowmeter")]
    postgres: String,
    /// Use the sandbox on this host for Stripe and mail, and allow n8n on a private address.
    #[arg(long, value_name = "HOST")]
    sandbox: Option<String>,
    #[command(flatten)]
    given: Given,
}

/// Secrets that are not made here. One that is given replaces the kept one.
#[derive(Debug, Args)]
struct Given {
    /// The operator's token.
    #[arg(long, env, hide_env_values = true)]
    operator_token: Option<SecretString>,
    /// The collector's secret key of an earlier installation, which opens the sources' API keys.
    #[arg(long, env, hide_env_values = true)]
    collector_secret_key: Option<SecretString>,
    /// The password of Postgres' superuser. Postgres reads it at its very first start only.
    #[arg(long, env, hide_env_values = true)]
    postgres_password: Option<SecretString>,
}

impl Init {
    /// Runs the command. Everything it writes is the same in the next run.
    pub fn run(self, out: &mut dyn Write) -> Result<()> {
        let secrets = Secrets::open(&self.secrets)?;
        if let Some(name) = &self.show {
            writeln!(out, "{}", secrets.read(name)?.expose_secret())?;
            return Ok(());
        }
        let made = make(&secrets, self.given, &mut StdRng::from_os_rng())?;
        match made {
            0 => writeln!(out, "the secrets in {} are kept", self.secrets.display())?,
            made => writeln!(out, "made {made} secrets in {}: keep a copy", self.secrets.display())?,
        }
        let Some(settings) = self.settings else { return Ok(()) };
        let readers = Readers {
            secrets: &secrets,
            folder: &settings,
            owner: self.owner,
            postgres: &self.postgres,
            sandbox: self.sandbox.as_deref(),
        };
        readers.write()?;
        writeln!(out, "wrote the settings to {}", settings.display())?;
        Ok(())
    }
}

/// Makes what is missing. Returns how many secrets are new.
fn make(secrets: &Secrets, given: Given, random: &mut impl CryptoRng) -> Result<usize> {
    // An empty variable counts as unset.
    let set = |value: Option<SecretString>| value.filter(|value| !value.expose_secret().is_empty());
    if let Some(key) = set(given.collector_secret_key) {
        OpeningKey::parse(&key).context("COLLECTOR_SECRET_KEY")?;
        secrets.replace(SECRET_KEY, &key)?;
    }
    if let Some(token) = set(given.operator_token) {
        secrets.replace(OPERATOR_TOKEN, &token)?;
    }
    if let Some(password) = set(given.postgres_password) {
        let is_kept = |kept: SecretString| kept.expose_secret() == password.expose_secret();
        ensure!(
            !secrets.has(SUPERUSER) || is_kept(secrets.read(SUPERUSER)?),
            "POSTGRES_PASSWORD is not the password that the database was created with: remove it, or change it in the database \
             and in {SUPERUSER}"
        );
        secrets.replace(SUPERUSER, &password)?;
    }
    let mut made = usize::from(secrets.keep(SECRET_KEY, || KeyPair::generate().secret)?);
    let passwords = SERVICES.iter().flat_map(|service| [postgres_of(service), nats_of(service)]);
    let names = passwords.chain([SUPERUSER.to_owned(), OPERATOR_TOKEN.to_owned(), nats_of("operator")]);
    for name in names {
        made += usize::from(secrets.keep(&name, || password(random))?);
    }
    Ok(made)
}

fn postgres_of(service: &str) -> String {
    format!("postgres_{service}")
}

fn nats_of(user: &str) -> String {
    format!("nats_{user}")
}

/// The letter in front matters: the broker's configuration may read a word that begins with a digit as a number.
fn password(random: &mut impl CryptoRng) -> SecretString {
    let mut bytes = [0_u8; RANDOM_BYTES];
    random.fill_bytes(&mut bytes);
    bytes.iter().fold("p".to_owned(), |text, byte| format!("{text}{byte:02x}")).into()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, fs, os::unix::fs::PermissionsExt, path::Path};

    use catalog::sealing::SealingKey;

    use super::*;

    const NOTHING: Given =
        Given { operator_token: None, collector_secret_key: None, postgres_password: None };

    fn init(folder: &Path, given: Given, sandbox: Option<&str>) -> Result<String> {
        let mut printed = Vec::new();
        let init = Init {
            secrets: folder.join("secrets"),
            show: None,
            settings: Some(folder.join("settings")),
            owner: None,
            postgres: "postgres:5432/flowmeter".to_owned(),
            sandbox: sandbox.map(str::to_owned),
            given,
        };
        init.run(&mut printed)?;
        Ok(String::from_utf8(printed)?)
    }

    fn show(folder: &Path, name: &str) -> Result<String> {
        let mut printed = Vec::new();
        let init = Init {
            secrets: folder.join("secrets"),
            show: Some(name.to_owned()),
            settings: None,
            owner: None,
            postgres: String::new(),
            sandbox: None,
            given: NOTHING,
        };
        init.run(&mut printed)?;
        Ok(String::from_utf8(printed)?.trim().to_owned())
    }

    fn files(folder: &Path) -> BTreeMap<String, String> {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                found.extend(files(&path).into_iter().map(|(inner, text)| (format!("{name}/{inner}"), text)));
            } else {
                assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o400, "{name}");
                found.insert(name, fs::read_to_string(&path).unwrap());
            }
        }
        found
    }

    #[test]
    fn secrets_are_made_once_and_never_printed() {
        let folder = tempfile::tempdir().unwrap();
        let first = init(folder.path(), NOTHING, None).unwrap();
        let made = files(folder.path());
        let second = init(folder.path(), NOTHING, None).unwrap();
        assert_eq!(files(folder.path()), made);
        let secrets = files(&folder.path().join("secrets"));
        assert!(first.contains(&format!("made {} secrets", secrets.len())), "{first}");
        assert!(second.contains("are kept"), "{second}");
        for secret in secrets.values() {
            assert!(!first.contains(secret) && !second.contains(secret));
        }
        let different: std::collections::BTreeSet<_> = secrets.values().collect();
        assert_eq!(different.len(), secrets.len());
        assert_eq!(show(folder.path(), OPERATOR_TOKEN).unwrap(), secrets[OPERATOR_TOKEN]);
    }

    #[test]
    fn a_service_sees_its_own_secrets_only() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), NOTHING, None).unwrap();
        let secrets = files(&folder.path().join("secrets"));
        for service in SERVICES {
            let settings = files(&folder.path().join("settings").join(service));
            let text = settings.values().cloned().collect::<String>();
            for (name, secret) in &secrets {
                let own = name.ends_with(&format!("_{service}"))
                    || (service == "collector" && name == SECRET_KEY)
                    || (service == "gateway" && name == OPERATOR_TOKEN);
                assert_eq!(text.contains(secret), own, "{service} and {name}");
            }
        }
    }

    #[test]
    fn the_gateway_seals_for_the_collector() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), NOTHING, None).unwrap();
        let settings = files(&folder.path().join("settings"));
        let public = settings["gateway/settings.toml"]
            .lines()
            .find_map(|line| line.strip_prefix("collector_public_key = \"")?.strip_suffix('"'))
            .unwrap();
        let sealed = SealingKey::parse(public).unwrap().seal(&"key-north".into());
        let secret = files(&folder.path().join("secrets"))[SECRET_KEY].clone();
        let opened = OpeningKey::parse(&secret.into()).unwrap().open(&sealed).unwrap();
        assert_eq!(opened.expose_secret(), "key-north");
    }

    #[test]
    fn only_the_sandbox_names_stripe_and_a_mail_server() {
        let folder = tempfile::tempdir().unwrap();
        let settings = || files(&folder.path().join("settings")).into_values().collect::<String>();
        init(folder.path(), NOTHING, Some("sandbox")).unwrap();
        assert!(settings().contains("stripe_url") && settings().contains("smtp://sandbox:4125"));
        init(folder.path(), NOTHING, None).unwrap();
        assert!(!settings().contains("stripe") && !settings().contains("smtp"));
    }

    #[test]
    fn given_secrets_replace_kept_ones() {
        let folder = tempfile::tempdir().unwrap();
        init(folder.path(), NOTHING, None).unwrap();
        let key = KeyPair::generate().secret;
        let given = Given {
            operator_token: Some("a token \"with\" quotes".into()),
            collector_secret_key: Some(key.clone()),
            postgres_password: Some("".into()),
        };
        init(folder.path(), given, None).unwrap();
        assert_eq!(show(folder.path(), OPERATOR_TOKEN).unwrap(), "a token \"with\" quotes");
        assert_eq!(show(folder.path(), SECRET_KEY).unwrap(), key.expose_secret());
        let gateway = files(&folder.path().join("settings"))["gateway/settings.toml"].clone();
        assert!(gateway.contains(r#"operator_token = "a token \"with\" quotes""#), "{gateway}");
    }

    #[test]
    fn mistakes_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let wrong = Given { collector_secret_key: Some("short".into()), ..NOTHING };
        assert!(
            format!("{:#}", init(folder.path(), wrong, None).unwrap_err()).contains("COLLECTOR_SECRET_KEY")
        );
        init(folder.path(), NOTHING, None).unwrap();
        let late = Given { postgres_password: Some("another".into()), ..NOTHING };
        assert!(init(folder.path(), late, None).unwrap_err().to_string().contains("POSTGRES_PASSWORD"));
        assert!(show(folder.path(), "nothing").unwrap_err().to_string().contains("operator_token"));
        assert!(show(folder.path(), "../settings").is_err());
    }
}
