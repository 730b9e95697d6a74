//! A drill: a region is cut off as far as daemons can do that, its role fails over and comes back, and all that was said of it is
//! measured.
//!
//! What a command does here stands in rows, as for a failover: the *cut* beside the roles in every region's copy, by which the
//! daemons of all regions go, and which ends at its deadline whatever becomes of the command. The failover is the command's own,
//! by lines on which the region does not answer. Storage itself cannot be cut off: applications in the region go on writing if they
//! do not follow `/health/write`, and what they write then is late like after a real failover.
//!
//! The steps are in [`story`]; each has a deadline, and whichever fails or is interrupted, the cut is ended.

mod check;
mod compare;
mod cut;
mod error;
mod links;
mod markdown;
mod report;
mod story;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::story::Story;
use super::failover::{Failover, Progress};
use crate::model::{Region, TableName, Time};
use crate::runtime::Runtime;
use crate::stores::{RegionStore, Severed, StoreError};
use crate::topology::{FileRoles, TableFilter};

pub use self::compare::{ComparedTable, Comparison, Difference, Held};
pub use self::error::DrillError;
pub use self::report::{DoneStep, DrillReport, DrillStep, DrillVerdict, FailedOver, FailedStep, UnsentRows};

/// What it takes to hold a drill.
#[derive(Debug, Clone)]
pub struct Drill {
    /// Every region.
    pub regions: Vec<RegionStore>,
    /// The roles that the configuration gives.
    pub file: FileRoles,
    /// The region that is cut off.
    pub region: Region,
    /// The tables that are replicated.
    pub tables: TableFilter,
    /// Who holds it, for the trail and the report.
    pub who: String,
    /// And why.
    pub why: String,
    /// How long the region is cut off at least.
    pub hold: Duration,
    /// After so long the cut ends by itself.
    pub deadline: Duration,
    /// How long a daemon counts as there after it was heard of last.
    pub lease: Duration,
    /// How long after a forced failover none is held.
    pub cool_down: Duration,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// How far a drill is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrillProgress {
    /// A step begins.
    Begins(DrillStep),
    /// What is waited for.
    Waits(String),
    /// How far the failover is that is a part of it.
    Failover(Progress),
}

/// Takes in how far a drill is.
pub type TellDrill<'a> = dyn Fn(DrillProgress) + Send + Sync + 'a;

/// How long links may take to pass the comparison before what differed is looked at again.
const PASSED_WITHIN: Duration = Duration::from_secs(120);

impl Drill {
    /// Holds the drill. What fails once anything was changed stands in the report.
    ///
    /// # Errors
    /// [`DrillError`]: why it was not begun.
    pub async fn run(&self, stop: &CancellationToken, tell: &TellDrill<'_>) -> Result<DrillReport, DrillError> {
        Story::new(self, stop, tell).run().await
    }

    /// Compares all rows between all regions.
    async fn compare(&self, waits: impl Fn(String) + Send + Sync) -> Result<Comparison, DrillError> {
        let mut far = |table: &TableName, rows: u64| waits(format!("{rows} rows of {table} are compared"));
        let (mut comparison, suspects) = compare::compare(&self.regions, &self.tables, &mut far).await?;
        if suspects.is_empty() {
            return Ok(comparison);
        }
        let since = self.now();
        let passed =
            self.until_synced(&since, |far| waits(format!("{} rows differ; not up to date: {far}", suspects.len())));
        if timeout(PASSED_WITHIN, passed).await.is_err() {
            // Then they are judged by what is there: that a link is behind is a difference.
            waits("links are behind; what differs is looked at all the same".to_owned());
        }
        compare::judge(&self.regions, suspects, &mut comparison).await?;
        Ok(comparison)
    }

    fn stands(&self, regions: &[Region]) -> DrillError {
        let regions = regions.iter().map(Region::as_str).collect::<Vec<_>>().join(", ");
        DrillError::CutStands { regions, deadline: self.runtime.now() + self.deadline }
    }

    /// What moves the role: where `severed` it is on lines on which the region does not answer.
    fn failover(&self, to: &Region, from: Option<&Region>, severed: bool) -> Failover {
        let why = match self.why.as_str() {
            "" => format!("a drill: {} cut off", self.region),
            why => format!("a drill: {} cut off ({why})", self.region),
        };
        let gone: Severed = Arc::new(|| Some("cut off by a drill".to_owned()));
        let line = |store: &RegionStore| match severed && *store.region() == self.region {
            true => store.severable(&gone),
            false => store.clone(),
        };
        Failover {
            regions: self.regions.iter().map(line).collect(),
            file: self.file.clone(),
            to: to.clone(),
            from: from.cloned(),
            who: self.who.clone(),
            why,
            lease: self.lease,
            cool_down: self.cool_down,
            runtime: self.runtime.clone(),
        }
    }

    /// The storage clock of a region that has answered.
    fn clock(&self, store: &RegionStore) -> Time {
        store.home().clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }

    async fn in_time<T>(&self, request: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        super::failover::in_time(request).await
    }
}
