//! The HTTP API: DTOs and handlers by subject, and the router that puts them behind their guards.

mod admission_rules;
mod admissions;
mod asker;
mod assets;
mod attributions;
mod audit;
mod authenticate;
mod base_path;
mod comparison;
mod corrections;
mod damaged;
mod document;
mod duration;
mod error;
mod events;
mod explain;
mod extract;
mod figures;
mod forecasts;
mod gaps;
mod guard;
mod meters;
mod objects;
mod period_ends;
mod periods;
mod plans;
mod push_tokens;
mod questions;
mod quotas;
mod refusals;
mod responses;
mod schema;
mod session;
mod shapes;
mod sources;
mod spreadsheet;
mod statement;
mod tenants;
mod tokens;
mod top_workflows;
mod unmapped;
mod unseen;
mod usage;
mod warnings;

use std::{net::SocketAddr, sync::Arc};

use axum::{Router, middleware};
use catalog::sealing::SealingKey;
use messaging::Bus;
use metering::Clock;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use utoipa::{OpenApi, openapi::Server};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::document::Document;
use crate::{
    access::access_tokens::AccessTokens,
    admission::{admissions::Admissions, placements::Placements},
    directory::{editor::Editor, snapshot::Directory},
    sources::{audits::AuditView, gap_counts::GapCounts, status::SourceView},
    usage::live::UsageView,
};

pub use audit::AuditListener;
pub use base_path::BasePath;
pub use events::{Announcer, CatalogListener, FailingListener, SyncedListener, UsageListener, announce};
pub use gaps::count as count_gaps;
pub use periods::PERIODS_MAX;
pub use quotas::Quotas;

/// Shared by all requests.
pub type App = Arc<AppParts>;

/// Shared by all requests.
pub struct AppParts {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The database.
    pub pool: PgPool,
    /// Changes the catalog.
    pub editor: Editor,
    /// Asks the other services.
    pub bus: Bus,
    /// The catalog in memory.
    pub directory: Arc<Directory>,
    /// Usage in memory.
    pub usage: Arc<UsageView>,
    /// The sources' state in memory.
    pub sources: SourceView,
    /// The sources' last audits.
    pub audits: AuditView,
    /// How many gaps each source has.
    pub gap_counts: Arc<GapCounts>,
    /// Which tags and projects workflows have.
    pub placements: Placements,
    /// Decides runs.
    pub admissions: Admissions,
    /// Tokens and sessions.
    pub access_tokens: AccessTokens,
    /// Notifies live listeners of changes.
    pub announcer: Announcer,
    /// Limits on what one caller may use at once.
    pub quotas: Quotas,
    /// Seals sources' keys.
    pub sealing: SealingKey,
    /// Whether cookies are sent over HTTPS only.
    pub secure_cookies: bool,
    /// The path under which the gateway is reached.
    pub base_path: BasePath,
    /// Ends live streams.
    pub shutdown: CancellationToken,
}

/// The API's routes. A route is behind the operator's guard, behind the guard for anyone with a token, among
/// the few that a source may call too, or in the short list of open ones: there is no other option.
fn routes(app: &App) -> OpenApiRouter<App> {
    let authenticated = middleware::from_fn_with_state(app.clone(), authenticate::authenticate);
    let sign_ins = middleware::from_fn_with_state(app.clone(), quotas::bound_sign_ins);
    let operator = operator_routes()
        .route_layer(middleware::from_fn_with_state(app.clone(), authenticate::require_operator));
    OpenApiRouter::with_openapi(Document::openapi())
        .merge(operator.merge(tenant_routes()).route_layer(authenticated))
        .merge(asker_routes())
        .merge(open_routes().route_layer(sign_ins))
}

fn operator_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(plans::list))
        .routes(routes!(plans::get, plans::put, plans::remove))
        .routes(routes!(tenants::list))
        .routes(routes!(tenants::get, tenants::put, tenants::remove))
        .routes(routes!(sources::list))
        .routes(routes!(sources::get, sources::put, sources::remove))
        .routes(routes!(gaps::list))
        .routes(routes!(audit::begin, audit::get))
        .routes(routes!(unmapped::list))
        .routes(routes!(corrections::create, corrections::list))
        .routes(routes!(period_ends::end))
        .routes(routes!(push_tokens::create, push_tokens::revoke))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
}

/// Each of these checks with `Caller` what it may see.
fn tenant_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(usage::list))
        .routes(routes!(usage::get))
        .routes(routes!(periods::list))
        .routes(routes!(figures::series))
        .routes(routes!(top_workflows::list))
        .routes(routes!(comparison::get))
        .routes(routes!(statement::get))
        .routes(routes!(explain::get))
        .routes(routes!(admissions::look))
        .routes(routes!(admissions::shadow))
        .routes(routes!(refusals::get))
        .routes(routes!(events::stream))
        .routes(routes!(session::show, session::sign_out))
}

/// A source may call these for its own runs, with its push token; everyone else as above. Each takes an
/// `Asker`.
fn asker_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(admissions::admit)).routes(routes!(admissions::admit_batch))
}

fn open_routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(session::sign_in))
}

/// The OpenAPI document, as served at `/openapi.json`.
pub fn openapi() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    for part in [operator_routes(), tenant_routes(), asker_routes(), open_routes()] {
        document.merge(part.into_openapi());
    }
    document::finish(&mut document);
    document
}

fn router(app: App) -> Router {
    let base = app.base_path.clone();
    let (api, mut document) = routes(&app).split_for_parts();
    document::finish(&mut document);
    if !base.is_root() {
        document.servers = Some(vec![Server::new(base.cookie_path())]);
    }
    let api = api
        .merge(assets::routes(document))
        .fallback(error::no_route)
        .method_not_allowed_fallback(error::no_method);
    base_path::under(&base, guard::around(api).with_state(app))
}

/// Serves until shutdown. Live streams end then; other requests are finished.
pub async fn serve(listener: TcpListener, app: App) -> std::io::Result<()> {
    let shutdown = app.shutdown.clone();
    if let Ok(address) = listener.local_addr() {
        tracing::info!(%address, "serving the API and the dashboard");
    }
    let service = router(app).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, service).with_graceful_shutdown(shutdown.cancelled_owned()).await
}
