//! A folder of secrets, a file for each.

use std::{
    fs,
    io::{ErrorKind, Write as _},
    os::unix::fs::{OpenOptionsExt, chown},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use secrecy::{ExposeSecret, SecretString};

/// Only the owner reads a file of ours, and nobody writes it: a new one takes its place.
const OWNER_READS: u32 = 0o400;

/// The kept secrets.
pub struct Secrets(PathBuf);

impl Secrets {
    /// The secrets in this folder, which is created if it does not exist.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        Ok(Self(folder.to_owned()))
    }

    /// Whether there is one of this name.
    pub fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    /// The secret of this name.
    pub fn read(&self, name: &str) -> Result<SecretString> {
        let is_name = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
        ensure!(is_name, "{name:?} is not the name of a secret");
        let path = self.0.join(name);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                bail!("there is no secret {name:?}; there are: {}", self.names()?.join(", "))
            }
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        ensure!(!text.is_empty(), "{} is empty: restore it from a copy", path.display());
        Ok(text.into())
    }

    fn names(&self) -> Result<Vec<String>> {
        let entries = fs::read_dir(&self.0).with_context(|| format!("cannot read {}", self.0.display()))?;
        let mut names: Vec<String> = entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| !name.starts_with('.'))
            .collect();
        names.sort();
        Ok(names)
    }

    /// Makes a secret unless there is one. Returns whether it is new.
    pub fn keep(&self, name: &str, make: impl FnOnce() -> SecretString) -> Result<bool> {
        if self.has(name) {
            return Ok(false);
        }
        self.replace(name, &make())?;
        Ok(true)
    }

    /// Stores a secret.
    pub fn replace(&self, name: &str, secret: &SecretString) -> Result<()> {
        write(&self.0.join(name), secret.expose_secret(), None)
    }
}

/// Writes a file, whole or not at all, for this owner or for the user that runs this.
pub fn write(path: &Path, content: &str, owner: Option<u32>) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let draft = path.with_file_name(format!(".{name}.new"));
    let written = || -> std::io::Result<()> {
        // Of a run that was killed. Nobody may write it, not even a root without that capability.
        fs::remove_file(&draft).or_else(|error| match error.kind() {
            ErrorKind::NotFound => Ok(()),
            _ => Err(error),
        })?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(OWNER_READS).open(&draft)?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        if let Some(owner) = owner {
            chown(&draft, Some(owner), Some(owner))?;
        }
        fs::rename(&draft, path)?;
        fs::File::open(path.parent().unwrap_or(path))?.sync_all()
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
