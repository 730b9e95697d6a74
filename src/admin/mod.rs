//! The endpoint for probes, metrics and people: `/livez`, `/readyz`, `/health/read`, `/health/write`, `/metrics`,
//! `/status` and a page at `/`.
//!
//! Nothing here asks a store: every answer is made of what the line has left on its board, so that a probe from each of
//! a hundred edges costs nothing. There is no authentication and nothing that changes anything.

mod page;
mod probes;
mod status;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Json};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::model::{Region, Time};
use crate::replicator::{Roles, Snapshot};
use crate::telemetry::Recorder;

pub use status::Status;

/// What the endpoint tells of.
#[derive(Clone)]
pub struct Admin {
    /// The daemon's region.
    pub region: Region,
    /// The roles in force.
    pub roles: Arc<Roles>,
    /// When the daemon began.
    pub started: Time,
    /// What is known of the line now.
    pub snapshot: Arc<dyn Fn() -> Snapshot + Send + Sync>,
    /// The metrics.
    pub recorder: Recorder,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin").field("region", &self.region).field("role", &self.roles.role()).finish_non_exhaustive()
    }
}

/// How long requests under way may take to end once the daemon is ending.
const GRACE: Duration = Duration::from_secs(2);

/// Answers requests until it is stopped.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> std::io::Result<()> {
    let asked = stop.clone();
    let server = axum::serve(listener, router(admin)).with_graceful_shutdown(async move { asked.cancelled().await });
    tokio::select! {
        biased;
        result = server.into_future() => result,
        // Who holds a connection open does not hold up the end.
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

/// The routes. GET answers HEAD too, without the body.
fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(probes::live))
        .route("/readyz", get(probes::ready))
        .route("/health/read", get(probes::read))
        .route("/health/write", get(probes::write))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/", get(page))
        .with_state(admin)
}

async fn metrics(State(admin): State<Admin>) -> impl IntoResponse {
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], admin.recorder.render())
}

async fn status(State(admin): State<Admin>) -> Json<Status> {
    Json(Status::of(&admin))
}

async fn page(State(admin): State<Admin>) -> Html<String> {
    Html(page::render(&Status::of(&admin)))
}

#[cfg(test)]
mod tests;
