//! The endpoint for probes, metrics and people: `/livez`, `/readyz`, `/health/read`, `/health/write`, `/metrics`,
//! `/status`, `/wait` and a page at `/`.
//!
//! Nothing here asks a store but `/wait`, whose callers are bounded: every answer is made of what the line has left on its board, and those to probes stand
//! ready before they are asked for, so that a probe from each of a hundred edges costs nothing. There is no authentication and
//! nothing that changes anything.
//!
//! Load balancers probe from outside, and what they probe must be reachable from there. So `/health/read` and `/health/write` may
//! have a listener of their own, with `/livez` and `/readyz` beside them and nothing else.

mod page;
mod probes;
mod status;
mod wait;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse, Json};
use axum::routing::get;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::model::{Region, Time};
use crate::ops::{Collected, Demotions, Passes};
use crate::telemetry::Recorder;

pub use probes::{Probes, Seen};
pub use status::Status;
pub use wait::Waits;

/// What the endpoint tells of.
#[derive(Clone)]
pub struct Admin {
    /// The daemon's region.
    pub region: Region,
    /// When the daemon began.
    pub started: Time,
    /// What is known of the line and of the roles of regions now.
    pub seen: Seen,
    /// What probes are answered.
    pub probes: Arc<Probes>,
    /// What the scrubber has found.
    pub passes: Arc<Passes>,
    /// What the collector of tombstones has found.
    pub collected: Arc<Collected>,
    /// What the mover has done last.
    pub demotions: Arc<Demotions>,
    /// Whether load balancers probe here; else they have a listener of their own.
    pub health: bool,
    /// What those who wait for a write need.
    pub waits: Waits,
    /// The metrics.
    pub recorder: Recorder,
}

impl fmt::Debug for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admin")
            .field("region", &self.region)
            .field("role", &self.seen.roles.role())
            .finish_non_exhaustive()
    }
}

/// How long requests under way may take to end once the daemon is ending.
const GRACE: Duration = Duration::from_secs(2);

/// Answers requests until it is stopped.
///
/// # Errors
/// Where the listener fails.
pub async fn serve(listener: TcpListener, admin: Admin, stop: CancellationToken) -> std::io::Result<()> {
    listen(listener, router(admin), stop).await
}

/// Answers probes, and nothing else, until it is stopped.
///
/// # Errors
/// Where the listener fails.
pub async fn serve_probes(listener: TcpListener, probes: Arc<Probes>, stop: CancellationToken) -> std::io::Result<()> {
    let routes = probes::of_the_process().merge(probes::of_the_region()).with_state(probes);
    listen(listener, routes, stop).await
}

async fn listen(listener: TcpListener, routes: Router, stop: CancellationToken) -> std::io::Result<()> {
    let asked = stop.clone();
    // Answers are small: held back until the last one was acknowledged, each would take forty milliseconds where a client sends
    // several requests at once.
    let listener = listener.tap_io(|connection| {
        if let Err(error) = connection.set_nodelay(true) {
            debug!(%error, "a connection holds small answers back");
        }
    });
    let server = axum::serve(listener, routes).with_graceful_shutdown(async move { asked.cancelled().await });
    tokio::select! {
        biased;
        result = server.into_future() => result,
        // Who holds a connection open does not hold up the end.
        () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
    }
}

/// The routes. GET answers HEAD too, without the body.
fn router(admin: Admin) -> Router {
    let process = probes::of_the_process();
    let probes = if admin.health { process.merge(probes::of_the_region()) } else { process };
    let probes = probes.with_state(admin.probes.clone());
    let rest = Router::new()
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/wait", get(wait::wait))
        .route("/", get(page));
    rest.with_state(admin).merge(probes)
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
