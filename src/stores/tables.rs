//! The trait of one storage account's tables.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{Gate, Operation, Page, Query, StorageClock, StoreError, TransactionError};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};

/// The tables of one storage account.
///
/// An adapter checks Azure's limits before it sends (key characters, row size, property count, transaction size) and
/// refuses with [`ErrorKind::Invalid`](super::ErrorKind::Invalid). It may try a *read* again; it never sends a write
/// twice, since the outcome of the first may be unknown: that is for the caller to find out by reading back.
#[async_trait]
pub trait Tables: fmt::Debug + Send + Sync + 'static {
    /// The region this account is in.
    fn region(&self) -> &Region;

    /// The account's name in the configuration.
    fn account(&self) -> &AccountName;

    /// The address of its tables, where it has one, without any secret.
    fn endpoint(&self) -> Option<&str> {
        None
    }

    /// What decides how much this account is asked, where something does. See [`Throttled`](super::Throttled).
    fn gate(&self) -> Option<&Arc<Gate>> {
        None
    }

    /// The account's clock, as far as its replies have told. See [`StorageClock`].
    fn clock(&self) -> &StorageClock;

    /// One row by its keys; `None` where it is not there.
    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError>;

    /// One page of a query.
    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError>;

    /// One write. Returns the row's new ETag; `None` after a delete.
    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError>;

    /// An entity group transaction: 1 to 100 operations on distinct rows of one partition, under 4 MiB, all or nothing.
    /// Returns an ETag per operation, in order, `None` for deletes.
    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError>;

    /// Creates a table; `false` where it was there already.
    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError>;

    /// Deletes a table with all its rows; `false` where it was not there. Nothing of the line deletes tables.
    async fn delete_table(&self, table: &TableName) -> Result<bool, StoreError>;

    /// The names of all tables.
    async fn tables(&self) -> Result<Vec<TableName>, StoreError>;
}
