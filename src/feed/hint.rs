//! Hints: rows of `RelayBacklog`, which say what waits for a consumer that cannot take changes now.
//!
//! One hint per distinct row and consumer, whatever happens to the row meanwhile: it names the row and carries none of
//! its content, since what is delivered in the end is the row's state of then (hinted handoff).

use super::{Malformed, Reason, Shard, hash};
use crate::model::{PartitionKey, Row, RowBody, RowId, RowKey, TableName, Time, Version};

/// What waits: a row that a consumer has yet to be brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hint {
    /// Which row.
    pub id: RowId,
    /// The highest version that a look has shown since the consumer had the row last.
    pub version: Version,
    /// When the oldest change that waits was announced, by the storage server's clock.
    pub since: Time,
}

impl Hint {
    /// The hint that stands for both: the older time, the higher version.
    #[must_use]
    pub fn joined(self, since: Time, version: &Version) -> Self {
        Self { since: self.since.min(since), version: self.version.max(version.clone()), id: self.id }
    }
}

/// Where a hint stands: the partition is the consumer's name, `:` and the row's shard, so that the hints of a batch fit in
/// transactions; the row key is 32 hex digits of the partition, `:`, 32 of the row, as in the key of a tombstone.
///
/// `consumer` is a region's name. Whatever else is to have hints needs a name that is none.
pub fn hint_keys(consumer: &str, id: &RowId) -> (PartitionKey, RowKey) {
    let (partition, row) = (hash::partition_digits(&id.table, &id.partition), hash::row_digits(&id.row));
    let home = format!("{consumer}:{}", Shard::of(&id.table, &id.partition));
    (PartitionKey::new(home), RowKey::new(format!("{partition}:{row}")))
}

/// The partitions that hold a consumer's hints: the first, and the one to stop before. `;` is what follows `:`.
pub fn hint_partitions(consumer: &str) -> (PartitionKey, PartitionKey) {
    (PartitionKey::new(format!("{consumer}:")), PartitionKey::new(format!("{consumer};")))
}

/// The consumer that a partition of `RelayBacklog` belongs to.
pub fn hint_consumer(partition: &PartitionKey) -> &str {
    partition.as_str().split_once(':').map_or(partition.as_str(), |(consumer, _)| consumer)
}

/// When the oldest change was announced that a stored hint stands for; as of now where that cannot be read.
pub fn hint_since(row: &Row) -> Time {
    row.body.string("Since").and_then(|text| Time::parse(&text).ok()).unwrap_or(row.timestamp)
}

/// Writes a hint down.
pub fn encode_hint(consumer: &str, hint: &Hint) -> RowBody {
    let (partition, row) = hint_keys(consumer, &hint.id);
    RowBody::builder(&partition, &row)
        .string("Table", hint.id.table.as_str())
        .string("Partition", hint.id.partition.as_str())
        .string("Row", hint.id.row.as_str())
        .string("Version", hint.version.as_str())
        .string("Since", &hint.since.to_string())
        .finish()
}

/// Reads a hint, and checks that it stands where its row's hint belongs.
///
/// # Errors
/// [`Malformed`] with [`Reason::UnreadableHint`].
pub fn decode_hint(row: &Row) -> Result<Hint, Malformed> {
    let bad = |detail: String| Malformed::new(Reason::UnreadableHint, detail);
    let field = |name: &str| {
        let missing = || bad(format!("the hint {:?} should have a string {name}", row.body.row()));
        row.body.string(name).ok_or_else(missing)
    };
    let table = TableName::new(&field("Table")?).map_err(|err| bad(err.to_string()))?;
    let id = RowId::new(table, PartitionKey::new(field("Partition")?), RowKey::new(field("Row")?));
    let version = Version::parse(&field("Version")?).map_err(|err| bad(err.to_string()))?;
    let since = Time::parse(&field("Since")?).map_err(|err| bad(format!("Since: {err}")))?;
    let (partition, key) = hint_keys(hint_consumer(row.body.partition()), &id);
    if (row.body.partition(), row.body.row()) != (&partition, &key) {
        let (at, found) = (row.body.partition(), row.body.row());
        return Err(bad(format!(
            "the hint of {id} stands at {at:?} {found:?}; it should stand at {partition:?} {key:?}"
        )));
    }
    Ok(Hint { id, version, since })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::samples::{self, row, stored};
    use crate::feed::tombstone_key;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn a_hint_stands_where_its_row_says() {
        let id = RowId::new(TableName::new("Orders").unwrap(), "customer-17".into(), "a".into());
        let (partition, key) = hint_keys("north-2", &id);
        assert_eq!(partition.as_str(), "north-2:01");
        assert_eq!(format!("t:{key}"), tombstone_key(&id).as_str(), "as the key of its tombstone");
        let good = json!({"Table": "orders", "Partition": "customer-17", "Row": "a",
            "Version": "2026-11-22T12:18:00.1234567Z@west.7f3a9c1b", "Since": "2026-11-22T12:18:00.1000000Z"});
        assert_eq!(decode_hint(&row("north-2:01", key.as_str(), &good)).unwrap().id, id);
        let fault = |partition: &str, key: &str, name: &str, value: &str| {
            let mut properties = good.clone();
            properties[name] = value.into();
            let err = decode_hint(&row(partition, key, &properties)).unwrap_err();
            assert_eq!(err.reason, Reason::UnreadableHint);
            err.detail
        };
        assert!(fault("north-2:02", key.as_str(), "Other", "").contains("should stand at \"north-2:01\""));
        assert!(fault("north-2:01", "1", "Other", "").contains("should stand at"));
        assert!(fault("north-2:01", key.as_str(), "Row", "b").contains("should stand at"));
        assert!(fault("north-2:01", key.as_str(), "Version", "now").contains("no version"));
        assert!(fault("north-2:01", key.as_str(), "Table", "?").contains("no table name"));
        assert!(fault("north-2:01", key.as_str(), "Since", "before").contains("Since"));
    }

    #[test]
    fn a_consumers_partitions_hold_its_hints_and_no_others() {
        let id = RowId::new(TableName::new("orders").unwrap(), "p".into(), "r".into());
        let (from, until) = hint_partitions("north");
        let within = |consumer: &str| {
            let (partition, _) = hint_keys(consumer, &id);
            assert_eq!(hint_consumer(&partition), consumer);
            from <= partition && partition < until
        };
        assert!(within("north"));
        for other in ["north-2", "north2", "nort", "northa", "north-"] {
            assert!(!within(other), "{other}");
        }
    }

    #[test]
    fn two_hints_of_a_row_join_to_the_older_time_and_the_higher_version() {
        let id = RowId::new(TableName::new("orders").unwrap(), "p".into(), "r".into());
        let version = |s: u8| Version::parse(&format!("2026-11-22T12:18:0{s}.0000000Z@west.7f3a9c1b")).unwrap();
        let hint = Hint { id, version: version(2), since: Time::from_unix_seconds(20) };
        let older = hint.clone().joined(Time::from_unix_seconds(10), &version(1));
        assert_eq!((older.since, &older.version), (Time::from_unix_seconds(10), &version(2)));
        let newer = hint.joined(Time::from_unix_seconds(30), &version(3));
        assert_eq!((newer.since, newer.version), (Time::from_unix_seconds(20), version(3)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(change in samples::change(3), ticks in 0i64..40_000_000_000_000_000) {
            for (id, _) in change.rows() {
                let hint = Hint { id, version: change.version.clone(), since: Time::from_ticks(ticks) };
                let row = stored(&encode_hint("west", &hint));
                prop_assert_eq!(hint_since(&row), hint.since);
                prop_assert_eq!(decode_hint(&row).unwrap(), hint);
            }
        }
    }
}
