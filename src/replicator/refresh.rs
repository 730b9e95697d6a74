//! Refreshing the region's own cache with what was found.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

use super::CacheSetup;
use super::item::Outcome;
use crate::batch::Parcel;
use crate::cache::{self, Refresh, newest, refresh_for};
use crate::model::{ClosedList, Region, RowId};
use crate::resolve::Finding;
use crate::stores::{CacheError, ErrorKind, StoreError};
use crate::telemetry::metrics::ApplyOutcome;
use crate::telemetry::{Event, metrics};

/// A region's cache, as the feed's lanes and the applied log's reader refresh it. One WARN when it fails, one INFO when
/// it is back.
#[derive(Debug, Clone)]
pub(super) struct CacheLane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    region: Region,
    setup: CacheSetup,
    failing: AtomicBool,
}

impl CacheLane {
    pub fn new(region: Region, setup: CacheSetup) -> Self {
        Self(Arc::new(Inner { region, setup, failing: AtomicBool::new(false) }))
    }

    /// Refreshes what a batch found.
    pub async fn refresh(&self, batch: Vec<Parcel>) -> Vec<(Parcel, Outcome)> {
        let refreshes = batch.iter().filter_map(|parcel| self.refresh_of(&parcel.id, &parcel.finding)).collect();
        let failure = self.send(refreshes).await.err();
        let outcome = |parcel: &Parcel| match (&failure, parcel.finding.is_deliverable()) {
            (_, false) => Outcome::LookAgain,
            (Some(error), true) => Outcome::Failed(StoreError::new(ErrorKind::Unreachable, error.to_string())),
            (None, true) => Outcome::Done(ApplyOutcome::Replaced),
        };
        batch.into_iter().map(|parcel| (outcome(&parcel), parcel)).map(|(outcome, parcel)| (parcel, outcome)).collect()
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

    /// Sends refreshes and counts what became of them.
    pub async fn send(&self, refreshes: Vec<Refresh>) -> Result<(), CacheError> {
        let refreshes = newest(refreshes);
        if refreshes.is_empty() {
            return Ok(());
        }
        match self.0.setup.cache.refresh(&refreshes).await {
            Ok(outcomes) => {
                if self.0.failing.swap(false, Ordering::Relaxed) {
                    info!(event = Event::CacheRecovered.as_str(), region = %self.0.region, "the cache is back");
                }
                let mut counts = std::collections::BTreeMap::new();
                for outcome in outcomes {
                    *counts.entry(outcome).or_insert(0) += 1;
                }
                for (outcome, keys) in counts {
                    metrics::cache_refresh(&self.0.region, outcome.into(), keys);
                }
                Ok(())
            }
            Err(error) => {
                if !self.0.failing.swap(true, Ordering::Relaxed) {
                    warn!(event = Event::CacheFailing.as_str(), region = %self.0.region, %error, "the cache fails");
                }
                Err(error)
            }
        }
    }
}
