//! What a region remembers of regions that were taken out: read by every daemon, written by the first one of the region.

use crate::model::{Etag, PartitionKey, RowKey, SystemTable};
use crate::stores::{Condition, ErrorKind, Operation, RegionStore, StoreError};
use crate::topology::Marks;

/// What a region remembers, and the ETag by which that may be replaced. Where no daemon has run yet, it remembers nothing.
///
/// # Errors
/// Whatever else the store answers; where the row does not read as marks, too.
pub(crate) async fn read_marks(store: &RegionStore) -> Result<(Marks, Option<Etag>), StoreError> {
    let (partition, row) = (PartitionKey::from(Marks::PARTITION), RowKey::from(Marks::ROW));
    let row = match store.home().get(&SystemTable::Control.name(), &partition, &row).await {
        Err(error) if error.kind == ErrorKind::NoTable => None,
        row => row?,
    };
    let Some(row) = row else { return Ok((Marks::default(), None)) };
    let marks = Marks::decode(&row.body);
    let marks = marks.map_err(|error| StoreError::new(ErrorKind::Invalid, error.to_string()))?;
    Ok((marks, Some(row.etag)))
}

/// Puts `marks` in the place of what was read with `etag`. Says whether it was done: not where somebody was faster.
///
/// # Errors
/// Whatever else the store answers. Where the outcome is unknown, a reading tells.
pub(crate) async fn replace_marks(store: &RegionStore, etag: Option<Etag>, marks: &Marks) -> Result<bool, StoreError> {
    let row = match etag {
        Some(etag) => Operation::Replace(marks.encode(), Condition::Matches(etag)),
        None => Operation::Insert(marks.encode()),
    };
    match store.home().write(&SystemTable::Control.name(), &row).await {
        Ok(_) => Ok(true),
        Err(error) => match error.kind {
            ErrorKind::Precondition | ErrorKind::AlreadyExists | ErrorKind::NotFound => Ok(false),
            _ => Err(error),
        },
    }
}
