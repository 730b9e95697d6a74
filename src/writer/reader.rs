//! Reading a row in a region of several accounts, while rows move between them, and once they are cold.

use super::over::{deleted, row};
use crate::model::{Row, RowId};
use crate::planted::{Bug, planted};
use crate::stores::{RegionStore, StoreError};

/// Reads a row where the routes have it. While rows move, it may still be where they had it before, and once it is old, in its cold place: who
/// finds nothing looks there, and what stands there counts unless it was deleted at home. It may also have moved between the reads, so
/// its home has the last word.
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
    let others = store.other_places(&id.table, &id.partition);
    if others.is_empty() || planted(Bug::OldPlaceNotRead) {
        return Ok(None);
    }
    for other in others {
        if let Some(row) = row(other.as_ref(), id).await? {
            let deleted = deleted(first.as_ref(), id).await?;
            if deleted.is_none_or(|deleted| deleted < row.version(store.region())) {
                return Ok(Some(row));
            }
        }
    }
    row(first.as_ref(), id).await
}
