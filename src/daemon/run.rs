//! The daemon of one region: built from settings, run until it is told to end.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::connect::{ConnectError, Connector};
use super::line::start_line;
use super::tasks::{DaemonError, SHUTDOWN_DEADLINE, TaskKind, Tasks};
use crate::admin::{self, Admin, Probes, Seen, Waits};
use crate::batch::Limits;
use crate::config::{
    FailoverSettings, ReplicationSettings, ScrubberSettings, Settings, TierSettings, TombstoneSettings,
};
use crate::model::{ClosedList, Region};
use crate::ops::{Collected, Collector, Demotions, Ledger, Mover, Passes, Scrubber, Verify};
use crate::replicator::{self, Setup};
use crate::runtime::Runtime;
use crate::settle::CollectRules;
use crate::telemetry::{Event, Recorder};
use crate::topology::ReadRules;

/// Why a daemon did not start, or how it ended.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The region is not in the configuration.
    #[error("there is no region {region}; the configuration has {known}")]
    NoRegion {
        /// What was asked for.
        region: Region,
        /// Those that there are.
        known: String,
    },
    /// A store cannot be reached by its settings.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The address of an endpoint cannot be had.
    #[error("{key}: {address} cannot be listened on: {error}; choose another address, or stop what holds it")]
    Listen {
        /// The key that names it.
        key: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// A signal handler cannot be installed.
    #[error("signals cannot be waited for: {0}")]
    Signals(std::io::Error),
    /// It ended otherwise than asked to.
    #[error(transparent)]
    Ended(#[from] DaemonError),
}

/// Runs the daemon of `region` until SIGTERM, SIGINT or the death of one of its tasks.
///
/// # Errors
/// [`RunError`]. A storage account that cannot be reached is none: it is tried until it can, since it may be late.
pub async fn run(settings: &Settings, region: &Region, recorder: Recorder) -> Result<(), RunError> {
    let runtime = Runtime::system();
    let setup = setup(settings, region, &runtime)?;
    let signals = Signals::install().map_err(RunError::Signals)?;
    let (listener, address) = listen("admin.listen", settings.admin.listen).await?;
    let health = match settings.health.listen {
        Some(address) => Some(listen("health.listen", address).await?),
        None => None,
    };
    let role = settings.regions[region].role;
    let version = env!("CARGO_PKG_VERSION");
    let probed = health.as_ref().map_or(address, |(_, address)| *address);
    info!(event = Event::DaemonStarting.as_str(), %region, %role, version, admin = %address, health = %probed,
        "the daemon is starting");

    let mut tasks = Tasks::new();
    let stop = tasks.stop().clone();
    let stores: Vec<_> = std::iter::once(&setup.local).chain(&setup.destinations).cloned().collect();
    let waits = Waits::new(region.clone(), stores, setup.tables.clone(), runtime.clone(), stop.clone());
    let (passes, scrubber) = scrubber(settings, &setup, region);
    let collector = collector(settings, &setup, region);
    let collected = collector.collected.clone();
    let mover = mover(settings, &setup);
    let demotions = mover.demotions.clone();
    let board = start_line(&mut tasks, setup, &runtime);
    if let Some(scrubber) = scrubber {
        tasks.spawn(TaskKind::Scrubber, scrubber.run(board.clone(), stop.clone()));
    }
    tasks.spawn(TaskKind::Collector, collector.run(board.clone(), stop.clone()));
    tasks.spawn(TaskKind::Mover, mover.run(board.clone(), stop.clone()));
    let (probes, here) = (Arc::<Probes>::default(), health.is_none());
    let roles = board.roles().clone();
    let seen = Seen { snapshot: Arc::new(move || board.snapshot()), roles };
    let (region, started) = (region.clone(), runtime.now());
    let admin = Admin {
        region: region.clone(),
        started,
        seen: seen.clone(),
        probes: probes.clone(),
        passes,
        collected,
        demotions,
        health: here,
        waits,
        recorder,
    };
    tasks.spawn(TaskKind::Signals, signals.wait(stop.clone()));
    tasks.spawn(TaskKind::Probes, probes.clone().keep(seen, stop.clone()));
    if let Some((listener, _)) = health {
        tasks.spawn(TaskKind::Health, admin::serve_probes(listener, probes, stop.clone()));
    }
    tasks.spawn(TaskKind::Admin, admin::serve(listener, admin, stop));
    tasks.supervise(SHUTDOWN_DEADLINE).await?;
    info!(event = Event::DaemonStopped.as_str(), %region, "the daemon has ended");
    Ok(())
}

/// Listens, and says where: the port that was chosen, where any was asked for.
async fn listen(key: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), RunError> {
    let listener = TcpListener::bind(address).await.map_err(|error| RunError::Listen { key, address, error })?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}

fn setup(settings: &Settings, region: &Region, runtime: &Runtime) -> Result<Setup, RunError> {
    let Some(own) = settings.regions.get(region) else {
        let known: Vec<_> = settings.regions.keys().map(Region::as_str).collect();
        return Err(RunError::NoRegion { region: region.clone(), known: known.join(", ") });
    };
    let connector = Connector::new(&settings.http, runtime.clone())?.for_window(settings.replication.settle_window);
    let others = settings.regions.iter().filter(|(name, _)| *name != region);
    let destinations: Result<Vec<_>, _> =
        others.map(|(name, settings)| connector.region(name, settings, false)).collect();
    Ok(Setup {
        local: connector.region(region, own, true)?,
        destinations: destinations?,
        copies: settings.copies.iter().map(|(name, copy)| connector.copy(name, copy)).collect::<Result<_, _>>()?,
        cache: own.cache.as_ref().map(|cache| connector.cache(region, cache)).transpose()?,
        tables: settings.tables.clone(),
        roles: settings.roles(),
        reading: reading(settings),
        settings: tuned_by(settings),
        runtime: runtime.clone(),
    })
}

/// What compares the regions, where that is not switched off, and where it leaves what it finds. It shares the adapters of the
/// line, so that an account which asks for less is asked less by both.
fn scrubber(settings: &Settings, setup: &Setup, region: &Region) -> (Arc<Passes>, Option<Scrubber>) {
    let passes = Arc::<Passes>::default();
    let ScrubberSettings { every, rows_per_second } = settings.scrubber;
    let regions: Vec<_> = std::iter::once(&setup.local).chain(&setup.destinations).cloned().collect();
    let scrubber = (!every.is_zero()).then(|| Scrubber {
        pass: Verify {
            resume: true,
            ledger: Ledger::Scrubber,
            rows_per_second: NonZeroU32::new(rows_per_second),
            ..Verify::of(
                regions,
                (region, region),
                setup.tables.clone(),
                setup.roles.clone(),
                setup.settings.clone(),
                setup.runtime.clone(),
            )
        },
        region: region.clone(),
        every,
        passes: passes.clone(),
    });
    (passes, scrubber)
}

/// What collects the region's tombstones, and remembers which regions were taken out. It shares the adapters of the line, too.
fn collector(settings: &Settings, setup: &Setup, region: &Region) -> Collector {
    let TombstoneSettings { collect, minimum_age, every, rows_per_second } = settings.tombstones;
    let ReplicationSettings { settle_window, max_clock_skew, .. } = settings.replication;
    Collector {
        regions: std::iter::once(&setup.local).chain(&setup.destinations).cloned().collect(),
        copies: setup.copies.clone(),
        region: region.clone(),
        tables: setup.tables.clone(),
        collects: collect,
        every,
        rows_per_second: NonZeroU32::new(rows_per_second),
        rules: CollectRules { settle_window, max_clock_skew, minimum_age },
        collected: Arc::<Collected>::default(),
        runtime: setup.runtime.clone(),
    }
}

/// What moves the region's old rows to their cold places, by the adapters of the line.
fn mover(settings: &Settings, setup: &Setup) -> Mover {
    let TierSettings { every, rows_per_second } = settings.tiers;
    Mover {
        store: setup.local.clone(),
        tables: setup.tables.clone(),
        every,
        rows_per_second: NonZeroU32::new(rows_per_second),
        settle_window: settings.replication.settle_window,
        demotions: Arc::<Demotions>::default(),
        runtime: setup.runtime.clone(),
    }
}

/// What readers are let in or refused by, where a table has a limit on staleness.
fn reading(settings: &Settings) -> Option<ReadRules> {
    Some(ReadRules { limit: settings.consistency.max_staleness()?, alone: settings.health.alone })
}

/// How the line is tuned by the configuration.
pub(crate) fn tuned_by(settings: &Settings) -> replicator::Settings {
    tuned(&settings.replication, &settings.failover, settings.consistency.max_staleness())
}

/// The line's tuning: what can be configured, and the line's own defaults for the rest. How far a region is behind has to be
/// known several times within the limit that a table has.
fn tuned(settings: &ReplicationSettings, failover: &FailoverSettings, limit: Option<Duration>) -> replicator::Settings {
    let default = replicator::Settings::default();
    let size = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
    replicator::Settings {
        settle_window: settings.settle_window,
        max_clock_skew: settings.max_clock_skew,
        poll_busy: settings.poll_busy,
        poll_active: default.poll_active.clamp(settings.poll_busy, settings.poll_idle),
        poll_idle: settings.poll_idle,
        max_open_records: size(settings.max_open_records),
        requests_in_flight: size(settings.requests_in_flight),
        batch: Limits { rows: size(settings.batch_rows), ..default.batch },
        tombstone_scan: u16::try_from(settings.tombstone_scan).unwrap_or(default.tombstone_scan),
        keep_conflicts: settings.keep_conflicts,
        most_conflicts: size(settings.most_conflicts),
        park_after: settings.park_after,
        // Who waits less for writers waits less for what they mend.
        sweep_every: default.sweep_every.min(settings.settle_window),
        lease: settings.lease,
        roles_poll: failover.poll,
        late_writes: failover.late_writes,
        publish_every: limit.map_or(default.publish_every, |limit| default.publish_every.min(limit / 4)),
        ..default
    }
}

/// What a supervisor or a person at the terminal sends.
pub(crate) struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    /// Installed before anything else begins, so that no signal is missed.
    #[cfg(unix)]
    pub(crate) fn install() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    #[cfg(not(unix))]
    pub(crate) fn install() -> std::io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for one, and asks the daemon to end.
    pub(crate) async fn wait(mut self, stop: CancellationToken) -> std::io::Result<()> {
        let signal = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            signal = self.next() => signal?,
        };
        info!(signal, "asked to end");
        stop.cancel();
        Ok(())
    }

    #[cfg(unix)]
    async fn next(&mut self) -> std::io::Result<&'static str> {
        Ok(tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        })
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> std::io::Result<&'static str> {
        tokio::signal::ctrl_c().await.map(|()| "Ctrl-C")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_of_the_file_are_the_defaults_of_the_line() {
        let settings = tuned(&ReplicationSettings::default(), &FailoverSettings::default(), None);
        assert_eq!(settings, replicator::Settings::default());
    }
}
