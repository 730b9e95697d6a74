//! One sweep over the tombstones of a region: page by page, a page of a shard in memory.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::{Instant, sleep_until};

use super::Collector;
use super::report::{Collection, Kept};
use crate::feed::Shard;
use crate::model::{RowId, Time, Version};
use crate::ops::patient::patiently;
use crate::ops::verify::named_anywhere;
use crate::planted::{Bug, planted};
use crate::replicator::{Grave, GravePage, Graves};
use crate::resolve::Freshness;
use crate::settle::Watermark;
use crate::stores::{Account, RegionStore, StoreError};
use crate::telemetry::metrics;

/// Tombstones that are read, and whose rows are looked for, together.
const TOGETHER: u16 = 200;

/// A sweep under way.
pub(super) struct Sweep<'a> {
    collector: &'a Collector,
    home: &'a RegionStore,
    graves: Graves,
    /// When the first page was read.
    since: Instant,
    met: u64,
    found: Collection,
}

impl<'a> Sweep<'a> {
    /// One by this watermark.
    pub fn new(collector: &'a Collector, home: &'a RegionStore, watermark: Watermark, began: Time) -> Self {
        let (fresh, runtime) = (Freshness::new(collector.rules.settle_window), collector.runtime.clone());
        let found = Collection {
            region: collector.region.clone(),
            began,
            ended: began,
            watermark,
            standing: Default::default(),
            collected: 0,
            kept: Default::default(),
            overdue: 0,
            put_aside: 0,
        };
        let graves = Graves::new(home.clone(), fresh, runtime);
        Self { collector, home, graves, since: Instant::now(), met: 0, found }
    }

    /// Goes through all of them.
    ///
    /// # Errors
    /// What a region goes on failing with. What was collected by then is collected.
    pub async fn run(mut self) -> Result<Collection, StoreError> {
        for account in self.home.accounts() {
            self.found.standing.insert(account.tables.account().clone(), 0);
            for shard in Shard::all() {
                let mut continuation = None;
                loop {
                    let of = (TOGETHER, continuation.take());
                    let page = patiently(|| self.graves.page(account, shard, of.clone())).await?;
                    continuation = page.continuation.clone();
                    self.page(account, page).await?;
                    self.keep_pace().await;
                    if continuation.is_none() {
                        break;
                    }
                }
            }
        }
        self.found.ended = self.collector.clock(self.home);
        Ok(self.found)
    }

    async fn page(&mut self, account: &Account, page: GravePage) -> Result<(), StoreError> {
        let GravePage { began, graves, malformed, .. } = page;
        self.met += (graves.len() + malformed.len()) as u64;
        for (row, why) in &malformed {
            self.graves.put_aside(account, row, why).await?;
            self.found.put_aside += 1;
        }
        let ripe: Vec<&Grave> = graves.iter().filter(|grave| self.is_ripe(grave)).collect();
        let mut gone = 0;
        if !ripe.is_empty() {
            let kept = self.kept(&ripe).await?;
            let free: Vec<&Grave> = ripe.iter().copied().filter(|grave| !kept.contains(&grave.tombstone.id)).collect();
            gone = self.graves.remove(account, &free, began).await?;
            self.keep(Kept::LookAged, (free.len() - gone) as u64);
        }
        self.keep(Kept::Young, (graves.len() - ripe.len()) as u64);
        self.found.collected += gone as u64;
        metrics::tombstones_collected(account.tables.account(), gone as u64);
        *self.found.standing.entry(account.tables.account().clone()).or_default() += (graves.len() - gone) as u64;
        Ok(())
    }

    fn is_ripe(&mut self, grave: &Grave) -> bool {
        let (version, raised) = (&grave.tombstone.version, grave.row.timestamp);
        let ripe = self.found.watermark.passes(version, raised);
        let age = self.found.began.since(version.time().max(raised));
        self.found.overdue += u64::from(!ripe && age > self.collector.rules.minimum_age);
        ripe
    }

    /// Those whose row stands somewhere below them, or is named somewhere.
    async fn kept(&mut self, graves: &[&Grave]) -> Result<BTreeSet<RowId>, StoreError> {
        if planted(Bug::CollectedUnlooked) {
            return Ok(BTreeSet::new());
        }
        let ids: Vec<&RowId> = graves.iter().map(|grave| &grave.tombstone.id).collect();
        let regions = &self.collector.regions;
        let named = named_anywhere(regions, &ids.iter().copied().collect()).await?;
        let standing = try_join_all(regions.iter().map(|region| patiently(|| Graves::rows_of(region, &ids)))).await?;
        let mut kept = BTreeSet::new();
        for Grave { tombstone, .. } in graves.iter().copied() {
            let below = |version: &Version| *version <= tombstone.version;
            let why = if standing.iter().any(|rows| rows.get(&tombstone.id).is_some_and(below)) {
                Kept::RowStands
            } else if named.as_ref().is_none_or(|named| named.contains(&tombstone.id)) {
                Kept::RowWaits
            } else {
                continue;
            };
            self.keep(why, 1);
            kept.insert(tombstone.id.clone());
        }
        Ok(kept)
    }

    fn keep(&mut self, why: Kept, tombstones: u64) {
        if tombstones > 0 {
            *self.found.kept.entry(why).or_default() += tombstones;
        }
    }

    /// Waits until so many since the beginning are no more than may be.
    async fn keep_pace(&self) {
        if let Some(rate) = self.collector.rows_per_second {
            sleep_until(self.since + Duration::from_secs_f64(self.met as f64 / f64::from(rate.get()))).await;
        }
    }
}
