//! R6 and R10: what happens where a destination is newer than what was brought to it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::info;

use super::destination::Destination;
use super::journal::Journal;
use super::late::{self, LateDesk, Ruling};
use super::quarantine::Quarantine;
use super::single::{Settled, Single, Unsettled};
use crate::batch::Parcel;
use crate::model::{ClosedList, Region, RowId, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, Verdict, deliver_delete, deliver_row, from_the_future};
use crate::runtime::Runtime;
use crate::stores::{Remedy, StoreError};
use crate::telemetry::Event;

/// How a disagreement ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Disagreement {
    /// The destination's version stands, announced here and applied here.
    Superseded,
    /// What stands in a version's own region was lifted above it.
    Lifted,
    /// The destination holds a version from the future, which is in quarantine now.
    Quarantined,
    /// A third region has yet to say whether what stands there is late.
    Waits,
    /// It was gone at a second look.
    Gone,
}

/// Settles rows of which a destination has something newer.
#[derive(Debug)]
pub(super) struct Referee {
    pub here: Single,
    pub journal: Arc<Journal>,
    pub quarantine: Arc<Quarantine>,
    pub late: Arc<LateDesk>,
    pub max_clock_skew: Duration,
    pub runtime: Runtime,
}

impl Referee {
    /// Reads the row and its tombstone at the destination anew and settles it by R6 or R10.
    pub async fn settle(&self, to: &Destination, parcel: &Parcel) -> Result<Disagreement, StoreError> {
        let id = &parcel.id;
        let Some(version) = parcel.finding.version() else { return Ok(Disagreement::Gone) };
        let began = Instant::now();
        let stand = to.single.stand(id).await?;
        let there = stand.standing(to.region());
        let verdict = match &parcel.finding {
            Finding::Row { .. } => deliver_row(version, self.decider(to, version), &there),
            _ => deliver_delete(version, self.decider(to, version), &there),
        };
        let settled = match verdict {
            Verdict::Newer => {
                let newer = stand.newest(to.region());
                let newer = match (&newer, &there.tombstone) {
                    // A row that is older than the tombstone beside it is a delete under way: the delete is what is newer.
                    (Finding::Row { version: row, .. }, Some(tombstone)) if row < tombstone && row <= version => {
                        Finding::Deleted(tombstone.clone())
                    }
                    _ => newer,
                };
                return self.yield_to(to, id, newer, began).await;
            }
            Verdict::Lift => to.single.lift(id, version).await,
            _ => return Ok(Disagreement::Gone),
        };
        match settled {
            Ok(_) => {
                info!(event = Event::RowLifted.as_str(), region = %to.region(), %version, "a region's own order was kept");
                Ok(Disagreement::Lifted)
            }
            Err(Unsettled::LookAgain) => Ok(Disagreement::Gone),
            // Stamped, it is what the region takes no more.
            Err(Unsettled::Failed(error)) if error.remedy() == Remedy::GiveUp => {
                self.quarantine.refused_row(id, &parcel.finding, to.region(), &error).await?;
                Ok(Disagreement::Quarantined)
            }
            Err(Unsettled::Failed(error)) => Err(error),
        }
    }

    /// R6: announces and applies here what the destination has, unless that is a copy. `began` is when the reading of it began.
    pub async fn yield_to(
        &self,
        to: &Destination,
        id: &RowId,
        theirs: Finding,
        began: Instant,
    ) -> Result<Disagreement, StoreError> {
        if to.copy.is_some() {
            return self.yield_to_copy(to, id, &theirs).await;
        }
        let Some(winner) = theirs.version().cloned() else { return Ok(Disagreement::Gone) };
        let tables = self.here.store.holding(&id.table, &id.partition);
        let now = tables.clock().at(Instant::now()).unwrap_or_else(|| self.runtime.now());
        if from_the_future(&winner, now, self.max_clock_skew) {
            return self.set_aside(to.region(), id, &theirs).await;
        }
        if planted(Bug::NoTakeOver) {
            return Ok(Disagreement::Superseded);
        }
        let here = self.here.region();
        let began = began.min(self.late.heard(here, Instant::now())?);
        let over = self.late.suspects(&winner, to.region());
        if let Some(writer) = over.as_ref().filter(|_| self.late.rules() && !planted(Bug::LateTakenOver))
            && let Some(ruled) = self.rule(id, &theirs, to.region(), writer).await?
        {
            return Ok(ruled);
        }
        match self.here.take_over(id, &theirs, began, (to.region(), self.journal.as_ref())).await {
            Ok(Settled::Written) => {
                if over.as_ref() == Some(here) {
                    self.late.merged(id, to.region());
                }
                self.journal.tell(to.region(), id, &winner).await?;
                Ok(Disagreement::Superseded)
            }
            Ok(Settled::Had) => Ok(Disagreement::Superseded),
            Ok(Settled::Lifted) => {
                info!(event = Event::RowLifted.as_str(), region = %self.here.region(), version = %winner,
                    "this region's own order was kept");
                Ok(Disagreement::Lifted)
            }
            Err(Unsettled::LookAgain) => Ok(Disagreement::Gone),
            // This region refuses what the destination holds: nobody is to wait for it.
            Err(Unsettled::Failed(error)) if error.remedy() == Remedy::GiveUp => {
                self.quarantine.refused_row(id, &theirs, self.here.region(), &error).await?;
                Ok(Disagreement::Quarantined)
            }
            Err(Unsettled::Failed(error)) => Err(error),
        }
    }

    /// A region whose store has a word on this version where it is brought to `to` (R10): that of `to`, unless it is a copy.
    pub fn decider<'a>(&'a self, to: &'a Destination, version: &Version) -> &'a Region {
        if to.copy.is_some() && version.is_of(to.region()) { self.here.region() } else { to.region() }
    }

    /// A copy has something newer. It is no region, so nothing is taken over from there, and R6 has no need of it: another region
    /// has brought it, and brings it here too. But where this region issued it, its own store has put something else over it since,
    /// or in its place, and nobody but this region could tell: what stands here is lifted above it, by R10.
    async fn yield_to_copy(&self, to: &Destination, id: &RowId, theirs: &Finding) -> Result<Disagreement, StoreError> {
        let Some(winner) = theirs.version().filter(|version| version.is_of(self.here.region())) else {
            return Ok(Disagreement::Superseded);
        };
        let home = self.here.store.holding(&id.table, &id.partition);
        let now = home.clock().at(Instant::now()).unwrap_or_else(|| self.runtime.now());
        if from_the_future(winner, now, self.max_clock_skew) {
            return Ok(Disagreement::Superseded);
        }
        self.late.heard(self.here.region(), Instant::now())?;
        match self.here.lift(id, winner).await {
            Ok(Settled::Lifted) => {
                info!(event = Event::RowLifted.as_str(), region = %self.here.region(), copy = %to.region(), version = %winner,
                    "this region's own order was kept");
                Ok(Disagreement::Lifted)
            }
            Ok(Settled::Had | Settled::Written) => Ok(Disagreement::Superseded),
            Err(Unsettled::LookAgain) => Ok(Disagreement::Gone),
            Err(Unsettled::Failed(error)) => Err(error),
        }
    }

    /// R7: what the destination holds is not taken over before its time. The announcement of what stands here ends all the same,
    /// so whoever brings that version once its time has come finds nothing that waits: what will give way is named now.
    async fn set_aside(&self, from: &Region, id: &RowId, theirs: &Finding) -> Result<Disagreement, StoreError> {
        let Some(version) = theirs.version() else { return Ok(Disagreement::Gone) };
        match self.here.name_lost(id, theirs, (from, self.journal.as_ref())).await {
            Ok(()) => {}
            Err(Unsettled::LookAgain) => return Ok(Disagreement::Gone),
            Err(Unsettled::Failed(error)) => return Err(error),
        }
        self.quarantine.future_row(id, version, Some(from)).await?;
        Ok(Disagreement::Quarantined)
    }

    /// What stands in `home` was issued there by no writer: `None` where it is taken over all the same.
    async fn rule(
        &self,
        id: &RowId,
        theirs: &Finding,
        home: &Region,
        writer: &Region,
    ) -> Result<Option<Disagreement>, StoreError> {
        let asked = self.late.rule(id, theirs, home, writer);
        let ruling = match writer == self.here.region() {
            true => asked.await,
            false => match timeout(late::PATIENCE, asked).await {
                Ok(Err(Unsettled::Failed(_))) | Err(_) => return Ok(Some(Disagreement::Waits)),
                Ok(ruling) => ruling,
            },
        };
        match ruling {
            Ok(Ruling::Ordinary) => Ok(None),
            Ok(Ruling::Superseded) => Ok(Some(Disagreement::Superseded)),
            Ok(Ruling::Overruled) => Ok(Some(Disagreement::Lifted)),
            Err(Unsettled::LookAgain) => Ok(Some(Disagreement::Gone)),
            Err(Unsettled::Failed(error)) => Err(error),
        }
    }
}
