//! `cargo xtask contract`, and the checks of the contract by buf.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Output},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use stack::{Project, binaries, install};

/// Pinned: another version may find other things.
const BUF: &str = "1.75.0";

/// The contract's folder in the checkout.
const CONTRACT: &str = "proto";

/// The image of the released contract, in that folder: what subscribers may have compiled.
const RELEASED: &str = "released.binpb";

/// The name of the image in the published folder.
const IMAGE: &str = "flowmeter.binpb";

/// The exit code of buf if it has found something to complain about.
const FOUND: i32 = 100;

/// Breaks of the contract that the check has to find: the file, its text, and the text in place of that.
const PLANTED: [(&str, &str, &str); 4] = [
    ("usage.proto", "  string rule = 4;\n", ""),
    ("usage.proto", "  uint64 revision = 3;\n", "  string revision = 3;\n"),
    ("usage.proto", "  uint32 threshold_percent = 5;\n", "  uint32 percent = 5;\n"),
    ("source.proto", "  GAP_REASON_EPOCH_ENDED = 3;", "  GAP_REASON_EPOCH_ENDED = 90;"),
];

/// Arguments of `cargo xtask contract`.
#[derive(Debug, Args)]
pub struct Contract {
    /// The folder to write.
    #[arg(long, value_name = "FOLDER", default_value = ".flowmeter/contract")]
    out: PathBuf,
    /// Make the present contract the released one, with which later ones are compared: part of a release.
    #[arg(long)]
    release: bool,
    /// Install no tool: fail if buf is missing.
    #[arg(long)]
    no_install: bool,
}

impl Contract {
    /// Runs the task.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let buf = buf(&project, self.no_install)?;
        if !breaking(&project, &buf)? {
            bail!("the contract breaks what was released: it will not be published");
        }
        let from = project.root().join(CONTRACT);
        let out = project.root().join(&self.out);
        if out.exists() {
            fs::remove_dir_all(&out).with_context(|| format!("cannot clear {}", out.display()))?;
        }
        copy(&from, &out)?;
        // With comments, which generators take over.
        let image = out.join(IMAGE);
        build(&buf, &from, &image, &[])?;
        // What was published is what subscribers compile.
        if !binaries::run(Command::new(&buf).arg("build").arg(&image))?.success() {
            bail!("buf cannot read {}", image.display());
        }
        println!(
            "Written to {}: {IMAGE} ({} bytes) and the .proto files",
            out.display(),
            fs::metadata(&image)?.len()
        );
        if self.release {
            build(&buf, &from, &from.join(RELEASED), &["--exclude-source-info"])?;
            println!("{CONTRACT}/{RELEASED} is the released contract now");
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The program buf, installed into the project folder if it is missing.
pub fn buf(project: &Project, no_install: bool) -> Result<PathBuf> {
    let installed = project.tools().join("node_modules/.bin/buf");
    if installed.exists() {
        return Ok(installed);
    }
    if let Some(found) = install::on_path("buf") {
        return Ok(found);
    }
    if no_install {
        bail!("buf is not installed");
    }
    let npm = install::on_path("npm").context("npm is missing, which installs buf")?;
    println!("Installing buf {BUF}");
    let mut npm = Command::new(npm);
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel", "error", "--prefix"])
        .arg(project.tools())
        .arg(format!("@bufbuild/buf@{BUF}"));
    if !binaries::run(&mut npm)?.success() || !installed.exists() {
        bail!("npm cannot install buf {BUF}");
    }
    Ok(installed)
}

/// The style of the contract's files.
pub fn lint(project: &Project, buf: &Path) -> Result<bool> {
    Ok(binaries::run(Command::new(buf).arg("lint").current_dir(project.root().join(CONTRACT)))?.success())
}

/// Nothing that was released is gone or changed; and this check finds breaks, which are planted in a copy.
pub fn breaking(project: &Project, buf: &Path) -> Result<bool> {
    let contract = project.root().join(CONTRACT);
    let released = contract.join(RELEASED);
    let found = compare(buf, &contract, &released)?;
    if !found.status.success() {
        print!("{}{}", String::from_utf8_lossy(&found.stdout), String::from_utf8_lossy(&found.stderr));
        println!(
            "The contract differs from what was released (proto/{RELEASED}): add fields with new numbers instead"
        );
        return Ok(false);
    }
    let copied = project.folder().join("contract-planted");
    for (file, text, planted) in PLANTED {
        copy(&contract, &copied)?;
        let path = copied.join("flowmeter/v1").join(file);
        let content = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if !content.contains(text) {
            bail!("{file} has no {text:?}, which is to be broken: plant another one");
        }
        fs::write(&path, content.replacen(text, planted, 1)).context("cannot plant a break")?;
        // A file that cannot be compiled would end in the same way.
        if !binaries::run(Command::new(buf).arg("build").current_dir(&copied))?.success() {
            bail!("{text:?} cannot become {planted:?} in {file}: plant another one");
        }
        let found = compare(buf, &copied, &released)?;
        if found.status.code() != Some(FOUND) {
            let said = String::from_utf8_lossy(&found.stderr);
            println!(
                "buf does not find that {text:?} became {planted:?} in {file}: {}; {said}",
                found.status
            );
            return Ok(false);
        }
        print!("planted, and found: {}", String::from_utf8_lossy(&found.stdout));
    }
    fs::remove_dir_all(&copied).context("cannot remove the copy")?;
    Ok(true)
}

fn compare(buf: &Path, contract: &Path, released: &Path) -> Result<Output> {
    let mut command = Command::new(buf);
    command.arg("breaking").arg("--against").arg(released).current_dir(contract);
    command.output().context("cannot start buf")
}

fn build(buf: &Path, contract: &Path, image: &Path, options: &[&str]) -> Result<()> {
    let mut command = Command::new(buf);
    command.arg("build").args(options).arg("--output").arg(image).current_dir(contract);
    if !binaries::run(&mut command)?.success() {
        bail!("buf cannot build the contract");
    }
    Ok(())
}

/// The files that make up the contract.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let folder = Path::new("flowmeter/v1");
    fs::create_dir_all(to.join(folder)).with_context(|| format!("cannot create {}", to.display()))?;
    let mut files = vec![PathBuf::from("buf.yaml")];
    for entry in fs::read_dir(from.join(folder)).context("cannot read the contract's folder")? {
        files.push(folder.join(entry?.file_name()));
    }
    for file in files {
        fs::copy(from.join(&file), to.join(&file))
            .with_context(|| format!("cannot copy {}", file.display()))?;
    }
    Ok(())
}
