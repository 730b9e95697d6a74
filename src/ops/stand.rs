//! What a region holds of one row.

use crate::feed::{Shard, decode_tombstone, tombstone_key};
use crate::model::{RowBody, RowId, SystemTable, Version};
use crate::stores::{ErrorKind, RegionStore, StoreError};
use crate::writer::read_routed;

/// What stands in a region: a row, or the tombstone of one that is absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stand {
    /// The version of either.
    pub version: Version,
    /// The row; none where it is deleted.
    pub row: Option<RowBody>,
}

/// What a region holds of a row; `None` where there is neither the row nor a tombstone.
pub(super) async fn stand(store: &RegionStore, id: &RowId) -> Result<Option<Stand>, StoreError> {
    if let Some(row) = read_routed(store, id).await? {
        return Ok(Some(Stand { version: row.version(store.region()), row: Some(row.body) }));
    }
    let shard = Shard::of(&id.table, &id.partition).partition();
    let tables = store.holding(&id.table, &id.partition);
    let tombstone = or_none(tables.get(&SystemTable::Feed.name(), &shard, &tombstone_key(id)).await)?;
    let tombstone = tombstone.and_then(|row| decode_tombstone(&row).ok());
    Ok(tombstone.map(|tombstone| Stand { version: tombstone.version, row: None }))
}

fn or_none<T>(read: Result<Option<T>, StoreError>) -> Result<Option<T>, StoreError> {
    match read {
        Err(error) if error.kind == ErrorKind::NoTable => Ok(None),
        read => read,
    }
}
