//! Reading the applied log of this region: what came in from one source, for the cache.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::duty::Duty;
use super::health::Backoff;
use super::links::last_syncs;
use super::look::look;
use super::refresh::CacheLane;
use super::removal::removal;
use super::survivor::Survivor;
use super::tombstones::Tombstones;
use crate::batch::Parcel;
use crate::feed::{Applied, decode_applied};
use crate::model::{ClosedList, Etag, PartitionKey, Region, RowId, RowKey, SystemTable, Time};
use crate::resolve::Finding;
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Operation, Query, RegionStore, Scope, StoreError};
use crate::telemetry::Event;

/// How far back each read reaches: a sender's row may come in behind one with a later time.
const OVERLAP: Duration = Duration::from_secs(10);
/// How often rows are collected.
const COLLECT_EVERY: Duration = Duration::from_secs(20);
/// Rows of one look.
const LOOK_ROWS: usize = 200;
/// Most rows that are known to be consumed; older ones are consumed again when they are collected.
const MAX_KNOWN: usize = 50_000;
/// Rows of one collecting transaction, and transactions of one collection.
const COLLECT_ROWS: usize = 100;

/// Reads what came in from one source, refreshes the cache from it, and collects what nobody needs any more.
#[derive(Debug)]
pub(super) struct AppliedReader {
    pub source: RegionStore,
    pub survivor: Survivor,
    pub local: RegionStore,
    pub tombstones: Tombstones,
    pub cache: Option<CacheLane>,
    /// Every region but the source: each has a link from it whose Last Sync Time counts.
    pub others: Vec<Region>,
    pub poll_busy: Duration,
    pub poll_idle: Duration,
    pub margin: Duration,
    /// The first daemon of the region reads; whoever is first next finds in the log what it left.
    pub duty: Arc<Duty>,
    pub backoff: Backoff,
    pub runtime: Runtime,
    /// Since when the cache has taken nothing although it was tried.
    pub trying: Option<Instant>,
}

/// A row of the log that was consumed.
type Known = BTreeMap<RowKey, Etag>;
/// Rows that came in, and when the first change of each did.
type CameIn = BTreeMap<RowId, Time>;

fn note(came_in: &mut CameIn, applied: Applied) {
    for id in applied.rows {
        let since = came_in.entry(id).or_insert(applied.inserted);
        *since = applied.inserted.min(*since);
    }
}

impl AppliedReader {
    /// Reads until it is stopped.
    pub async fn run(mut self: Box<Self>, stop: CancellationToken) {
        let mut known = Known::new();
        let (mut wait, mut next_collection) = (self.poll_busy, self.runtime.instant() + COLLECT_EVERY);
        loop {
            if !self.duty.is_first() {
                known.clear();
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = async { self.duty.until_first().await; tokio::time::sleep(wait).await } => {}
            }
            let collects = self.runtime.instant() >= next_collection;
            let step = async {
                // Before anything is collected.
                self.survivor.make_equal(&self.tombstones).await?;
                let found = self.consume(&mut known).await?;
                if collects {
                    self.collect(&mut known).await?;
                }
                Ok::<bool, StoreError>(found)
            };
            let result = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                result = step => result,
            };
            wait = match result {
                Ok(found) => {
                    self.backoff.reset();
                    if found { self.poll_busy } else { (wait * 2).min(self.poll_idle) }
                }
                Err(error) => {
                    debug!(source = %self.source.region(), %error, "the applied log could not be worked on");
                    self.backoff.next(&self.runtime, error.retry_after)
                }
            };
            if collects {
                next_collection = self.runtime.instant() + COLLECT_EVERY;
            }
        }
    }

    fn partition(&self) -> PartitionKey {
        PartitionKey::from(self.source.region().as_str())
    }

    /// Consumes what is new; says whether there was anything. Without a cache there is nobody to tell.
    async fn consume(&mut self, known: &mut Known) -> Result<bool, StoreError> {
        if self.cache.is_none() {
            return Ok(false);
        }
        let from = known.keys().next_back().and_then(time_of).map(|time| RowKey::new((time - OVERLAP).to_string()));
        let mut query = Query::new(Scope::Partition { partition: self.partition(), from, through: None });
        let mut found = false;
        loop {
            let page = self.local.home().query(&SystemTable::Applied.name(), &query).await?;
            let fresh: Vec<_> = page.rows.iter().filter(|row| !known.contains_key(row.body.row())).collect();
            found |= !fresh.is_empty();
            let mut came_in = CameIn::new();
            for row in &fresh {
                match decode_applied(row) {
                    Ok(applied) => note(&mut came_in, applied),
                    Err(why) => warn!(event = Event::RowUnreadable.as_str(), row = %row.body.row(), %why,
                        "a row of the applied log cannot be read and is passed over; the rows it names are not refreshed"),
                }
            }
            self.refresh(came_in).await?;
            known.extend(fresh.iter().map(|row| (row.body.row().clone(), row.etag.clone())));
            while known.len() > MAX_KNOWN {
                known.pop_first();
            }
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                return Ok(found);
            }
        }
    }

    /// Brings the cache what stands of these rows, as refreshes or as hints: then nobody needs their rows of the log for it.
    async fn refresh(&mut self, came_in: CameIn) -> Result<(), StoreError> {
        let Some(cache) = self.cache.clone() else { return Ok(()) };
        // Whoever brought a row there may have heard of routes that are unheard of here: it would be looked for where it is not, and nobody tells
        // of it again.
        if self.local.accounts().len() > 1 && !came_in.is_empty() {
            self.local.follow_routes().await?;
        }
        let came_in: Vec<(RowId, Time)> = came_in.into_iter().collect();
        for chunk in came_in.chunks(LOOK_ROWS) {
            let began = self.runtime.instant();
            let ids: Vec<&RowId> = chunk.iter().map(|(id, _)| id).collect();
            let findings = look(&self.local, &self.tombstones, &ids).await?;
            let found = chunk.iter().zip(findings).filter(|(_, finding)| finding.is_deliverable());
            let parcel = |((id, announced), finding): (&(RowId, Time), Finding)| Parcel {
                id: id.clone(),
                look: 0,
                began,
                announced: *announced,
                base: None,
                finding,
            };
            cache.bring(found.map(parcel).collect(), &mut self.trying).await?;
        }
        Ok(())
    }

    /// Deletes rows that were consumed and that every link from the source has passed. Times in keys are this region's,
    /// Last Sync Times the source's: the allowed skew lies between.
    async fn collect(&mut self, known: &mut Known) -> Result<(), StoreError> {
        let passed = last_syncs(&self.source).await?;
        let passed: Option<Vec<Time>> =
            self.others.iter().map(|region| passed.get(region).copied().flatten()).collect();
        let Some(through) = passed.and_then(|times| times.into_iter().min()).map(|time| time - self.margin) else {
            return Ok(());
        };
        let bound = RowKey::new(through.to_string());
        let mut query = Query::new(Scope::Partition { partition: self.partition(), from: None, through: Some(bound) });
        query.top = Some(COLLECT_ROWS as u16);
        loop {
            let page = self.local.home().query(&SystemTable::Applied.name(), &query).await?;
            // Whatever came in late, or was forgotten, is consumed before it goes.
            let missed = page.rows.iter().filter(|row| !known.contains_key(row.body.row()));
            let mut came_in = CameIn::new();
            missed.filter_map(|row| decode_applied(row).ok()).for_each(|applied| note(&mut came_in, applied));
            self.refresh(came_in).await?;
            let gone: Vec<Operation> = page.rows.iter().map(removal).collect();
            if gone.is_empty() {
                // A page may be empty although more follows.
                query.continuation = page.continuation;
                if query.continuation.is_none() {
                    return Ok(());
                }
                continue;
            }
            match self.local.home().transact(&SystemTable::Applied.name(), &self.partition(), &gone).await {
                // A second daemon collects as well: it goes on, and so does this one the next time.
                Err(failure) if failure.error.kind == ErrorKind::NotFound => return Ok(()),
                Err(failure) => return Err(failure.error),
                Ok(_) => {}
            }
            known.retain(|key, _| !gone.iter().any(|operation| operation.row() == key));
            query.continuation = None;
        }
    }
}

fn time_of(key: &RowKey) -> Option<Time> {
    Time::parse(key.as_str().get(..28)?).ok()
}

/// One reader for each source.
pub(super) fn readers_for<'a>(
    local: &'a RegionStore,
    sources: &'a [RegionStore],
) -> impl Iterator<Item = (RegionStore, Vec<Region>)> + 'a {
    sources.iter().map(move |source| {
        let all = sources.iter().map(RegionStore::region).chain([local.region()]);
        (source.clone(), all.filter(|region| *region != source.region()).cloned().collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_what_a_key_begins_with() {
        let time = Time::from_unix_seconds(1_000);
        assert_eq!(time_of(&RowKey::new(format!("{time}~7f3a9c1b~1"))), Some(time));
        assert_eq!(time_of(&RowKey::from("x")), None);
    }
}
