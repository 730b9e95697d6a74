//! A change as announced, and the tombstone that a delete leaves.

use super::{PartitionKey, RowId, RowKey, TableName, Version};

/// An announcement: these rows of one partition are about to get this version, or to go.
///
/// It carries no payload. What is replicated is the state of the rows when they are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The data table.
    pub table: TableName,
    /// The partition that all its rows are in.
    pub partition: PartitionKey,
    /// Row keys inserted, replaced or merged.
    pub puts: Vec<RowKey>,
    /// Row keys deleted.
    pub deletes: Vec<RowKey>,
    /// The version that was announced.
    pub version: Version,
    /// The version that was overwritten, where the writer knows it.
    pub base: Option<Version>,
}

impl Change {
    /// The announcement of one row: of its delete, or of a put.
    pub fn of_row(id: &RowId, version: &Version, delete: bool) -> Self {
        let (puts, deletes) = if delete { (vec![], vec![id.row.clone()]) } else { (vec![id.row.clone()], vec![]) };
        let (table, partition) = (id.table.clone(), id.partition.clone());
        Self { table, partition, puts, deletes, version: version.clone(), base: None }
    }

    /// How many rows it names.
    pub fn len(&self) -> usize {
        self.puts.len() + self.deletes.len()
    }

    /// Whether it names no row, which makes it malformed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Its rows; the flag says whether the row is deleted.
    pub fn rows(&self) -> impl Iterator<Item = (RowId, bool)> + '_ {
        let id = |row: &RowKey| RowId::new(self.table.clone(), self.partition.clone(), row.clone());
        let puts = self.puts.iter().map(move |row| (id(row), false));
        puts.chain(self.deletes.iter().map(move |row| (id(row), true)))
    }
}

/// What a delete leaves behind: this row was deleted at this version. Never lowered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tombstone {
    /// The row that was deleted.
    pub id: RowId,
    /// The version of the delete.
    pub version: Version,
}
