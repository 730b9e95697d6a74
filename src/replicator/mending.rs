//! Mending rows that differ between two regions, when somebody asks for it: by the looks, the delivery and the referee of the
//! line, with nothing of its own that decides.
//!
//! It is the line of one region without its feed. What is newer here is delivered there (R4, R5); what is newer there
//! is announced here and taken over, so that every other region gets it too (R6). Where one version stands for two things,
//! what its own region has is lifted above it, as by R10. A daemon of the region may run beside it, or another of its kind.
//!
//! Whole tables are copied by it too: what a page of rows says is brought as what a look found.

use std::sync::Arc;

use futures::future::{BoxFuture, join_all};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::assembly::Assembly;
use super::board::StatusBoard;
use super::deliver::Delivery;
use super::disagree::Disagreement;
use super::duty::Duty;
use super::gather::gather;
use super::item::Outcome;
use super::look::look;
use super::marks::read_marks;
use super::residual::Residual;
use super::roles::in_time;
use super::single::{Single, Unsettled};
use super::tasks::Tasks;
use super::tombstones::Tombstones;
use super::{CopySetup, Roles, Setup, read_roles, severed};
use crate::batch::Parcel;
use crate::feed::AccountShard;
use crate::model::{Region, RowId, Time, Version, WriterId};
use crate::resolve::{Finding, from_the_future, keeper};
use crate::stores::{ErrorKind, RegionStore, StoreError};
use crate::telemetry::metrics::ApplyOutcome;

/// A row that is to be made equal.
#[derive(Debug, Clone)]
pub(crate) struct Uneven {
    pub id: RowId,
    /// The version that stands on both sides, for two things: it has to be lifted before anybody is the newer one.
    pub twice: Option<Version>,
}

/// What became of a row that was brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Brought {
    /// The destination has it, or something newer that finds its own way.
    Done(ApplyOutcome),
    /// Others go on writing it, or what was read is too old (R9): it is to be looked at.
    LookAgain,
    /// It has to wait for another region, and why.
    Later(String),
    /// The destination failed, or this region's own journal or quarantine.
    Failed(StoreError),
}

/// Makes rows of a region and of another one equal.
#[derive(Debug)]
pub(crate) struct Mender {
    here: RegionStore,
    regions: Vec<RegionStore>,
    tombstones: Tombstones,
    roles: Arc<Roles>,
    residual: Residual,
    assembly: Assembly,
    delivery: Delivery,
    /// Whose end ends them.
    _tasks: Tasks,
}

impl Mender {
    /// Of the region of `setup` and the destination `to`, a region or a copy; `None` where it is none.
    pub(crate) fn new(mut setup: Setup, to: &Region) -> Option<Self> {
        let roles = Roles::new(setup.local.region().clone(), setup.roles.clone(), setup.settings.settle_window / 2);
        let roles = Arc::new(roles);
        for other in &mut setup.destinations {
            *other = other.severable(&severed(&roles, other.region(), &setup.runtime));
        }
        for CopySetup { store, .. } in &mut setup.copies {
            *store = store.severable(&severed(&roles, store.region(), &setup.runtime));
        }
        let shards = AccountShard::all(setup.local.accounts().iter().map(|account| account.tables.account()));
        let duty = Arc::<Duty>::default();
        let board = Arc::new(StatusBoard::new(shards, duty.clone(), roles.clone()));
        let tasks = Tasks::new(CancellationToken::new(), Arc::default());
        let here = setup.local.clone();
        let regions = setup.destinations.iter().chain([&here]).cloned().collect();
        let tombstones = Tombstones::new(here.clone(), setup.settings.tombstone_scan);
        let assembly = Assembly::new(setup, board, duty, tasks.spawner().clone());
        let (residual, delivery) = (assembly.residual(), assembly.delivery_to(to)?);
        Some(Self { here, regions, tombstones, roles, residual, assembly, delivery, _tasks: tasks })
    }

    /// Reads the roles of all regions: nothing is brought to a region whose roles were not read of late.
    ///
    /// # Errors
    /// Where one of the two regions cannot be asked, is cut off by a drill, or has to come back empty.
    pub(crate) async fn hear(&self) -> Result<(), (Region, StoreError)> {
        let within = super::late::PATIENCE * 2;
        let asked = self.regions.iter().map(|store| async move {
            let began = Instant::now();
            let late = |_| StoreError::new(ErrorKind::Unreachable, format!("no answer within {within:?}"));
            let read = async {
                if self.assembly.setup().settings.minds_marks {
                    self.roles.remember(store.region(), read_marks(store).await?.0);
                }
                read_roles(store).await
            };
            (store, began, timeout(within, read).await.map_err(late).and_then(|read| read))
        });
        let runtime = &self.assembly.setup().runtime;
        for (store, began, read) in join_all(asked).await {
            let needed = [self.here.region(), self.delivery.to.region()].contains(&store.region());
            match read {
                Ok(copy) => drop(self.roles.read(store.region(), began, in_time(store, &copy, runtime))),
                Err(error) if needed => return Err((store.region().clone(), error)),
                // Whoever decides by what a third region says asks it then.
                Err(_) => {}
            }
        }
        let to = self.delivery.to.region();
        if let Some(region) = self.roles.barred(to) {
            let text = "it was taken out and tombstones were collected without it: it has to come back empty";
            return Err((region, StoreError::new(ErrorKind::Unreachable, text)));
        }
        self.residual.open_where_counted().await.map_err(|error| (self.here.region().clone(), error))
    }

    /// Makes rows equal as far as that can be done at once; says of each, in the order asked, what it failed with. Whether they
    /// are equal then is for a look to say.
    pub(crate) async fn mend(&self, rows: &[Uneven]) -> Vec<Option<String>> {
        let lifts = gather(rows.iter().enumerate().map(|(n, row)| self.lift(n, row)).collect()).await;
        let mut failed: Vec<Option<String>> = vec![None; rows.len()];
        lifts.into_iter().for_each(|(n, why)| failed[n] = why);
        let began = Instant::now();
        let ids: Vec<&RowId> = rows.iter().map(|row| &row.id).collect();
        let findings = match look(&self.here, &self.tombstones, &ids).await {
            Ok(findings) => findings,
            Err(error) => return vec![Some(error.to_string()); rows.len()],
        };
        let (mut parcels, mut absent): (Vec<Parcel>, Vec<BoxFuture<'_, _>>) = (Vec::new(), Vec::new());
        for (n, (id, finding)) in ids.iter().copied().zip(findings).enumerate() {
            match finding.version() {
                _ if failed[n].is_some() => {}
                Some(version) if self.is_from_the_future(id, version) => failed[n] = Some(from_future(version)),
                Some(_) => {
                    let (id, announced) = (id.clone(), self.clock(id));
                    parcels.push(Parcel { id, look: 1, began, announced, base: None, finding });
                }
                None => absent.push(Box::pin(async move { (n, self.take_over(id).await) })),
            }
        }
        for (n, done) in gather(absent).await {
            failed[n] = done.err();
        }
        for (parcel, brought) in self.deliver(parcels).await {
            let at = ids.iter().position(|id| **id == parcel.id);
            if let (Some(at), Some(why)) = (at, why(brought)) {
                failed[at] = Some(why);
            }
        }
        failed
    }

    /// Looks at rows here: a finding for each, in the order asked.
    pub(crate) async fn look(&self, ids: &[&RowId]) -> Result<Vec<Finding>, StoreError> {
        look(&self.here, &self.tombstones, ids).await
    }

    /// Brings what a reading found here that began at `began`, distinct rows; says of each, in the order given, what became of it. A
    /// version from the future lies in quarantine then (R7).
    pub(crate) async fn bring(&self, found: Vec<(RowId, Finding)>, began: Instant) -> Vec<Brought> {
        let mut brought: Vec<Option<Brought>> = vec![None; found.len()];
        let (mut parcels, mut at) = (Vec::with_capacity(found.len()), Vec::with_capacity(found.len()));
        for (n, (id, finding)) in found.into_iter().enumerate() {
            match finding.version() {
                Some(version) if self.is_from_the_future(&id, version) => {
                    let put = self.assembly.quarantine().future_row(&id, version, None).await;
                    brought[n] = Some(put.map_or_else(Brought::Failed, |()| Brought::Done(ApplyOutcome::Quarantined)));
                }
                Some(_) => {
                    let announced = self.clock(&id);
                    parcels.push(Parcel { id, look: 1, began, announced, base: None, finding });
                    at.push(n);
                }
                // Never deleted by anybody who said so: there is nothing to bring.
                None => brought[n] = Some(Brought::Done(ApplyOutcome::Equal)),
            }
        }
        for (n, (_, outcome)) in at.into_iter().zip(self.deliver(parcels).await) {
            brought[n] = Some(outcome);
        }
        brought.into_iter().map(|brought| brought.unwrap_or(Brought::LookAgain)).collect()
    }

    async fn deliver(&self, parcels: Vec<Parcel>) -> Vec<(Parcel, Brought)> {
        if parcels.is_empty() {
            return Vec::new();
        }
        let later = || {
            let here = self.here.region();
            format!(
                "{here} is no writer, and what it had not sent is not counted yet, or the writer's region does not answer: run its daemon"
            )
        };
        let brought = |outcome| match outcome {
            Outcome::Done(outcome) => Brought::Done(outcome),
            Outcome::LookAgain => Brought::LookAgain,
            Outcome::LookLater => Brought::Later(later()),
            Outcome::Failed(error) | Outcome::Refused(error) => Brought::Failed(error),
        };
        let delivered = self.delivery.deliver(parcels).await;
        delivered.into_iter().map(|(parcel, outcome)| (parcel, brought(outcome))).collect()
    }

    /// Nothing is here, not even a tombstone: what is there is right.
    async fn take_over(&self, id: &RowId) -> Result<(), String> {
        let (to, began) = (&self.delivery.to, Instant::now());
        if to.copy.is_some() {
            return Err("it is absent here, and nothing is taken over from a copy".to_owned());
        }
        let stand = to.single.stand(id).await.map_err(|error| error.to_string())?;
        let theirs = stand.newest(to.region());
        if theirs == Finding::Nothing {
            return Ok(());
        }
        match self.delivery.referee.yield_to(to, id, theirs, began).await {
            Ok(Disagreement::Superseded | Disagreement::Lifted) => Ok(()),
            Ok(Disagreement::Quarantined) => Err("it cannot be applied, and lies in quarantine".to_owned()),
            Ok(Disagreement::Waits) => Err("the writer's region does not answer".to_owned()),
            Ok(Disagreement::Gone) => Err("others go on writing it".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the version's own region has is lifted above it, so that one of the two is newer.
    fn lift<'a>(&'a self, n: usize, row: &'a Uneven) -> BoxFuture<'a, (usize, Option<String>)> {
        Box::pin(async move {
            let Some(version) = &row.twice else { return (n, None) };
            let to = &self.delivery.to;
            let region = keeper(version, self.here.region(), to.region());
            let single: &Single = if region == to.region() { &to.single } else { &self.delivery.referee.here };
            if let Err(error) = self.delivery.late.heard(region, Instant::now()) {
                return (n, Some(error.to_string()));
            }
            match single.lift(&row.id, &version.above(region, WriterId::NOBODY)).await {
                Ok(_) | Err(Unsettled::LookAgain) => (n, None),
                Err(Unsettled::Failed(error)) => (n, Some(error.to_string())),
            }
        })
    }

    fn is_from_the_future(&self, id: &RowId, version: &Version) -> bool {
        from_the_future(version, self.clock(id), self.assembly.setup().settings.max_clock_skew)
    }

    fn clock(&self, id: &RowId) -> Time {
        let tables = self.here.holding(&id.table, &id.partition);
        tables.clock().at(Instant::now()).unwrap_or_else(|| self.assembly.setup().runtime.now())
    }
}

fn why(brought: Brought) -> Option<String> {
    match brought {
        Brought::Done(_) => None,
        Brought::LookAgain => Some("others go on writing it".to_owned()),
        Brought::Later(why) => Some(why),
        Brought::Failed(error) => Some(error.to_string()),
    }
}

fn from_future(version: &Version) -> String {
    format!("its version {version} is from the future: it would win for ever")
}
