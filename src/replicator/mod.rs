//! The line assembled: it carries, and decides nothing that a station could decide.
//!
//! Of each account a [`source`] is read by sixteen carriers, one a shard. A [`carrier`] owns the shard's ledger: it
//! reads records, looks at their rows, and puts what was found into the baskets of its lanes, one for every destination
//! and one for the region's own cache. A [`lane`] takes batches out of its basket, delivers them, and reports back; when
//! everybody has what the protocol demands, the carrier ends the record. Lanes know nothing of each other, so a slow
//! destination never slows another.
//!
//! A destination that takes nothing for a while is parked: its lanes put hints into the [`backlog`], one per row, which
//! counts as delivered for the records, and its [`drain`] brings it what the hints name when it is back. The [`census`] counts them.
//! So is the cache; a [`consumer`] is either.
//!
//! A destination may be a *copy*: no region, but an account with a filter of its own. What the filter leaves out never comes into its
//! basket, what it takes is projected by the delivery, and nothing is ever taken over from there.
//!
//! Several daemons of a region share its shards by [leases](crate::topology::Tenancy): the keeper of this daemon's lease starts
//! carriers and lanes for the shards that it takes, and ends them before it gives a shard up.
//!
//! Which regions are written to is kept by the keeper of [roles](roles::Roles), who reads every region's copy: the line replicates from
//! each region whatever its role, and nobody carries anything before the roles are known.
//!
//! Beside the line run the readers of the applied log (what came in, for the cache), of the queue form, the publisher of
//! link state, the sweep of the quarantine, and the watch over a cache that may be flushed.

mod applied_reader;
mod applied_sender;
mod assembly;
mod backlog;
mod board;
mod carrier;
mod census;
mod conflict;
mod consumer;
mod deliver;
mod destination;
mod disagree;
mod drain;
mod duty;
mod flag;
mod gather;
mod graves;
mod health;
mod item;
mod journal;
mod lane;
mod late;
mod leases;
mod links;
mod look;
mod marks;
mod mending;
mod over;
mod poll;
mod quarantine;
mod queue;
mod ramp;
mod readers;
mod refresh;
mod removal;
mod replay;
mod residual;
mod roles;
mod routes;
mod rows;
mod settings;
mod sight;
mod single;
mod source;
mod source_health;
mod strays;
mod survivor;
mod tasks;
#[cfg(test)]
mod tests;
mod tombstones;
mod watch;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use self::assembly::Assembly;
use self::duty::Duty;
use self::leases::Leases;
use self::roles::Keeper;
use self::tasks::Tasks;

pub use self::backlog::hint_cache;
pub use self::board::{CacheStatus, Delivered, ReadStatus, Snapshot, StatusBoard};
pub use self::conflict::{Conflict, Side, UnreadableConflict};
pub(crate) use self::graves::{Grave, GravePage, Graves};
pub use self::links::read_links;
pub(crate) use self::marks::{read_marks, replace_marks};
pub(crate) use self::mending::{Brought, Mender, Uneven};
pub use self::replay::{Replay, ReplayError, Taken, take_out};
pub use self::roles::{Roles, RolesCopy, RolesStatus, read_roles, read_trail, replace_cut, replace_roles};
pub(crate) use self::routes::endpoints;
pub(crate) use self::rows::{read_in, read_selected};
pub use self::settings::{CacheSetup, CopySetup, Settings, Setup};
pub(crate) use self::sight::{Sights, VERSION_ALONE};
pub use self::tasks::{LineTask, ReplicatorError, Roll};

use crate::feed::AccountShard;
use crate::model::{Region, SystemTable};
use crate::runtime::Runtime;
use crate::stores::{RegionStore, Severed, StoreError};

/// The replication line of one region.
#[derive(Debug)]
pub struct Replicator {
    setup: Setup,
    /// The other regions for whoever asks for their roles.
    heard: Vec<RegionStore>,
    board: Arc<StatusBoard>,
    duty: Arc<Duty>,
    shards: Vec<AccountShard>,
    roll: Arc<Roll>,
}

/// Creates the system tables, and the queue, that are missing in the accounts of a region.
///
/// # Errors
/// The first failure; what was created stays.
pub async fn create_missing(region: &RegionStore) -> Result<(), StoreError> {
    for account in region.accounts() {
        for table in SystemTable::ALL {
            account.tables.create_table(&table.name()).await?;
        }
        if let Some(queue) = &account.queue {
            queue.create().await?;
        }
    }
    Ok(())
}

/// What cuts this daemon off from a region while a drill does: every part of the line asks other regions by what it is given
/// here, so that it finds them as it would if they were down.
fn severed(roles: &Arc<Roles>, to: &Region, runtime: &Runtime) -> Severed {
    let (cut, roles, to) = (cut_off(roles, to, runtime), roles.clone(), to.clone());
    Arc::new(move || {
        let barred = || {
            let region = roles.barred(&to)?;
            Some(format!("{region} was taken out and tombstones were collected without it: it has to come back empty"))
        };
        cut().or_else(barred)
    })
}

/// The same for whoever asks what stands between the two: a drill alone.
fn cut_off(roles: &Arc<Roles>, to: &Region, runtime: &Runtime) -> Severed {
    let (roles, to, runtime) = (roles.clone(), to.clone(), runtime.clone());
    Arc::new(move || {
        let cut = roles.severed_from(&to, runtime.instant())?;
        Some(format!("cut off by a drill until {}", cut.deadline))
    })
}

impl Replicator {
    /// A line that has not started. The system tables of its own region are expected to be there.
    pub fn new(mut setup: Setup) -> Self {
        let shards = AccountShard::all(setup.local.accounts().iter().map(|account| account.tables.account()));
        let duty = Arc::<Duty>::default();
        let stale = setup.settings.settle_window / 2;
        let roles = Arc::new(Roles::new(setup.local.region().clone(), setup.roles.clone(), stale));
        let heard = |to: &RegionStore| to.severable(&cut_off(&roles, to.region(), &setup.runtime));
        let heard = setup.destinations.iter().map(heard).collect();
        for to in &mut setup.destinations {
            *to = to.severable(&severed(&roles, to.region(), &setup.runtime));
        }
        for CopySetup { store, .. } in &mut setup.copies {
            *store = store.severable(&severed(&roles, store.region(), &setup.runtime));
        }
        let board = Arc::new(StatusBoard::new(shards.clone(), duty.clone(), roles));
        Self { setup, heard, board, duty, shards, roll: Arc::default() }
    }

    /// What the line tells of itself, now and while it runs.
    pub fn status(&self) -> Arc<StatusBoard> {
        self.board.clone()
    }

    /// Its tasks that run.
    pub fn roll(&self) -> Arc<Roll> {
        self.roll.clone()
    }

    /// Replicates until it is stopped.
    ///
    /// # Errors
    /// [`ReplicatorError`] where a task ended or panicked; the others were stopped then.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ReplicatorError> {
        let tasks = Tasks::new(stop.child_token(), self.roll);
        let keeper = Keeper {
            roles: self.board.roles().clone(),
            local: self.setup.local.clone(),
            others: self.heard,
            duty: self.duty.clone(),
            poll: self.setup.settings.roles_poll,
            minds_marks: self.setup.settings.minds_marks,
            hold: self.setup.settings.settle_window,
            runtime: self.setup.runtime.clone(),
        };
        let spawner = tasks.spawner();
        spawner.spawn(LineTask::Roles, "all regions", keeper.run(spawner.stop.clone()));
        let assembly = Assembly::new(self.setup, self.board.clone(), self.duty.clone(), tasks.spawner().clone());
        assembly.start_the_rest();
        let leases = Box::new(Leases::new(assembly, self.shards, self.duty, self.board));
        spawner.spawn(LineTask::Leases, "this daemon", leases.run(spawner.stop.clone()));
        tasks.join().await
    }
}
