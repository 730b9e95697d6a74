//! The collector: tombstones that nothing can need any more are deleted, by R8 of the protocol.
//!
//! Each region collects its own, by the first of its daemons. A turn asks all regions [what is known](known) of links and passes, and
//! keeps up what the region [remembers of others that were taken out](marks). From that a rule of `settle` makes the watermark. Then
//! the tombstones are [swept](sweep) page by page: of those before the watermark each goes on its ETag whose row stands nowhere below
//! it and waits nowhere by a name.
//!
//! Why nothing comes back:
//!
//! - *Writes of the old age* were announced before the watermark and its margin, so that every link has brought or settled them.
//! - *What is in flight*: a row that somebody has read before the delete came to that region may be sent for half a settle window, and be under
//!   way for the other half (R9). So a watermark is acted on a whole window after it was known, be it a lane, a drain, a backfill or a
//!   repair that sends. None of these keeps rows for longer: records, hints, ledgers and quarantine name rows, and whoever
//!   goes on with one reads what stands.
//! - *What stands somewhere all the same*, since nobody has repaired it or it lies in quarantine, is looked for in every region, after
//!   the tombstone was read and before it goes.
//! - *A cache* that is parked keeps what it has until it hears of the delete, which its hint alone tells. So hints for caches hold too.
//! - *A copy* that deletes are applied to may be down, and hears of the delete from what waits for it here alone. So the links that lead
//!   to it hold too. Nothing ever comes back from a copy, so its passes do not. What deletes leave in a copy itself stays there.
//! - *A region that is taken out* holds all, until every pair of the others was repaired whole. From then on it may not come back but empty.
//!
//! A pass counts when it is complete, whatever it has found: what differs either stands somewhere, which is looked for, or nowhere.

mod known;
mod marks;
mod report;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::known::Gathered;
use self::sweep::Sweep;
use super::scrub::until_anothers;
use crate::model::{AccountName, ClosedList, Region, Time};
use crate::replicator::{CopySetup, StatusBoard, replace_marks};
use crate::runtime::Runtime;
use crate::settle::{CollectRules, HeldBy, Watermark, watermark};
use crate::stores::{RegionStore, StoreError};
use crate::telemetry::Event;
use crate::topology::{TableFilter, is_barred};

pub use self::report::{Collected, Collection, Kept, read_collection};

/// How often is looked whether a sweep is due, and what has become of regions that were taken out.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Collects the tombstones of a region.
#[derive(Debug)]
pub struct Collector {
    /// Every region of the configuration.
    pub regions: Vec<RegionStore>,
    /// Its copies.
    pub copies: Vec<CopySetup>,
    /// The one whose tombstones these are.
    pub region: Region,
    /// The tables that are replicated.
    pub tables: TableFilter,
    /// Whether anything is collected. What the region remembers of others is kept up all the same.
    pub collects: bool,
    /// From the beginning of a sweep to that of the next.
    pub every: Duration,
    /// How many tombstones are gone through in a second at most; as fast as it goes without.
    pub rows_per_second: Option<NonZeroU32>,
    /// By what they go.
    pub rules: CollectRules,
    /// Where it leaves what it found.
    pub collected: Arc<Collected>,
    /// Clock and chance.
    pub runtime: Runtime,
}

/// What was told of. Each thing is said once.
#[derive(Debug, Default)]
struct Told {
    failing: bool,
    held: Option<(HeldBy, Vec<Region>)>,
    barred: bool,
}

impl Collector {
    /// Goes on until it is stopped. What fails is logged and tried again.
    ///
    /// # Errors
    /// None.
    pub async fn run(self, board: Arc<StatusBoard>, stop: CancellationToken) -> Result<(), Infallible> {
        let mut told = Told::default();
        loop {
            let turn = async {
                tokio::time::sleep(self.every.min(LOOK_EVERY)).await;
                self.turn(&board, &mut told).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = turn => {}
            }
        }
    }

    async fn turn(&self, board: &StatusBoard, told: &mut Told) {
        let Some(home) = self.regions.iter().find(|store| *store.region() == self.region) else { return };
        let last = match read_collection(home).await {
            Ok(last) => last,
            Err(error) => return self.failed(&error, told),
        };
        if let Some(last) = &last {
            self.collected.note(last.clone());
        }
        if !board.is_first() {
            return;
        }
        let done = tokio::select! {
            biased;
            () = until_anothers(board) => return,
            done = self.work(home, last, told) => done,
        };
        match done {
            Ok(Some(collection)) => self.concluded(collection, told),
            Ok(None) => {}
            Err(error) => self.failed(&error, told),
        }
    }

    /// Keeps up what the region remembers, and sweeps where that is due.
    async fn work(
        &self,
        home: &RegionStore,
        last: Option<Collection>,
        told: &mut Told,
    ) -> Result<Option<Collection>, StoreError> {
        let began = self.clock(home);
        let mut gathered = known::gather(&self.regions, &self.copies).await;
        self.keep_up(home, &mut gathered, began, told).await?;
        let is_due = last.is_none_or(|last| began >= last.began + self.every);
        if !self.collects || !is_due || self.rows_move() {
            return Ok(None);
        }
        let watermark = watermark(&self.region, &gathered.known, self.rules, began);
        // What somebody has read before it was known is under way for so long at most.
        tokio::time::sleep(self.rules.settle_window).await;
        let collection = Sweep::new(self, home, watermark, began).run().await?;
        report::keep_collection(home, &collection).await?;
        Ok(Some(collection))
    }

    /// Whether rows move from account to account in some region: copies of them are where nobody looks for a row then, and the tombstone of
    /// one that is deleted meanwhile is what keeps its copy from coming back.
    fn rows_move(&self) -> bool {
        self.regions.iter().any(|store| store.published().is_some_and(|published| published.moving.is_some()))
    }

    /// The storage clock of a region.
    fn clock(&self, store: &RegionStore) -> Time {
        store.home().clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }

    /// Brings what the region remembers up to date; a region that has to come back empty looks whether it is.
    async fn keep_up(
        &self,
        home: &RegionStore,
        gathered: &mut Gathered,
        now: Time,
        told: &mut Told,
    ) -> Result<(), StoreError> {
        let mut next = marks::remembered(&self.region, gathered, self.rules, now, self.collects);
        let barred = is_barred(&self.region, &gathered.marks);
        if barred && marks::is_empty(home, &self.tables).await? {
            next.empty = Some(now);
            info!(event = Event::RegionSeenEmpty.as_str(), region = %self.region,
                "this region was taken out, has come back, and is empty: it takes part again; `tablerelay backfill` fills it");
        } else if barred && !told.barred {
            error!(event = Event::RegionNotEmpty.as_str(), region = %self.region,
                "this region was taken out, tombstones were collected without it, and it has come back with rows: nothing passes between it and the others until it is empty");
        }
        told.barred = barred && next.empty != Some(now);
        let before = gathered.marks.get(&self.region).cloned().unwrap_or_default();
        if next != before {
            for region in next.out.keys().filter(|region| !before.out.contains_key(*region)) {
                warn!(event = Event::RegionTakenOut.as_str(), region = %self.region, out = %region,
                    "{region} is no longer in the configuration: no tombstone is collected until every pair of the others was repaired whole");
            }
            for region in next.gone.keys().filter(|region| !before.gone.contains_key(*region)) {
                info!(event = Event::RegionGone.as_str(), region = %self.region, gone = %region,
                    "{region} was taken out and counts no more: if it comes back, it has to be empty");
            }
            if !replace_marks(home, gathered.etag(&self.region), &next).await? {
                // Somebody else was faster; nothing rests on what was not written.
                next = before;
            }
        }
        gathered.known.out = marks::still_count(&next, gathered, self.rules);
        gathered.marks.insert(self.region.clone(), next);
        Ok(())
    }

    fn concluded(&self, collection: Collection, told: &mut Told) {
        let Collection { watermark: Watermark { held_by, between, .. }, overdue, .. } = &collection;
        told.failing = false;
        let by = (*held_by, between.clone());
        let between = between.iter().map(Region::as_str).collect::<Vec<_>>().join(" and ");
        match *overdue > 0 && *held_by != HeldBy::MinimumAge {
            true if told.held.as_ref() != Some(&by) => {
                warn!(event = Event::TombstonesHeld.as_str(), region = %self.region, held_by = held_by.as_str(), between,
                    overdue, "tombstones that are old enough stay: {}", held_by.meaning());
                told.held = Some(by);
            }
            true => {}
            false => told.held = None,
        }
        if collection.collected > 0 || collection.put_aside > 0 {
            let Collection { collected, put_aside, .. } = &collection;
            info!(event = Event::TombstonesCollected.as_str(), region = %self.region, collected, put_aside,
                standing = collection.standing(), "tombstones that nothing needs any more were deleted");
        }
        self.collected.note(collection);
    }

    fn failed(&self, error: &dyn std::fmt::Display, told: &mut Told) {
        if !std::mem::replace(&mut told.failing, true) {
            warn!(event = Event::TombstonesNotCollected.as_str(), region = %self.region, %error,
                "tombstones could not be collected; it is tried again");
        }
    }
}

/// What is counted by account.
type ByAccount = BTreeMap<AccountName, u64>;
