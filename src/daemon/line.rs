//! The line as a daemon runs it: what is missing is created, then it replicates, and says when it is whole.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::tasks::{TaskKind, Tasks};
use crate::model::ClosedList;
use crate::ops::Warming;
use crate::replicator::{self, CacheStatus, Replicator, ReplicatorError, Setup, StatusBoard};
use crate::runtime::Runtime;
use crate::stores::{RegionStore, Remedy, StoreError};
use crate::telemetry::Event;

/// Longest wait before the own storage is tried again at the start.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Starts the tasks that replicate: all of a daemon but its signals and its endpoint, which only a process has. They need
/// nothing but stores, a clock and randomness, so a simulator runs them as they are.
pub fn start_line(tasks: &mut Tasks, setup: Setup, runtime: &Runtime) -> Arc<StatusBoard> {
    let stop = tasks.stop().clone();
    let copies = setup.copies.iter().map(|copy| &copy.store);
    let destinations = setup.destinations.iter().chain(copies).cloned().collect();
    let local = setup.local.clone();
    let warming = warming(&setup);
    let replicator = Replicator::new(setup);
    let board = replicator.status();
    if let Some(warming) = warming {
        tasks.spawn(TaskKind::Warmer, keep_warm(warming, board.clone(), stop.clone()));
    }
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

/// What it takes to fill the region's cache, where that is to happen by itself.
fn warming(setup: &Setup) -> Option<Warming> {
    let cache = setup.cache.clone()?;
    Some(Warming {
        rate: cache.warm?,
        cache,
        region: setup.local.clone(),
        tables: setup.tables.clone(),
        only: None,
        max_clock_skew: setup.settings.max_clock_skew,
        runtime: setup.runtime.clone(),
    })
}

/// Fills the cache whenever the line says that it has lost what it held.
async fn keep_warm(
    warming: Warming,
    board: Arc<StatusBoard>,
    stop: CancellationToken,
) -> Result<(), std::convert::Infallible> {
    const EVERY: Duration = Duration::from_secs(5);
    let (region, mut warmed_for, mut failed) = (warming.region.region(), None, false);
    loop {
        let turn = async {
            tokio::time::sleep(EVERY).await;
            let lost = board.snapshot().cache.filter(CacheStatus::is_wanting).and_then(|cache| cache.lost);
            if lost.is_none() || lost == warmed_for {
                return;
            }
            if !failed {
                info!(event = Event::CacheWarming.as_str(), %region, rate = warming.rate, "filling the cache from the tables");
            }
            match warming.run(&mut |_| {}).await {
                Ok(done) => {
                    (warmed_for, failed) = (lost, false);
                    info!(event = Event::CacheWarmed.as_str(), %region, rows = done.rows, seconds = done.seconds,
                        "the cache has been filled from the tables");
                }
                Err(error) => {
                    if !std::mem::replace(&mut failed, true) {
                        warn!(event = Event::CacheNotWarmed.as_str(), %region, %error,
                            "the cache could not be filled; it is tried again");
                    }
                }
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            () = turn => {}
        }
    }
}
