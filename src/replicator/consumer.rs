//! Whom findings are brought to: another region, a copy, or the region's own cache.
//!
//! Lanes and drains treat both alike: both take batches, may fail, are parked when they take nothing, keep what they miss as
//! hints, and are probed until they are back. What differs is here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tracing::debug;

use super::backlog::Backlog;
use super::board::StatusBoard;
use super::create_missing;
use super::deliver::Delivery;
use super::health::Health;
use super::item::Outcome;
use super::refresh::CacheLane;
use crate::batch::Parcel;
use crate::feed::Shard;
use crate::model::{Addressee, Region, RowKey, SystemTable};
use crate::stores::{ErrorKind, StoreError};
use crate::telemetry::metrics::ApplyOutcome;
use crate::topology::CopyRule;

/// How long a probe of a region may take.
const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// Whom findings are brought to. Clones lead to the same.
#[derive(Debug, Clone)]
pub(super) enum Consumer {
    Region(Arc<Delivery>),
    Cache(CacheLane),
}

/// What is known of a consumer, whoever brings it something: whether it takes it, what waits for it, who is at work.
#[derive(Debug)]
pub(super) struct Reception {
    pub health: Health,
    /// What waits for it as hints.
    pub backlog: Arc<Backlog>,
    at_work: AtomicUsize,
}

/// A lane has a batch under way as long as this lives.
pub(super) struct AtWork<'a>(&'a AtomicUsize);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Reception {
    pub fn new(health: Health, backlog: Backlog) -> Self {
        Self { health, backlog: Arc::new(backlog), at_work: AtomicUsize::new(0) }
    }

    /// A lane begins to work.
    pub fn begin(&self) -> AtWork<'_> {
        self.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(&self.at_work)
    }

    /// Whether a lane has a batch under way.
    pub fn is_busy(&self) -> bool {
        self.at_work.load(Ordering::Relaxed) > 0
    }
}

impl Consumer {
    pub fn reception(&self) -> &Reception {
        match self {
            Self::Region(delivery) => &delivery.to.reception,
            Self::Cache(cache) => cache.reception(),
        }
    }

    pub fn health(&self) -> &Health {
        &self.reception().health
    }

    pub fn backlog(&self) -> &Arc<Backlog> {
        &self.reception().backlog
    }

    pub fn addressee(&self) -> &Addressee {
        self.backlog().addressee()
    }

    /// Its name and what goes there, where it is a copy.
    pub fn copy(&self) -> Option<(Region, Arc<CopyRule>)> {
        let Self::Region(delivery) = self else { return None };
        Some((delivery.to.region().clone(), delivery.to.copy.clone()?))
    }

    /// Brings it a batch; says of every parcel what became of it.
    pub async fn deliver(&self, batch: Vec<Parcel>) -> Vec<(Parcel, Outcome)> {
        match self {
            Self::Region(delivery) => delivery.deliver(batch).await,
            Self::Cache(cache) => cache.refresh(batch).await,
        }
    }

    /// Rows were settled there.
    pub fn settled(&self, board: &StatusBoard, outcome: ApplyOutcome, rows: u64) {
        match self {
            Self::Region(delivery) => board.settled(delivery.to.region(), outcome, rows),
            // The cache counts its refreshes by what became of them there.
            Self::Cache(_) => {}
        }
    }

    /// Whether it answers at all: every account of a region, or the cache.
    pub async fn answers(&self) -> Result<(), StoreError> {
        let to = match self {
            Self::Region(delivery) => &delivery.to.store,
            Self::Cache(cache) => return cache.answers().await,
        };
        let feed = SystemTable::Feed.name();
        let shard = Shard::all().next().map_or_else(|| "00".into(), Shard::partition);
        for account in to.accounts() {
            match account.tables.get(&feed, &shard, &RowKey::from("probe")).await {
                Err(error) if error.kind == ErrorKind::NoTable => create_missing(to).await?,
                answer => drop(answer?),
            }
        }
        Ok(())
    }

    /// How long a probe may take: of a cache, less than what parks it, or one that is slow would come and go.
    pub fn probe_patience(&self) -> Duration {
        match self {
            Self::Region(_) => PROBE_PATIENCE,
            Self::Cache(_) => self.health().park_after() / 2,
        }
    }

    /// How long a batch of hints may be under way. To a region as long as R9 lets what was looked at be sent, so that hints get
    /// through where a batch takes longer than what parks it: a slow line, a short `park_after`. A cache that takes longer than
    /// what parks it would come and go.
    pub fn delivery_patience(&self, settle_window: Duration) -> Duration {
        let park_after = self.health().park_after();
        match self {
            Self::Region(_) => park_after.max(settle_window / 2),
            Self::Cache(_) => park_after,
        }
    }

    /// Whether what waits for a third region to do its part becomes a hint, rather than to keep its record open. To a cache,
    /// nobody else's pace matters.
    pub fn keeps_what_waits(&self) -> bool {
        matches!(self, Self::Cache(_))
    }

    /// A destination whose own daemon never ran has no system tables yet.
    pub async fn create_what_is_missing(&self, error: &StoreError) {
        let (Self::Region(delivery), ErrorKind::NoTable) = (self, error.kind) else { return };
        if let Err(error) = create_missing(&delivery.to.store).await {
            debug!(destination = %delivery.to.region(), %error, "its system tables could not be created yet");
        }
    }
}
