//! The hints of one addressee in `RelayBacklog`: kept in batches, renewed, ended.
//!
//! They stand in the source region's home account, so that what waits for a destination needs nothing of it. A hint is
//! renewed whenever something new waits, on its ETag, and keeps the time of the oldest announcement that it stands for; the
//! renewal changes its ETag, so whoever delivered an older state cannot end it.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::Mutex;

use lru::LruCache;
use tracing::{info, warn};

use super::flag::Flag;
use super::removal::{removal, remove};
use super::rows::read_rows;
use crate::feed::{Hint, decode_hint, encode_hint, hint_keys, hint_partitions, hint_since};
use crate::model::{Addressee, ClosedList, Etag, PartitionKey, Row, RowId, RowKey, SystemTable, Time, Version};
use crate::planted::{Bug, planted};
use crate::stores::limits::MAX_OPERATIONS;
use crate::stores::{
    Condition, Continuation, ErrorKind, Operation, Page, Query, RegionStore, Remedy, Scope, StoreError,
    TransactionError,
};
use crate::telemetry::{Event, Spell};

/// Hints whose ETag is remembered, so that a row that changes again and again costs no read: some 5 MiB.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).unwrap();
/// Hints that a probe may choose from.
const FEW: u16 = 32;
/// How often a batch is tried that another daemon of the region writes at the same time.
const ATTEMPTS: usize = 4;

/// Keeps the hints of one addressee: a destination, or the region's own cache.
#[derive(Debug)]
pub(super) struct Backlog {
    addressee: Addressee,
    /// Its name, which is what its partitions begin with.
    name: String,
    home: RegionStore,
    known: Mutex<LruCache<RowKey, Known>>,
    failing: Spell,
    hinted: Flag,
}

/// A hint as it stands.
#[derive(Debug, Clone)]
struct Known {
    etag: Etag,
    since: Time,
    /// `None` where it cannot be read.
    version: Option<Version>,
}

/// A hint that was read, with what it takes to end it.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub hint: Hint,
    pub etag: Etag,
    /// When it was written or renewed last, by the storage server's clock.
    pub renewed: Time,
}

impl Kept {
    fn keys(&self, addressee: &str) -> (PartitionKey, RowKey) {
        hint_keys(addressee, &self.hint.id)
    }
}

/// Keeps hints of rows that the region's own cache may hold otherwise than they stand, for whoever is not the line: the line's
/// drain looks at the rows and sets the cache right.
///
/// # Errors
/// Where the backlog cannot be written.
pub async fn hint_cache(local: &RegionStore, hints: Vec<Hint>) -> Result<(), StoreError> {
    Backlog::new(local, Addressee::Cache(local.region().clone())).keep(hints).await
}

impl Backlog {
    pub fn new(local: &RegionStore, addressee: Addressee) -> Self {
        let home = local.home_alone();
        let known = Mutex::new(LruCache::new(REMEMBERED));
        let name = addressee.to_string();
        Self { addressee, name, home, known, failing: Spell::default(), hinted: Flag::default() }
    }

    pub fn addressee(&self) -> &Addressee {
        &self.addressee
    }

    /// The addressee's name, by which its hints are found.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// So many hints were counted.
    pub fn counted(&self, hints: u64) {
        self.hinted.set(hints > 0);
    }

    /// Waits until there are hints.
    pub async fn until_hinted(&self) {
        self.hinted.until_up().await;
    }

    /// A page of what stands in the backlog of this addressee.
    pub async fn page(&self, continuation: Option<Continuation>) -> Result<Page, StoreError> {
        self.query(continuation, None).await
    }

    /// A few of the rows that stand there.
    pub async fn first(&self) -> Result<Vec<Row>, StoreError> {
        let mut continuation = None;
        loop {
            let page = self.query(continuation, Some(FEW)).await?;
            continuation = page.continuation;
            // A page may be empty although more follows.
            if !page.rows.is_empty() || continuation.is_none() {
                return Ok(page.rows);
            }
        }
    }

    async fn query(&self, continuation: Option<Continuation>, top: Option<u16>) -> Result<Page, StoreError> {
        let (from, until) = hint_partitions(&self.name);
        let scope = Scope::Partitions { from: Some(from), until: Some(until) };
        self.home.home().query(&SystemTable::Backlog.name(), &Query { continuation, top, ..Query::new(scope) }).await
    }

    /// Returns once every hint is in the backlog: new, or joined to the one that stands there.
    pub async fn keep(&self, hints: Vec<Hint>) -> Result<(), StoreError> {
        let mut shards: BTreeMap<PartitionKey, BTreeMap<RowKey, Hint>> = BTreeMap::new();
        for hint in hints {
            let (partition, key) = hint_keys(&self.name, &hint.id);
            let shard = shards.entry(partition).or_default();
            let hint = match shard.remove(&key) {
                Some(other) => hint.joined(other.since, &other.version),
                None => hint,
            };
            shard.insert(key, hint);
        }
        for (partition, hints) in shards {
            let hints: Vec<(RowKey, Hint)> = hints.into_iter().collect();
            for chunk in hints.chunks(MAX_OPERATIONS) {
                let kept = self.keep_together(&partition, chunk).await;
                self.note(&kept);
                kept?;
            }
        }
        Ok(())
    }

    async fn keep_together(&self, partition: &PartitionKey, hints: &[(RowKey, Hint)]) -> Result<(), StoreError> {
        for _ in 0..ATTEMPTS {
            let renewals: Vec<(Hint, Operation)> = hints.iter().map(|(key, hint)| self.renewal(key, hint)).collect();
            let operations: Vec<Operation> = renewals.iter().map(|(_, operation)| operation.clone()).collect();
            match self.send(partition, &operations).await {
                Ok(etags) => {
                    for (((key, _), (hint, _)), etag) in hints.iter().zip(renewals).zip(etags) {
                        let Some(etag) = etag else { continue };
                        self.lock().put(key.clone(), Known { etag, since: hint.since, version: Some(hint.version) });
                    }
                    return Ok(());
                }
                Err(failure) => {
                    hints.iter().for_each(|(key, _)| drop(self.lock().pop(key)));
                    if failure.error.remedy() != Remedy::StartOver {
                        return Err(failure.error);
                    }
                    self.learn(partition, hints).await?;
                }
            }
        }
        Err(StoreError::new(ErrorKind::Precondition, format!("{ATTEMPTS} times others were faster at the hints")))
    }

    /// The hint as it will stand, and the write for that.
    fn renewal(&self, key: &RowKey, hint: &Hint) -> (Hint, Operation) {
        match self.lock().get(key).cloned() {
            None => (hint.clone(), Operation::Insert(encode_hint(&self.name, hint))),
            Some(known) => {
                let version = known.version.unwrap_or_else(|| hint.version.clone());
                let since = if planted(Bug::HintForgetsItsTime) { hint.since } else { known.since };
                let joined = hint.clone().joined(since, &version);
                let body = encode_hint(&self.name, &joined);
                (joined, Operation::Replace(body, Condition::Matches(known.etag)))
            }
        }
    }

    /// Reads what stands there of these hints.
    async fn learn(&self, partition: &PartitionKey, hints: &[(RowKey, Hint)]) -> Result<(), StoreError> {
        let table = SystemTable::Backlog.name();
        let ids: Vec<RowId> =
            hints.iter().map(|(key, _)| RowId::new(table.clone(), partition.clone(), key.clone())).collect();
        let rows = read_rows(&self.home, &ids.iter().collect::<Vec<_>>()).await?;
        for (id, row) in rows {
            let version = decode_hint(&row).ok().map(|hint| hint.version);
            self.lock().put(id.row, Known { since: hint_since(&row), etag: row.etag, version });
        }
        Ok(())
    }

    /// Ends hints, each on its ETag: one that was renewed meanwhile stays.
    pub async fn end(&self, kept: &[Kept]) -> Result<(), StoreError> {
        let mut shards: BTreeMap<PartitionKey, Vec<Operation>> = BTreeMap::new();
        for kept in kept {
            let (partition, row) = kept.keys(&self.name);
            self.lock().pop(&row);
            let condition = match planted(Bug::HintEndedBlindly) {
                true => Condition::Present,
                false => Condition::Matches(kept.etag.clone()),
            };
            let delete = Operation::Delete { partition: partition.clone(), row, condition };
            shards.entry(partition).or_default().push(delete);
        }
        for (partition, deletes) in shards {
            for chunk in deletes.chunks(MAX_OPERATIONS) {
                remove(self.home.home().as_ref(), &SystemTable::Backlog.name(), &partition, chunk).await?;
            }
        }
        Ok(())
    }

    /// Takes a row out of the backlog that is no hint, on its ETag.
    pub async fn remove(&self, row: &Row) -> Result<(), StoreError> {
        let (tables, table) = (self.home.home(), SystemTable::Backlog.name());
        remove(tables.as_ref(), &table, row.body.partition(), &[removal(row)]).await
    }

    async fn send(
        &self,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        let (tables, table) = (self.home.home(), SystemTable::Backlog.name());
        match operations {
            [one] => tables.write(&table, one).await.map(|etag| vec![etag]).map_err(TransactionError::from),
            many => tables.transact(&table, partition, many).await,
        }
    }

    /// One line when hints cannot be kept, one when they can again.
    fn note(&self, kept: &Result<(), StoreError>) {
        match kept {
            Err(error) => {
                if self.failing.failed() {
                    warn!(event = Event::BacklogFailing.as_str(), destination = %self.addressee, %error,
                        "hints cannot be kept; their changes stay in the feed and are tried again");
                }
            }
            Ok(()) => {
                if let Some(past) = self.failing.worked() {
                    let (after, failures) = (past.after, past.failures);
                    info!(event = Event::BacklogRecovered.as_str(), destination = %self.addressee, ?after, failures,
                        "recovered after {after:.1?}: hints can be kept again");
                }
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<RowKey, Known>> {
        self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
