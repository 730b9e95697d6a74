//! The daemon of one region: built from settings, run until it is told to end.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::connect::{ConnectError, Connector};
use super::line::start_line;
use super::tasks::{DaemonError, SHUTDOWN_DEADLINE, TaskKind, Tasks};
use crate::admin::{self, Admin};
use crate::batch::Limits;
use crate::config::{FailoverSettings, ReplicationSettings, Settings};
use crate::model::{ClosedList, Region};
use crate::replicator::{self, Setup};
use crate::runtime::Runtime;
use crate::telemetry::{Event, Recorder};

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
    /// The admin endpoint's address cannot be had.
    #[error("admin.listen: {address} cannot be listened on: {error}; choose another address, or stop what holds it")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
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
    let address = settings.admin.listen;
    let listen = TcpListener::bind(address).await;
    let listener = listen.map_err(|error| RunError::Listen { address, error })?;
    // The port that was chosen, where any was asked for.
    let address = listener.local_addr().unwrap_or(address);
    let role = settings.regions[region].role;
    let version = env!("CARGO_PKG_VERSION");
    info!(event = Event::DaemonStarting.as_str(), %region, %role, version, admin = %address, "the daemon is starting");

    let mut tasks = Tasks::new();
    let stop = tasks.stop().clone();
    let board = start_line(&mut tasks, setup, &runtime);
    let roles = board.roles().clone();
    let snapshot = Arc::new(move || board.snapshot());
    let admin = Admin { region: region.clone(), roles, started: runtime.now(), snapshot, recorder };
    tasks.spawn(TaskKind::Signals, signals.wait(stop.clone()));
    tasks.spawn(TaskKind::Admin, admin::serve(listener, admin, stop));
    tasks.supervise(SHUTDOWN_DEADLINE).await?;
    info!(event = Event::DaemonStopped.as_str(), %region, "the daemon has ended");
    Ok(())
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
        cache: own.cache.as_ref().map(|cache| connector.cache(region, cache)).transpose()?,
        tables: settings.tables.clone(),
        roles: settings.roles(),
        settings: tuned(&settings.replication, &settings.failover),
        runtime: runtime.clone(),
    })
}

/// The line's tuning: what can be configured, and the line's own defaults for the rest.
fn tuned(settings: &ReplicationSettings, failover: &FailoverSettings) -> replicator::Settings {
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
        let settings = tuned(&ReplicationSettings::default(), &FailoverSettings::default());
        assert_eq!(settings, replicator::Settings::default());
    }
}
