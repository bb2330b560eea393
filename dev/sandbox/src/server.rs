//! Starts the stand-ins on their two ports, and stops them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::routing::get;
use axum::{Json, Router};
use metering::{Clock, SystemClock};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::changes::Changes;
use crate::clock::SandboxClock;
use crate::connection::{Connection, CuttableListener};
use crate::control::{ClockReading, Controls};
use crate::mail::Mail;
use crate::n8n::{N8n, Registry};
use crate::otlp::Spans;
use crate::snapshot::{Snapshot, SnapshotError};
use crate::stripe::Stripe;
use crate::{control, demo, mail, n8n, otlp, snapshot, stripe};

/// Any free port of this machine.
const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// How long calls in progress may take once the sandbox stops; a call that hangs on purpose does not hold it up.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// Largest body of a control or Stripe call.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How to start a sandbox.
#[derive(Clone)]
pub struct SandboxOptions {
    /// Where to serve HTTP.
    pub listen: SocketAddr,
    /// Where to serve SMTP.
    pub smtp: SocketAddr,
    /// Where to keep the state across restarts.
    pub state: Option<PathBuf>,
    /// Whether to set up the demo's tenants.
    pub demo: bool,
    /// What the simulated clock runs on: the machine's clock, or the clock of a test.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for SandboxOptions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("SandboxOptions")
            .field("listen", &self.listen)
            .field("smtp", &self.smtp)
            .field("state", &self.state)
            .field("demo", &self.demo)
            .finish_non_exhaustive()
    }
}

impl Default for SandboxOptions {
    fn default() -> Self {
        Self { listen: ANY_PORT, smtp: ANY_PORT, state: None, demo: false, clock: Arc::new(SystemClock) }
    }
}

/// Why a sandbox did not start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// A port could not be bound.
    #[error("could not listen on {address} for {what}")]
    Bind {
        /// What would have been served there.
        what: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The kept state could not be used.
    #[error("could not load the state")]
    State(#[from] SnapshotError),
    /// The demo could not be set up.
    #[error("could not set up the demo")]
    Demo(#[from] demo::DemoError),
}

/// A running sandbox. Dropping it stops it.
#[derive(Debug)]
pub struct Sandbox {
    controls: Controls,
    listen: SocketAddr,
    smtp: SocketAddr,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Sandbox {
    /// Binds both ports, loads the kept state and begins to serve.
    ///
    /// # Errors
    /// A port is taken, or the state cannot be used.
    pub async fn start(options: SandboxOptions) -> Result<Self, SandboxError> {
        let (http, listen) = bind("HTTP", options.listen).await?;
        let (smtp_listener, smtp) = bind("SMTP", options.smtp).await?;
        let saved = match &options.state {
            Some(path) => snapshot::load(path)?,
            None => Snapshot::default(),
        };
        let changes = Changes::default();
        let controls = restore(saved, options.clock, &changes);
        if options.demo {
            demo::set_up(&controls.n8n, &controls.stripe)?;
        }
        let sandbox =
            Self { controls, listen, smtp, stop: CancellationToken::new(), tasks: TaskTracker::new() };
        sandbox.tasks.spawn(serve(http, router(&sandbox.controls), sandbox.stop.clone()));
        sandbox.tasks.spawn(mail::serve(
            smtp_listener,
            sandbox.controls.mail.clone(),
            sandbox.stop.clone(),
            sandbox.tasks.clone(),
        ));
        sandbox.tasks.spawn(n8n::run_load(sandbox.controls.n8n.clone(), sandbox.stop.clone()));
        if let Some(path) = options.state {
            let controls = sandbox.controls.clone();
            let take = move || take_snapshot(&controls);
            sandbox.tasks.spawn(snapshot::keep(path, changes, take, sandbox.stop.clone()));
        }
        Ok(sandbox)
    }

    /// Stops serving, and writes the state one last time.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The base of everything served over HTTP, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The base URL of an n8n instance, as a source names it: the API is under `/api/v1`.
    pub fn n8n_url(&self, instance: &str) -> String {
        format!("{}/n8n/{instance}", self.url())
    }

    /// The base URL of Stripe, with the slash at the end that its client needs.
    pub fn stripe_url(&self) -> String {
        format!("{}/stripe/", self.url())
    }

    /// The base URL of the OTLP collector: traces go to `/v1/traces` below it.
    pub fn otlp_url(&self) -> String {
        format!("{}/otlp", self.url())
    }

    /// Where services read the simulated clock.
    pub fn clock_url(&self) -> String {
        format!("{}/clock", self.url())
    }

    /// Where the mail server listens.
    pub fn smtp_addr(&self) -> SocketAddr {
        self.smtp
    }

    /// The mail server as a mail client's URL.
    pub fn smtp_url(&self) -> String {
        format!("smtp://{}", self.smtp)
    }

    /// The n8n instance of this name, created with n8n's defaults and the key `key-<name>` if it does not exist.
    ///
    /// Past [`n8n::INSTANCES_MAX`], returns an instance that the API does not serve.
    pub fn n8n(&self, instance: &str) -> N8n {
        self.controls.n8n.find_or_create(instance).unwrap_or_else(|| self.controls.n8n.detached(instance))
    }

    /// The Stripe account.
    pub fn stripe(&self) -> &Stripe {
        &self.controls.stripe
    }

    /// The mail server.
    pub fn mail(&self) -> &Mail {
        &self.controls.mail
    }

    /// The OTLP collector.
    pub fn spans(&self) -> &Spans {
        &self.controls.spans
    }

    /// The simulated clock.
    pub fn clock(&self) -> &SandboxClock {
        &self.controls.clock
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn bind(what: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), SandboxError> {
    let failed = |source| SandboxError::Bind { what, address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

fn restore(saved: Snapshot, base: Arc<dyn Clock>, changes: &Changes) -> Controls {
    let clock = SandboxClock::new(base, saved.clock_offset_ms, changes.clone());
    Controls {
        n8n: Registry::new(saved.n8n, clock.clone(), changes.clone()),
        stripe: Stripe::new(saved.stripe, clock.clone(), changes.clone()),
        mail: Mail::new(saved.mail, clock.clone(), changes.clone()),
        spans: Spans::default(),
        clock,
    }
}

fn take_snapshot(controls: &Controls) -> Snapshot {
    let instance = |(name, n8n): (String, N8n)| (name, n8n.read(Clone::clone));
    Snapshot {
        clock_offset_ms: controls.clock.offset_ms(),
        n8n: controls.n8n.all().into_iter().map(instance).collect(),
        stripe: controls.stripe.read(|account, _| account.clone()),
        mail: controls.mail.messages().into(),
    }
}

fn router(controls: &Controls) -> Router {
    let clock = controls.clock.clone();
    Router::new()
        .route("/clock", get(async move || Json(ClockReading::of(&clock))))
        .route("/healthz", get(async || "ok"))
        .nest("/n8n", n8n::api::router(controls.n8n.clone()))
        .nest("/stripe", stripe::api::router(controls.stripe.clone()))
        .nest("/control", control::router(controls.clone()))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .nest("/otlp", otlp::router(controls.spans.clone()))
}

async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let service = router.into_make_service_with_connect_info::<Connection>();
    let stopping = stop.clone();
    let server = axum::serve(CuttableListener(listener), service)
        .with_graceful_shutdown(async move { stopping.cancelled().await });
    let grace = async {
        stop.cancelled().await;
        tokio::time::sleep(SHUTDOWN_GRACE).await;
    };
    tokio::select! {
        served = server => if let Err(error) = served {
            tracing::error!(%error, "the sandbox stopped serving");
        },
        () = grace => {}
    }
}
