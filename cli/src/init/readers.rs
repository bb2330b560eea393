//! The files from which each part reads its own secrets.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use catalog::sealing::OpeningKey;
use secrecy::{ExposeSecret, SecretString};

use super::{
    OPERATOR_TOKEN, SECRET_KEY, SERVICES, SUPERUSER, nats_of, postgres_of, secrets, secrets::Secrets,
};

/// The sandbox's ports, as docker-compose.yml starts it.
const SANDBOX_PORT: u16 = 4100;
const SANDBOX_SMTP_PORT: u16 = 4125;

/// What to write, and where.
pub struct Readers<'a> {
    /// The secrets.
    pub secrets: &'a Secrets,
    /// The folder of the readers' folders.
    pub folder: &'a Path,
    /// The user of the services.
    pub owner: Option<u32>,
    /// `host:port/database`
    pub postgres: &'a str,
    /// The sandbox's host.
    pub sandbox: Option<&'a str>,
}

impl Readers<'_> {
    /// Writes every file.
    pub fn write(&self) -> Result<()> {
        for service in SERVICES {
            let settings = self.settings_of(service)?;
            self.write_one(service, "settings.toml", &settings, self.owner)?;
        }
        let nats_password = self.secrets.read(&nats_of("operator"))?;
        self.write_one("operator", "nats_password", nats_password.expose_secret(), self.owner)?;
        let token = self.secrets.read(OPERATOR_TOKEN)?;
        self.write_one("operator", "token", token.expose_secret(), self.owner)?;
        self.write_one("nats", "passwords.env", &self.broker()?, None)?;
        let superuser = self.secrets.read(SUPERUSER)?;
        self.write_one("postgres", "superuser_password", superuser.expose_secret(), None)?;
        self.write_one("postgres", "pgpass", &pgpass(&superuser), None)?;
        self.write_one("postgres", "passwords.psql", &self.roles()?, None)
    }

    fn write_one(&self, reader: &str, name: &str, content: &str, owner: Option<u32>) -> Result<()> {
        let folder = self.folder.join(reader);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        secrets::write(&folder.join(name), content, owner)
    }

    /// A service's file of settings; the environment overrides it.
    fn settings_of(&self, service: &str) -> Result<String> {
        let role = self.secrets.read(&postgres_of(service))?;
        let user = self.secrets.read(&nats_of(service))?;
        let url = format!("postgres://{service}:{}@{}", role.expose_secret(), self.postgres);
        Ok(format!(
            "# Written by `flowmeter init` at each start; the environment overrides it.\n\
             [database]\nurl = {}\n\n[nats]\nuser = {}\npassword = {}\n\n[{service}]\n{}",
            quoted(&url),
            quoted(service),
            quoted(user.expose_secret()),
            self.own(service)?
        ))
    }

    fn own(&self, service: &str) -> Result<String> {
        let mut lines = Vec::new();
        match service {
            "collector" => {
                let key = self.secrets.read(SECRET_KEY)?;
                lines.push(format!("secret_key = {}", quoted(key.expose_secret())));
                if self.sandbox.is_some() {
                    lines.push("allow_private_addresses = true".to_owned());
                }
            }
            "gateway" => {
                let token = self.secrets.read(OPERATOR_TOKEN)?;
                let key = OpeningKey::parse(&self.secrets.read(SECRET_KEY)?).context(SECRET_KEY)?;
                lines.push(format!("operator_token = {}", quoted(token.expose_secret())));
                lines.push(format!("collector_public_key = {}", quoted(&key.public())));
            }
            "billing" => lines.extend(self.sandbox.into_iter().flat_map(|host| {
                [
                    "environment = \"sandbox\"".to_owned(),
                    format!("stripe_url = \"http://{host}:{SANDBOX_PORT}/stripe/\""),
                    "stripe_key = \"sk_test_sandbox\"".to_owned(),
                ]
            })),
            "alerts" => {
                let url = |host| format!("smtp_url = \"smtp://{host}:{SANDBOX_SMTP_PORT}\"");
                lines.extend(self.sandbox.map(url));
            }
            _ => {}
        }
        Ok(lines.into_iter().map(|line| line + "\n").collect())
    }

    /// Variables for deploy/nats/nats.conf, set by a shell.
    fn broker(&self) -> Result<String> {
        let mut text = String::new();
        for user in SERVICES.into_iter().chain(["operator"]) {
            let password = self.secrets.read(&nats_of(user))?;
            text += &format!("NATS_{}_PASSWORD={}\n", user.to_uppercase(), password.expose_secret());
        }
        Ok(text)
    }

    /// Variables for deploy/compose/roles.sql.
    fn roles(&self) -> Result<String> {
        let mut text = String::new();
        for service in SERVICES {
            let password = self.secrets.read(&postgres_of(service))?;
            text += &format!("\\set {service}_password '{}'\n", password.expose_secret());
        }
        Ok(text)
    }
}

/// A string of TOML, which knows the escapes of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The line of a password file that libpq reads. It escapes with backslashes.
fn pgpass(password: &SecretString) -> String {
    let escaped = password.expose_secret().replace('\\', "\\\\").replace(':', "\\:");
    format!("*:*:*:*:{escaped}\n")
}
