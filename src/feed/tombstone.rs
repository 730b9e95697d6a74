//! Tombstones: rows of `RelayFeed` whose key begins with `t:`.

use super::{Malformed, Reason, Shard, hash};
use crate::model::{PartitionKey, Row, RowBody, RowId, RowKey, TableName, Tombstone, Version};

/// What the row keys of tombstones begin with: `t:`.
pub fn tombstones_prefix() -> &'static str {
    "t:"
}

/// The row key of a row's tombstone in its shard: `t:`, 32 hex digits of the partition, `:`, 32 of the row.
pub fn tombstone_key(id: &RowId) -> RowKey {
    RowKey::new(format!("{}{}", tombstone_prefix(&id.table, &id.partition), hash::row_digits(&id.row)))
}

/// What the tombstone keys of one data partition begin with, so that one range holds them: `t:`, 32 hex digits, `:`.
pub fn tombstone_prefix(table: &TableName, partition: &PartitionKey) -> String {
    format!("{}{}:", tombstones_prefix(), hash::partition_digits(table, partition))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::samples::{self, row, stored};
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_tombstone_stands_where_its_row_says() {
        let id = RowId::new(TableName::new("Orders").unwrap(), "customer-17".into(), "a".into());
        // printf 'orders/customer-17' | sha256sum; printf 'a' | sha256sum
        let expected = "t:e178a542d0cdff9820b57a34e6c4f14a:ca978112ca1bbdcafac231b39a23dc4d";
        assert_eq!(tombstone_key(&id).as_str(), expected);
        let version = "2026-11-22T12:18:00.1234567Z@west.7f3a9c1b";
        let good = json!({"Table": "orders", "Partition": "customer-17", "Row": "a", "Version": version});
        assert_eq!(decode_tombstone(&row("01", expected, &good)).unwrap().id, id);
        let fault = |shard: &str, key: &str, name: &str, value: &str| {
            let mut properties = good.clone();
            properties[name] = value.into();
            let err = decode_tombstone(&row(shard, key, &properties)).unwrap_err();
            assert_eq!(err.reason, Reason::UnreadableTombstone);
            err.detail
        };
        assert!(fault("02", expected, "Other", "").contains("should stand at \"01\""));
        assert!(fault("01", "t:1", "Other", "").contains("should stand at"));
        assert!(fault("01", expected, "Row", "b").contains("should stand at"));
        assert!(fault("01", expected, "Version", "now").contains("no version"));
        assert!(fault("01", expected, "Table", "?").contains("no table name"));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(change in samples::change(3)) {
            for (id, _) in change.rows() {
                let tombstone = Tombstone { id, version: change.version.clone() };
                let body = encode_tombstone(&tombstone);
                prop_assert!(body.row().as_str().starts_with(&tombstone_prefix(&change.table, &change.partition)));
                prop_assert_eq!(decode_tombstone(&stored(&body)).unwrap(), tombstone);
            }
        }
    }
}
