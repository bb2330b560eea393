//! A child process: its log, its pid file, its end.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context, Result};
use nix::{
    errno::Errno,
    sys::signal::{self, Signal},
    unistd::Pid,
};

use crate::{Profile, memory, wait};

/// Time to finish the work in progress after the stop signal.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// Time for the system to remove a killed process.
const GONE_WITHIN: Duration = Duration::from_secs(10);

/// Lines of the log that are shown when a process has ended.
const LAST_LINES: usize = 20;

/// How much of a log is read for its last lines.
const LOG_TAIL_BYTES: usize = 16 * 1024;

/// How to start a process.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Its name in logs and messages; unique in its profile.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its environment, added to ours.
    pub env: BTreeMap<String, String>,
    /// The system user to run as, if not ours.
    pub user: Option<String>,
    /// The network namespace to run in, by name (`ip netns`), if not ours.
    pub namespace: Option<String>,
    /// The signal that asks it to stop, which is also sent when we die.
    pub stop_signal: Signal,
}

impl Launch {
    /// A process with our user and environment that stops at SIGTERM.
    pub fn new(name: &str, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            user: None,
            namespace: None,
            stop_signal: Signal::SIGTERM,
        }
    }

    /// The command, wrapped by `setpriv` where the system has it: the kernel then sends the stop signal when we
    /// die, however that happens. (The plain way needs unsafe code between fork and exec.)
    fn command(&self) -> Command {
        let mut words: Vec<OsString> = Vec::new();
        if let Some(namespace) = &self.namespace {
            // It executes the rest in its own place, so the process that we start is the program.
            words.extend([OsString::from("nsenter"), format!("--net=/run/netns/{namespace}").into()]);
        }
        if let Some(setpriv) = setpriv() {
            let signal = self.stop_signal.as_str().trim_start_matches("SIG");
            words.extend([setpriv.into_os_string(), "--pdeathsig".into(), signal.into()]);
            words.extend(self.user.iter().flat_map(|user| as_user(user)).map(OsString::from));
        }
        words.push(self.program.clone().into_os_string());
        words.extend(self.args.iter().map(OsString::from));
        let mut words = words.into_iter();
        let mut command = Command::new(words.next().unwrap_or_default());
        // Its own group: Ctrl-C in the terminal reaches only us, and we stop the rest in order.
        command.args(words).envs(&self.env).process_group(0).stdin(Stdio::null());
        command
    }
}

/// Runs a command as another system user.
pub(crate) fn command_as(user: Option<&str>, program: &Path) -> Command {
    match (user, setpriv()) {
        (Some(user), Some(setpriv)) => {
            let mut command = Command::new(setpriv);
            command.args(as_user(user)).arg(program);
            command
        }
        _ => Command::new(program),
    }
}

fn setpriv() -> Option<PathBuf> {
    crate::install::on_path("setpriv")
}

/// The arguments of `setpriv` that make it run as this user with the groups of this user.
fn as_user(user: &str) -> [String; 5] {
    let group = match nix::unistd::User::from_name(user) {
        Ok(Some(found)) => found.gid.to_string(),
        _ => user.to_owned(),
    };
    ["--reuid".to_owned(), user.to_owned(), "--regid".to_owned(), group, "--init-groups".to_owned()]
}

/// A running child. Dropping it stops it.
#[derive(Debug)]
pub struct Process {
    launch: Launch,
    child: Child,
    log: PathBuf,
    pid_file: PathBuf,
}

impl Process {
    /// Starts it; its output is appended to its log in the profile's folder. A process of the same name that an
    /// earlier run has left behind is stopped first. Start it from a thread that lives as long as the process
    /// should: the kernel sends the stop signal when that thread ends.
    pub fn start(profile: &Profile, launch: Launch) -> Result<Self> {
        let pid_file = profile.folder().join("pids").join(&launch.name);
        stop_leftover(&pid_file)?;
        let log = profile.log(&launch.name);
        let output = File::options()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        let errors = output.try_clone().context("cannot share the log")?;
        let child = launch
            .command()
            .stdout(output)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("cannot start {}", launch.program.display()))?;
        let record = format!("{}\n{}\n", child.id(), launch.program.display());
        fs::write(&pid_file, record).with_context(|| format!("cannot write {}", pid_file.display()))?;
        Ok(Self { launch, child, log, pid_file })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.launch.name
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot read the state of {}", self.launch.name))
    }

    /// An error that says how it ended, with the last lines of its log.
    pub fn obituary(&self, status: ExitStatus) -> anyhow::Error {
        anyhow::anyhow!(
            "{} ended ({status}); the last lines of {}:\n{}",
            self.launch.name,
            self.log.display(),
            last_lines(&self.log)
        )
    }

    /// Waits until `ready` returns true; fails at once when the process ends.
    pub fn wait_ready(&mut self, within: Duration, ready: impl Fn() -> bool) -> Result<()> {
        let what = format!("{} to be ready", self.launch.name);
        let waited = wait::until(&what, within, || match self.ended()? {
            Some(status) => Err(self.obituary(status)),
            None => Ok(ready().then_some(())),
        });
        let ended = matches!(self.ended(), Ok(Some(_)));
        waited.map_err(|error| match ended {
            true => error,
            false => {
                error.context(format!("the last lines of {}:\n{}", self.log.display(), last_lines(&self.log)))
            }
        })
    }

    /// Sends the stop signal, then SIGKILL after 15 seconds.
    pub fn stop(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.ask_to_stop()?;
            // A paused process does not handle the signal.
            self.resume()?;
            if self.wait_gone(STOP_WITHIN).is_err() {
                self.kill()?;
            }
        }
        let _ = fs::remove_file(&self.pid_file);
        Ok(())
    }

    /// SIGKILL: the crash of a test.
    pub fn kill(&mut self) -> Result<()> {
        if self.ended()?.is_none() {
            self.signal(Signal::SIGKILL)?;
            self.wait_gone(GONE_WITHIN)?;
        }
        let _ = fs::remove_file(&self.pid_file);
        Ok(())
    }

    /// Sends the stop signal, without waiting.
    pub fn ask_to_stop(&self) -> Result<()> {
        self.signal(self.launch.stop_signal)
    }

    /// SIGHUP: it reads its configuration again, if it is a program that does.
    pub fn reload(&self) -> Result<()> {
        self.signal(Signal::SIGHUP)
    }

    /// SIGSTOP to it and its children: nothing moves, nothing is lost, and nobody is notified.
    pub fn pause(&self) -> Result<()> {
        // The parent first: once paused, it starts no more children.
        self.signal(Signal::SIGSTOP)?;
        self.signal_children(Signal::SIGSTOP)
    }

    /// SIGCONT to it and its children.
    pub fn resume(&self) -> Result<()> {
        self.signal_children(Signal::SIGCONT)?;
        self.signal(Signal::SIGCONT)
    }

    fn signal_children(&self, signal: Signal) -> Result<()> {
        memory::children(self.child.id()).into_iter().try_for_each(|child| send(child, signal))
    }

    fn wait_gone(&mut self, within: Duration) -> Result<()> {
        let what = format!("{} to end", self.launch.name);
        wait::until(&what, within, || Ok(self.ended()?.map(|_| ())))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        send(self.child.id(), signal).with_context(|| format!("cannot signal {}", self.launch.name))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("{} may still run: {error:#}", self.launch.name);
        }
    }
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let pid = Pid::from_raw(i32::try_from(pid).context("a process id is positive")?);
    match signal::kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Stops every process with a pid file in this folder.
pub(crate) fn stop_leftovers(pids: &Path) -> Result<()> {
    let Ok(entries) = fs::read_dir(pids) else { return Ok(()) };
    for entry in entries {
        stop_leftover(&entry?.path())?;
    }
    Ok(())
}

/// Stops the process of a pid file, if it still runs and is still that program: the system reuses pids.
pub(crate) fn stop_leftover(pid_file: &Path) -> Result<()> {
    let Ok(record) = fs::read_to_string(pid_file) else { return Ok(()) };
    let mut lines = record.lines();
    let (pid, program) = (lines.next().and_then(|pid| pid.parse().ok()), lines.next());
    if let (Some(pid), Some(program)) = (pid, program)
        && runs(pid, program)
    {
        send(pid, Signal::SIGTERM)?;
        let what = format!("an earlier {program} to end");
        let ended = || Ok((!runs(pid, program)).then_some(()));
        if wait::until(&what, STOP_WITHIN, ended).is_err() {
            send(pid, Signal::SIGKILL)?;
            wait::until(&what, GONE_WITHIN, ended)?;
        }
    }
    fs::remove_file(pid_file).with_context(|| format!("cannot remove {}", pid_file.display()))
}

/// Whether this pid is, now, a process of this program.
pub(crate) fn runs(pid: u32, program: &str) -> bool {
    let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    command_line.split(|byte| *byte == 0).any(|word| word == program.as_bytes())
}

/// The end of a log.
pub fn last_lines(log: &Path) -> String {
    let Ok(content) = fs::read(log) else { return "(no log)".to_owned() };
    let tail = content.len().saturating_sub(LOG_TAIL_BYTES);
    let text = String::from_utf8_lossy(content.get(tail..).unwrap_or_default());
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(LAST_LINES)..).unwrap_or_default().join("\n")
}
