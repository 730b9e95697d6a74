//! SHA-256 and hex, as the protocol's keys use them.

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

/// Lower-case hex. Without a format for each byte: a batch asks for the keys of all of its tombstones.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|digit| DIGITS[usize::from(digit)]);
    let mut text = String::with_capacity(bytes.len() * 2);
    text.extend(digits);
    text
}
