//! Types and format of the dashboard and of n8n's hook, which stay plain JavaScript: types are comments, checked here. Format of
//! the example in TypeScript.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use stack::{Project, binaries, install};

use super::{Outcome, passes};

/// Pinned: another version may find other things. openapi-typescript needs the fifth version of TypeScript.
const PACKAGES: [(&str, &str); 4] = [
    ("typescript", "5.9.3"),
    ("openapi-typescript", "7.13.0"),
    ("prettier", "3.10.1"),
    ("@types/node", "20.19.43"),
];

/// The folders whose modules are checked, each with a `tsconfig.json`.
const CHECKED: [&str; 2] = ["services/gateway/dashboard", "deploy/n8n"];

/// The first line of each module, so that editors check it too.
const CHECK_ME: &str = "// @ts-check\n";

/// The types of the gateway's answers, generated from `docs/openapi.json`.
const ANSWERS: &str = "services/gateway/dashboard/api_types.d.ts";

const FORMATTED: [&str; 5] = [
    "services/gateway/dashboard/*.{js,mjs}",
    "deploy/n8n/*.js",
    "dev/xtask/dashboard/*.mjs",
    "dev/e2e/subscribers/*.mjs",
    "examples/typescript/src/*.ts",
];

/// The answers' types are those of the document, and every module passes TypeScript's checks.
pub fn types(project: &Project, no_install: bool, fix: bool) -> Result<Outcome> {
    let modules = match packages(project, no_install) {
        Ok(modules) => modules,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    let mut is_fine = answers_are_current(project, fix)?;
    for folder in CHECKED {
        is_fine &= begin_right(&project.root().join(folder))?;
        let mut tsc = Command::new(modules.join(".bin/tsc"));
        tsc.arg("--project").arg(folder).arg("--typeRoots").arg(modules.join("@types"));
        is_fine &= binaries::run(tsc.current_dir(project.root()))?.success();
    }
    Ok(if is_fine { Outcome::Passed } else { Outcome::Failed })
}

/// Every module is as prettier formats it.
pub fn format(project: &Project, no_install: bool, fix: bool) -> Result<Outcome> {
    let modules = match packages(project, no_install) {
        Ok(modules) => modules,
        Err(error) => return Ok(Outcome::Skipped(format!("{error:#}"))),
    };
    let mut prettier = Command::new(modules.join(".bin/prettier"));
    prettier.arg(if fix { "--write" } else { "--check" }).args(["--log-level", "warn"]).args(FORMATTED);
    passes(prettier.current_dir(project.root()))
}

fn answers_are_current(project: &Project, fix: bool) -> Result<bool> {
    let mut script = Command::new(install::on_path("node").context("node is missing")?);
    script.arg("dev/xtask/dashboard/types.mjs").current_dir(project.root()).env("TOOLS", project.tools());
    let made = script.stderr(Stdio::inherit()).output().context("cannot generate the types")?;
    if !made.status.success() {
        return Ok(false);
    }
    let path = project.root().join(ANSWERS);
    if fix {
        fs::write(&path, &made.stdout).with_context(|| format!("cannot write {ANSWERS}"))?;
    }
    let is_current = fs::read(&path).unwrap_or_default() == made.stdout;
    if !is_current {
        println!(
            "{ANSWERS} is not that of docs/openapi.json: `cargo xtask verify --only types --fix` writes it"
        );
    }
    Ok(is_current)
}

fn begin_right(folder: &Path) -> Result<bool> {
    let mut is_fine = true;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let is_module = path.extension().is_some_and(|extension| extension == "js");
        if is_module && !fs::read_to_string(&path)?.starts_with(CHECK_ME) {
            println!("{} does not begin with `{}`", path.display(), CHECK_ME.trim_end());
            is_fine = false;
        }
    }
    Ok(is_fine)
}

/// The folder with the packages, installed there where one is missing or has another version.
fn packages(project: &Project, no_install: bool) -> Result<PathBuf> {
    let modules = project.tools().join("node_modules");
    let is_there =
        || PACKAGES.iter().all(|(name, version)| installed(&modules, name).as_deref() == Some(*version));
    if is_there() {
        return Ok(modules);
    }
    if no_install {
        bail!("TypeScript, openapi-typescript or prettier is not installed");
    }
    let npm = install::on_path("npm").context("npm is missing, which installs TypeScript and prettier")?;
    let wanted = PACKAGES.map(|(name, version)| format!("{name}@{version}"));
    println!("Installing {}", wanted.join(", "));
    let mut npm = Command::new(npm);
    npm.args(["install", "--no-audit", "--no-fund", "--loglevel", "error", "--save-exact", "--prefix"]);
    npm.arg(project.tools()).args(wanted);
    if !binaries::run(&mut npm)?.success() || !is_there() {
        bail!("npm cannot install TypeScript, openapi-typescript and prettier");
    }
    Ok(modules)
}

fn installed(modules: &Path, name: &str) -> Option<String> {
    let about = fs::read(modules.join(name).join("package.json")).ok()?;
    let about: serde_json::Value = serde_json::from_slice(&about).ok()?;
    Some(about.get("version")?.as_str()?.to_owned())
}
