//! Counts every request to a store. Goes directly around an adapter, so that tries are counted and not calls.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::{ErrorKind, Message, Operation, Page, Query, Queue, StorageClock, StoreError, Tables, TransactionError};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};
use crate::telemetry::metrics::{StoreOperation, store_request};

/// A request that we refuse ourselves is not sent, and not counted.
fn count<T>(region: &Region, account: &AccountName, operation: StoreOperation, result: Result<T, &StoreError>) {
    let outcome = result.map(drop).map_err(|err| (err.kind, err.status));
    if outcome != Err((ErrorKind::Invalid, None)) {
        store_request(region, account, operation, outcome.map_err(|(kind, _)| kind));
    }
}

/// A [`Tables`] whose requests are counted in [`STORE_REQUESTS_TOTAL`](crate::telemetry::metrics::STORE_REQUESTS_TOTAL).
#[derive(Debug)]
pub struct Metered {
    inner: Arc<dyn Tables>,
}

impl Metered {
    /// Counts the requests to `inner`.
    pub fn new(inner: Arc<dyn Tables>) -> Arc<Self> {
        Arc::new(Self { inner })
    }

    fn count<T>(&self, operation: StoreOperation, result: Result<T, &StoreError>) {
        count(self.inner.region(), self.inner.account(), operation, result);
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

    fn endpoint(&self) -> Option<&str> {
        self.inner.endpoint()
    }

    fn clock(&self) -> &StorageClock {
        self.inner.clock()
    }

    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError> {
        let result = self.inner.get(table, partition, row).await;
        self.count(StoreOperation::Get, result.as_ref());
        result
    }

    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError> {
        let result = self.inner.query(table, query).await;
        self.count(StoreOperation::Query, result.as_ref());
        result
    }

    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        let result = self.inner.write(table, operation).await;
        self.count(StoreOperation::Write, result.as_ref());
        result
    }

    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        let result = self.inner.transact(table, partition, operations).await;
        self.count(StoreOperation::Transact, result.as_ref().map_err(|err| &err.error));
        result
    }

    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError> {
        let result = self.inner.create_table(table).await;
        self.count(StoreOperation::CreateTable, result.as_ref());
        result
    }

    async fn delete_table(&self, table: &TableName) -> Result<bool, StoreError> {
        let result = self.inner.delete_table(table).await;
        self.count(StoreOperation::DeleteTable, result.as_ref());
        result
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        let result = self.inner.tables().await;
        self.count(StoreOperation::ListTables, result.as_ref());
        result
    }
}

/// A [`Queue`] whose requests are counted in [`STORE_REQUESTS_TOTAL`](crate::telemetry::metrics::STORE_REQUESTS_TOTAL).
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

    fn count<T>(&self, operation: StoreOperation, result: Result<T, &StoreError>) {
        count(&self.region, &self.account, operation, result);
    }
}

#[async_trait]
impl Queue for MeteredQueue {
    async fn create(&self) -> Result<(), StoreError> {
        let result = self.inner.create().await;
        self.count(StoreOperation::CreateQueue, result.as_ref());
        result
    }

    async fn receive(&self, max: u8, hidden: Duration) -> Result<Vec<Message>, StoreError> {
        let result = self.inner.receive(max, hidden).await;
        self.count(StoreOperation::QueueReceive, result.as_ref());
        result
    }

    async fn delete(&self, message: &Message) -> Result<(), StoreError> {
        let result = self.inner.delete(message).await;
        self.count(StoreOperation::QueueDelete, result.as_ref());
        result
    }

    async fn send(&self, text: &str) -> Result<(), StoreError> {
        let result = self.inner.send(text).await;
        self.count(StoreOperation::QueueSend, result.as_ref());
        result
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{RowBody, Time};
    use crate::runtime::Runtime;
    use crate::stores::memory::MemoryTables;
    use metrics_exporter_prometheus::PrometheusBuilder;

    #[test]
    fn what_is_sent_is_counted_by_how_it_ended_and_what_we_refuse_is_not() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        metrics::with_local_recorder(&recorder, || runtime.block_on(requests()));
        let text = recorder.handle().render();
        let mut counted: Vec<_> = text.lines().filter_map(|line| line.split_once("account=\"west1\",")).collect();
        counted.sort_unstable();
        let counted: Vec<_> = counted.into_iter().map(|(_, rest)| rest).collect();
        assert_eq!(
            counted,
            [
                "operation=\"create-table\",status=\"ok\"} 1",
                "operation=\"get\",status=\"no-table\"} 1",
                "operation=\"get\",status=\"ok\"} 1",
                "operation=\"list-tables\",status=\"ok\"} 1",
                "operation=\"query\",status=\"ok\"} 1",
                "operation=\"transact\",status=\"already-exists\"} 1",
                "operation=\"write\",status=\"ok\"} 1",
            ]
        );
    }

    async fn requests() {
        let (region, account) = (Region::new("west").unwrap(), AccountName::new("west1").unwrap());
        let memory = MemoryTables::new(region, account, Runtime::simulated(Time::from_unix_seconds(1_000), 1));
        let tables = Metered::new(memory);
        let table = TableName::new("orders").unwrap();
        assert!(tables.get(&table, &"p".into(), &"r".into()).await.is_err());
        assert!(tables.create_table(&table).await.unwrap());
        assert_eq!(tables.tables().await.unwrap().len(), 1);
        let insert = Operation::Insert(RowBody::parse(r#"{"PartitionKey":"p","RowKey":"r"}"#).unwrap());
        tables.write(&table, &insert).await.unwrap();
        assert!(tables.transact(&table, &"p".into(), &[insert]).await.is_err());
        assert!(tables.get(&table, &"p".into(), &"r".into()).await.unwrap().is_some());
        assert_eq!(tables.query(&table, &Query::new(crate::stores::Scope::Table)).await.unwrap().rows.len(), 1);
        let refused = StoreError::new(ErrorKind::Invalid, "a key that Azure forbids");
        tables.count::<()>(StoreOperation::Get, Err(&refused));
    }
}
