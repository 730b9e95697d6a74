//! The table form of an announcement: a row of `RelayFeed` whose key begins with `c:`.

use serde::Deserialize;
use serde_json::Value;

use super::split::{self, EncodeError, MAX_DELETES, MAX_ROWS};
use super::{Malformed, Reason, Shard, hash};
use crate::model::{Change, Etag, PartitionKey, Row, RowBody, RowKey, TableName, Time, Version};

/// A record as it stands in a feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The shard that it was read from.
    pub shard: Shard,
    /// Its row key in the shard.
    pub key: RowKey,
    /// Its ETag: a record is deleted as the one that was read.
    pub etag: Etag,
    /// When the storage server took it in: its `Timestamp`.
    pub inserted: Time,
    /// What it announces.
    pub change: Change,
}

/// What the row key of every record begins with.
pub fn record_prefix() -> &'static str {
    "c:"
}

/// Whether a row of the feed is a record, by its key.
pub fn is_record_key(key: &RowKey) -> bool {
    key.as_str().starts_with(record_prefix())
}

/// Writes a change down: one record, or several where one does not hold it all. All of them go in before the write.
///
/// The first has the key `c:` + version, the others `~1`, `~2`… behind it. Which rows stand in which is [`split`]'s
/// to say.
///
/// [`split`]: super::split
///
/// # Errors
/// [`EncodeError`] where no record can announce it.
pub fn encode_change(change: &Change) -> Result<Vec<RowBody>, EncodeError> {
    let parts = split::split(change)?;
    Ok(parts.iter().enumerate().map(|(number, part)| encode_numbered(part, number)).collect())
}

/// Writes down one part of a change as its record of this number: 0 for the first, whose key has no suffix.
///
/// Whoever announces a change again goes on counting, so that the daemon sees a record that is new.
pub fn encode_numbered(part: &Change, number: usize) -> RowBody {
    let suffix = if number == 0 { String::new() } else { format!("~{number}") };
    encode(part, &suffix)
}

/// Writes down the announcement of *one* row by a daemon, which takes over a version that was issued elsewhere.
///
/// The key ends in `~r` and the first 8 hex digits of SHA-256(rowKey), since the rows of a transaction share a version
/// and a daemon announces them one by one.
pub fn encode_relayed(change: &Change) -> RowBody {
    encode_relayed_nth(change, 0)
}

/// As [`encode_relayed`], with `~n` before the `~r` where `n` is not 0.
///
/// Two rows of different partitions may share version, row key and shard: implicit versions are made of a server's
/// `Timestamp`. Who finds the key taken by the record of another row takes the next `n`.
pub fn encode_relayed_nth(change: &Change, n: usize) -> RowBody {
    debug_assert_eq!(change.len(), 1, "a daemon announces row by row");
    let row = change.puts.first().or(change.deletes.first()).map_or("", RowKey::as_str);
    let digits = &hash::hex(&hash::sha256(&[row]))[..8];
    let nth = if n == 0 { String::new() } else { format!("~{n}") };
    encode(change, &format!("{nth}~r{digits}"))
}

fn encode(change: &Change, suffix: &str) -> RowBody {
    let key = RowKey::new(format!("{}{}{suffix}", record_prefix(), change.version));
    RowBody::builder(&Shard::of(&change.table, &change.partition).partition(), &key)
        .string("Table", change.table.as_str())
        .string("Partition", change.partition.as_str())
        .string("Puts", &split::list(&change.puts))
        .string("Deletes", &split::list(&change.deletes))
        .string("Version", change.version.as_str())
        .maybe("Base", change.base.as_ref().map(Version::as_str))
        .finish()
}

/// Reads a record. `Puts` or `Deletes` may be absent, other properties are ignored.
///
/// # Errors
/// [`Malformed`] where it breaks the protocol: wrong form, no rows or too many, a row both put and deleted, a forbidden
/// key, a reserved table, a version that is none, or a place in the feed that is not its own.
pub fn decode_record(row: &Row) -> Result<Record, Malformed> {
    let wire: Wire = serde_json::from_str(row.body.json())
        .map_err(|err| Malformed::new(Reason::BadJson, format!("the record cannot be read: {err}")))?;
    let draft = Draft {
        table: text("Table", wire.table)?,
        partition: text("Partition", wire.partition)?,
        puts: keys("Puts", wire.puts)?,
        deletes: keys("Deletes", wire.deletes)?,
        version: text("Version", wire.version)?,
        base: wire.base,
    };
    let change = draft.checked()?;
    let (key, shard) = (row.body.row(), Shard::of(&change.table, &change.partition));
    if row.body.partition().as_str() != shard.to_string() {
        let detail = format!(
            "the record stands in shard {:?}; {} {:?} belongs to shard {shard}",
            row.body.partition(),
            change.table,
            change.partition
        );
        return Err(Malformed::new(Reason::WrongShard, detail));
    }
    if !is_key_of(key, &change.version) {
        let detail =
            format!("the record's RowKey is {key:?}; it should be c:{} and at most a suffix with ~", change.version);
        return Err(Malformed::new(Reason::BadKey, detail));
    }
    Ok(Record { shard, key: key.clone(), etag: row.etag.clone(), inserted: row.timestamp, change })
}

fn is_key_of(key: &RowKey, version: &Version) -> bool {
    let rest = key.as_str().strip_prefix(record_prefix()).and_then(|rest| rest.strip_prefix(version.as_str()));
    rest.is_some_and(|suffix| suffix.is_empty() || suffix.starts_with('~'))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Wire {
    table: Option<Value>,
    partition: Option<Value>,
    puts: Option<Value>,
    deletes: Option<Value>,
    version: Option<Value>,
    base: Option<Value>,
}

/// A required string.
pub(super) fn text(field: &str, value: Option<Value>) -> Result<String, Malformed> {
    match value {
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(Malformed::new(Reason::BadJson, format!("{field} should be a string"))),
        None => Err(Malformed::new(Reason::BadJson, format!("{field} is missing; it should be a string"))),
    }
}

/// A list of row keys as a string that holds a JSON array; absent is empty.
fn keys(field: &str, value: Option<Value>) -> Result<Vec<RowKey>, Malformed> {
    let Some(value) = value else { return Ok(Vec::new()) };
    let array = text(field, Some(value))?;
    let items: Vec<String> = serde_json::from_str(&array).map_err(|err| {
        Malformed::new(Reason::BadJson, format!("{field} should hold a JSON array of row keys as text: {err}"))
    })?;
    Ok(items.into_iter().map(RowKey::new).collect())
}

/// What either form of an announcement says, before it is checked.
pub(super) struct Draft {
    pub table: String,
    pub partition: String,
    pub puts: Vec<RowKey>,
    pub deletes: Vec<RowKey>,
    pub version: String,
    /// Advice only: one that is no version is left out.
    pub base: Option<Value>,
}

impl Draft {
    pub fn checked(self) -> Result<Change, Malformed> {
        let table = TableName::new(&self.table).map_err(|err| Malformed::new(Reason::BadTable, err.to_string()))?;
        let version =
            Version::parse(&self.version).map_err(|err| Malformed::new(Reason::BadVersion, err.to_string()))?;
        let base = self.base.as_ref().and_then(Value::as_str).and_then(|text| Version::parse(text).ok());
        let (puts, deletes) = (distinct(self.puts), distinct(self.deletes));
        let (rows, deleted) = (puts.len() + deletes.len(), deletes.len());
        if rows > MAX_ROWS || deleted > MAX_DELETES {
            let detail = format!(
                "it names {rows} rows, {deleted} of them deletes; \
                 it should name at most {MAX_ROWS}, at most {MAX_DELETES} of them deletes"
            );
            return Err(Malformed::new(Reason::TooManyRows, detail));
        }
        let change = Change { table, partition: PartitionKey::new(self.partition), puts, deletes, version, base };
        split::check(&change)?;
        Ok(change)
    }
}

/// The keys in their order, each once.
fn distinct(mut rows: Vec<RowKey>) -> Vec<RowKey> {
    let mut seen = std::collections::BTreeSet::new();
    rows.retain(|row| seen.insert(row.clone()));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::feed::samples::{self, row, stored};
    use proptest::prelude::*;
    use serde_json::json;

    const VERSION: &str = "2026-11-22T12:18:00.1234567Z@west.7f3a9c1b";

    fn good() -> Value {
        json!({"Table": "Orders", "Partition": "customer-17", "Puts": "[\"a\"]", "Deletes": "[\"b\"]", "Version": VERSION})
    }

    fn refused(changed: impl Fn(&mut Value)) -> Malformed {
        let mut properties = good();
        changed(&mut properties);
        decode_record(&row("01", &format!("c:{VERSION}"), &properties)).unwrap_err()
    }

    #[test]
    fn a_record_reads_as_the_protocol_says() {
        let record = decode_record(&row("01", &format!("c:{VERSION}~2"), &good())).unwrap();
        assert_eq!((record.change.puts, record.change.deletes), (vec!["a".into()], vec!["b".into()]));
        assert_eq!((record.shard.index(), record.change.base), (1, None));
        assert!(is_record_key(&record.key));
    }

    #[test]
    fn each_fault_has_its_reason_and_names_its_field() {
        let cases: [(Reason, &str, Malformed); 12] = [
            (Reason::BadJson, "Table is missing", refused(|r| _ = r.as_object_mut().unwrap().remove("Table"))),
            (Reason::BadJson, "Partition should be a string", refused(|r| r["Partition"] = json!(7))),
            (Reason::BadJson, "Puts", refused(|r| r["Puts"] = json!("[\"a\""))),
            (Reason::BadJson, "Deletes", refused(|r| r["Deletes"] = json!("[1]"))),
            (Reason::NoRows, "at least one", refused(|r| (r["Puts"], r["Deletes"]) = (json!("[]"), json!("[]")))),
            (Reason::Contradiction, "\"a\"", refused(|r| r["Deletes"] = json!("[\"a\"]"))),
            (Reason::BadTable, "no table name", refused(|r| r["Table"] = json!("a-b"))),
            (Reason::BadTable, "reserved", refused(|r| r["Table"] = json!("RELAYcontrol"))),
            (Reason::BadVersion, "7 digits", refused(|r| r["Version"] = json!("2026"))),
            (Reason::BadKey, "RowKey", refused(|r| r["Puts"] = json!("[\"a?\"]"))),
            (Reason::BadKey, "PartitionKey", refused(|r| r["Partition"] = json!("#"))),
            (Reason::WrongShard, "belongs to shard", refused(|r| r["Partition"] = json!("customer-18"))),
        ];
        for (reason, detail, found) in cases {
            assert_eq!(found.reason, reason, "{found}");
            assert!(found.detail.contains(detail), "{found} should say {detail}");
        }
    }

    #[test]
    fn a_record_stands_under_its_own_version() {
        for key in ["c:", "c:x", "t:1", &format!("c:{VERSION}0"), &format!("c:{}", VERSION.replace("west", "east"))] {
            assert_eq!(decode_record(&row("01", key, &good())).unwrap_err().reason, Reason::BadKey, "{key}");
        }
    }

    #[test]
    fn a_hundred_rows_and_ninety_nine_deletes_are_the_most() {
        let keys = |count: usize| Value::from(list_of(count).to_string());
        let decode = |puts: usize, deletes: usize| {
            let mut properties = good();
            properties["Puts"] = keys(puts);
            properties["Deletes"] = Value::from(keys(deletes).as_str().unwrap().replace('k', "d"));
            decode_record(&row("01", &format!("c:{VERSION}"), &properties)).map_err(|err| err.reason)
        };
        assert!(decode(100, 0).is_ok() && decode(1, 99).is_ok());
        assert_eq!(decode(101, 0).unwrap_err(), Reason::TooManyRows);
        assert_eq!(decode(0, 100).unwrap_err(), Reason::TooManyRows);
        assert_eq!(decode(2, 99).unwrap_err(), Reason::TooManyRows);
    }

    fn list_of(count: usize) -> Value {
        (0..count).map(|n| Value::from(format!("k{n}"))).collect()
    }

    #[test]
    fn a_base_that_is_no_version_is_left_out_and_a_row_named_twice_is_one() {
        let mut properties = good();
        (properties["Base"], properties["Puts"]) = (json!("long ago"), json!("[\"x\",\"x\"]"));
        let record = decode_record(&row("01", &format!("c:{VERSION}"), &properties)).unwrap();
        assert_eq!((record.change.base, record.change.puts.len()), (None, 1));
    }

    #[test]
    fn relayed_records_have_a_key_of_their_own_row() {
        let record = decode_record(&row("01", &format!("c:{VERSION}"), &good())).unwrap();
        let change = Change { deletes: vec![], ..record.change };
        // printf 'a' | sha256sum
        assert_eq!(encode_relayed(&change).row().as_str(), format!("c:{VERSION}~rca978112"));
        assert_eq!(encode_relayed_nth(&change, 2).row().as_str(), format!("c:{VERSION}~2~rca978112"));
        assert_eq!(decode_record(&stored(&encode_relayed_nth(&change, 2))).unwrap().change, change);
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(change in samples::change(120)) {
            let bodies = encode_change(&change).unwrap();
            let mut found: Option<Change> = None;
            for (n, body) in bodies.iter().enumerate() {
                let record = decode_record(&stored(body)).unwrap();
                prop_assert_eq!(record.key.as_str().ends_with(&format!("~{n}")), n > 0);
                match &mut found {
                    None => found = Some(record.change),
                    Some(whole) => {
                        whole.puts.extend(record.change.puts);
                        whole.deletes.extend(record.change.deletes);
                    }
                }
            }
            prop_assert_eq!(found, Some(change));
        }

        #[test]
        fn no_text_makes_it_panic(field in 0usize..6, text in any::<String>(), key in any::<String>()) {
            let mut properties = good();
            properties[["Table", "Partition", "Puts", "Deletes", "Version", "Base"][field]] = Value::from(text);
            let _ = decode_record(&row("01", &key, &properties));
            let _ = decode_record(&row(&key, &format!("c:{VERSION}"), &properties));
        }
    }
}
