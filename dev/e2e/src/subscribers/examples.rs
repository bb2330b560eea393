//! The examples: their packages, and each as a process.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use stack::{Process, Profile, Project, Stack, binaries, install, process::Launch};

use super::tables::Printed;

/// The package of the example in Rust, and its binary.
pub const PACKAGE: &str = "flowmeter-subscriber";

/// Pinned: another version may check other rules.
const CLOUDEVENTS_NPM: &str = "cloudevents@10.0.0";
const CLOUDEVENTS_PYPI: &str = "cloudevents==2.2.0";

/// The first version of Node for which the example is written.
const NODE_MIN: u32 = 20;

/// What an example prints when it acts on a crossing.
const ACTED: &str = "of its limit";

/// The interpreters, and the folders with the packages.
pub struct Installed {
    pub node: PathBuf,
    pub python: PathBuf,
    /// Packages of Python, and the compiled contract.
    pub python_path: Vec<PathBuf>,
    typescript: PathBuf,
    python_example: PathBuf,
}

impl Installed {
    /// Finds what the examples need, and installs it unless that is forbidden.
    pub fn find(project: &Project, no_install: bool) -> Result<Self> {
        let node =
            install::on_path("node").context("node is missing, which runs the example in TypeScript")?;
        let python =
            install::on_path("python3").context("python3 is missing, which runs the example in Python")?;
        let version = Command::new(&node).arg("--version").output().context("cannot start node")?;
        let version = String::from_utf8_lossy(&version.stdout).into_owned();
        let major = version.trim_start_matches('v').split('.').next().and_then(|major| major.parse().ok());
        if major.is_none_or(|major: u32| major < NODE_MIN) {
            bail!("the example in TypeScript needs node {NODE_MIN} or later, and this is {}", version.trim());
        }
        let typescript = typescript(project, no_install)?;
        let python_path = python_packages(project, &python, no_install)?;
        let python_example = project.root().join("examples/python");
        Ok(Self { node, python, python_path, typescript, python_example })
    }

    /// The three examples, not started. The first one is that in TypeScript.
    pub fn examples(&self, stack: &Stack) -> Vec<Example> {
        let rust = stack.cli().with_file_name(PACKAGE);
        let program = self.typescript.join("dist/subscriber.js");
        let python = self.python_example.join("subscriber.py");
        let path = env::join_paths(&self.python_path).unwrap_or_default().to_string_lossy().into_owned();
        let of = |language, name, program: &Path, args: &[&Path], env: &[(&str, &str)]| {
            let database = stack.profile().folder().join(format!("{name}.db"));
            let database = ("SUBSCRIBER_DB", database.display().to_string());
            let env = env.iter().map(|(name, value)| (*name, (*value).to_owned())).chain([database]);
            Example {
                language,
                log: stack.profile().log(name),
                launch: Launch {
                    args: args.iter().map(|arg| arg.display().to_string()).collect(),
                    env: env.map(|(name, value)| (name.to_owned(), value)).collect(),
                    ..Launch::new(name, program)
                },
                process: None,
            }
        };
        // Python writes no compiled files into the checkout, and each line at once.
        let python_env =
            [("PYTHONPATH", path.as_str()), ("PYTHONDONTWRITEBYTECODE", "1"), ("PYTHONUNBUFFERED", "1")];
        vec![
            of("TypeScript", "books-typescript", &self.node, &[&program], &[]),
            of("Python", "books-python", &self.python, &[&python], &python_env),
            of("Rust", "books-rust", &rust, &[], &[]),
        ]
    }
}

/// One example: its process, and how to run it again.
pub struct Example {
    language: &'static str,
    log: PathBuf,
    launch: Launch,
    process: Option<Process>,
}

impl Example {
    /// The language it is written in.
    pub fn language(&self) -> &'static str {
        self.language
    }

    /// The name of its user.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Starts it with the login of its user.
    pub fn start(&mut self, profile: &Profile, login: &[(&'static str, String)]) -> Result<()> {
        self.launch.env.extend(login.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        self.restart(profile)
    }

    /// Starts it again.
    pub fn restart(&mut self, profile: &Profile) -> Result<()> {
        self.process = Some(Process::start(profile, self.launch.clone())?);
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.process.as_mut().context("it was started")?.kill()
    }

    /// SIGTERM.
    pub fn stop(&mut self) -> Result<()> {
        self.process.as_mut().context("it was started")?.stop()
    }

    /// What it prints of its database.
    pub fn print(&self) -> Result<String> {
        let environment: &BTreeMap<String, String> = &self.launch.env;
        let output = Command::new(&self.launch.program)
            .args(&self.launch.args)
            .arg("usage")
            .envs(environment)
            .output();
        let output = output.with_context(|| format!("cannot start {}", self.launch.program.display()))?;
        if !output.status.success() {
            bail!("{} prints no usage: {}", self.launch.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The same as tables.
    pub fn printed(&self) -> Result<Printed> {
        Printed::parse(&self.print()?)
    }

    /// How many crossings it has acted on, over all its lives.
    pub fn acted(&self) -> Result<usize> {
        let log =
            fs::read_to_string(&self.log).with_context(|| format!("cannot read {}", self.log.display()))?;
        Ok(log.lines().filter(|line| line.ends_with(ACTED)).count())
    }
}

/// The compiled example in TypeScript, with its packages.
fn typescript(project: &Project, no_install: bool) -> Result<PathBuf> {
    let folder = project.root().join("examples/typescript");
    let npm =
        install::on_path("npm").context("npm is missing, which installs the packages of the example")?;
    let is_installed = || folder.join("node_modules/.bin/tsc").exists();
    if !is_installed() && no_install {
        bail!("the packages of examples/typescript are not installed");
    }
    // As its README says; quick if nothing has changed.
    if !no_install {
        println!("Installing the packages of examples/typescript");
        let mut ci = Command::new(&npm);
        ci.args(["ci", "--no-audit", "--no-fund", "--loglevel", "error"]).current_dir(&folder);
        if !binaries::run(&mut ci)?.success() || !is_installed() {
            bail!("npm cannot install the packages of examples/typescript");
        }
        let mut events = Command::new(&npm);
        events.args(["install", "--no-audit", "--no-fund", "--loglevel", "error", "--prefix"]);
        events.arg(project.tools()).arg(CLOUDEVENTS_NPM);
        if !binaries::run(&mut events)?.success() {
            bail!("npm cannot install {CLOUDEVENTS_NPM}");
        }
    }
    println!("Building examples/typescript");
    let mut build = Command::new(npm);
    build.args(["run", "--silent", "build"]).current_dir(&folder);
    if !binaries::run(&mut build)?.success() {
        bail!("examples/typescript cannot be built");
    }
    Ok(folder)
}

/// The packages of the example in Python, and the contract that is compiled for it.
fn python_packages(project: &Project, python: &Path, no_install: bool) -> Result<Vec<PathBuf>> {
    let requirements = project.root().join("examples/python/requirements.txt");
    let wanted =
        fs::read_to_string(&requirements).context("cannot read requirements.txt")? + CLOUDEVENTS_PYPI;
    let folder = project.tools().join("python-subscribers");
    let note = folder.join("requirements.txt");
    if fs::read_to_string(&note).ok().as_ref() != Some(&wanted) {
        if no_install {
            bail!("the packages of examples/python are not installed");
        }
        if folder.exists() {
            fs::remove_dir_all(&folder).context("cannot remove the packages of an earlier version")?;
        }
        println!("Installing the packages of examples/python");
        let mut pip = Command::new(python);
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
            "--root-user-action",
            "ignore",
        ]);
        pip.arg("--target").arg(&folder).arg("--requirement").arg(&requirements).arg(CLOUDEVENTS_PYPI);
        if !binaries::run(&mut pip)?.success() {
            bail!("pip cannot install the packages of examples/python");
        }
        fs::write(&note, wanted).context("cannot note what was installed")?;
    }
    let compiled = project.tools().join("python-contract");
    fs::create_dir_all(&compiled).context("cannot create the folder of the compiled contract")?;
    let proto = project.root().join("proto");
    let mut protoc = Command::new(python);
    protoc.args(["-m", "grpc_tools.protoc", "-I"]).arg(&proto).arg("--python_out").arg(&compiled);
    protoc.arg(proto.join("flowmeter/v1/usage.proto")).env("PYTHONPATH", &folder);
    if !binaries::run(&mut protoc)?.success() {
        bail!("the contract cannot be compiled for Python");
    }
    Ok(vec![folder, compiled])
}
