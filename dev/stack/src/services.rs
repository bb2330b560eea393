//! The five services and the sandbox as child processes, configured by their environment.

use std::{
    collections::BTreeMap,
    env,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    Api, Backing, Profile, Replica,
    face_ports::FacePorts,
    keys::{self, SealingKeys},
    ports,
    process::{Launch, Process, stop_leftover},
};

/// Start-up with migrations, on a busy machine.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// A program of the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Program {
    /// Stand-ins for n8n, Stripe and SMTP.
    Sandbox,
    /// Reads the sources.
    Collector,
    /// Counts usage.
    Aggregator,
    /// Reports to Stripe.
    Billing,
    /// Sends e-mail.
    Alerts,
    /// The API and the dashboard.
    Gateway,
}

impl Program {
    /// The services.
    pub const SERVICES: [Self; 5] =
        [Self::Collector, Self::Aggregator, Self::Billing, Self::Alerts, Self::Gateway];

    /// Its name: of the service, its package and its section of the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Collector => "collector",
            Self::Aggregator => "aggregator",
            Self::Billing => "billing",
            Self::Alerts => "alerts",
            Self::Gateway => "gateway",
        }
    }
}

/// What may differ between one stack and another.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder with the binaries.
    pub binaries: PathBuf,
    /// The database and the broker.
    pub backing: Backing,
    /// The first token of every subject; another one than `flowmeter` needs an unrestricted broker user.
    pub namespace: String,
    /// The ports that people and n8n use, kept across restarts; `None` for any free ones.
    pub face_ports: Option<FacePorts>,
    /// Arguments of the sandbox.
    pub sandbox_args: Vec<String>,
    /// Where the sandbox listens. With `0.0.0.0`, every instance can have its own address in 127.0.0.0/8.
    pub sandbox_listen: Ipv4Addr,
    /// Whether the services send their spans to the sandbox.
    pub spans: bool,
    /// Settings that override the usual ones, e.g. `FLOWMETER__COLLECTOR__POLL_INTERVAL`.
    pub settings: BTreeMap<String, String>,
    /// How many processes of a service there are; one by default. There is one sandbox.
    pub replicas: BTreeMap<Program, u8>,
    /// Other addresses of the same database and broker for some programs: through a [`crate::Proxy`].
    pub detours: BTreeMap<Program, Backing>,
}

impl Options {
    /// A stack of the installation's own namespace on any free ports.
    pub fn new(binaries: PathBuf, backing: Backing) -> Self {
        Self {
            binaries,
            backing,
            namespace: "flowmeter".to_owned(),
            face_ports: None,
            sandbox_args: Vec::new(),
            sandbox_listen: Ipv4Addr::LOCALHOST,
            spans: true,
            settings: BTreeMap::new(),
            replicas: BTreeMap::new(),
            detours: BTreeMap::new(),
        }
    }

    /// Every process of the services.
    fn services(&self) -> impl Iterator<Item = Replica> {
        Program::SERVICES
            .into_iter()
            .flat_map(|service| Replica::of(service, self.replicas.get(&service).copied().unwrap_or(1)))
    }

    /// The same with a variable that is not one of our settings, in the environment of every service: `SSL_CERT_FILE`.
    #[must_use]
    pub fn with_variable(mut self, name: &str, value: &str) -> Self {
        self.settings.insert(name.to_owned(), value.to_owned());
        self
    }

    /// The same with one setting, named without its prefix: `COLLECTOR__POLL_INTERVAL`.
    #[must_use]
    pub fn with(mut self, setting: &str, value: &str) -> Self {
        self.settings.insert(format!("FLOWMETER__{setting}"), value.to_owned());
        self
    }
}

/// The folder with the binaries beside a running test.
pub fn binaries_beside_test() -> Result<PathBuf> {
    let test = env::current_exe().context("cannot find the path of this test")?;
    let folder = test.ancestors().nth(2).context("a test is in target/<profile>/deps")?;
    if !folder.join("flowmeter-collector").is_file() {
        bail!("{} has no flowmeter-collector: run the tests with `cargo xtask test`", folder.display());
    }
    Ok(folder.to_owned())
}

#[derive(Debug, Clone, Copy)]
struct SandboxPorts {
    http: u16,
    smtp: u16,
}

/// Where one process of a service listens.
#[derive(Debug, Clone, Copy)]
struct ServicePorts {
    ops: u16,
    /// The gateway's API and the collector's push address; unused in the others.
    face: u16,
}

/// A running stack: the sandbox and the five services.
#[derive(Debug)]
pub struct Stack {
    profile: Profile,
    options: Options,
    sandbox_ports: SandboxPorts,
    ports: BTreeMap<Replica, ServicePorts>,
    operator_token: String,
    sealing: SealingKeys,
    processes: BTreeMap<Replica, Process>,
    /// Processes that run another release than the rest, and the folder with its binaries.
    releases: BTreeMap<Replica, PathBuf>,
}

impl Stack {
    /// Starts the sandbox and then the services, and waits until each is ready.
    pub fn start(profile: Profile, options: Options) -> Result<Self> {
        Self::start_some(profile, options, &Program::SERVICES)
    }

    /// Starts the sandbox and then these services only. [`Self::restart`] starts the others.
    pub fn start_some(profile: Profile, options: Options, services: &[Program]) -> Result<Self> {
        let mut stack = Self::prepare(profile, options)?;
        stack.launch(Program::Sandbox.into())?;
        stack.wait_ready(Program::Sandbox)?;
        let chosen = |replica: &Replica| services.contains(&replica.program);
        let services: Vec<Replica> = stack.options.services().filter(chosen).collect();
        for replica in &services {
            stack.launch(*replica)?;
        }
        for replica in services {
            stack.wait_ready(replica)?;
        }
        Ok(stack)
    }

    fn prepare(profile: Profile, options: Options) -> Result<Self> {
        for replica in options.services() {
            // It would hold the port that its successor needs.
            stop_leftover(&profile.folder().join("pids").join(replica.name()))?;
        }
        let faces = options.face_ports.map(|wanted| wanted.settle(&profile)).transpose()?.unwrap_or_default();
        let sandbox_ports = SandboxPorts { http: ports::free()?, smtp: ports::free()? };
        let mut ports = BTreeMap::new();
        for replica in options.services() {
            let face = faces.of(replica).map_or_else(ports::free, Ok)?;
            ports.insert(replica, ServicePorts { ops: ports::free()?, face });
        }
        let operator_token = keys::operator_token(&profile)?;
        let sealing = keys::sealing_keys(&profile, &options.binaries.join("flowmeter"))?;
        let processes = BTreeMap::new();
        let releases = BTreeMap::new();
        Ok(Self { profile, options, sandbox_ports, ports, operator_token, sealing, processes, releases })
    }

    /// The profile it runs in.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The gateway's API as the operator.
    pub fn gateway(&self) -> Api {
        Api::new(&self.face_of(Program::Gateway)).with_token(&self.operator_token)
    }

    /// The API of each gateway as the operator.
    pub fn gateways(&self) -> Vec<Api> {
        self.faces(Program::Gateway).map(|base| Api::new(&base).with_token(&self.operator_token)).collect()
    }

    /// Where sources push executions to.
    pub fn push_url(&self) -> String {
        format!("{}/v1/executions", self.face_of(Program::Collector))
    }

    /// The push address of each collector.
    pub fn collectors(&self) -> Vec<String> {
        self.faces(Program::Collector).collect()
    }

    fn face_of(&self, service: Program) -> String {
        self.faces(service).next().unwrap_or_default()
    }

    fn faces(&self, service: Program) -> impl Iterator<Item = String> {
        let ports = self.ports.iter().filter(move |(replica, _)| replica.program == service);
        ports.map(|(_, ports)| format!("http://127.0.0.1:{}", ports.face))
    }

    /// The sandbox.
    pub fn sandbox(&self) -> Api {
        Api::new(&format!("http://127.0.0.1:{}", self.sandbox_ports.http))
    }

    /// The token that may do everything.
    pub fn operator_token(&self) -> &str {
        &self.operator_token
    }

    /// The key that seals the sources' API keys for this collector.
    pub fn sealing_key(&self) -> &str {
        &self.sealing.public
    }

    /// The dashboard's address, which signs in. The part after `#` never reaches a log.
    pub fn sign_in_link(&self) -> String {
        format!("{}/#token={}", self.gateway().base(), self.operator_token)
    }

    /// Where a service answers for its health and metrics.
    pub fn ops_url(&self, service: impl Into<Replica>) -> Option<String> {
        self.ports.get(&service.into()).map(|ports| format!("http://127.0.0.1:{}", ports.ops))
    }

    /// The environment of the command line.
    pub fn cli_environment(&self) -> BTreeMap<String, String> {
        let login = self.options.backing.broker.login("operator");
        let mut environment = BTreeMap::from([
            ("FLOWMETER_URL".to_owned(), self.gateway().base().to_owned()),
            ("FLOWMETER_TOKEN".to_owned(), self.operator_token.clone()),
            ("FLOWMETER_NATS_URL".to_owned(), login.url),
            ("FLOWMETER_NAMESPACE".to_owned(), self.options.namespace.clone()),
        ]);
        if let Some((user, password)) = login.user {
            environment.insert("FLOWMETER_NATS_USER".to_owned(), user);
            environment.insert("FLOWMETER_NATS_PASSWORD".to_owned(), password);
        }
        environment
    }

    /// The command line's executable.
    pub fn cli(&self) -> PathBuf {
        self.options.binaries.join("flowmeter")
    }

    /// Changes a setting, named as in [`Options::with`], for processes that are started from now on.
    pub fn set(&mut self, setting: &str, value: &str) {
        self.options.settings.insert(format!("FLOWMETER__{setting}"), value.to_owned());
    }

    /// Lets a process run another release, from the folder with its binaries, when it is started the next time.
    pub fn use_release(&mut self, replica: impl Into<Replica>, binaries: &Path) {
        self.releases.insert(replica.into(), binaries.to_owned());
    }

    /// A task of a service, such as `migrate`, by the binaries in this folder; with the service's settings, not started.
    pub fn task(&self, service: Program, task: &str, binaries: &Path) -> Result<Command> {
        let mut command = Command::new(binaries.join(format!("flowmeter-{}", service.name())));
        command.arg(task).envs(self.environment(service.into())?).stdin(Stdio::null());
        Ok(command)
    }

    /// Every running process.
    pub fn processes(&self) -> impl Iterator<Item = (Replica, &Process)> {
        self.processes.iter().map(|(replica, process)| (*replica, process))
    }

    /// The processes that have ended by themselves, with the last lines of their logs.
    pub fn find_dead(&mut self) -> Result<Vec<(Replica, anyhow::Error)>> {
        let mut dead = Vec::new();
        for (replica, process) in &mut self.processes {
            if let Some(status) = process.ended()? {
                dead.push((*replica, process.obituary(status)));
            }
        }
        Ok(dead)
    }

    /// SIGKILL to one process.
    pub fn kill(&mut self, replica: impl Into<Replica>) -> Result<()> {
        self.process(replica)?.kill()
    }

    /// Stops one process as an operator would.
    pub fn stop_one(&mut self, replica: impl Into<Replica>) -> Result<()> {
        self.process(replica)?.stop()
    }

    /// Restarts one process, on its ports, without waiting for it.
    pub fn relaunch(&mut self, replica: impl Into<Replica>) -> Result<()> {
        let replica = replica.into();
        self.processes.remove(&replica);
        self.launch(replica)
    }

    /// Restarts one process, on its ports, and waits until it is ready.
    pub fn restart(&mut self, replica: impl Into<Replica>) -> Result<()> {
        let replica = replica.into();
        self.relaunch(replica)?;
        self.wait_ready(replica)
    }

    /// Stops all: the services first, and then the sandbox, which they use.
    pub fn stop(&mut self) -> Result<()> {
        self.stop_services()?;
        self.stop_all_of(&[Program::Sandbox])
    }

    /// Stops the services; the sandbox goes on.
    pub fn stop_services(&mut self) -> Result<()> {
        self.stop_all_of(&Program::SERVICES)
    }

    fn stop_all_of(&mut self, programs: &[Program]) -> Result<()> {
        for program in programs.iter().copied() {
            let replicas: Vec<Replica> =
                self.processes.keys().copied().filter(|replica| replica.program == program).collect();
            for replica in replicas {
                if let Some(mut process) = self.processes.remove(&replica) {
                    process.stop()?;
                }
            }
        }
        Ok(())
    }

    /// One process.
    pub fn process(&mut self, replica: impl Into<Replica>) -> Result<&mut Process> {
        let replica = replica.into();
        self.processes.get_mut(&replica).with_context(|| format!("{replica} was not started"))
    }

    fn launch(&mut self, replica: Replica) -> Result<()> {
        let folder = self.releases.get(&replica).unwrap_or(&self.options.binaries);
        let binary = folder.join(format!("flowmeter-{}", replica.program.name()));
        let mut launch = Launch::new(&replica.name(), binary);
        if replica.program == Program::Sandbox {
            launch.args = self.sandbox_arguments();
        } else {
            launch.env = self.environment(replica)?;
        }
        let process = Process::start(&self.profile, launch)?;
        self.processes.insert(replica, process);
        Ok(())
    }

    /// Waits until a process is ready.
    pub fn wait_ready(&mut self, replica: impl Into<Replica>) -> Result<()> {
        let replica = replica.into();
        let url = match replica.program {
            Program::Sandbox => format!("{}/clock", self.sandbox().base()),
            _ => format!("{}/readyz", self.ops_url(replica).unwrap_or_default()),
        };
        self.process(replica)?.wait_ready(READY_WITHIN, || crate::api::answers_ok(&url))
    }

    fn sandbox_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            "--listen".to_owned(),
            format!("{}:{}", self.options.sandbox_listen, self.sandbox_ports.http),
            "--smtp".to_owned(),
            format!("127.0.0.1:{}", self.sandbox_ports.smtp),
        ];
        arguments.extend(self.options.sandbox_args.iter().cloned());
        arguments
    }

    fn environment(&self, replica: Replica) -> Result<BTreeMap<String, String>> {
        let service = replica.program;
        let sandbox = self.sandbox();
        let ports = self.ports.get(&replica).context("a service has ports")?;
        let backing = self.options.detours.get(&service).unwrap_or(&self.options.backing);
        let login = backing.broker.login(service.name());
        let mut settings = vec![
            ("NAMESPACE", self.options.namespace.clone()),
            ("DATABASE__URL", backing.database_url.clone()),
            ("NATS__URL", login.url),
            ("OPS__LISTEN", format!("127.0.0.1:{}", ports.ops)),
            ("CLOCK__FOLLOW", format!("{}/clock", sandbox.base())),
        ];
        if self.options.spans {
            settings.push(("TELEMETRY__OTLP_ENDPOINT", format!("{}/otlp", sandbox.base())));
        }
        if let Some((user, password)) = login.user {
            settings.extend([("NATS__USER", user), ("NATS__PASSWORD", password)]);
        }
        settings.extend(self.own_settings(service, ports.face));
        let mut environment: BTreeMap<String, String> =
            settings.into_iter().map(|(name, value)| (format!("FLOWMETER__{name}"), value)).collect();
        let meant = self.options.settings.iter().filter(|(setting, _)| concerns(service, setting));
        environment.extend(meant.map(|(setting, value)| (setting.clone(), value.clone())));
        Ok(environment)
    }

    fn own_settings(&self, service: Program, face: u16) -> Vec<(&'static str, String)> {
        let sandbox = self.sandbox();
        let gateway = self.gateway();
        match service {
            Program::Collector => vec![
                ("COLLECTOR__LISTEN", format!("127.0.0.1:{face}")),
                ("COLLECTOR__SECRET_KEY", self.sealing.secret.clone()),
                ("COLLECTOR__ALLOW_PRIVATE_ADDRESSES", "true".to_owned()),
            ],
            // A real Stripe's key is never sent to the sandbox, nor are its events reported under the sandbox's name.
            Program::Billing if self.options.settings.contains_key("FLOWMETER__BILLING__STRIPE_KEY") => {
                Vec::new()
            }
            Program::Billing => vec![
                ("BILLING__ENVIRONMENT", "sandbox".to_owned()),
                ("BILLING__STRIPE_URL", format!("{}/stripe/", sandbox.base())),
                ("BILLING__STRIPE_KEY", "sk_test_sandbox".to_owned()),
            ],
            Program::Alerts => vec![
                ("ALERTS__SMTP_URL", format!("smtp://127.0.0.1:{}", self.sandbox_ports.smtp)),
                ("ALERTS__FROM", "Flowmeter <alerts@flowmeter.example>".to_owned()),
                ("ALERTS__DASHBOARD_URL", gateway.base().to_owned()),
            ],
            Program::Gateway => vec![
                ("GATEWAY__LISTEN", format!("127.0.0.1:{face}")),
                ("GATEWAY__OPERATOR_TOKEN", self.operator_token.clone()),
                ("GATEWAY__PUBLIC_URL", gateway.base().to_owned()),
                ("GATEWAY__COLLECTOR_PUBLIC_KEY", self.sealing.public.clone()),
            ],
            Program::Aggregator | Program::Sandbox => Vec::new(),
        }
    }
}

/// Whether a setting is for a service: it must not see another service's section, which may hold secrets.
fn concerns(service: Program, setting: &str) -> bool {
    Program::SERVICES.into_iter().filter(|other| *other != service).all(|other| {
        let section = format!("FLOWMETER__{}__", other.name().to_ascii_uppercase());
        !setting.starts_with(&section)
    })
}
