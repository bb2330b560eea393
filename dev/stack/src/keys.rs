//! Secrets of a profile: generated once, readable by their owner only.

use std::{collections::BTreeMap, fs::File, io::Read, path::Path, process::Command};

use anyhow::{Context, Result, bail};

use crate::Profile;

/// 256 bits.
const TOKEN_BYTES: usize = 32;

/// The key pair that seals the sources' API keys: the gateway seals, only the collector opens.
#[derive(Debug, Clone)]
pub struct SealingKeys {
    /// For the collector.
    pub secret: String,
    /// For the gateway.
    pub public: String,
}

/// A random token that begins with a letter (the broker's configuration could read others as numbers).
pub fn random_token(prefix: &str) -> Result<String> {
    let mut bytes = [0; TOKEN_BYTES];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .context("cannot read /dev/urandom")?;
    Ok(format!("{prefix}_{}", hex::encode(bytes)))
}

/// The token that may do everything.
pub fn operator_token(profile: &Profile) -> Result<String> {
    profile.secret("operator-token", || random_token("operator"))
}

/// The profile's key pair. `flowmeter` is the CLI's executable, which generates it.
pub fn sealing_keys(profile: &Profile, flowmeter: &Path) -> Result<SealingKeys> {
    let text = profile.secret("sealing-keys", || {
        let output = Command::new(flowmeter)
            .arg("keys")
            .output()
            .with_context(|| format!("cannot start {}", flowmeter.display()))?;
        if !output.status.success() {
            bail!("`flowmeter keys` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    })?;
    parse(&text)
}

fn parse(text: &str) -> Result<SealingKeys> {
    let lines: BTreeMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let line = |name: &str| {
        let value = lines.get(name).with_context(|| format!("`flowmeter keys` printed no {name}"))?;
        Ok::<_, anyhow::Error>(value.trim().to_owned())
    };
    Ok(SealingKeys { secret: line("secret_key")?, public: line("public_key")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_parsed_whatever_else_is_printed() {
        let keys = parse("# a new pair\nsecret_key=c2VjcmV0PT0=\npublic_key=cHVibGlj\n").unwrap();
        assert_eq!((keys.secret.as_str(), keys.public.as_str()), ("c2VjcmV0PT0=", "cHVibGlj"));
        assert!(parse("secret_key=x").is_err());
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, other) = (random_token("operator").unwrap(), random_token("operator").unwrap());
        assert_ne!(one, other);
        assert!(one.len() > 24);
    }
}
