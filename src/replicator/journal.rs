//! The conflict journal: which version won over which.

use crate::feed::Shard;
use crate::model::{Region, RowBody, RowId, RowKey, SystemTable, Version};
use crate::runtime::Runtime;
use crate::stores::{ErrorKind, Operation, RegionStore, StoreError};

/// Writes `RelayConflicts` of the region that found the conflict.
#[derive(Debug)]
pub(super) struct Journal {
    pub store: RegionStore,
    pub runtime: Runtime,
}

impl Journal {
    /// Notes that `winner` stands over `loser`. The same conflict met again is the same entry.
    pub async fn conflict(
        &self,
        destination: &Region,
        id: &RowId,
        winner: &Version,
        loser: &Version,
    ) -> Result<(), StoreError> {
        // The tombstone key is a hash of the row that fits into any key; the winner's time sorts the entries of a shard.
        let row = crate::feed::tombstone_key(id);
        let key = RowKey::new(format!("{winner}~{loser}~{}", &row.as_str()["t:".len()..]));
        let body = RowBody::builder(&Shard::of(&id.table, &id.partition).partition(), &key)
            .string("Table", id.table.as_str())
            .string("Partition", id.partition.as_str())
            .string("Row", id.row.as_str())
            .string("Winner", winner.as_str())
            .string("Loser", loser.as_str())
            .string("Source", self.store.region().as_str())
            .string("Destination", destination.as_str())
            .string("At", &self.runtime.now().to_string())
            .finish();
        match self.store.home().write(&SystemTable::Conflicts.name(), &Operation::Insert(body)).await {
            Err(error) if error.kind != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }
}
