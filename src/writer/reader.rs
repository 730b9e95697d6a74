//! Reading a row while rows move between the accounts of a region.

use super::over::{deleted, row};
use crate::model::{Row, RowId};
use crate::planted::{Bug, planted};
use crate::stores::{RegionStore, StoreError};

/// Reads a row where the routes have it. While rows move, it may still be where they had it before: who finds nothing looks there, and what
/// stands there counts unless it was deleted in its new place. It may also have moved between the two reads, so the first place has the
/// last word.
///
/// The store has to [follow the routes](RegionStore::follow_routes), and to read them again after half the time for which they may be
/// gone by.
///
/// # Errors
/// Whatever a store answers.
pub async fn read_routed(store: &RegionStore, id: &RowId) -> Result<Option<Row>, StoreError> {
    let first = store.holding(&id.table, &id.partition);
    if let Some(row) = row(first.as_ref(), id).await? {
        return Ok(Some(row));
    }
    let Some(other) = store.other_place(&id.table, &id.partition).filter(|_| !planted(Bug::OldPlaceNotRead)) else {
        return Ok(None);
    };
    if let Some(row) = row(other.as_ref(), id).await? {
        let deleted = deleted(first.as_ref(), id).await?;
        if deleted.is_none_or(|deleted| deleted < row.version(store.region())) {
            return Ok(Some(row));
        }
    }
    row(first.as_ref(), id).await
}
