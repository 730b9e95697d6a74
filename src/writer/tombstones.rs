//! Looking at tombstones.

use std::collections::BTreeMap;

use crate::feed::{Malformed, Shard, decode_tombstone, tombstone_key};
use crate::model::{Etag, PartitionKey, RowId, RowKey, SystemTable, TableName, Tombstone};
use crate::stores::{ErrorKind, Query, StoreError, Tables};

/// A tombstone as it stands in the feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What it says.
    pub tombstone: Tombstone,
    /// Its ETag: it is only ever replaced as the one that was read.
    pub etag: Etag,
}

/// A look at tombstones that failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookError {
    /// The store could not be asked. Reading again does no harm.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What stands there is no tombstone.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// Up to so many rows are read one by one; more by one bounded range of the partition's tombstones.
const POINT_READS: usize = 3;

/// Reads the tombstones of some rows of one partition, by row key; rows without one are left out.
///
/// # Errors
/// [`LookError`] where the store fails (a missing feed holds no tombstones, and is no failure) or one cannot be read.
pub async fn look_at_tombstones(
    tables: &dyn Tables,
    table: &TableName,
    partition: &PartitionKey,
    rows: &[RowKey],
) -> Result<BTreeMap<RowKey, Standing>, LookError> {
    let id = |row: &RowKey| RowId::new(table.clone(), partition.clone(), row.clone());
    let wanted: BTreeMap<RowKey, &RowKey> = rows.iter().map(|row| (tombstone_key(&id(row)), row)).collect();
    let shard = Shard::of(table, partition).partition();
    let found = match read(tables, &shard, &wanted).await {
        Err(err) if matches!(err.kind, ErrorKind::NoTable) => Vec::new(),
        found => found?,
    };
    let mut standing = BTreeMap::new();
    for row in &found {
        if let Some(key) = wanted.get(row.body.row()) {
            let tombstone = decode_tombstone(row)?;
            standing.insert((*key).clone(), Standing { tombstone, etag: row.etag.clone() });
        }
    }
    Ok(standing)
}

async fn read(
    tables: &dyn Tables,
    shard: &PartitionKey,
    wanted: &BTreeMap<RowKey, &RowKey>,
) -> Result<Vec<crate::model::Row>, StoreError> {
    let feed = SystemTable::Feed.name();
    let mut found = Vec::new();
    if wanted.len() <= POINT_READS {
        for key in wanted.keys() {
            found.extend(tables.get(&feed, shard, key).await?);
        }
        return Ok(found);
    }
    let (Some((from, _)), Some((through, _))) = (wanted.first_key_value(), wanted.last_key_value()) else {
        return Ok(found);
    };
    let mut query = Query::rows(shard.clone(), from.clone(), through.clone());
    loop {
        let page = tables.query(&feed, &query).await?;
        found.extend(page.rows.into_iter().filter(|row| wanted.contains_key(row.body.row())));
        match page.continuation {
            Some(next) => query.continuation = Some(next),
            None => return Ok(found),
        }
    }
}
