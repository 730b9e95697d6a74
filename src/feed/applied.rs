//! The applied log: rows of `RelayApplied`, by which a destination learns what came in.

use std::collections::BTreeMap;

use super::split::{MAX_LIST_UNITS, quoted};
use super::{Malformed, Reason, hash};
use crate::model::{
    Etag, PartitionKey, Region, Row, RowBody, RowId, RowKey, SystemTable, TableName, Time, Version, WriterId,
};

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
    encode(source, at, sender, first, rows.iter().map(|id| (id, String::new())).collect())
}

/// As [`encode_applied`], and at which version each row came in: `Versions` holds the first 8 hex digits of SHA-256(version) of
/// each, in the order of `Rows`. By them [`tells_of`] says later whether a version was ever here.
pub fn encode_arrivals(
    source: &Region,
    at: Time,
    sender: WriterId,
    first: usize,
    rows: &[(RowId, Version)],
) -> Vec<RowBody> {
    encode(source, at, sender, first, rows.iter().map(|(id, version)| (id, digest(version))).collect())
}

/// Whether a row of the applied log says that this row came in at this version.
pub fn tells_of(log: &RowBody, id: &RowId, version: &Version) -> bool {
    let digest = digest(version);
    let versions = log.string("Versions").unwrap_or_default();
    let same = |n: usize| versions.get(n * DIGEST..(n + 1) * DIGEST) == Some(digest.as_str());
    if !(0..versions.len() / DIGEST).any(same) {
        return false;
    }
    let groups = log.string("Rows").and_then(|text| serde_json::from_str::<Groups>(&text).ok()).unwrap_or_default();
    let rows = groups.into_iter().flat_map(|(table, partition, keys)| {
        let here = table.eq_ignore_ascii_case(id.table.as_str()) && partition == id.partition.as_str();
        keys.into_iter().map(move |key| here && key == id.row.as_str())
    });
    rows.enumerate().any(|(n, this)| this && same(n))
}

/// Which rows a row of the applied log says came in, each with what [`arrival_of`] makes of its version; nothing where the log does not
/// tell versions, or cannot be read.
pub fn arrivals(log: &RowBody) -> Vec<(RowId, String)> {
    let versions = log.string("Versions").unwrap_or_default();
    let groups = log.string("Rows").and_then(|text| serde_json::from_str::<Groups>(&text).ok()).unwrap_or_default();
    let rows = groups.into_iter().flat_map(|(table, partition, keys)| {
        let partition = PartitionKey::new(partition);
        keys.into_iter().map(move |key| Some((TableName::new(&table).ok()?, partition.clone(), RowKey::new(key))))
    });
    let told = rows.enumerate().filter_map(|(n, row)| {
        let ((table, partition, key), digits) = (row?, versions.get(n * DIGEST..(n + 1) * DIGEST)?);
        Some((RowId::new(table, partition, key), digits.to_owned()))
    });
    told.collect()
}

/// What the applied log tells of a version: the first digits of its digest.
pub fn arrival_of(version: &Version) -> String {
    digest(version)
}

/// Rows as lists, `[[table, partition, [row keys]], …]`, each short enough for a property.
pub fn row_lists(rows: &[RowId]) -> Vec<String> {
    let mut rows: Vec<(&RowId, String)> = rows.iter().map(|id| (id, String::new())).collect();
    rows.sort();
    rows.dedup();
    lists(&rows).into_iter().map(|(list, _)| list).collect()
}

/// The rows of a list, or `None` where it is none.
pub fn rows_of_list(list: &str) -> Option<Vec<RowId>> {
    let groups: Groups = serde_json::from_str(list).ok()?;
    let mut rows = Vec::new();
    for (table, partition, keys) in groups {
        let (table, partition) = (TableName::new(&table).ok()?, PartitionKey::new(partition));
        rows.extend(keys.into_iter().map(|key| RowId::new(table.clone(), partition.clone(), RowKey::new(key))));
    }
    Some(rows)
}

type Groups = Vec<(String, String, Vec<String>)>;

/// Hex digits of one version.
const DIGEST: usize = 8;

fn digest(version: &Version) -> String {
    hash::hex(&hash::sha256(&[version.as_str()]))[..DIGEST].to_owned()
}

fn encode(source: &Region, at: Time, sender: WriterId, first: usize, mut rows: Vec<(&RowId, String)>) -> Vec<RowBody> {
    let partition = PartitionKey::from(source.as_str());
    rows.sort();
    rows.dedup();
    let row = |(n, (list, versions)): (usize, (String, String))| {
        let key = RowKey::new(format!("{at}~{sender}~{:04}", first + n));
        let body = RowBody::builder(&partition, &key).string("Rows", &list);
        body.maybe("Versions", (!versions.is_empty()).then_some(versions.as_str())).finish()
    };
    lists(&rows).into_iter().enumerate().map(row).collect()
}

/// `[[table, partition, [row keys]], …]`, cut where a property is full, with what is told of each row beside it. The rows
/// are sorted.
fn lists(rows: &[(&RowId, String)]) -> Vec<(String, String)> {
    let mut groups: BTreeMap<(&TableName, &PartitionKey), Vec<(&RowKey, &str)>> = BTreeMap::new();
    for (id, version) in rows {
        groups.entry((&id.table, &id.partition)).or_default().push((&id.row, version));
    }
    let mut lists = Lists::default();
    for ((table, partition), keys) in groups {
        let head = format!("[{},{},[", quoted(table.as_str()), quoted(partition.as_str()));
        let mut open = false;
        for (key, version) in keys {
            let key = quoted(key.as_str());
            if open && lists.fits(key.len() + 1) {
                lists.push(&format!(",{key}"));
                lists.versions.push_str(version);
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
            lists.versions.push_str(version);
            open = true;
        }
        lists.push("]]");
    }
    lists.finish()
}

/// Lists while they are filled. Bytes are counted, which are never fewer than UTF-16 units.
#[derive(Default)]
struct Lists {
    done: Vec<(String, String)>,
    list: String,
    versions: String,
}

impl Lists {
    /// Whether so many more bytes fit, with the brackets that close the group and the list on both sides.
    fn fits(&self, bytes: usize) -> bool {
        self.list.len() + bytes + "[]]]".len() <= MAX_LIST_UNITS && self.versions.len() + DIGEST <= MAX_LIST_UNITS
    }

    fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    fn push(&mut self, text: &str) {
        self.list.push_str(text);
    }

    fn cut(&mut self) {
        if !self.list.is_empty() {
            self.done.push((format!("[{}]", self.list), std::mem::take(&mut self.versions)));
            self.list.clear();
        }
    }

    fn finish(mut self) -> Vec<(String, String)> {
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
    let groups: Groups = serde_json::from_str(&text)
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
        fn it_is_told_at_which_versions_rows_came_in(changes in proptest::collection::vec(samples::change(40), 1..6)) {
            let arrived: Vec<(RowId, Version)> =
                changes.iter().flat_map(|change| change.rows().map(|(id, _)| (id, change.version.clone()))).collect();
            let bodies = encode_arrivals(&west(), Time::EPOCH, WriterId(7), 0, &arrived);
            let told = |id: &RowId, version: &Version| bodies.iter().any(|body| tells_of(body, id, version));
            let all: Vec<_> = bodies.iter().flat_map(arrivals).collect();
            for (id, version) in &arrived {
                prop_assert!(told(id, version));
                prop_assert!(all.contains(&(id.clone(), arrival_of(version))));
                prop_assert!(!told(id, &version.above(&west(), WriterId(8))));
                prop_assert!(!told(&RowId::new(id.table.clone(), id.partition.clone(), "never".into()), version));
            }
            for body in &bodies {
                prop_assert!(body.string("Versions").unwrap().len() <= MAX_LIST_UNITS);
            }
        }

        #[test]
        fn no_text_makes_it_panic(partition in any::<String>(), rows in any::<String>()) {
            let _ = decode_applied(&row(&partition, "k", &json!({"Rows": rows})));
            let _ = decode_applied(&row("west", "k", &json!({"Rows": rows})));
        }
    }
}
