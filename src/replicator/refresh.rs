//! Refreshing the region's own cache with what was found.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::CacheSetup;
use super::item::Outcome;
use super::single::{Settled, Single, Unsettled};
use crate::batch::Parcel;
use crate::cache::{self, Refresh, RefreshOutcome, newest, refresh_for};
use crate::model::{ClosedList, Region, RowId, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, from_the_future};
use crate::stores::{CacheError, ErrorKind, StoreError};
use crate::telemetry::metrics::{ApplyOutcome, CacheOutcome};
use crate::telemetry::{Event, metrics};

/// How long another region is waited for before its row is left for a later look.
const PATIENCE: Duration = Duration::from_secs(2);

/// A region's cache, as the feed's lanes and the applied log's reader refresh it. One WARN when it fails, one INFO when
/// it is back.
#[derive(Debug, Clone)]
pub(super) struct CacheLane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    here: Single,
    others: Vec<Single>,
    setup: CacheSetup,
    max_clock_skew: Duration,
    failing: AtomicBool,
}

impl CacheLane {
    /// `others` are the regions whose versions the cache may be shown, beside its own.
    pub fn new(here: Single, others: Vec<Single>, setup: CacheSetup, max_clock_skew: Duration) -> Self {
        Self(Arc::new(Inner { here, others, setup, max_clock_skew, failing: AtomicBool::new(false) }))
    }

    fn region(&self) -> &Region {
        self.0.here.region()
    }

    /// Refreshes what a batch found.
    pub async fn refresh(&self, batch: Vec<Parcel>) -> Vec<(Parcel, Outcome)> {
        let refreshes = batch.iter().filter_map(|parcel| self.refresh_of(&parcel.id, &parcel.finding)).collect();
        let sent = self.send(refreshes).await;
        let mut outcomes = Vec::with_capacity(batch.len());
        for parcel in batch {
            let outcome = match (&sent, parcel.finding.version()) {
                (Err(_), Some(_)) if planted(Bug::CacheForgotten) => Outcome::Done(ApplyOutcome::Replaced),
                (Err(error), Some(_)) => failed(error),
                (Ok(newer), Some(found)) if newer.contains(&self.key(&parcel.id)) => {
                    self.keep_order(&parcel.id, found).await
                }
                (Ok(_), Some(_)) if parcel.finding.is_deliverable() => Outcome::Done(ApplyOutcome::Replaced),
                _ => Outcome::LookAgain,
            };
            outcomes.push((parcel, outcome));
        }
        outcomes
    }

    /// R10, where the cache holds something newer than what was found. Either the refresh was overtaken, or a version that
    /// the cache was shown stands nowhere any more: the store of the region that issued it has overruled it. Then what
    /// stands there is lifted above that version, and gets into the cache by the record that announces it; else the cache
    /// would stay as it is for good.
    async fn keep_order(&self, id: &RowId, found: &Version) -> Outcome {
        let held = match self.0.setup.cache.get(&self.key(id)).await {
            Ok(held) => held.and_then(|held| Version::parse(&held.version).ok()),
            Err(error) => return failed(&error),
        };
        let done = Outcome::Done(ApplyOutcome::Replaced);
        let Some(held) = held.filter(|held| held > found && !planted(Bug::CacheOrderIgnored)) else { return done };
        let Some(now) = self.0.here.store.holding(&id.table, &id.partition).clock().at(Instant::now()) else {
            return Outcome::LookAgain;
        };
        if from_the_future(&held, now, self.0.max_clock_skew) {
            // R7: nothing is lifted up there. The entry leaves by its time to live.
            return done;
        }
        if held.is_of(self.region()) {
            return match self.lift(&self.0.here, id, &held).await {
                Ok(Settled::Lifted) => Outcome::Done(ApplyOutcome::Lifted),
                Ok(Settled::Had | Settled::Written) => done,
                Err(Unsettled::LookAgain) => Outcome::LookAgain,
                Err(Unsettled::Failed(error)) => Outcome::Failed(error),
            };
        }
        match self.0.here.stand(id).await {
            Err(error) => return Outcome::Failed(error),
            Ok(stand) if stand.newest(self.region()).version().is_some_and(|stands| *stands >= held) => return done,
            Ok(_) => {}
        }
        let Some(issuer) = self.0.others.iter().find(|other| held.is_of(other.region())) else { return done };
        // Whatever comes of it is on its way here now, or that region cannot be asked now: the record waits for it.
        let lifted = tokio::time::timeout(PATIENCE, self.lift(issuer, id, &held)).await;
        if let Ok(Err(Unsettled::Failed(error))) = lifted {
            debug!(region = %issuer.region(), %error, "a version that only the cache holds could not be settled yet");
        }
        Outcome::LookLater
    }

    async fn lift(&self, there: &Single, id: &RowId, held: &Version) -> Result<Settled, Unsettled> {
        let settled = there.lift(id, held).await?;
        if settled == Settled::Lifted {
            info!(event = Event::RowLifted.as_str(), region = %there.region(), version = %held,
                "a region's own order was kept in the cache of {}", self.region());
        }
        Ok(settled)
    }

    fn key(&self, id: &RowId) -> String {
        self.0.setup.keys.key(id)
    }

    /// The refresh that a finding asks for; none where nothing was found.
    pub fn refresh_of(&self, id: &RowId, finding: &Finding) -> Option<Refresh> {
        let keys = &self.0.setup.keys;
        match finding {
            Finding::Row { version, body } => Some(refresh_for(keys, id, cache::Finding::Row(body, version))),
            Finding::Deleted(version) => Some(refresh_for(keys, id, cache::Finding::Deleted(version))),
            Finding::Nothing | Finding::Future(_) => None,
        }
    }

    /// Sends refreshes and counts what became of them. Returns the keys of which the cache holds something newer.
    pub async fn send(&self, refreshes: Vec<Refresh>) -> Result<BTreeSet<String>, CacheError> {
        let refreshes = newest(refreshes);
        if refreshes.is_empty() {
            return Ok(BTreeSet::new());
        }
        match self.0.setup.cache.refresh(&refreshes).await {
            Ok(outcomes) => {
                if self.0.failing.swap(false, Ordering::Relaxed) {
                    info!(event = Event::CacheRecovered.as_str(), region = %self.region(), "the cache is back");
                }
                let mut counts = std::collections::BTreeMap::new();
                for outcome in &outcomes {
                    *counts.entry(*outcome).or_insert(0) += 1;
                }
                for (outcome, keys) in counts {
                    metrics::cache_refresh(self.region(), outcome.into(), keys);
                }
                let newer =
                    refreshes.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome == RefreshOutcome::Newer);
                Ok(newer.map(|(refresh, _)| refresh.key).collect())
            }
            Err(error) => {
                metrics::cache_refresh(self.region(), CacheOutcome::Failed, refreshes.len() as u64);
                if !self.0.failing.swap(true, Ordering::Relaxed) {
                    warn!(event = Event::CacheFailing.as_str(), region = %self.region(), %error, "the cache fails");
                }
                Err(error)
            }
        }
    }
}

fn failed(error: &CacheError) -> Outcome {
    Outcome::Failed(StoreError::new(ErrorKind::Unreachable, error.to_string()))
}
