//! SHA-256 and hex, as the protocol's keys use them.

use std::fmt::Write as _;

use sha2::{Digest, Sha256};

use crate::model::{PartitionKey, RowKey, TableName};

/// SHA-256 of the parts one behind the other.
pub(super) fn sha256(parts: &[&str]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
    }
    hash.finalize().into()
}

/// What shard and tombstone key are made of: SHA-256 of `lower(table)/partitionKey`.
pub(super) fn of_partition(table: &TableName, partition: &PartitionKey) -> [u8; 32] {
    sha256(&[table.lower(), "/", partition.as_str()])
}

/// What tells a partition in the keys of the rows that are about it: 32 hex digits.
pub(super) fn partition_digits(table: &TableName, partition: &PartitionKey) -> String {
    hex(&of_partition(table, partition)[..16])
}

/// What tells a row in them: 32 hex digits.
pub(super) fn row_digits(row: &RowKey) -> String {
    hex(&sha256(&[row.as_str()])[..16])
}

/// Lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
