//! Deleting rows of a system table, each as the one that was read.

use crate::model::{PartitionKey, Row, TableName};
use crate::stores::{Condition, ErrorKind, Operation, StoreError, Tables};

/// The delete of a row on the ETag that it was read with.
pub(super) fn removal(row: &Row) -> Operation {
    Operation::Delete {
        partition: row.body.partition().clone(),
        row: row.body.row().clone(),
        condition: Condition::Matches(row.etag.clone()),
    }
}

/// Sends deletes of one partition, at most as many as a transaction holds, together and in their order; where somebody else
/// has deleted or changed one of the rows, one by one. Those rows stay as they are: they are somebody else's now.
///
/// # Errors
/// The first failure of another kind; what was deleted stays deleted.
pub(super) async fn remove(
    tables: &dyn Tables,
    table: &TableName,
    partition: &PartitionKey,
    deletes: &[Operation],
) -> Result<(), StoreError> {
    let gone = |error: &StoreError| matches!(error.kind, ErrorKind::NotFound | ErrorKind::Precondition);
    if deletes.len() > 1 {
        match tables.transact(table, partition, deletes).await {
            Err(failure) if gone(&failure.error) => {}
            result => return result.map(drop).map_err(|failure| failure.error),
        }
    }
    for delete in deletes {
        match tables.write(table, delete).await {
            Err(error) if !gone(&error) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
