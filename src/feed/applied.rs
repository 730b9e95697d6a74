//! The applied log: rows of `RelayApplied`, by which a destination learns what came in.

use std::collections::BTreeMap;

use super::split::{MAX_LIST_UNITS, quoted};
use super::{Malformed, Reason};
use crate::model::{Etag, PartitionKey, Region, Row, RowBody, RowId, RowKey, SystemTable, TableName, Time, WriterId};

/// A row of the applied log: which rows came in from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The region that they came from: the partition key.
    pub source: Region,
    /// Its row key, ordered by time.
    pub key: RowKey,
    /// Its ETag.
    pub etag: Etag,
    /// When the destination's server took it in: its `Timestamp`.
    pub inserted: Time,
    /// The rows, by table, partition and key, each once.
    pub rows: Vec<RowId>,
}

/// Writes down what `source` delivered: one row of `RelayApplied`, or several where one does not hold it all.
///
/// The key is `at`, `~`, the sender, `~` and a number, so that two senders of one region and two bulks of one tick do not
/// meet: `first` is the number of the first, and who sends a second bulk at the same `at` goes on counting.
pub fn encode_applied(source: &Region, at: Time, sender: WriterId, first: usize, rows: &[RowId]) -> Vec<RowBody> {
    let partition = PartitionKey::from(source.as_str());
    let row = |(n, list): (usize, String)| {
        let key = RowKey::new(format!("{at}~{sender}~{:04}", first + n));
        RowBody::builder(&partition, &key).string("Rows", &list).finish()
    };
    lists(rows).into_iter().enumerate().map(row).collect()
}

/// `[[table, partition, [row keys]], …]`, cut where a property is full.
fn lists(rows: &[RowId]) -> Vec<String> {
    let mut groups: BTreeMap<(&TableName, &PartitionKey), Vec<&RowKey>> = BTreeMap::new();
    let mut distinct: Vec<&RowId> = rows.iter().collect();
    distinct.sort();
    distinct.dedup();
    for id in distinct {
        groups.entry((&id.table, &id.partition)).or_default().push(&id.row);
    }
    let mut lists = Lists::default();
    for ((table, partition), keys) in groups {
        let head = format!("[{},{},[", quoted(table.as_str()), quoted(partition.as_str()));
        let mut open = false;
        for key in keys {
            let key = quoted(key.as_str());
            if open && lists.fits(key.len() + 1) {
                lists.push(&format!(",{key}"));
                continue;
            }
            if open {
                lists.push("]]");
            }
            let comma = if lists.is_empty() { "" } else { "," };
            let item = format!("{comma}{head}{key}");
            // Where the list is full the group goes on in a new one, under its own head.
            if lists.fits(item.len()) {
                lists.push(&item);
            } else {
                lists.cut();
                lists.push(&format!("{head}{key}"));
            }
            open = true;
        }
        lists.push("]]");
    }
    lists.finish()
}

/// Lists while they are filled. Bytes are counted, which are never fewer than UTF-16 units.
#[derive(Default)]
struct Lists {
    done: Vec<String>,
    list: String,
}

impl Lists {
    /// Whether so many more bytes fit, with the brackets that close the group and the list on both sides.
    fn fits(&self, bytes: usize) -> bool {
        self.list.len() + bytes + "[]]]".len() <= MAX_LIST_UNITS
    }

    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn push(&mut self, text: &str) {
        self.list.push_str(text);
    }

    fn cut(&mut self) {
        if !self.list.is_empty() {
            self.done.push(format!("[{}]", self.list));
            self.list.clear();
        }
    }

    fn finish(mut self) -> Vec<String> {
        self.cut();
        self.done
    }
}

/// Reads a row of the applied log.
///
/// # Errors
/// [`Malformed`] where the region is none, `Rows` is not the JSON that the protocol describes, or a table is none that is
/// replicated.
pub fn decode_applied(row: &Row) -> Result<Applied, Malformed> {
    let bad = |detail: String| Malformed::new(Reason::BadJson, detail);
    let table = SystemTable::Applied.name();
    let source = Region::new(row.body.partition().as_str())
        .map_err(|err| bad(format!("the PartitionKey of {table} should be a region: {err}")))?;
    let text = row.body.string("Rows").ok_or_else(|| bad("Rows should be a string".to_owned()))?;
    let groups: Vec<(String, String, Vec<String>)> = serde_json::from_str(&text)
        .map_err(|err| bad(format!("Rows should hold [[table, partition, [row keys]], …]: {err}")))?;
    let mut rows = Vec::new();
    for (name, partition, keys) in groups {
        let table = TableName::new(&name).map_err(|err| Malformed::new(Reason::BadTable, err.to_string()))?;
        if table.is_system() {
            let detail = format!("table {table} is not replicated: the prefix Relay is reserved");
            return Err(Malformed::new(Reason::BadTable, detail));
        }
        let partition = PartitionKey::new(partition);
        rows.extend(keys.into_iter().map(|key| RowId::new(table.clone(), partition.clone(), RowKey::new(key))));
    }
    rows.sort();
    rows.dedup();
    let (key, etag, inserted) = (row.body.row().clone(), row.etag.clone(), row.timestamp);
    Ok(Applied { source, key, etag, inserted, rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::samples::{self, row, stored};
    use crate::model::Change;
    use proptest::prelude::*;
    use serde_json::json;

    fn west() -> Region {
        Region::new("west").unwrap()
    }

    #[test]
    fn keys_sort_by_time_then_number() {
        let id =
            |n: usize| RowId::new(TableName::new("orders").unwrap(), "p".into(), format!("{n:é>1000}").as_str().into());
        let rows: Vec<_> = (0..40).map(id).collect();
        let at = Time::from_unix_seconds(1_000);
        let mut keys: Vec<_> = Vec::new();
        for (time, first) in [(at, 0), (at, 3), (at.next(), 0)] {
            let bodies = encode_applied(&west(), time, WriterId(7), first, &rows);
            assert_eq!(bodies.len(), 3);
            keys.extend(bodies.iter().map(|body| body.row().clone()));
        }
        assert_eq!(keys[1].as_str(), "1970-01-01T00:16:40.0000000Z~00000007~0001");
        assert!(keys.is_sorted_by(|a, b| a < b), "{keys:?}");
    }

    #[test]
    fn what_is_no_list_of_rows_is_named() {
        let reason = |partition: &str, rows: serde_json::Value| {
            decode_applied(&row(partition, "k", &json!({"Rows": rows}))).unwrap_err().reason
        };
        assert_eq!(reason("West", json!("[]")), Reason::BadJson);
        assert_eq!(reason("west", json!(7)), Reason::BadJson);
        assert_eq!(reason("west", json!("[[\"orders\",\"p\"]]")), Reason::BadJson);
        assert_eq!(reason("west", json!("[[\"o\",\"p\",[]]]")), Reason::BadTable);
        assert_eq!(reason("west", json!("[[\"RelayFeed\",\"p\",[]]]")), Reason::BadTable);
        assert!(decode_applied(&row("west", "k", &json!({"Rows": "[]"}))).unwrap().rows.is_empty());
        assert!(encode_applied(&west(), Time::EPOCH, WriterId(1), 0, &[]).is_empty());
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_row_keeps_the_limit(changes in proptest::collection::vec(samples::change(40), 1..6)) {
            let mut rows: Vec<RowId> = changes.iter().flat_map(Change::rows).map(|(id, _)| id).collect();
            let bodies = encode_applied(&west(), Time::EPOCH, WriterId(7), 0, &rows);
            let mut found = Vec::new();
            for body in &bodies {
                prop_assert!(body.string("Rows").unwrap().encode_utf16().count() <= MAX_LIST_UNITS);
                let applied = decode_applied(&stored(body)).unwrap();
                prop_assert_eq!(&applied.source, &west());
                found.extend(applied.rows);
            }
            found.sort();
            rows.sort();
            rows.dedup();
            prop_assert_eq!(found, rows);
        }

        #[test]
        fn no_text_makes_it_panic(partition in any::<String>(), rows in any::<String>()) {
            let _ = decode_applied(&row(&partition, "k", &json!({"Rows": rows})));
            let _ = decode_applied(&row("west", "k", &json!({"Rows": rows})));
        }
    }
}
