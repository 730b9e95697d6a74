//! The first step: records into the feed, and with them the tombstones of what is to be deleted.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Standing;
use super::patience::Patience;
use crate::feed::{EncodeError, Shard, encode_numbered, encode_tombstone, split};
use crate::model::{Change, Etag, PartitionKey, RowKey, SystemTable, Tombstone};
use crate::runtime::Runtime;
use crate::stores::{Condition, Operation, Remedy, StoreError, Tables, TransactionError};

/// What stands in the feed for one change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    shard: PartitionKey,
    /// The keys and, where they were answered, the ETags of its records.
    records: Vec<(RowKey, Option<Etag>)>,
}

/// An announcement that failed. Records of it may stand in the feed; they cost a wait in Last Sync Time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnnounceError {
    /// No record can announce such a change.
    #[error(transparent)]
    Change(#[from] EncodeError),
    /// A tombstone stands there that was not known, or no longer the one that was: look, and take a version above it.
    #[error("a tombstone of the row stands there: {0}")]
    TombstoneStands(StoreError),
    /// It could not be done by the deadline.
    #[error("not announced in time: {0}")]
    TooLate(StoreError),
    /// The store refused it for good.
    #[error(transparent)]
    Store(StoreError),
}

/// Announces a change in the feed of the account that holds its rows: all its records, and a tombstone of its version
/// for each delete, in the transaction of the record that names it.
///
/// `standing` are the tombstones known to stand there, all of versions below the change's; they are replaced on their
/// ETags. A request of unknown outcome is sent again, which is safe since a record's key is its own; so is one that was
/// throttled. A missing feed is created.
///
/// # Errors
/// [`AnnounceError`]; after [`TombstoneStands`](AnnounceError::TombstoneStands) look and begin again with a version above.
pub async fn announce(
    tables: &dyn Tables,
    runtime: &Runtime,
    change: &Change,
    standing: &BTreeMap<RowKey, Standing>,
    deadline: Instant,
) -> Result<Announced, AnnounceError> {
    let mut announced = Announced::none(change);
    for (number, part) in split(change)?.iter().enumerate() {
        let mut operations = vec![Operation::Insert(encode_numbered(part, number))];
        operations.extend(part.deletes.iter().map(|row| raised(part, row, standing)));
        announced.insert(tables, Patience::until(runtime, deadline), &operations).await?;
    }
    Ok(announced)
}

/// A delete's tombstone: a new one, or a higher one for the one that stands there.
fn raised(change: &Change, row: &RowKey, standing: &BTreeMap<RowKey, Standing>) -> Operation {
    let id = crate::model::RowId::new(change.table.clone(), change.partition.clone(), row.clone());
    let body = encode_tombstone(&Tombstone { id, version: change.version.clone() });
    match standing.get(row) {
        Some(standing) => Operation::Replace(body, Condition::Matches(standing.etag.clone())),
        None => Operation::Insert(body),
    }
}

impl Announced {
    /// Nothing announced yet.
    fn none(change: &Change) -> Self {
        Self { shard: Shard::of(&change.table, &change.partition).partition(), records: Vec::new() }
    }

    /// Announces the same change once more, by records with the next numbers: its tombstones stand already.
    ///
    /// # Errors
    /// [`AnnounceError`], as [`announce`].
    pub async fn again(
        &mut self,
        tables: &dyn Tables,
        runtime: &Runtime,
        change: &Change,
        deadline: Instant,
    ) -> Result<(), AnnounceError> {
        for part in split(change)? {
            let record = Operation::Insert(encode_numbered(&part, self.records.len()));
            self.insert(tables, Patience::until(runtime, deadline), &[record]).await?;
        }
        Ok(())
    }

    /// Takes the records out of the feed again, where nothing was written after them. The tombstones stay: a tombstone
    /// is never lowered.
    ///
    /// A record that cannot be taken out stays; it costs a wait in Last Sync Time, which no caller can do much about.
    pub async fn withdraw(&self, tables: &dyn Tables, runtime: &Runtime, deadline: Instant) {
        let patience = Patience::until(runtime, deadline);
        for (key, etag) in &self.records {
            let condition = etag.clone().map_or(Condition::Present, Condition::Matches);
            let delete = Operation::Delete { partition: self.shard.clone(), row: key.clone(), condition };
            if let Err(err) = patience.request(tables.write(&SystemTable::Feed.name(), &delete)).await {
                tracing::debug!(record = %key, error = %err, "a record without a write stays in the feed");
            }
        }
    }

    /// Inserts one record, and what shares its transaction, until it stands there.
    async fn insert(
        &mut self,
        tables: &dyn Tables,
        mut patience: Patience<'_>,
        operations: &[Operation],
    ) -> Result<(), AnnounceError> {
        let feed = SystemTable::Feed.name();
        let Some(key) = operations.first().map(|record| record.row().clone()) else { return Ok(()) };
        loop {
            let err = match patience.request(send(tables, &self.shard, operations)).await {
                Ok(etag) => {
                    self.records.push((key, etag));
                    return Ok(());
                }
                Err(err) => err,
            };
            match err.remedy() {
                // A try before this one may have done it: nobody else has this key.
                Remedy::StartOver => match patience.request(tables.get(&feed, &self.shard, &key)).await {
                    Ok(Some(row)) => {
                        self.records.push((key, Some(row.etag)));
                        return Ok(());
                    }
                    Ok(None) => return Err(AnnounceError::TombstoneStands(err)),
                    Err(unread) => again(&mut patience, unread).await?,
                },
                Remedy::CreateTable => match patience.request(tables.create_table(&feed)).await {
                    Ok(_) => {}
                    Err(refused) => again(&mut patience, refused).await?,
                },
                Remedy::ReadBack | Remedy::SlowDown => again(&mut patience, err).await?,
                Remedy::FixAccess | Remedy::GiveUp => return Err(AnnounceError::Store(err)),
            }
        }
    }
}

/// Waits before the next try, unless there is none.
async fn again(patience: &mut Patience<'_>, err: StoreError) -> Result<(), AnnounceError> {
    match err.remedy() {
        Remedy::FixAccess | Remedy::GiveUp => Err(AnnounceError::Store(err)),
        _ if patience.pause(&err).await => Ok(()),
        _ => Err(AnnounceError::TooLate(err)),
    }
}

/// Sends one insert as it is, several as a transaction. Returns the first one's ETag.
async fn send(tables: &dyn Tables, shard: &PartitionKey, operations: &[Operation]) -> Result<Option<Etag>, StoreError> {
    let feed = SystemTable::Feed.name();
    if let [record] = operations {
        return tables.write(&feed, record).await;
    }
    let etags = tables.transact(&feed, shard, operations).await.map_err(|failed: TransactionError| failed.error)?;
    Ok(etags.into_iter().next().flatten())
}
