//! What a case of the tables' suite works on: an account and a table of the case's own.

use std::sync::Arc;

use super::suite::{Context, Failure, Outcome, ensure, fail, same};
use crate::model::{Etag, PartitionKey, Row, RowBody, RowKey, TableName};
use crate::stores::{Condition, ErrorKind, Operation, Query, StoreError, Tables, TransactionError};

/// An account and an empty table in it.
#[derive(Debug, Clone)]
pub struct Bench {
    /// The account.
    pub tables: Arc<dyn Tables>,
    /// A table that no other case uses; it exists.
    pub table: TableName,
}

impl Bench {
    pub(super) async fn new(tables: Arc<dyn Tables>, name: &str) -> Result<Self, Failure> {
        let table = TableName::new(name).map_err(|err| Failure(err.to_string()))?;
        ensure(tables.create_table(&table).await.at("creating the table")?, || format!("{name} was there already"))?;
        Ok(Self { tables, table })
    }

    pub(super) async fn write(&self, operation: &Operation) -> Result<Option<Etag>, StoreError> {
        self.tables.write(&self.table, operation).await
    }

    /// A write that puts a row, and its new ETag.
    pub(super) async fn put(&self, operation: &Operation) -> Result<Etag, Failure> {
        match self.write(operation).await? {
            Some(etag) => Ok(etag),
            None => fail("a write that puts a row should return its ETag"),
        }
    }

    pub(super) async fn transact(
        &self,
        partition: &str,
        operations: &[Operation],
    ) -> Result<Vec<Option<Etag>>, TransactionError> {
        self.tables.transact(&self.table, &partition.into(), operations).await
    }

    /// Writes many rows of one partition, 100 at a time.
    pub(super) async fn load(&self, partition: &str, rows: impl IntoIterator<Item = String>) -> Outcome {
        let operations: Vec<_> = rows.into_iter().map(|row| Operation::Insert(body(partition, &row))).collect();
        for chunk in operations.chunks(100) {
            self.transact(partition, chunk).await.at("loading rows")?;
        }
        Ok(())
    }

    pub(super) async fn get(&self, partition: &str, row: &str) -> Result<Option<Row>, StoreError> {
        self.tables.get(&self.table, &partition.into(), &row.into()).await
    }

    /// A row that has to be there.
    pub(super) async fn row(&self, partition: &str, row: &str) -> Result<Row, Failure> {
        match self.get(partition, row).await.at((partition, row))? {
            Some(found) => Ok(found),
            None => fail(format!("the row ({partition:?}, {row:?}) is missing")),
        }
    }

    pub(super) async fn expect_missing(&self, partition: &str, row: &str) -> Outcome {
        let found = self.get(partition, row).await.at((partition, row))?;
        ensure(found.is_none(), || format!("the row ({partition:?}, {row:?}) should not be there"))
    }

    /// The rows of all pages, and how many pages there were.
    pub(super) async fn pages(&self, query: &Query) -> Result<(Vec<Row>, usize), Failure> {
        const MOST: usize = 1_000;
        let (mut query, mut rows) = (query.clone(), Vec::new());
        for pages in 1..=MOST {
            let page = self.tables.query(&self.table, &query).await?;
            rows.extend(page.rows);
            query.continuation = page.continuation;
            if query.continuation.is_none() {
                return Ok((rows, pages));
            }
        }
        fail(format!("the query has no end after {MOST} pages"))
    }

    /// The row keys of all pages.
    pub(super) async fn keys(&self, query: &Query) -> Result<Vec<String>, Failure> {
        let (rows, _) = self.pages(query).await?;
        Ok(rows.iter().map(|row| row.body.row().as_str().to_owned()).collect())
    }
}

/// A row with a property of its own.
pub(super) fn body(partition: &str, row: &str) -> RowBody {
    RowBody::builder(&PartitionKey::from(partition), &RowKey::from(row)).string("Text", row).finish()
}

/// A row with the given properties: JSON text that begins with a comma, or nothing.
pub(super) fn body_with(partition: &str, row: &str, properties: &str) -> Result<RowBody, Failure> {
    let quoted = |text: &str| serde_json::Value::from(text).to_string();
    let json = format!(r#"{{"PartitionKey":{},"RowKey":{}{properties}}}"#, quoted(partition), quoted(row));
    RowBody::parse(&json).map_err(|err| Failure(err.to_string()))
}

pub(super) fn delete(partition: &str, row: &str, condition: Condition) -> Operation {
    Operation::Delete { partition: partition.into(), row: row.into(), condition }
}

/// Holds a request to a failure of this kind.
pub(super) fn expect_error<T>(what: &str, result: Result<T, StoreError>, kind: ErrorKind) -> Outcome {
    match result {
        Err(error) => ensure(error.kind == kind, || format!("{what} should fail as {kind:?}, not with {error:?}")),
        Ok(_) => fail(format!("{what} should fail as {kind:?}, but succeeded")),
    }
}

/// Holds a transaction to a failure of this kind at this operation.
pub(super) fn expect_failure<T>(
    what: &str,
    result: Result<T, TransactionError>,
    kind: ErrorKind,
    index: Option<usize>,
) -> Outcome {
    match result {
        Err(failed) => {
            same(&format!("the index of {what} ({})", failed.error), failed.index, index)?;
            expect_error::<()>(what, Err(failed.error), kind)
        }
        Ok(_) => fail(format!("{what} should fail as {kind:?}, but succeeded")),
    }
}
