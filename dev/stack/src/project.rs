//! Where files live: the project folder, and in it one folder per profile (`up`, `test`, one per whole-stack test).

use std::{
    env,
    fs::{self, File, Permissions},
    io::Write,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

/// The checkout.
#[derive(Debug, Clone)]
pub struct Project {
    root: PathBuf,
}

impl Project {
    /// The checkout that holds the current directory.
    pub fn find() -> Result<Self> {
        let here = env::current_dir().context("the current directory is gone")?;
        here.ancestors()
            .find(|folder| folder.join("proto/flowmeter").is_dir() && folder.join("Cargo.lock").is_file())
            .map(|root| Self { root: root.to_owned() })
            .with_context(|| format!("{} is not inside a checkout of Flowmeter", here.display()))
    }

    #[cfg(test)]
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// The folder with `Cargo.lock`.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Everything that is not in version control: tools, databases, logs.
    pub fn folder(&self) -> PathBuf {
        self.root.join(".flowmeter")
    }

    /// Tools that were installed for this checkout only.
    pub fn tools(&self) -> PathBuf {
        self.folder().join("tools")
    }
}

/// One set of databases, keys and logs. Held by one process at a time.
#[derive(Debug)]
pub struct Profile {
    project: Project,
    folder: PathBuf,
    // Held until the end of the process: a second one would stop our servers as leftovers.
    _lock: File,
}

impl Profile {
    /// Opens, and creates where needed, the profile of this name.
    pub fn open(project: &Project, name: &str) -> Result<Self> {
        Self::open_and(project, name, false)
    }

    /// The same, but cleared first.
    pub fn fresh(project: &Project, name: &str) -> Result<Self> {
        Self::open_and(project, name, true)
    }

    fn open_and(project: &Project, name: &str, clear: bool) -> Result<Self> {
        let folder = project.folder().join(name);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let lock = File::create(folder.join("lock")).context("cannot create the profile's lock")?;
        if lock.try_lock().is_err() {
            bail!("{} is in use by another process: stop it first", folder.display());
        }
        let profile = Self { project: project.clone(), folder, _lock: lock };
        if clear {
            profile.clear()?;
        }
        for inner in ["logs", "pids"] {
            fs::create_dir_all(profile.folder.join(inner)).context("cannot create the profile's folders")?;
        }
        Ok(profile)
    }

    fn clear(&self) -> Result<()> {
        crate::process::stop_leftovers(&self.folder.join("pids"))?;
        let elsewhere = self.data_elsewhere();
        if elsewhere.exists() {
            fs::remove_dir_all(&elsewhere)
                .with_context(|| format!("cannot clear {}", elsewhere.display()))?;
        }
        for entry in fs::read_dir(&self.folder).context("cannot read the profile's folder")? {
            let path = entry?.path();
            if path.ends_with("lock") {
                continue;
            }
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.with_context(|| format!("cannot clear {}", path.display()))?;
        }
        Ok(())
    }

    /// The checkout it belongs to.
    pub fn project(&self) -> &Project {
        &self.project
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The log file of a process.
    pub fn log(&self, process: &str) -> PathBuf {
        self.folder.join("logs").join(format!("{process}.log"))
    }

    /// Where data goes when another system user has to reach it and cannot reach the profile's folder.
    pub(crate) fn data_elsewhere(&self) -> PathBuf {
        use sha2::{Digest, Sha256};
        let hash = hex::encode(Sha256::digest(self.folder.as_os_str().as_encoded_bytes()));
        Path::new("/var/tmp").join(format!("flowmeter-{}", hash.get(..12).unwrap_or(&hash)))
    }

    /// The content of a secret file that only the owner can read, created by `generate` the first time.
    pub fn secret(&self, name: &str, generate: impl FnOnce() -> Result<String>) -> Result<String> {
        let path = self.folder.join(name);
        if path.exists() {
            return fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()));
        }
        let secret = generate()?;
        write_private(&path, &secret)?;
        Ok(secret)
    }
}

/// Writes a file that only its owner can read, whole or not at all.
pub fn write_private(path: &Path, content: &str) -> Result<()> {
    let draft = path.with_extension("draft");
    let written = || -> Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        // The mode above applies only to a new file.
        file.set_permissions(Permissions::from_mode(0o600))?;
        file.write_all(content.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        Ok(())
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkout() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        let project = Project { root: folder.path().to_owned() };
        (folder, project)
    }

    #[test]
    fn only_one_process_at_a_time_holds_a_profile() {
        let (_folder, project) = checkout();
        let first = Profile::open(&project, "up").unwrap();
        assert!(Profile::open(&project, "up").is_err());
        drop(first);
        Profile::open(&project, "up").unwrap();
    }

    #[test]
    fn a_secret_is_generated_once_and_kept_private() {
        let (_folder, project) = checkout();
        let profile = Profile::open(&project, "up").unwrap();
        let first = profile.secret("token", || Ok("one".to_owned())).unwrap();
        let second = profile.secret("token", || Ok("two".to_owned())).unwrap();
        assert_eq!((first.as_str(), second.as_str()), ("one", "one"));
        let mode = fs::metadata(profile.folder().join("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        drop(profile);

        let cleared = Profile::fresh(&project, "up").unwrap();
        assert_eq!(cleared.secret("token", || Ok("three".to_owned())).unwrap(), "three");
    }
}
