//! What became of a write: refused for certain, or to be read back.

use super::patience::Patience;
use crate::model::{Etag, PartitionKey, TableName, Version};
use crate::stores::{ErrorKind, Operation, StoreError, Tables};

/// Whether the store answered that nothing was written: a 4xx, or our own refusal before anything was sent.
///
/// Whatever else comes back instead of success (no reply, a 5xx, one that cannot be read) may have taken effect.
pub(super) fn is_refusal(err: &StoreError) -> bool {
    match err.kind {
        ErrorKind::NotFound
        | ErrorKind::NoTable
        | ErrorKind::AlreadyExists
        | ErrorKind::BeingDeleted
        | ErrorKind::Precondition
        | ErrorKind::Denied
        | ErrorKind::Invalid => true,
        ErrorKind::Throttled => err.status == Some(429),
        ErrorKind::Server | ErrorKind::Unreachable | ErrorKind::Unexpected => false,
    }
}

/// Reads the rows of a write of unknown outcome: its ETags where it took effect, `None` where it was not seen.
///
/// A transaction is all or nothing, so one row with its version proves it. Deletes alone prove it by being gone, whoever
/// removed them.
pub(super) async fn read_back(
    tables: &dyn Tables,
    patience: &Patience<'_>,
    table: &TableName,
    operations: &[Operation],
    version: &Version,
) -> Result<Option<Vec<Option<Etag>>>, StoreError> {
    let puts = operations.iter().any(|operation| operation.body().is_some());
    let (mut etags, mut written, mut gone) = (Vec::with_capacity(operations.len()), false, true);
    for operation in operations {
        let (partition, row): (&PartitionKey, _) = (operation.partition(), operation.row());
        let found = patience.request(tables.get(table, partition, row)).await?;
        gone &= found.is_none();
        let ours = found.filter(|row| operation.body().is_some() && row.body.version() == Some(version));
        written |= ours.is_some();
        etags.push(ours.map(|row| row.etag));
    }
    let applied = if puts { written } else { gone };
    Ok(applied.then_some(etags))
}
