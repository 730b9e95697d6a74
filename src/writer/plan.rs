//! What is to be written, and what it has to be above.

use std::collections::BTreeMap;

use super::{Standing, WriteError};
use crate::model::{Change, PartitionKey, RowId, RowKey, TableName, Version};
use crate::stores::{Operation, TransactionError, limits};

/// What is to be written, and what is known of its rows.
pub(super) struct Plan {
    pub table: TableName,
    pub partition: PartitionKey,
    pub operations: Vec<Operation>,
    /// Sent as one transaction, or as the single write that it is.
    pub transaction: bool,
    /// The highest version to be above, and the row that has it.
    pub over: Option<(Version, RowId)>,
}

impl Plan {
    /// Takes note of a version to be above.
    pub fn rise_above(&mut self, version: Option<&Version>, row: &RowKey) {
        let Some(version) = version else { return };
        if self.over.as_ref().is_none_or(|(over, _)| version > over) {
            let id = RowId::new(self.table.clone(), self.partition.clone(), row.clone());
            self.over = Some((version.clone(), id));
        }
    }

    pub fn rise_above_all(&mut self, standing: &BTreeMap<RowKey, Standing>) {
        for (row, standing) in standing {
            self.rise_above(Some(&standing.tombstone.version), row);
        }
    }

    pub fn is_single_delete(&self) -> bool {
        !self.transaction && self.operations.iter().all(|operation| operation.body().is_none())
    }

    pub fn first_row(&self) -> RowId {
        let row = self.operations.first().map_or_else(|| RowKey::from(""), |operation| operation.row().clone());
        RowId::new(self.table.clone(), self.partition.clone(), row)
    }

    pub fn change(&self, version: &Version) -> Change {
        let rows = |deleted: bool| {
            let chosen = self.operations.iter().filter(move |operation| operation.body().is_none() == deleted);
            chosen.map(|operation| operation.row().clone()).collect()
        };
        let (table, partition) = (self.table.clone(), self.partition.clone());
        // Of several rows, each was another version.
        let base = self.over.as_ref().filter(|_| self.operations.len() == 1).map(|(over, _)| over.clone());
        Change { table, partition, puts: rows(false), deletes: rows(true), version: version.clone(), base }
    }

    /// What the service would refuse is not announced.
    pub fn check(&self, version: &Version) -> Result<(), WriteError> {
        let checked = match self.stamped(version).as_slice() {
            [single] if !self.transaction => limits::check_operation(single).map_err(TransactionError::from),
            several => limits::check_transaction(&self.partition, several),
        };
        checked.map_err(WriteError::Refused)
    }

    /// Rows that the write may create, where a tombstone may stand.
    pub fn creates(&self) -> Vec<RowKey> {
        let creates = |operation: &&Operation| {
            matches!(operation, Operation::Insert(_) | Operation::InsertOrReplace(_) | Operation::InsertOrMerge(_))
        };
        self.operations.iter().filter(creates).map(|operation| operation.row().clone()).collect()
    }

    pub fn stamped(&self, version: &Version) -> Vec<Operation> {
        let stamp = |operation: &Operation| match operation {
            Operation::Insert(body) => Operation::Insert(body.stamped(version)),
            Operation::Replace(body, condition) => Operation::Replace(body.stamped(version), condition.clone()),
            Operation::Merge(body, condition) => Operation::Merge(body.stamped(version), condition.clone()),
            Operation::InsertOrReplace(body) => Operation::InsertOrReplace(body.stamped(version)),
            Operation::InsertOrMerge(body) => Operation::InsertOrMerge(body.stamped(version)),
            Operation::Delete { .. } => operation.clone(),
        };
        self.operations.iter().map(stamp).collect()
    }
}
