//! The HTTP API under `/api/v1`: who asks, what they may see, and the pages and
//! errors that all answers share. Each module answers for one noun.
//!
//! How a module joins:
//! 1. it has a `pub fn routes() -> OpenApiRouter<AppState>` whose paths begin
//!    below `/api/v1` (see [`about`]), and is merged in [`v1`];
//! 2. each handler takes an [`Access`] and asks it about the tenant of what it
//!    touches; a document out of sight is [`Problem::not_found`];
//! 3. bodies, queries and paths come by [`Json`], [`Query`] and [`Path`], so that
//!    what is wrong with them is a [`Problem`];
//! 4. lists are a [`Page`], documents bear [`etag`] and take [`IfMatch`].
//!
//! It never speaks SQL and never reads a journal: `store` and `ingest` do.

pub mod about;
pub mod alarms;
pub mod attributes;
pub mod auth;
pub mod backtests;
pub mod backups;
pub mod callbacks;
mod credentials;
pub mod devices;
pub mod events;
pub mod extract;
pub mod forwarders;
pub mod links;
pub mod listener;
mod listing;
pub mod location_groups;
pub mod locations;
pub mod message_templates;
pub mod messages;
pub mod metrics;
pub mod offline_profiles;
mod outflow;
pub mod paging;
mod peer;
pub mod problem;
pub mod profiles;
pub mod quality;
mod refused;
pub mod rejections;
pub mod routers;
pub mod rpc;
pub mod service;
pub mod sessions;
mod several;
mod sight;
pub mod state;
pub mod streams;
pub mod subscriptions;
pub mod telemetry;
pub mod tenants;
pub mod tokens;
mod told;
pub mod turns;
mod unstalled;
pub mod users;

pub use auth::Access;
pub use extract::{IfMatch, Json, Path, Query, etag};
pub use paging::{Page, Paging};
pub use problem::{ApiResult, Problem};
pub use state::AppState;

use utoipa_axum::router::OpenApiRouter;

/// Where the API begins.
pub const BASE_PATH: &str = "/api/v1";

/// All modules, each at its paths below [`BASE_PATH`].
fn v1() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(about::routes())
        .merge(tenants::routes())
        .merge(locations::routes())
        .merge(location_groups::routes())
        .merge(routers::routes())
        .merge(sessions::routes())
        .merge(rejections::routes())
        .merge(devices::routes())
        .merge(attributes::routes())
        .merge(telemetry::routes())
        .merge(rpc::routes())
        .merge(tokens::routes())
        .merge(alarms::routes())
        .merge(events::routes())
        .merge(profiles::routes())
        .merge(backtests::routes())
        .merge(quality::routes())
        .merge(users::routes())
        .merge(subscriptions::routes())
        .merge(offline_profiles::routes())
        .merge(message_templates::routes())
        .merge(messages::routes())
        .merge(forwarders::routes())
        .merge(backups::routes())
}
