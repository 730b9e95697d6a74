//! Watching the region's cache for what it does not say: that it has forgotten what it held.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::refresh::CacheLane;
use crate::cache::{CacheRecord, Loss, Markers};
use crate::model::{ClosedList, Region, SystemTable, Time, Version, WriterId};
use crate::runtime::Runtime;
use crate::stores::{Cache, ErrorKind, Operation, RegionStore, StoreError};
use crate::telemetry::{Event, metrics};

/// How often the markers are read and written.
const EVERY: Duration = Duration::from_secs(5);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many checks in a row must fail, while the cache takes refreshes, before that is told.
const FAILURES: u32 = 3;

/// Keeps a cache's markers, and tells when it has lost them. Two daemons of a region write the same ones: the highest version
/// stands, and whoever is first to find them gone tells of it.
#[derive(Debug)]
pub(super) struct Watch {
    pub cache: CacheLane,
    /// Where the markers are.
    pub there: Arc<dyn Cache>,
    pub local: RegionStore,
    pub writer: WriterId,
    pub runtime: Runtime,
    pub markers: Markers,
    pub last: Time,
    pub turn: usize,
    pub failures: u32,
    /// That was told of.
    pub unwatched: bool,
}

impl Watch {
    /// Watches until it is stopped.
    pub async fn run(mut self: Box<Self>, stop: CancellationToken) {
        metrics::cache_lost(self.region(), Loss::Emptied, 0);
        metrics::cache_lost(self.region(), Loss::SetBack, 0);
        loop {
            let round = async {
                self.look().await;
                tokio::time::sleep(EVERY).await;
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = round => {}
            }
        }
    }

    fn region(&self) -> &Region {
        self.local.region()
    }

    /// By this clock a warming says when it began, wherever it runs.
    fn storage_now(&self) -> Time {
        self.local.home().clock().at(self.runtime.instant()).unwrap_or_else(|| self.runtime.now())
    }

    async fn look(&mut self) {
        if self.cache.reception().health.is_parked() {
            return;
        }
        // What is known of the cache is in storage, whose troubles are told of elsewhere.
        let Ok(Ok(record)) = timeout(PATIENCE, self.record()).await else { return };
        let late = || StoreError::new(ErrorKind::Unreachable, format!("no answer within {PATIENCE:?}"));
        let Err(error) = timeout(PATIENCE, self.check(record)).await.unwrap_or_else(|_| Err(late())) else {
            self.failures = 0;
            if std::mem::take(&mut self.unwatched) {
                info!(event = Event::CacheWatched.as_str(), region = %self.region(),
                    "the cache's markers can be read and written again");
            }
            return;
        };
        self.failures += 1;
        // A cache that takes nothing at all is told of by its health.
        if self.failures == FAILURES && self.cache.reception().health.is_well() {
            self.unwatched = true;
            warn!(event = Event::CacheUnwatched.as_str(), region = %self.region(), %error,
                "the cache's markers cannot be read or written: nobody would notice if it were flushed");
        }
    }

    async fn check(&mut self, mut record: CacheRecord) -> Result<(), StoreError> {
        let found = self.cache.markers(self.there.as_ref()).await?;
        if let Some(loss) = self.markers.loss(&found, record.marked.is_some()) {
            // Written down before it is told: a daemon that dies in between finds the markers gone once more.
            record.lost = Some((self.storage_now(), loss));
            self.keep(CacheRecord { lost: record.lost, ..CacheRecord::default() }).await?;
            self.markers = Markers::default();
            self.tell(loss);
        }
        self.cache.set_record(record);
        let due = Markers::due(&found, self.turn);
        for (number, version) in found.into_iter().enumerate() {
            let Some(version) = version else { continue };
            self.last = self.last.max(version.time());
            self.markers.learn(number, version);
        }
        self.last = self.runtime.now().max(self.last.next());
        let version = Version::new(self.last, self.region(), self.writer);
        for number in self.cache.mark(self.there.as_ref(), &due, &version).await? {
            self.markers.learn(number, version.clone());
        }
        self.turn += 1;
        if record.marked.is_none() {
            self.keep(CacheRecord { marked: Some(self.last), ..CacheRecord::default() }).await?;
        }
        Ok(())
    }

    fn tell(&self, loss: Loss) {
        metrics::cache_lost(self.region(), loss, 1);
        let region = self.region();
        match loss {
            Loss::Emptied => warn!(event = Event::CacheLost.as_str(), %region, loss = loss.as_str(),
                "the cache has been emptied: readers fill it row by row, `tablerelay cache warm --region {region}` at once"),
            Loss::SetBack => warn!(event = Event::CacheLost.as_str(), %region, loss = loss.as_str(),
                "the cache holds what it held before: `tablerelay cache warm --region {region}` brings its rows up to date"),
        }
    }

    async fn record(&self) -> Result<CacheRecord, StoreError> {
        let (partition, row) = CacheRecord::keys(self.region());
        let row = self.local.home().get(&SystemTable::Control.name(), &partition, &row).await?;
        Ok(row.map(|row| CacheRecord::decode(&row.body)).unwrap_or_default())
    }

    async fn keep(&self, record: CacheRecord) -> Result<(), StoreError> {
        let row = Operation::InsertOrMerge(record.encode(self.region()));
        self.local.home().write(&SystemTable::Control.name(), &row).await.map(drop)
    }
}
