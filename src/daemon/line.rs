//! The line as a daemon runs it: what is missing is created, then it replicates, and says when it is whole.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::tasks::{TaskKind, Tasks};
use crate::model::ClosedList;
use crate::replicator::{self, Replicator, ReplicatorError, Setup, StatusBoard};
use crate::runtime::Runtime;
use crate::stores::{RegionStore, Remedy, StoreError};
use crate::telemetry::Event;

/// Longest wait before the own storage is tried again at the start.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Starts the tasks that replicate: all of a daemon but its signals and its endpoint, which only a process has. They need
/// nothing but stores, a clock and randomness, so a simulator runs them as they are.
pub fn start_line(tasks: &mut Tasks, setup: Setup, runtime: &Runtime) -> Arc<StatusBoard> {
    let stop = tasks.stop().clone();
    let (local, destinations) = (setup.local.clone(), setup.destinations.clone());
    let replicator = Replicator::new(setup);
    let board = replicator.status();
    tasks.spawn(TaskKind::Readiness, until_ready(board.clone(), stop.clone()));
    tasks.spawn(TaskKind::Tables, prepare(destinations, runtime.clone(), stop.clone()));
    tasks.spawn_with(TaskKind::Replicator, replicator.roll(), replicate(replicator, local, runtime.clone(), stop));
    board
}

/// Creates what is missing in the region's own accounts, then runs the line.
async fn replicate(
    replicator: Replicator,
    local: RegionStore,
    runtime: Runtime,
    stop: CancellationToken,
) -> Result<(), ReplicatorError> {
    let mut failed = false;
    let created = create_missing(&local, &runtime, |error| {
        let event = match error.remedy() {
            Remedy::FixAccess => Event::AccessDenied,
            _ => Event::SourceUnreachable,
        };
        if !std::mem::replace(&mut failed, true) {
            warn!(event = event.as_str(), region = %local.region(), %error,
                "the system tables (and the queue, unless queue = false) cannot be created; trying again");
        }
    });
    tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        () = created => {}
    }
    if failed {
        info!(event = Event::SourceReachable.as_str(), region = %local.region(), "this region's storage answers now");
    }
    replicator.run(stop).await
}

/// Creates what is missing in the other regions, whose daemons may not have run yet: link state is published there, and
/// what comes in is told there. Nothing waits for it; what fails is told by the link's own health.
async fn prepare(
    destinations: Vec<RegionStore>,
    runtime: Runtime,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    let each = destinations.iter().map(|region| {
        create_missing(region, &runtime, |error| {
            debug!(destination = %region.region(), %error, "the system tables cannot be created; trying again");
        })
    });
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        _ = futures::future::join_all(each) => {}
    }
    Ok(())
}

/// Tries until it is done, and tells of every failure.
async fn create_missing(region: &RegionStore, runtime: &Runtime, mut failed: impl FnMut(&StoreError)) {
    let mut tries = 0;
    loop {
        tries += 1;
        let Err(error) = replicator::create_missing(region).await else { return };
        failed(&error);
        let pause = Duration::from_millis(250).saturating_mul(1 << tries.min(10)).min(LONGEST_PAUSE);
        tokio::time::sleep((pause / 2 + runtime.jitter(pause / 2)).max(error.retry_after.unwrap_or_default())).await;
    }
}

/// Says once that the line is whole.
async fn until_ready(board: Arc<StatusBoard>, stop: CancellationToken) -> Result<(), std::convert::Infallible> {
    const EVERY: Duration = Duration::from_millis(100);
    while !board.snapshot().ready {
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
    info!(event = Event::DaemonReady.as_str(), "every shard of the feed is tailed");
    Ok(())
}
