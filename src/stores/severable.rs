//! The line to another region, as it is while a drill cuts one of the two off: nothing passes.
//!
//! Goes around everything else, so that what is not sent is no request: it fails at once as an account does that cannot be reached,
//! and whoever asks does what it does then.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{ErrorKind, Gate, Operation, Page, Query, StorageClock, StoreError, Tables, TransactionError};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};

/// Says why nothing passes, while nothing does.
pub type Severed = Arc<dyn Fn() -> Option<String> + Send + Sync>;

/// A [`Tables`] that can be cut off.
pub struct Severable {
    inner: Arc<dyn Tables>,
    severed: Severed,
}

impl fmt::Debug for Severable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Severable").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl Severable {
    /// Passes requests to `inner` on while `severed` says nothing.
    pub fn new(inner: Arc<dyn Tables>, severed: Severed) -> Arc<Self> {
        Arc::new(Self { inner, severed })
    }

    fn check(&self) -> Result<(), StoreError> {
        match (self.severed)() {
            Some(why) => Err(StoreError::new(ErrorKind::Unreachable, why)),
            None => Ok(()),
        }
    }
}

#[async_trait]
impl Tables for Severable {
    fn region(&self) -> &Region {
        self.inner.region()
    }

    fn account(&self) -> &AccountName {
        self.inner.account()
    }

    fn endpoint(&self) -> Option<&str> {
        self.inner.endpoint()
    }

    fn gate(&self) -> Option<&Arc<Gate>> {
        self.inner.gate()
    }

    fn clock(&self) -> &StorageClock {
        self.inner.clock()
    }

    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError> {
        self.check()?;
        self.inner.get(table, partition, row).await
    }

    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError> {
        self.check()?;
        self.inner.query(table, query).await
    }

    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        self.check()?;
        self.inner.write(table, operation).await
    }

    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        self.check()?;
        self.inner.transact(table, partition, operations).await
    }

    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.check()?;
        self.inner.create_table(table).await
    }

    async fn delete_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.check()?;
        self.inner.delete_table(table).await
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        self.check()?;
        self.inner.tables().await
    }
}
