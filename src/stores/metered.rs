//! Counts every request to a store. Goes directly around an adapter, so that tries are counted and not calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{ErrorKind, Message, Operation, Page, Query, Queue, StorageClock, StoreError, Tables, TransactionError};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};

/// The counter of requests, by `region`, `account`, `operation` and `status`.
///
/// `operation`: `get`, `query`, `insert`, `replace`, `merge`, `insert-or-replace`, `insert-or-merge`, `delete`,
/// `transaction`, `create-table`, `list-tables`, `create-queue`, `receive`, `delete-message`, `send`. `status`: `ok`, or
/// the name of an [`ErrorKind`]. A request that we refuse ourselves is not sent and not counted.
pub const STORE_REQUESTS: &str = "tablerelay_store_requests_total";

fn count<T>(region: &Region, account: &AccountName, operation: &'static str, result: Result<T, &StoreError>) {
    let status = match result {
        Ok(_) => "ok",
        Err(err) if err.kind == ErrorKind::Invalid && err.status.is_none() => return,
        Err(err) => err.kind.as_str(),
    };
    metrics::counter!(
        STORE_REQUESTS,
        "region" => region.as_str().to_owned(),
        "account" => account.as_str().to_owned(),
        "operation" => operation,
        "status" => status
    )
    .increment(1);
}

/// A [`Tables`] whose requests are counted in [`STORE_REQUESTS`].
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Tables>,
}

impl Metered {
    /// Counts the requests to `inner`.
    pub fn new(inner: Arc<dyn Tables>) -> Arc<Self> {
        Arc::new(Self { inner })
    }

    fn count<T>(&self, operation: &'static str, result: Result<T, &StoreError>) {
        count(self.inner.region(), self.inner.account(), operation, result);
    }
}

fn name(operation: &Operation) -> &'static str {
    match operation {
        Operation::Insert(_) => "insert",
        Operation::Replace(..) => "replace",
        Operation::Merge(..) => "merge",
        Operation::InsertOrReplace(_) => "insert-or-replace",
        Operation::InsertOrMerge(_) => "insert-or-merge",
        Operation::Delete { .. } => "delete",
    }
}

#[async_trait]
impl Tables for Metered {
    fn region(&self) -> &Region {
        self.inner.region()
    }

    fn account(&self) -> &AccountName {
        self.inner.account()
    }

    fn clock(&self) -> &StorageClock {
        self.inner.clock()
    }

    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError> {
        let result = self.inner.get(table, partition, row).await;
        self.count("get", result.as_ref());
        result
    }

    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError> {
        let result = self.inner.query(table, query).await;
        self.count("query", result.as_ref());
        result
    }

    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        let result = self.inner.write(table, operation).await;
        self.count(name(operation), result.as_ref());
        result
    }

    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        let result = self.inner.transact(table, partition, operations).await;
        self.count("transaction", result.as_ref().map_err(|err| &err.error));
        result
    }

    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError> {
        let result = self.inner.create_table(table).await;
        self.count("create-table", result.as_ref());
        result
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        let result = self.inner.tables().await;
        self.count("list-tables", result.as_ref());
        result
    }
}

/// A [`Queue`] whose requests are counted in [`STORE_REQUESTS`].
#[derive(Debug)]
pub struct MeteredQueue {
    region: Region,
    account: AccountName,
    inner: Arc<dyn Queue>,
}

impl MeteredQueue {
    /// Counts the requests to `inner`, the queue of `account`.
    pub fn new(region: Region, account: AccountName, inner: Arc<dyn Queue>) -> Arc<Self> {
        Arc::new(Self { region, account, inner })
    }

    fn count<T>(&self, operation: &'static str, result: Result<T, &StoreError>) {
        count(&self.region, &self.account, operation, result);
    }
}

#[async_trait]
impl Queue for MeteredQueue {
    async fn create(&self) -> Result<(), StoreError> {
        let result = self.inner.create().await;
        self.count("create-queue", result.as_ref());
        result
    }

    async fn receive(&self, max: u8, hidden: Duration) -> Result<Vec<Message>, StoreError> {
        let result = self.inner.receive(max, hidden).await;
        self.count("receive", result.as_ref());
        result
    }

    async fn delete(&self, message: &Message) -> Result<(), StoreError> {
        let result = self.inner.delete(message).await;
        self.count("delete-message", result.as_ref());
        result
    }

    async fn send(&self, text: &str) -> Result<(), StoreError> {
        let result = self.inner.send(text).await;
        self.count("send", result.as_ref());
        result
    }
}
