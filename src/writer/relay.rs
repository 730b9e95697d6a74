//! The same steps for a daemon, which takes over versions that were issued elsewhere.

use super::tombstones::{LookError, look_at_tombstones};
use crate::feed::{Malformed, decode_record, encode_relayed_nth, encode_tombstone};
use crate::model::{Change, RowKey, SystemTable, Time, Tombstone, Version};
use crate::stores::{Condition, Operation, Remedy, StoreError, Tables};

/// Where the announcement of one row stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relayed {
    /// The record's key in its shard.
    pub key: RowKey,
    /// Whether it stood there already.
    pub already: bool,
}

/// Most records of different rows that may want the same key: implicit versions of one tick, in one shard.
const MOST_ALIKE: usize = 100;

/// Announces *one* row with a version that was issued elsewhere (R6 and R10, and the queue form).
///
/// A key that is taken by the record of this very row is as good as announced, if that was inserted at `since` or later; an older
/// one, and one of another row, makes it take the next number. For what is announced has to be done within half a settle window: a record
/// that has stood for longer may end by a look that comes before the write. Nothing is tried again: after an unknown
/// outcome, call it again.
///
/// # Errors
/// [`StoreError`]
pub async fn relay(tables: &dyn Tables, change: &Change, since: Option<Time>) -> Result<Relayed, StoreError> {
    let feed = SystemTable::Feed.name();
    let (mut number, mut taken) = (0, None);
    for _ in 0..MOST_ALIKE {
        let body = encode_relayed_nth(change, number);
        let (shard, key) = (body.partition().clone(), body.row().clone());
        match tables.write(&feed, &Operation::Insert(body)).await {
            Ok(_) => return Ok(Relayed { key, already: false }),
            Err(err) if err.remedy() == Remedy::StartOver => taken = Some(err),
            Err(err) => return Err(err),
        }
        let standing = tables.get(&feed, &shard, &key).await?;
        let same = |standing: &Change| standing.rows().eq(change.rows()) && standing.version == change.version;
        match standing.map(|row| decode_record(&row)) {
            Some(Ok(record)) if same(&record.change) && since.is_none_or(|since| record.inserted >= since) => {
                return Ok(Relayed { key, already: true });
            }
            Some(_) => number += 1,
            // Settled and deleted meanwhile, whosever it was: this key is free now.
            None => {}
        }
    }
    Err(taken.unwrap_or_else(|| StoreError::new(crate::stores::ErrorKind::AlreadyExists, "no key is free")))
}

/// What became of a tombstone that was to be raised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Raised {
    /// It stands there now.
    Raised,
    /// It stood there already, with this version or a higher one.
    Standing(Version),
}

/// A tombstone that could not be raised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RaiseError {
    /// The store failed; the outcome may be unknown. To raise it again does no harm.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What stands in its place cannot be read.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// How often somebody else may raise the same tombstone meanwhile.
const TRIES: usize = 8;

/// Puts a tombstone in the feed, or raises the one that stands there on its ETag (R5). Never lowers it.
///
/// # Errors
/// [`RaiseError`]
pub async fn raise_tombstone(tables: &dyn Tables, tombstone: &Tombstone) -> Result<Raised, RaiseError> {
    let (id, body) = (&tombstone.id, encode_tombstone(tombstone));
    let mut refused = None;
    for _ in 0..TRIES {
        let rows = std::slice::from_ref(&id.row);
        let standing = look_at_tombstones(tables, &id.table, &id.partition, rows).await.map_err(|err| match err {
            LookError::Store(err) => RaiseError::Store(err),
            LookError::Malformed(malformed) => RaiseError::Malformed(malformed),
        })?;
        let operation = match standing.get(&id.row) {
            Some(standing) if standing.tombstone.version >= tombstone.version => {
                return Ok(Raised::Standing(standing.tombstone.version.clone()));
            }
            Some(standing) => Operation::Replace(body.clone(), Condition::Matches(standing.etag.clone())),
            None => Operation::Insert(body.clone()),
        };
        match tables.write(&SystemTable::Feed.name(), &operation).await {
            Ok(_) => return Ok(Raised::Raised),
            Err(err) if err.remedy() == Remedy::StartOver => refused = Some(err),
            Err(err) => return Err(err.into()),
        }
    }
    Err(RaiseError::Store(refused.unwrap_or_else(|| {
        StoreError::new(crate::stores::ErrorKind::Precondition, "others raise the same tombstone without end")
    })))
}
