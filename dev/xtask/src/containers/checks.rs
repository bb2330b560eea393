//! What must hold of the Compose file: one command from nothing to the demo, and everything comes back by itself.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{self, Signal},
    unistd::Pid,
};
use serde_json::{Value, json};
use stack::{Api, Interrupt, install, wait};

use super::{docker::Docker, engine::Engine, stand_ins};

/// The gateway, as docker-compose.yml publishes it.
const GATEWAY: &str = "http://127.0.0.1:8080";

/// What is killed: everything that a user would miss.
const RUNNING: [&str; 8] =
    ["nats", "postgres", "collector", "aggregator", "billing", "alerts", "gateway", "sandbox"];

const TENANTS: usize = 3;

/// Programs without optimisations on a busy machine. A health check runs every ten seconds.
const BACK_WITHIN: Duration = Duration::from_secs(300);

/// Until a service gives up a connection on which nothing arrives any more, and then three failed health checks.
const NOTICED_WITHIN: Duration = Duration::from_secs(300);

/// The demo's sources are polled every five seconds. After a cut, a service may first have to give up such a connection.
const COUNTED_WITHIN: Duration = Duration::from_secs(300);

/// The profile of the demo.
const DEMO: [&str; 2] = ["--profile", "sandbox"];

/// Every check, in order.
pub struct Checks<'a> {
    docker: &'a Docker,
    folder: &'a Path,
    checkout: &'a Path,
    interrupt: &'a Interrupt,
    gateway: Api,
    peaks: BTreeMap<String, f64>,
}

impl<'a> Checks<'a> {
    /// On this engine and copy of the checkout.
    pub fn new(engine: &'a Engine, folder: &'a Path, checkout: &'a Path, interrupt: &'a Interrupt) -> Self {
        let gateway = Api::new(GATEWAY);
        Self { docker: engine.docker(), folder, checkout, interrupt, gateway, peaks: BTreeMap::new() }
    }

    /// Runs them until one fails.
    pub fn run(mut self) -> Result<()> {
        self.step("the stand-ins are loaded", |it| stand_ins::load(it.docker, it.folder))?;
        self.start_from_nothing()?;
        self.step("the token is kept, and in no log", Self::secrets)?;
        self.step("a wrong token is refused, the right one signs in", Self::sign_in)?;
        self.step("a service's role reads no other schema", Self::roles)?;
        self.step("containers run without root and without capabilities", Self::hardened)?;
        for service in RUNNING {
            self.kill(service)?;
        }
        for service in ["collector", "nats"] {
            self.cut(service)?;
        }
        self.memory()?;
        self.step("the proxy of the profile tls serves the dashboard", Self::proxy)?;
        self.step("without the sandbox, alerts warn of the missing mail server", Self::without_sandbox)?;
        self.images()?;
        self.step("down --volumes leaves nothing", Self::down)
    }

    fn step(&mut self, name: &str, check: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let began = Instant::now();
        if self.interrupt.asked() {
            bail!("stopped before: {name}");
        }
        check(self).with_context(|| name.to_owned())?;
        println!("{:>6.1} s  {name}", began.elapsed().as_secs_f32());
        Ok(())
    }

    fn compose(&self, words: &[&str]) -> Result<String> {
        self.docker.compose(self.checkout, words)
    }

    fn start_from_nothing(&mut self) -> Result<()> {
        let began = Instant::now();
        self.step("docker compose --profile sandbox build", |it| {
            it.compose(&[&DEMO[..], &["build"]].concat()).map(drop)
        })?;
        self.step("docker compose --profile sandbox up --build --detach --wait", |it| {
            it.compose(&[&DEMO[..], &["up", "--build", "--detach", "--wait"]].concat()).map(drop)
        })?;
        self.step("the demo's figures appear", |it| {
            let token = it.show("operator_token")?;
            it.gateway = Api::new(GATEWAY).with_token(&token);
            wait::until("figures of every tenant", COUNTED_WITHIN, || {
                let usage = it.usage()?;
                Ok((usage.len() == TENANTS && usage.values().all(|counted| *counted > 0)).then_some(()))
            })
        })?;
        println!(
            "          from nothing to the demo's figures: {:.1} s, without compiling and without pulling images",
            began.elapsed().as_secs_f32()
        );
        Ok(())
    }

    fn show(&self, secret: &str) -> Result<String> {
        self.compose(&["run", "--rm", "--no-TTY", "init", "--show", secret])
    }

    /// Executions of each tenant.
    fn usage(&self) -> Result<BTreeMap<String, u64>> {
        let answer = self.gateway.get("/v1/usage")?;
        let usage = answer.get("usage").and_then(Value::as_array).context("the answer has no usage")?;
        let of_tenant = |usage: &Value| {
            let tenant = usage.get("tenant").and_then(Value::as_str)?.to_owned();
            Some((tenant, usage.get("counted").and_then(Value::as_u64).unwrap_or_default()))
        };
        Ok(usage.iter().filter_map(of_tenant).collect())
    }

    /// Waits until more is counted than now, whatever is unavailable meanwhile.
    fn figures_go_on(&self) -> Result<()> {
        let total = || self.usage().ok().map(|usage| usage.values().sum::<u64>());
        let before = wait::until("an answer with figures", COUNTED_WITHIN, || Ok(total()))?;
        wait::until("new figures", COUNTED_WITHIN, || Ok(total().filter(|now| *now > before).map(drop)))
    }

    fn secrets(&mut self) -> Result<()> {
        let names = ["operator_token", "collector_secret_key", "postgres_superuser"];
        let before = names.map(|name| self.show(name));
        self.compose(&[&DEMO[..], &["up", "--detach", "--wait"]].concat())?;
        let logs = self.compose(&[&DEMO[..], &["logs", "--no-color"]].concat())?;
        for (name, before) in names.into_iter().zip(before) {
            let before = before?;
            ensure!(before.len() > 30 && self.show(name)? == before, "{name} was made again");
            ensure!(!logs.contains(&before), "{name} is in a log");
        }
        Ok(())
    }

    fn sign_in(&mut self) -> Result<()> {
        let sign_in = |token: &str| Api::new(GATEWAY).try_post("/v1/session", &json!({ "token": token }));
        let (wrong, _) = sign_in("not-the-operators-token")?;
        let (right, said) = sign_in(&self.show("operator_token")?)?;
        ensure!(wrong == 401 && right == 200, "the answers are {wrong} and {right}: {said}");
        let page = Api::new(GATEWAY).text("/")?;
        ensure!(page.contains("<html"), "the dashboard is no page");
        Ok(())
    }

    fn roles(&mut self) -> Result<()> {
        let ask = |user: &str, sql: &str| {
            let psql =
                ["psql", "--host=127.0.0.1", "--dbname=flowmeter", "--username", user, "--command", sql];
            let container = self.container("postgres")?;
            self.docker.try_run(&[&["exec", &container], &psql[..]].concat())
        };
        let (own, said) = ask("collector", "SELECT count(*) FROM collector.sources_of_nobody")?;
        ensure!(!own && said.contains("does not exist"), "a role cannot look into its own schema: {said}");
        for (user, sql) in [
            ("collector", "SELECT count(*) FROM gateway.tokens"),
            ("alerts", "CREATE TABLE billing.own (a int)"),
            ("billing", "CREATE SCHEMA own"),
            ("gateway", "CREATE ROLE own"),
        ] {
            let (allowed, said) = ask(user, sql)?;
            ensure!(!allowed && said.contains("permission denied"), "{user} may run `{sql}`: {said}");
        }
        Ok(())
    }

    fn hardened(&mut self) -> Result<()> {
        let format =
            "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.Memory}}";
        for service in RUNNING.into_iter().filter(|service| !["nats", "postgres"].contains(service)) {
            let container = self.container(service)?;
            let found = self.docker.run(&["inspect", "--format", format, &container])?;
            ensure!(
                found.starts_with("10001:10001 true [ALL] ") && !found.ends_with(" 0"),
                "{service} runs with: {found}"
            );
        }
        Ok(())
    }

    fn container(&self, service: &str) -> Result<String> {
        self.compose(&["ps", "--quiet", "--all", service])
    }

    fn inspect(&self, container: &str, what: &str) -> Result<String> {
        self.docker.run(&["inspect", "--format", what, container])
    }

    fn is_healthy(&self, container: &str) -> Result<bool> {
        Ok(self.inspect(container, "{{.State.Health.Status}}")? == "healthy")
    }

    fn kill(&mut self, service: &str) -> Result<()> {
        self.step(&format!("{service} is back after kill -9, and the figures go on"), |it| {
            let container = it.container(service)?;
            let pid_of = |container: &str| it.inspect(container, "{{.State.Pid}}");
            let before = pid_of(&container)?;
            let pid = Pid::from_raw(before.parse().context("no process id")?);
            signal::kill(pid, Signal::SIGKILL).with_context(|| format!("cannot kill {before}"))?;
            wait::until("its restart", BACK_WITHIN, || {
                let now = pid_of(&container)?;
                Ok((now != before && now != "0" && it.is_healthy(&container)?).then_some(()))
            })?;
            it.all_healthy()?;
            it.figures_go_on()?;
            it.sample()
        })
    }

    fn all_healthy(&self) -> Result<()> {
        for service in RUNNING {
            let container = self.container(service)?;
            wait::until(&format!("{service} to be healthy"), BACK_WITHIN, || {
                Ok(self.is_healthy(&container)?.then_some(()))
            })?;
        }
        Ok(())
    }

    fn cut(&mut self, service: &str) -> Result<()> {
        self.step(&format!("{service} is cut from its network, which is noticed, and heals"), |it| {
            let container = it.container(service)?;
            it.docker.run(&["network", "disconnect", "flowmeter_default", &container])?;
            // The broker's own check passes; those who cannot reach it are not ready.
            let witness = it.container(if service == "nats" { "aggregator" } else { service })?;
            wait::until("a failed health check", NOTICED_WITHIN, || {
                Ok((it.inspect(&witness, "{{.State.Health.Status}}")? == "unhealthy").then_some(()))
            })?;
            it.docker.run(&["network", "connect", "--alias", service, "flowmeter_default", &container])?;
            it.all_healthy()?;
            it.figures_go_on()?;
            it.sample()
        })
    }

    /// Remembers the most memory that each container was seen with.
    fn sample(&mut self) -> Result<()> {
        let stats = self.docker.run(&["stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}"])?;
        for line in stats.lines() {
            let mut words = line.split_whitespace();
            if let (Some(name), Some(used)) = (words.next(), words.next().and_then(mebibytes)) {
                let peak = self.peaks.entry(name.to_owned()).or_default();
                *peak = peak.max(used);
            }
        }
        Ok(())
    }

    fn memory(&mut self) -> Result<()> {
        for (name, peak) in &self.peaks {
            let limit = self.inspect(name, "{{.HostConfig.Memory}}")?.parse::<u64>().unwrap_or_default();
            println!("          {name:<28} {peak:>7.1} MiB of {:>5} MiB", limit / (1 << 20));
        }
        Ok(())
    }

    fn proxy(&mut self) -> Result<()> {
        self.compose(&[&DEMO[..], &["--profile", "tls", "up", "--detach", "--wait"]].concat())?;
        let curl = install::on_path("curl").context("curl is missing: `apt-get install curl`")?;
        wait::until("the proxy's answer", BACK_WITHIN, || {
            let mut ask = Command::new(&curl);
            ask.args(["--insecure", "--silent", "--show-error", "--fail", "https://localhost/"]);
            let output = ask.output().context("cannot start curl")?;
            Ok(String::from_utf8_lossy(&output.stdout).contains("<html").then_some(()))
        })
    }

    fn without_sandbox(&mut self) -> Result<()> {
        self.compose(&["--profile", "*", "down"])?;
        self.compose(&["up", "--detach", "--wait"])?;
        let said = self.compose(&["exec", "--no-TTY", "alerts", "flowmeter", "health"])?;
        ensure!(said.contains("no mail server"), "alerts are ready without a word about mail: {said}");
        ensure!(self.compose(&["ps", "--quiet", "sandbox"])?.is_empty(), "the sandbox runs");
        // Kept: the volumes are those of the demo.
        ensure!(self.usage()?.len() == TENANTS, "the demo's tenants are gone");
        Ok(())
    }

    fn images(&self) -> Result<()> {
        let listed = self.docker.run(&["images", "--format", "{{.Repository}}:{{.Tag}} {{.Size}}"])?;
        let mut lines: Vec<&str> = listed.lines().filter(|line| !line.starts_with("stand-in-")).collect();
        lines.sort_unstable();
        for line in lines {
            let (image, size) = line.split_once(' ').unwrap_or((line, ""));
            println!("          {image:<44} {size:>8}");
        }
        Ok(())
    }

    fn down(&mut self) -> Result<()> {
        self.compose(&["--profile", "*", "down", "--volumes"])?;
        let label = "label=com.docker.compose.project=flowmeter";
        for list in [
            &["ps", "--all", "--quiet", "--filter", label][..],
            &["volume", "ls", "--quiet"][..],
            &["network", "ls", "--quiet", "--filter", label][..],
        ] {
            let left = self.docker.run(list)?;
            ensure!(left.is_empty(), "`docker {}` still lists: {left}", list.join(" "));
        }
        Ok(())
    }
}

/// Reads `123.4MiB`, as `docker stats` prints it.
fn mebibytes(text: &str) -> Option<f64> {
    let units = [("GiB", 1024.0), ("MiB", 1.0), ("KiB", 1.0 / 1024.0)];
    let (number, factor) =
        units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)))?;
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_mebibytes() {
        assert!((mebibytes("1.5GiB").unwrap() - 1536.0).abs() < 0.1);
        assert!((mebibytes("84.3MiB").unwrap() - 84.3).abs() < 0.1);
        assert_eq!(mebibytes("0B"), None);
    }
}
