//! `cargo xtask up`.

use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use stack::{
    FacePorts, Interrupt, Profile, Project, Replica, Stack, backing::Servers, binaries, demo,
    postgres::Durability, services::Options,
};

mod own_settings;

/// Pause between two checks of the processes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The first restart comes soon, and each further one after twice the pause.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A process that has run this long has recovered: its next restart comes soon again.
const RECOVERED_AFTER: Duration = Duration::from_secs(60);

/// Arguments of `cargo xtask up`.
#[derive(Debug, Args)]
pub struct Up {
    /// Start with empty databases: clears what an earlier run has left.
    #[arg(long)]
    fresh: bool,
    /// Build with optimisations.
    #[arg(long)]
    release: bool,
    /// Start without demo tenants.
    #[arg(long)]
    no_demo: bool,
    /// The dashboard's port; the next free one if it is taken [default: that of the last start, or 8080].
    #[arg(long)]
    port: Option<u16>,
    /// The port to which an n8n pushes; the next free one if it is taken [default: that of the last start, or 8081].
    #[arg(long)]
    push_port: Option<u16>,
    /// The folder below .flowmeter that holds the state: several stacks can run side by side.
    #[arg(long, default_value = "up")]
    profile: String,
}

impl Up {
    /// Runs the task, until Ctrl-C.
    pub fn run(&self) -> Result<ExitCode> {
        let project = Project::find()?;
        let interrupt = Interrupt::listen()?;
        let open = if self.fresh { Profile::fresh } else { Profile::open };
        let profile = open(&project, &self.profile)?;
        let mut servers = Servers::start(&profile, Durability::PowerLoss)?;
        let built = binaries::build(&project, self.release)?;

        println!("Starting the sandbox and the services");
        let before = FacePorts::kept(&profile)?;
        let mut options = Options {
            face_ports: Some(FacePorts { gateway: self.port, push: self.push_port }),
            sandbox_args: demo::sandbox_arguments(&profile, !self.no_demo),
            ..Options::new(built, servers.backing.clone())
                .with("ALERTS__OPERATOR_RECIPIENTS", "operator@flowmeter.example")
        };
        let own = own_settings::of(env::vars_os());
        if !own.is_empty() {
            // Names only: a value may be a secret.
            println!("Settings from the environment: {}", own.keys().cloned().collect::<Vec<_>>().join(", "));
        }
        options.settings.extend(own);
        let mut stack = Stack::start(profile, options)?;
        if !self.no_demo {
            demo::apply(&project, &stack)?;
        }
        println!("{}", greeting(&stack)?);
        if let Some(moved) = moved(before, FacePorts::kept(stack.profile())?) {
            println!("{moved}");
        }

        let mut watch = Watch::default();
        while !interrupt.asked() {
            watch.look(&mut stack)?;
            servers.check()?;
            std::thread::sleep(LOOK_EVERY);
        }
        println!("\nStopping");
        stack.stop()?;
        servers.stop()?;
        println!("Stopped. The state is kept in {}", stack.profile().folder().display());
        Ok(ExitCode::SUCCESS)
    }
}

fn greeting(stack: &Stack) -> Result<String> {
    let environment = stack.profile().folder().join("env");
    let exports = stack.cli_environment().iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "export {name}='{value}'");
        text
    });
    stack::project::write_private(&environment, &exports)?;
    let shown = |path: &std::path::Path| path.display().to_string();
    Ok(format!(
        "\nFlowmeter is up.\n\
         \n  Dashboard      {link}\
         \n  API            {gateway}/openapi.json\
         \n  Push address   {push}   (an n8n's FLOWMETER_PUSH_URL; its FLOWMETER_GATEWAY_URL is {gateway})\
         \n  Sandbox        {sandbox}   (n8n, Stripe and mail; mails: {sandbox}/control/mail)\
         \n  Logs           {logs}\
         \n\
         \n  Command line   . {environment}\
         \n                 {cli} usage\
         \n                 {cli} --help\
         \n\
         \n  Ctrl-C stops everything and keeps the state; `--fresh` starts over.\n",
        link = stack.sign_in_link(),
        gateway = stack.gateway().base(),
        push = stack.push_url(),
        sandbox = stack.sandbox().base(),
        logs = shown(&stack.profile().folder().join("logs")),
        environment = shown(&environment),
        cli = shown(&fs::canonicalize(stack.cli()).context("the command line was not built")?),
    ))
}

/// What to change in an n8n with the hook, if a port of the last start was taken or another one was requested.
fn moved(before: FacePorts, now: FacePorts) -> Option<String> {
    let line = |variable, before: Option<u16>, now: Option<u16>| {
        let (before, now) = (before?, now?);
        (before != now).then(|| format!("  Port {before} is now {now}: change {variable} of your n8n.\n"))
    };
    let lines = [
        line("FLOWMETER_GATEWAY_URL", before.gateway, now.gateway),
        line("FLOWMETER_PUSH_URL", before.push, now.push),
    ];
    let text = lines.into_iter().flatten().collect::<String>();
    (!text.is_empty()).then_some(text)
}

#[derive(Default)]
struct Watch {
    restarts: BTreeMap<Replica, Restarts>,
}

struct Restarts {
    backoff: Duration,
    started: Instant,
    due: Option<Instant>,
}

impl Watch {
    /// Reports processes that have ended, and restarts each after its back-off.
    fn look(&mut self, stack: &mut Stack) -> Result<()> {
        let now = Instant::now();
        for (replica, obituary) in stack.find_dead()? {
            let restarts = self.restarts.entry(replica).or_insert(Restarts {
                backoff: BACKOFF_MIN,
                started: now.checked_sub(RECOVERED_AFTER).unwrap_or(now),
                due: None,
            });
            match restarts.due {
                None => {
                    eprintln!("{obituary:#}");
                    restarts.backoff = next_backoff(restarts.backoff, now - restarts.started);
                    eprintln!("Restarting {replica} in {} s", restarts.backoff.as_secs());
                    restarts.due = Some(now + restarts.backoff);
                }
                Some(due) if due <= now => {
                    stack.relaunch(replica)?;
                    restarts.started = now;
                    restarts.due = None;
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

fn next_backoff(last: Duration, ran_for: Duration) -> Duration {
    if ran_for >= RECOVERED_AFTER { BACKOFF_MIN } else { (last * 2).min(BACKOFF_MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_moved_names_the_variable_to_change() {
        let before = FacePorts::USUAL;
        assert_eq!(moved(FacePorts::default(), before), None);
        assert_eq!(moved(before, before), None);
        let text = moved(before, FacePorts { push: Some(8083), ..before }).unwrap();
        assert!(text.contains("8081 is now 8083") && text.contains("FLOWMETER_PUSH_URL"), "{text}");
        assert!(!text.contains("FLOWMETER_GATEWAY_URL"), "{text}");
    }

    #[test]
    fn restarts_slow_down_and_recover() {
        let soon = Duration::from_secs(5);
        let mut backoff = next_backoff(BACKOFF_MIN, RECOVERED_AFTER);
        let mut seen = vec![backoff.as_secs()];
        for _ in 0..6 {
            backoff = next_backoff(backoff, soon);
            seen.push(backoff.as_secs());
        }
        assert_eq!(seen, [1, 2, 4, 8, 16, 30, 30]);
        assert_eq!(next_backoff(backoff, RECOVERED_AFTER), BACKOFF_MIN);
    }
}
