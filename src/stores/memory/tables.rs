//! The tables of an account in memory.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::errors;
use super::faults::{Faults, Request, RequestKind};
use super::queue::{MemoryQueue, Messages};
use super::state::State;
use super::values;
use super::watch::{Effect, Watcher};
use super::wire::{When, Wire};
use crate::model::{AccountName, Etag, PartitionKey, Region, Row, RowKey, TableName};
use crate::runtime::Runtime;
use crate::stores::{Operation, Page, Query, Scope, StorageClock, StoreError, Tables, TransactionError, limits};

/// A storage account's tables in memory, with Azure's limits, errors and manners.
#[derive(Debug)]
pub struct MemoryTables {
    region: Region,
    account: AccountName,
    line: Arc<str>,
    wire: Wire,
    state: Arc<Mutex<State>>,
    queues: Arc<Mutex<BTreeMap<String, Messages>>>,
}

impl MemoryTables {
    /// An empty account. `runtime` is the clock of its server; a skewed one makes a server whose clock is wrong.
    pub fn new(region: Region, account: AccountName, runtime: Runtime) -> Arc<Self> {
        let wire = Wire::new(runtime, Faults::new());
        let (line, state) = (Arc::from(""), Arc::new(Mutex::new(State::new())));
        Arc::new(Self { region, account, line, wire, state, queues: Arc::default() })
    }

    /// The same account by another line, as another region sees it: the same rows, with latency, faults and request counts
    /// of its own.
    pub fn by_another_line(&self) -> Arc<Self> {
        self.by_line("")
    }

    /// The same account by another line of this name, which [`watch`](Self::watch) tells.
    pub fn by_line(&self, name: &str) -> Arc<Self> {
        let line = Arc::from(name);
        let wire = Wire::new(self.wire.runtime.clone(), Faults::new());
        let (state, queues) = (self.state.clone(), self.queues.clone());
        Arc::new(Self { region: self.region.clone(), account: self.account.clone(), line, wire, state, queues })
    }

    /// Tells `watch` of every operation that takes effect from now on, or is refused, by whatever line it came. It is asked
    /// while the account is locked: it must not wait, nor use the account.
    pub fn watch(&self, watch: impl Fn(&Effect<'_>) + Send + Sync + 'static) {
        self.state().watch(Watcher::new(watch));
    }

    /// The handle to what goes wrong with requests to this account.
    pub fn faults(&self) -> Faults {
        self.wire.faults.clone()
    }

    /// A queue of the same account by the same line: the same messages for the same name. It is missing until somebody
    /// creates it.
    pub fn queue(&self, name: &str) -> Arc<MemoryQueue> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = queues.entry(name.to_owned()).or_default().clone();
        MemoryQueue::beside(name, self.wire.runtime.clone(), self.faults(), messages)
    }

    /// Every row of a table in key order, past latency and faults; none where there is no such table. For comparing
    /// regions.
    pub fn snapshot(&self, table: &TableName) -> Vec<Row> {
        self.state().rows(table)
    }

    /// The state as it is now: what was to take effect by now has.
    fn state(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.catch_up(self.wire.runtime.instant(), self.wire.runtime.now());
        state
    }

    fn apply(
        &self,
        table: &TableName,
        operations: &[Operation],
        when: When,
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        self.state().write(&self.line, table, operations, when, self.wire.runtime.now())
    }
}

#[async_trait]
impl Tables for MemoryTables {
    fn region(&self) -> &Region {
        &self.region
    }

    fn account(&self) -> &AccountName {
        &self.account
    }

    fn clock(&self) -> &StorageClock {
        &self.wire.clock
    }

    async fn get(&self, table: &TableName, partition: &PartitionKey, row: &RowKey) -> Result<Option<Row>, StoreError> {
        let request = Request { partition: Some(partition), row: Some(row), ..Request::of(RequestKind::Get, table) };
        let effect = |_| {
            limits::check_keys(partition, row).map_err(errors::refused)?;
            self.state().row(table, partition, row)
        };
        self.wire.carry(&request, effect).await
    }

    async fn query(&self, table: &TableName, query: &Query) -> Result<Page, StoreError> {
        let partition = match &query.scope {
            Scope::Partition { partition, .. } => Some(partition),
            Scope::Table | Scope::Partitions { .. } => None,
        };
        let request = Request { partition, ..Request::of(RequestKind::Query, table) };
        self.wire.carry(&request, |_| self.state().page(table, query, self.wire.faults.page_rows())).await
    }

    async fn write(&self, table: &TableName, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        let operations = std::slice::from_ref(operation);
        let (partition, row) = (Some(operation.partition()), Some(operation.row()));
        let request = Request { partition, row, operations, ..Request::of(RequestKind::Write, table) };
        let effect = |when| {
            limits::check_operation(operation).map_err(errors::refused)?;
            values::check(operation)?;
            let mut etags = self.apply(table, operations, when).map_err(|failed| failed.error)?;
            Ok(etags.pop().flatten())
        };
        self.wire.carry(&request, effect).await
    }

    async fn transact(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        let request = Request { partition: Some(partition), operations, ..Request::of(RequestKind::Transact, table) };
        let effect = |when| {
            limits::check_transaction(partition, operations).map_err(errors::refused_transaction)?;
            for (index, operation) in operations.iter().enumerate() {
                values::check(operation).map_err(|error| TransactionError { index: Some(index), error })?;
            }
            self.apply(table, operations, when)
        };
        self.wire.carry(&request, effect).await
    }

    async fn create_table(&self, table: &TableName) -> Result<bool, StoreError> {
        let effect = |_| {
            // "Some table names are reserved, including 'tables'" (Understanding the Table service data model).
            if table.lower() == "tables" {
                return Err(errors::invalid("InvalidResourceName", "the table name \"tables\" is reserved"));
            }
            Ok(self.state().create(table))
        };
        self.wire.carry(&Request::of(RequestKind::CreateTable, table), effect).await
    }

    async fn delete_table(&self, table: &TableName) -> Result<bool, StoreError> {
        self.wire.carry(&Request::of(RequestKind::DeleteTable, table), |_| Ok(self.state().remove(table))).await
    }

    async fn tables(&self) -> Result<Vec<TableName>, StoreError> {
        self.wire.carry(&Request::new(RequestKind::ListTables), |_| Ok(self.state().names())).await
    }
}
