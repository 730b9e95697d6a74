//! What can be done to a row.

use crate::model::{Etag, PartitionKey, RowBody, RowKey};

/// On which condition an existing row is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Whatever it is, as long as it is there (`If-Match: *`).
    Present,
    /// Only if its ETag is still this one.
    Matches(Etag),
}

/// One write of one row. Everything that we write to a destination is conditional; the two unconditional ones serve
/// applications that use the writer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Create the row; `AlreadyExists` where it is there.
    Insert(RowBody),
    /// Replace all properties of an existing row.
    Replace(RowBody, Condition),
    /// Merge properties into an existing row.
    Merge(RowBody, Condition),
    /// Create or replace.
    InsertOrReplace(RowBody),
    /// Create or merge.
    InsertOrMerge(RowBody),
    /// Delete an existing row.
    Delete {
        /// Its partition.
        partition: PartitionKey,
        /// Its key.
        row: RowKey,
        /// On which condition.
        condition: Condition,
    },
}

impl Operation {
    /// The partition it writes to.
    pub fn partition(&self) -> &PartitionKey {
        match self {
            Self::Delete { partition, .. } => partition,
            _ => self.body_unchecked().partition(),
        }
    }

    /// The row it writes.
    pub fn row(&self) -> &RowKey {
        match self {
            Self::Delete { row, .. } => row,
            _ => self.body_unchecked().row(),
        }
    }

    /// What it writes; nothing for a delete.
    pub fn body(&self) -> Option<&RowBody> {
        match self {
            Self::Insert(body)
            | Self::Replace(body, _)
            | Self::Merge(body, _)
            | Self::InsertOrReplace(body)
            | Self::InsertOrMerge(body) => Some(body),
            Self::Delete { .. } => None,
        }
    }

    /// The condition, where it has one.
    pub fn condition(&self) -> Option<&Condition> {
        match self {
            Self::Replace(_, condition) | Self::Merge(_, condition) | Self::Delete { condition, .. } => Some(condition),
            Self::Insert(_) | Self::InsertOrReplace(_) | Self::InsertOrMerge(_) => None,
        }
    }

    /// Where its condition is that the row still has the ETag `was`, it is from now on that it has `is`.
    pub fn follow(&mut self, was: &Etag, is: &Etag) {
        if let Self::Replace(_, condition) | Self::Merge(_, condition) | Self::Delete { condition, .. } = self
            && *condition == Condition::Matches(was.clone())
        {
            *condition = Condition::Matches(is.clone());
        }
    }

    fn body_unchecked(&self) -> &RowBody {
        match self.body() {
            Some(body) => body,
            None => unreachable!("only a delete has no body, and its keys are its own"),
        }
    }
}
