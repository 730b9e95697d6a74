//! Refreshing the region's own cache with what was found.
//!
//! The cache is a consumer like a destination: one that takes nothing is parked, and what it misses is kept as hints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tracing::{debug, info};

use super::backlog::Backlog;
use super::consumer::Reception;
use super::health::{Health, Why};
use super::item::Outcome;
use super::single::{Settled, Single, Unsettled};
use super::{CacheSetup, Settings};
use crate::batch::Parcel;
use crate::cache::{self, CacheRecord, MARKERS, Refresh, RefreshOutcome, markers, newest, refresh_for};
use crate::feed::Hint;
use crate::model::{Addressee, ClosedList, Region, RowId, Version};
use crate::planted::{Bug, planted};
use crate::resolve::{Finding, Freshness, from_the_future};
use crate::stores::{Cache, CacheError, ErrorKind, StoreError};
use crate::telemetry::metrics::{ApplyOutcome, CacheOutcome};
use crate::telemetry::{Event, metrics};

/// How long a store is waited for, where the cache holds what it does not, before the row is left for later.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long a cache may take nothing before it is parked, where a destination may not take nothing for less: until then its
/// records stay in the feed, and there is no reason to keep them there for a cache.
const PARK_AFTER: Duration = Duration::from_secs(3);

/// A region's cache, as its lanes, its drain and the readers of the applied log refresh it.
#[derive(Debug, Clone)]
pub(super) struct CacheLane(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    here: Single,
    others: Vec<Single>,
    setup: CacheSetup,
    max_clock_skew: Duration,
    fresh: Freshness,
    reception: Reception,
    record: Mutex<CacheRecord>,
}

impl CacheLane {
    /// `others` are the regions whose versions the cache may be shown, beside its own.
    pub fn new(here: Single, others: Vec<Single>, setup: CacheSetup, settings: &Settings) -> Self {
        let (region, max_clock_skew) = (here.region().clone(), settings.max_clock_skew);
        let addressee = Addressee::Cache(region.clone());
        let health = Health::new(region, addressee.clone(), settings.park_after.min(PARK_AFTER));
        let reception = Reception::new(health, Backlog::new(&here.store, addressee));
        let fresh = Freshness::new(settings.settle_window);
        Self(Arc::new(Inner { here, others, setup, max_clock_skew, fresh, reception, record: Mutex::default() }))
    }

    pub fn reception(&self) -> &Reception {
        &self.0.reception
    }

    /// Whether it answers.
    pub async fn answers(&self) -> Result<(), StoreError> {
        let [marker, ..] = markers(&self.0.setup.keys, self.region());
        let answer = self.0.setup.cache.get(&marker).await;
        answer.map(drop).map_err(|error| {
            metrics::cache_refresh(self.region(), CacheOutcome::Failed, 1);
            unreachable(&error)
        })
    }

    /// Where its markers are, if it is watched.
    pub fn watched(&self) -> Option<Arc<dyn Cache>> {
        self.0.setup.markers.clone()
    }

    /// The markers as they stand; nothing for one that is gone.
    pub async fn markers(&self, there: &dyn Cache) -> Result<[Option<Version>; MARKERS], StoreError> {
        let mut found = [const { None }; MARKERS];
        for (found, key) in found.iter_mut().zip(markers(&self.0.setup.keys, self.region())) {
            let held = there.get(&key).await.map_err(|error| unreachable(&error))?;
            *found = held.and_then(|held| Version::parse(&held.version).ok());
        }
        Ok(found)
    }

    /// Writes some of the markers; says which of them stand there now.
    pub async fn mark(&self, there: &dyn Cache, due: &[usize], version: &Version) -> Result<Vec<usize>, StoreError> {
        let keys = markers(&self.0.setup.keys, self.region());
        let entry: Arc<str> = format!(r#"{{"RelayVersion":"{version}"}}"#).into();
        let mark = |n: &usize| Refresh { key: keys[*n].clone(), version: version.clone(), entry: Some(entry.clone()) };
        let marks: Vec<Refresh> = due.iter().map(mark).collect();
        let outcomes = there.refresh(&marks).await.map_err(|error| unreachable(&error))?;
        let stands = |outcome: &RefreshOutcome| matches!(outcome, RefreshOutcome::Stored | RefreshOutcome::Current);
        Ok(due.iter().zip(&outcomes).filter(|(_, outcome)| stands(outcome)).map(|(number, _)| *number).collect())
    }

    /// What the region knows of the cache, as it was read last.
    pub fn record(&self) -> CacheRecord {
        *self.0.record.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_record(&self, record: CacheRecord) {
        *self.0.record.lock().unwrap_or_else(PoisonError::into_inner) = record;
    }

    fn region(&self) -> &Region {
        self.0.here.region()
    }

    /// Whether what was found then may still be shown to the cache. A region's store may put a lower version over a higher one, and
    /// whoever saw that one and stalled would hide what stands, after everybody who could lift it (R10) has gone: as by R9.
    fn is_fresh(&self, parcel: &Parcel) -> bool {
        self.0.fresh.allows(parcel.began, Instant::now()) || planted(Bug::CacheShownStale)
    }

    /// Refreshes what a batch found.
    pub async fn refresh(&self, batch: Vec<Parcel>) -> Vec<(Parcel, Outcome)> {
        let (batch, stale): (Vec<_>, Vec<_>) = batch.into_iter().partition(|parcel| self.is_fresh(parcel));
        let refreshes = batch.iter().filter_map(|parcel| self.refresh_of(&parcel.id, &parcel.finding)).collect();
        let sent = self.send(refreshes).await;
        let mut outcomes = Vec::with_capacity(batch.len() + stale.len());
        // Where it is the cache that keeps them waiting, another look is no way out: it fails, and is parked in time.
        let again = match stale.is_empty() {
            true => Outcome::LookAgain,
            false => self.answers().await.map_or_else(Outcome::Failed, |()| Outcome::LookAgain),
        };
        for parcel in batch {
            let outcome = match (&sent, parcel.finding.version()) {
                (Err(_), Some(_)) if planted(Bug::CacheForgotten) => Outcome::Done(ApplyOutcome::Replaced),
                (Err(error), Some(_)) => Outcome::Failed(error.clone()),
                (Ok(newer), Some(found)) if newer.contains(&self.key(&parcel.id)) => {
                    self.keep_order(&parcel.id, found).await
                }
                (Ok(_), Some(_)) if parcel.finding.is_deliverable() => Outcome::Done(ApplyOutcome::Replaced),
                _ => Outcome::LookAgain,
            };
            outcomes.push((parcel, outcome));
        }
        outcomes.extend(stale.into_iter().map(|parcel| (parcel, again.clone())));
        outcomes
    }

    /// R10, where the cache holds something newer than what was found. Either the refresh was overtaken, or a version that
    /// the cache was shown stands nowhere any more: the store of the region that issued it has overruled it. Then what
    /// stands there is lifted above that version, and gets into the cache by the record that announces it; else the cache
    /// would stay as it is for good.
    async fn keep_order(&self, id: &RowId, found: &Version) -> Outcome {
        let held = match self.0.setup.cache.get(&self.key(id)).await {
            Ok(held) => held.and_then(|held| Version::parse(&held.version).ok()),
            Err(error) => return Outcome::Failed(unreachable(&error)),
        };
        let done = Outcome::Done(ApplyOutcome::Replaced);
        let Some(held) = held.filter(|held| held > found && !planted(Bug::CacheOrderIgnored)) else { return done };
        // A store that fails or hangs says nothing of the cache: the row waits for it.
        match timeout(PATIENCE, self.settle_order(id, &held)).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => {
                debug!(region = %self.region(), %error, "a version that only the cache holds could not be settled yet");
                Outcome::LookLater
            }
            Err(_) => Outcome::LookLater,
        }
    }

    async fn settle_order(&self, id: &RowId, held: &Version) -> Result<Outcome, StoreError> {
        let done = Outcome::Done(ApplyOutcome::Replaced);
        let Some(now) = self.0.here.store.holding(&id.table, &id.partition).clock().at(Instant::now()) else {
            return Ok(Outcome::LookAgain);
        };
        if from_the_future(held, now, self.0.max_clock_skew) {
            // R7: nothing is lifted up there. The entry leaves by its time to live.
            return Ok(done);
        }
        if held.is_of(self.region()) {
            return match self.lift(&self.0.here, id, held).await {
                Ok(Settled::Lifted) => Ok(Outcome::Done(ApplyOutcome::Lifted)),
                Ok(Settled::Had | Settled::Written) => Ok(done),
                Err(Unsettled::LookAgain) => Ok(Outcome::LookAgain),
                Err(Unsettled::Failed(error)) => Err(error),
            };
        }
        let stand = self.0.here.stand(id).await?;
        if stand.newest(self.region()).version().is_some_and(|stands| stands >= held) {
            return Ok(done);
        }
        let Some(issuer) = self.0.others.iter().find(|other| held.is_of(other.region())) else { return Ok(done) };
        // Whatever comes of it is on its way here now, or that region cannot be asked now: the row waits for it.
        match self.lift(issuer, id, held).await {
            Err(Unsettled::Failed(error)) => Err(error),
            _ => Ok(Outcome::LookLater),
        }
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
    fn refresh_of(&self, id: &RowId, finding: &Finding) -> Option<Refresh> {
        let keys = &self.0.setup.keys;
        match finding {
            Finding::Row { version, body } => Some(refresh_for(keys, id, cache::Finding::Row(body, version))),
            Finding::Deleted(version) => Some(refresh_for(keys, id, cache::Finding::Deleted(version))),
            Finding::Nothing | Finding::Future(_) => None,
        }
    }

    /// Refreshes what stands of rows that came in, or keeps hints of it where the cache is parked: `Ok` once all of it is in
    /// one or the other. `trying` is since when nothing has got through.
    pub async fn bring(&self, parcels: Vec<Parcel>, trying: &mut Option<Instant>) -> Result<(), StoreError> {
        let health = &self.0.reception.health;
        if !health.is_parked() {
            if !parcels.iter().all(|parcel| self.is_fresh(parcel)) {
                return Err(StoreError::stale_look());
            }
            let refreshes = parcels.iter().filter_map(|parcel| self.refresh_of(&parcel.id, &parcel.finding)).collect();
            let since = *trying.get_or_insert(Instant::now());
            let sent = timeout(health.park_after(), self.send(refreshes)).await;
            // What the cache holds newer is of another look; if a store has overruled it, that store's own feed says so.
            match sent.unwrap_or_else(|_| Err(StoreError::new(ErrorKind::Unreachable, "the cache does not answer"))) {
                Ok(_) => {
                    health.succeeded();
                    *trying = None;
                    return Ok(());
                }
                Err(error) => {
                    health.failed(&error);
                    if since.elapsed() < health.park_after() {
                        return Err(error);
                    }
                    health.park(Why::Failing, since);
                }
            }
        }
        *trying = None;
        let hint = |parcel: Parcel| {
            let version = parcel.finding.version()?.clone();
            Some(Hint { id: parcel.id, version, since: parcel.announced })
        };
        if planted(Bug::CacheHintNotDurable) {
            return Ok(());
        }
        self.0.reception.backlog.keep(parcels.into_iter().filter_map(hint).collect()).await
    }

    /// Sends refreshes and counts what became of them. Returns the keys of which the cache holds something newer.
    async fn send(&self, refreshes: Vec<Refresh>) -> Result<BTreeSet<String>, StoreError> {
        let refreshes = newest(refreshes);
        if refreshes.is_empty() {
            return Ok(BTreeSet::new());
        }
        let outcomes = match self.0.setup.cache.refresh(&refreshes).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                metrics::cache_refresh(self.region(), CacheOutcome::Failed, refreshes.len() as u64);
                return Err(unreachable(&error));
            }
        };
        let mut counts = BTreeMap::new();
        for outcome in &outcomes {
            *counts.entry(*outcome).or_insert(0) += 1;
        }
        for (outcome, keys) in counts {
            metrics::cache_refresh(self.region(), outcome.into(), keys);
        }
        let newer = refreshes.into_iter().zip(outcomes).filter(|(_, outcome)| *outcome == RefreshOutcome::Newer);
        Ok(newer.map(|(refresh, _)| refresh.key).collect())
    }
}

fn unreachable(error: &CacheError) -> StoreError {
    StoreError::new(ErrorKind::Unreachable, error.to_string())
}
