//! A copy of the checkout as a clone would have it: no `.env`, nothing that was built.

use std::{fs, path::Path, process::Command};

use anyhow::{Context, Result, bail};
use stack::Project;

/// Copies every file that is in version control or would be added to it.
pub fn copy(project: &Project, target: &Path) -> Result<()> {
    let listed = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(project.root())
        .output()
        .context("cannot start git")?;
    if !listed.status.success() {
        bail!("git cannot list the files: {}", String::from_utf8_lossy(&listed.stderr).trim());
    }
    let names = String::from_utf8(listed.stdout).context("a file's name is not UTF-8")?;
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let (from, to) = (project.root().join(name), target.join(name));
        // A deleted file is listed until the deletion is committed.
        if !from.is_file() {
            continue;
        }
        let copied = || {
            fs::create_dir_all(to.parent().unwrap_or(target))?;
            fs::copy(&from, &to)
        };
        copied().with_context(|| format!("cannot copy {name}"))?;
    }
    Ok(())
}
