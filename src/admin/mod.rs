//! The admin API and its Prometheus endpoint.
//!
//! Each resource file lists its endpoints; the router and the OpenAPI document are both made from those lists, so that
//! an endpoint can neither be served undocumented nor forget its role.

mod access;
mod calls;
pub mod cdrs;
pub mod client;
pub mod control;
mod drain;
mod endpoint;
mod extract;
mod health;
mod index;
mod listener;
mod log;
mod openapi;
mod problem;
mod registrations;
mod reload;
pub mod rfc3339;
mod route;
mod trace;
mod trunks;
pub mod users;

pub use access::{Role, Tokens};
pub use control::{Control, ControlCommand};
pub use problem::Problem;

use crate::store::Store;
use crate::telemetry::{LogControl, Metrics};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use endpoint::Endpoint;
use std::{future::Future, io, sync::Arc};
use tokio::net::TcpListener;

/// Longest request body in bytes: a user with a few hundred numbers fits.
const BODY_LIMIT: usize = 64 * 1024;

/// Everything the handlers need.
pub struct Admin {
    pub control: Control,
    pub metrics: Arc<Metrics>,
    pub log: LogControl,
    pub tokens: Tokens,
    pub store: Store,
    /// The users' realm now; a reload may change it.
    pub realm: Box<dyn Fn() -> String + Send + Sync>,
}

type Shared = Arc<Admin>;

/// Serves the API on a bound listener until `stop` completes; requests under way are finished.
pub async fn serve(
    listener: TcpListener,
    admin: Admin,
    stop: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    let listener = listener::Bounded::new(listener);
    axum::serve(listener, router(Arc::new(admin))).with_graceful_shutdown(stop).await
}

/// Every endpoint of the API.
fn endpoints() -> impl Iterator<Item = &'static Endpoint> {
    [
        index::ENDPOINTS,
        health::ENDPOINTS,
        openapi::ENDPOINTS,
        calls::ENDPOINTS,
        trace::ENDPOINTS,
        cdrs::ENDPOINTS,
        trunks::ENDPOINTS,
        registrations::ENDPOINTS,
        users::ENDPOINTS,
        route::ENDPOINTS,
        reload::ENDPOINTS,
        drain::ENDPOINTS,
        log::ENDPOINTS,
    ]
    .into_iter()
    .flatten()
}

fn router(admin: Shared) -> Router {
    endpoints()
        .fold(Router::new(), |router, endpoint| router.route(endpoint.path, endpoint.guarded(&admin)))
        .fallback(problem::no_such_path)
        .method_not_allowed_fallback(problem::no_such_method)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(admin)
}

#[cfg(test)]
mod tests;
