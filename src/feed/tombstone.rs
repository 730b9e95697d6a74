//! Tombstones: rows of `RelayFeed` whose key begins with `t:`.

use super::{Malformed, Reason, Shard, hash};
use crate::model::{PartitionKey, Row, RowBody, RowId, RowKey, TableName, Tombstone, Version};

/// The row key of a row's tombstone in its shard: `t:`, 32 hex digits of the partition, `:`, 32 of the row.
pub fn tombstone_key(id: &RowId) -> RowKey {
    let row = hash::hex(&hash::sha256(&[id.row.as_str()])[..16]);
    RowKey::new(format!("{}{row}", tombstone_prefix(&id.table, &id.partition)))
}

/// What the tombstone keys of one data partition begin with, so that one range holds them: `t:`, 32 hex digits, `:`.
pub fn tombstone_prefix(table: &TableName, partition: &PartitionKey) -> String {
    format!("t:{}:", hash::hex(&hash::of_partition(table, partition)[..16]))
}

/// Writes a tombstone down.
pub fn encode_tombstone(tombstone: &Tombstone) -> RowBody {
    let id = &tombstone.id;
    RowBody::builder(&Shard::of(&id.table, &id.partition).partition(), &tombstone_key(id))
        .string("Table", id.table.as_str())
        .string("Partition", id.partition.as_str())
        .string("Row", id.row.as_str())
        .string("Version", tombstone.version.as_str())
        .finish()
}

/// Reads a tombstone, and checks that it stands where its row's tombstone belongs.
///
/// # Errors
/// [`Malformed`] with [`Reason::UnreadableTombstone`].
pub fn decode_tombstone(row: &Row) -> Result<Tombstone, Malformed> {
    let bad = |detail: String| Malformed::new(Reason::UnreadableTombstone, detail);
    let field = |name: &str| {
        let missing = || bad(format!("the tombstone {:?} should have a string {name}", row.body.row()));
        row.body.string(name).ok_or_else(missing)
    };
    let table = TableName::new(&field("Table")?).map_err(|err| bad(err.to_string()))?;
    let id = RowId::new(table, PartitionKey::new(field("Partition")?), RowKey::new(field("Row")?));
    let version = Version::parse(&field("Version")?).map_err(|err| bad(err.to_string()))?;
    let (shard, key) = (Shard::of(&id.table, &id.partition), tombstone_key(&id));
    if row.body.partition().as_str() != shard.to_string() || row.body.row() != &key {
        let detail = format!(
            "the tombstone of {id} stands at {:?} {:?}; it should stand at \"{shard}\" {key:?}",
            row.body.partition(),
            row.body.row()
        );
        return Err(bad(detail));
    }
    Ok(Tombstone { id, version })
}
