//! What an account holds, and the rules by which a write changes it.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::errors;
use super::properties;
use super::scan;
use super::watch::{Effect, Watcher};
use super::wire::When;
use crate::model::{Etag, PartitionKey, Row, RowBody, RowKey, TableName, Time};
use crate::stores::{Condition, Operation, Page, Query, StoreError, TransactionError, limits};

/// A table: per partition its rows, both in key order.
pub(super) type Table = BTreeMap<PartitionKey, BTreeMap<RowKey, Row>>;

/// Most writes that may be under way to take effect later.
const MAX_LATE: usize = 1_024;

/// The tables of an account.
#[derive(Debug)]
pub(super) struct State {
    tables: BTreeMap<TableName, Table>,
    last_stamp: Time,
    late: BTreeMap<(Instant, u64), Late>,
    late_writes: u64,
    watcher: Watcher,
}

/// A write that is under way to take effect later.
#[derive(Debug)]
struct Late {
    line: Arc<str>,
    table: TableName,
    operations: Vec<Operation>,
}

/// What a write makes of a row.
enum Outcome {
    Put(RowBody),
    Gone,
}

impl State {
    pub(super) fn new() -> Self {
        let last_stamp = Time::from_ticks(i64::MIN);
        Self { tables: BTreeMap::new(), last_stamp, late: BTreeMap::new(), late_writes: 0, watcher: Watcher::default() }
    }

    pub(super) fn create(&mut self, table: &TableName) -> bool {
        let missing = !self.tables.contains_key(table);
        if missing {
            self.tables.insert(table.clone(), Table::new());
        }
        missing
    }

    pub(super) fn remove(&mut self, table: &TableName) -> bool {
        self.tables.remove(table).is_some()
    }

    pub(super) fn names(&self) -> Vec<TableName> {
        self.tables.keys().cloned().collect()
    }

    pub(super) fn row(
        &self,
        table: &TableName,
        partition: &PartitionKey,
        row: &RowKey,
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.table(table)?.get(partition).and_then(|rows| rows.get(row)).cloned())
    }

    pub(super) fn page(
        &self,
        table: &TableName,
        query: &Query,
        page_rows: Option<std::num::NonZeroU16>,
    ) -> Result<Page, StoreError> {
        scan::page(self.table(table)?, query, page_rows)
    }

    pub(super) fn rows(&self, table: &TableName) -> Vec<Row> {
        self.tables.get(table).into_iter().flat_map(BTreeMap::values).flat_map(BTreeMap::values).cloned().collect()
    }

    pub(super) fn watch(&mut self, watcher: Watcher) {
        self.watcher = watcher;
    }

    /// All operations or none; they are on distinct rows of one partition, which is the caller's to check. `line` is by
    /// which line they came.
    pub(super) fn write(
        &mut self,
        line: &Arc<str>,
        table: &TableName,
        operations: &[Operation],
        when: When,
        now: Time,
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        if let When::At(due) = when {
            if self.late.len() < MAX_LATE {
                self.late_writes += 1;
                let late = Late { line: line.clone(), table: table.clone(), operations: operations.to_vec() };
                self.late.insert((due, self.late_writes), late);
            }
            return Ok(Vec::new());
        }
        let watcher = self.watcher.clone();
        let tell = |index: usize, before: Option<&Row>, after: Result<Option<&Row>, &StoreError>| {
            let operation = &operations[index];
            watcher.tell(&Effect { line, at: now, table, operation, index, before, after });
        };
        let rows = self.table(table)?;
        let mut outcomes = Vec::with_capacity(operations.len());
        for (index, operation) in operations.iter().enumerate() {
            let current = rows.get(operation.partition()).and_then(|rows| rows.get(operation.row()));
            let outcome = outcome(operation, current).map_err(|error| {
                tell(index, current, Err(&error));
                TransactionError { index: Some(index), error }
            });
            outcomes.push(outcome?);
        }
        let mut etags = Vec::with_capacity(operations.len());
        for (index, (operation, outcome)) in operations.iter().zip(outcomes).enumerate() {
            let (before, after) = self.apply(table, operation, outcome, now);
            tell(index, before.as_ref(), Ok(after.as_ref()));
            etags.push(after.map(|row| row.etag));
        }
        Ok(etags)
    }

    /// Lets the late writes take effect whose time has come. Nobody is there any more to be told how they went.
    pub(super) fn catch_up(&mut self, instant: Instant, now: Time) {
        while let Some(entry) = self.late.first_entry() {
            let due = entry.key().0;
            if due > instant {
                break;
            }
            let Late { line, table, operations } = entry.remove();
            drop(self.write(&line, &table, &operations, When::Now, now - instant.saturating_duration_since(due)));
        }
    }

    /// Returns the row as it was and as it is.
    fn apply(
        &mut self,
        table: &TableName,
        operation: &Operation,
        outcome: Outcome,
        now: Time,
    ) -> (Option<Row>, Option<Row>) {
        let stamp = now.max(self.last_stamp.next());
        let Some(partitions) = self.tables.get_mut(table) else { return (None, None) };
        let partition = operation.partition();
        match outcome {
            Outcome::Put(body) => {
                self.last_stamp = stamp;
                let (partition, key) = (body.partition().clone(), body.row().clone());
                let row = Row { body, etag: etag(stamp), timestamp: stamp };
                (partitions.entry(partition).or_default().insert(key, row.clone()), Some(row))
            }
            Outcome::Gone => {
                let Some(rows) = partitions.get_mut(partition) else { return (None, None) };
                let before = rows.remove(operation.row());
                if rows.is_empty() {
                    partitions.remove(partition);
                }
                (before, None)
            }
        }
    }

    fn table(&self, table: &TableName) -> Result<&Table, StoreError> {
        self.tables.get(table).ok_or_else(|| errors::no_table(table))
    }
}

fn outcome(operation: &Operation, current: Option<&Row>) -> Result<Outcome, StoreError> {
    match operation {
        Operation::Insert(_) if current.is_some() => Err(errors::row_exists()),
        Operation::Insert(body) | Operation::InsertOrReplace(body) => put(body),
        Operation::Replace(body, condition) => {
            meets(condition, current)?;
            put(body)
        }
        Operation::Merge(body, condition) => merge(meets(condition, current)?, body),
        Operation::InsertOrMerge(body) => match current {
            Some(current) => merge(current, body),
            None => put(body),
        },
        Operation::Delete { condition, .. } => meets(condition, current).map(|_| Outcome::Gone),
    }
}

fn meets<'a>(condition: &Condition, current: Option<&'a Row>) -> Result<&'a Row, StoreError> {
    let current = current.ok_or_else(errors::no_row)?;
    match condition {
        Condition::Matches(etag) if *etag != current.etag => Err(errors::condition_not_met()),
        Condition::Matches(_) | Condition::Present => Ok(current),
    }
}

fn put(body: &RowBody) -> Result<Outcome, StoreError> {
    Ok(Outcome::Put(properties::without_nulls(body)?))
}

/// The merged row has to keep the limits too, which no check of the request alone can see.
fn merge(current: &Row, changes: &RowBody) -> Result<Outcome, StoreError> {
    let merged = properties::merged(&current.body, changes)?;
    limits::check_body(&merged).map_err(errors::refused)?;
    Ok(Outcome::Put(merged))
}

/// An ETag is made of the `Timestamp`, as Azure's is.
fn etag(stamp: Time) -> Etag {
    Etag::new(format!("W/\"datetime'{}'\"", stamp.to_string().replace(':', "%3A")))
}
