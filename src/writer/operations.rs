//! What a [`Writer`] offers: every write of Table Storage, announced.

use super::plan::Plan;
use super::{WriteError, Writer, Written};
use crate::model::{PartitionKey, RowBody, RowKey, TableName, Version};
use crate::stores::{Condition, Operation};

/// In each of these, `over` is the version of the row that was read, where the body in hand does not carry it: the new
/// version will be above both. A write over a row that nobody read is decided by the clocks.
impl Writer {
    /// Creates a row; refused with 409 where it is there.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn insert(
        &self,
        table: &TableName,
        body: &RowBody,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        self.single(table, Operation::Insert(body.clone()), over).await
    }

    /// Creates a row or replaces it, whatever it is.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn insert_or_replace(
        &self,
        table: &TableName,
        body: &RowBody,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        self.single(table, Operation::InsertOrReplace(body.clone()), over).await
    }

    /// Creates a row or merges properties into it, whatever it is.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn insert_or_merge(
        &self,
        table: &TableName,
        body: &RowBody,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        self.single(table, Operation::InsertOrMerge(body.clone()), over).await
    }

    /// Replaces an existing row; refused with 404 where it is missing, with 412 where its ETag is another.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn replace(
        &self,
        table: &TableName,
        body: &RowBody,
        condition: Condition,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        self.single(table, Operation::Replace(body.clone(), condition), over).await
    }

    /// Merges properties into an existing row; refused with 404 where it is missing, with 412 where its ETag is another.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn merge(
        &self,
        table: &TableName,
        body: &RowBody,
        condition: Condition,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        self.single(table, Operation::Merge(body.clone(), condition), over).await
    }

    /// Deletes a row. That it is not there counts as success; that its ETag is another is refused with 412.
    ///
    /// A delete that is refused leaves its tombstone, and may take effect after all if another region writes the row at
    /// that moment.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn delete(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        row: &RowKey,
        condition: Condition,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        let delete = Operation::Delete { partition: partition.clone(), row: row.clone(), condition };
        self.single(table, delete, over).await
    }

    /// Writes 1 to 100 rows of one partition, all or nothing and of one version. A delete of a missing row is refused
    /// with 404, and so is the transaction.
    ///
    /// # Errors
    /// [`WriteError`], with the index of the operation at fault in [`WriteError::Refused`].
    pub async fn transaction(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: Vec<Operation>,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        self.planned(table, partition.clone(), operations, true, over).await
    }

    async fn single(
        &self,
        table: &TableName,
        operation: Operation,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        let partition = operation.partition().clone();
        self.planned(table, partition, vec![operation], false, over).await
    }

    async fn planned(
        &self,
        table: &TableName,
        partition: PartitionKey,
        operations: Vec<Operation>,
        transaction: bool,
        over: Option<&Version>,
    ) -> Result<Written, WriteError> {
        let known: Vec<(RowKey, Version)> = operations
            .iter()
            .filter_map(|operation| Some((operation.row().clone(), operation.body()?.version()?.clone())))
            .collect();
        let mut plan = Plan { table: table.clone(), partition, operations, transaction, over: None };
        if let Some(row) = plan.operations.first().map(|operation| operation.row().clone()) {
            plan.rise_above(over, &row);
        }
        for (row, version) in &known {
            plan.rise_above(Some(version), row);
        }
        let partition = plan.partition.clone();
        let rows: Vec<RowKey> = plan.operations.iter().map(|operation| operation.row().clone()).collect();
        let written = self.carry_out(plan).await?;
        Ok(self.confirm(table, &partition, rows, written).await)
    }
}
