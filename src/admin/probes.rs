//! Probes: 200 or 503, with a word for people.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use tokio::time::Instant;

use super::Admin;
use crate::replicator::Snapshot;
use crate::topology::WriteHealth;

/// How long a part of the line may be silent before the daemon counts as stuck. Each reports several times a second,
/// whatever its storage answers, so only a daemon that a restart would help gets here.
const STUCK_AFTER: Duration = Duration::from_secs(60);

/// How long the region's own feed may not have been read before the daemon counts as not ready.
const UNREAD_AFTER: Duration = Duration::from_secs(60);

type Answer = (StatusCode, &'static str);

const fn refuse(why: &'static str) -> Answer {
    (StatusCode::SERVICE_UNAVAILABLE, why)
}

const OK: Answer = (StatusCode::OK, "ok\n");

/// Whether the line turns. Peers, and even the region's own storage, have no say in it: no restart would bring them
/// back.
pub(super) async fn live(State(admin): State<Admin>) -> Answer {
    let stuck = (admin.snapshot)().since_report.is_some_and(|silent| silent > STUCK_AFTER);
    if stuck { refuse("a part of the line has been silent for over a minute\n") } else { OK }
}

/// Whether the feed is tailed.
pub(super) async fn ready(State(admin): State<Admin>) -> Answer {
    readiness(&(admin.snapshot)())
}

fn readiness(snapshot: &Snapshot) -> Answer {
    if !snapshot.ready {
        return refuse("this daemon has not read its part of the feed yet\n");
    }
    match snapshot.since_progress {
        // It stands by for the others of its region.
        _ if snapshot.spare => OK,
        Some(since) if since <= UNREAD_AFTER => OK,
        _ => refuse("the feed has not been read for over a minute\n"),
    }
}

/// Whether this region may be read.
pub(super) async fn read(State(admin): State<Admin>) -> Answer {
    readiness(&(admin.snapshot)())
}

/// Whether this region is a writer now, by the roles in force.
pub(super) async fn write(State(admin): State<Admin>) -> Answer {
    match admin.roles.writing(Instant::now()) {
        WriteHealth::Serving => OK,
        WriteHealth::NotWriter => refuse("this region is no writer\n"),
        WriteHealth::Unconfirmed => refuse("the other regions were not asked for the roles yet\n"),
        WriteHealth::Moving => refuse("a planned failover is taking the role away\n"),
        WriteHealth::Unheard => refuse("this region's copy of the roles cannot be read\n"),
    }
}
