//! Changes for tests: any that the protocol allows, and the way a store would return what was written.

use proptest::prelude::*;

use crate::model::{Change, Etag, PartitionKey, Region, Row, RowBody, RowKey, TableName, Time, Version, WriterId};

/// A version.
pub fn version() -> impl Strategy<Value = Version> {
    (0i64..40_000_000_000_000_000, "[a-z0-9-]{1,24}", any::<u32>()).prop_map(|(ticks, region, writer)| {
        Version::new(Time::from_ticks(ticks), &Region::new(&region).unwrap(), WriterId(writer))
    })
}

/// A key that Azure allows: quotes, percent signs, any script.
pub fn key() -> impl Strategy<Value = String> {
    prop_oneof!["[^/\\\\#?\\p{Cc}]{0,12}", "[a-c'\"% ]{0,3}", Just("\"".repeat(1_024)), Just("é".repeat(1_024))]
}

/// A data table.
pub fn table() -> impl Strategy<Value = TableName> {
    "[a-qs-zA-QS-Z][a-zA-Z0-9]{2,20}".prop_map(|name| TableName::new(&name).unwrap())
}

/// A change of up to so many rows, each once.
pub fn change(most: usize) -> impl Strategy<Value = Change> {
    let rows = proptest::collection::btree_map(key(), any::<bool>(), 1..=most);
    (table(), key(), rows, version(), proptest::option::of(version())).prop_map(
        |(table, partition, rows, version, base)| {
            let of =
                |deleted: bool| rows.iter().filter(move |(_, d)| **d == deleted).map(|(key, _)| RowKey::from(&**key));
            let (puts, deletes) = (of(false).collect(), of(true).collect());
            Change { table, partition: PartitionKey::new(partition), puts, deletes, version, base }
        },
    )
}

/// What a store returns of a body that was written: parsed anew, with an ETag and a `Timestamp`.
pub fn stored(body: &RowBody) -> Row {
    Row {
        body: RowBody::parse(body.json()).unwrap(),
        etag: Etag::new("W/\"1\""),
        timestamp: Time::from_unix_seconds(1_000),
    }
}

/// A row of the feed with these properties.
pub fn row(partition: &str, key: &str, properties: &serde_json::Value) -> Row {
    let mut object = properties.clone();
    object["PartitionKey"] = partition.into();
    object["RowKey"] = key.into();
    let body = RowBody::parse(&object.to_string()).unwrap();
    Row { body, etag: Etag::new("W/\"1\""), timestamp: Time::from_unix_seconds(1_000) }
}
