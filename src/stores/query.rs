//! Reading many rows.

use crate::model::{PartitionKey, Row, RowKey};

/// Which rows of a table. Always a range of keys: Azure answers `or` over keys by scanning the partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every row.
    Table,
    /// Partitions from `from` (inclusive) to `until` (exclusive), where given.
    Partitions {
        /// The first partition key.
        from: Option<PartitionKey>,
        /// The partition key to stop before.
        until: Option<PartitionKey>,
    },
    /// Rows of one partition.
    Partition {
        /// The partition.
        partition: PartitionKey,
        /// The first row key, inclusive.
        from: Option<RowKey>,
        /// The last row key, inclusive.
        through: Option<RowKey>,
    },
}

/// A query: a range, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// Which rows.
    pub scope: Scope,
    /// Most rows in one page, 1 to 1,000 (Azure's limit, and what `None` means).
    pub top: Option<u16>,
    /// Properties to return, `None` for all. Keys, `Timestamp` and the ETag always come.
    pub select: Option<Vec<String>>,
    /// Where the previous page ended.
    pub continuation: Option<Continuation>,
}

impl Query {
    /// All properties of the rows in `scope`, from the first page on.
    pub fn new(scope: Scope) -> Self {
        Self { scope, top: None, select: None, continuation: None }
    }

    /// One partition, row keys from `from` through `through`, both inclusive.
    pub fn rows(partition: PartitionKey, from: RowKey, through: RowKey) -> Self {
        Self::new(Scope::Partition { partition, from: Some(from), through: Some(through) })
    }

    /// One partition, row keys that begin with `prefix`, whose last character is ASCII.
    ///
    /// The bound is the prefix with its last character raised by one: inclusive, so a row with exactly that key would
    /// come too. None of ours has it.
    pub fn prefix(partition: PartitionKey, prefix: &str) -> Self {
        let mut through = prefix.to_owned();
        if let Some(last) = through.pop() {
            through.push(char::from_u32(last as u32 + 1).unwrap_or(char::MAX));
        }
        Self::rows(partition, prefix.into(), through.as_str().into())
    }
}

/// A server's opaque mark of where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation {
    /// `x-ms-continuation-NextPartitionKey`, as sent.
    pub next_partition: String,
    /// `x-ms-continuation-NextRowKey`, as sent.
    pub next_row: Option<String>,
}

/// One page of rows. It may be empty and still have a continuation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows, in key order.
    pub rows: Vec<Row>,
    /// Where the next page begins; `None` at the end.
    pub continuation: Option<Continuation>,
}
