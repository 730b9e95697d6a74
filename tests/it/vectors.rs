//! `vectors/protocol.json`, which anyone may check a writer of his own by, against the code.

use std::sync::Arc;

use serde_json::Value;
use tablerelay::cache::KeyTemplate;
use tablerelay::feed::{
    self, Malformed, Shard, decode_applied, decode_message, decode_record, decode_tombstone, encode_change,
    encode_relayed_nth, encode_tombstone, tombstone_key,
};
use tablerelay::model::{
    Change, ClosedList, Etag, HybridClock, PartitionKey, Region, Row, RowBody, RowId, RowKey, TableName, Time,
    Tombstone, Version, WriterId,
};
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::MemoryTables;
use tablerelay::stores::{Account, RegionStore, Tables};
use tablerelay::topology::PublishedRoutes;
use tokio::time::Instant;

fn vectors() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/protocol.json");
    serde_json::from_str(&std::fs::read_to_string(path).expect("the vectors are readable")).expect("they are JSON")
}

/// Every case of a section, with a check that there are any.
fn each(section: &Value, check: impl Fn(&Value)) {
    let cases = section.as_array().expect("a section is an array");
    assert!(!cases.is_empty());
    cases.iter().for_each(check);
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} of {value}"))
}

fn version(text: &str) -> Version {
    Version::parse(text).unwrap()
}

fn id(case: &Value) -> RowId {
    RowId::new(TableName::new(text(case, "table")).unwrap(), text(case, "partition").into(), text(case, "row").into())
}

fn change(case: &Value) -> Change {
    let keys = |name: &str| case[name].as_array().unwrap().iter().map(|key| key.as_str().unwrap().into()).collect();
    Change {
        table: TableName::new(text(case, "table")).unwrap(),
        partition: text(case, "partition").into(),
        puts: keys("puts"),
        deletes: keys("deletes"),
        version: version(text(case, "version")),
        base: case["base"].as_str().map(version),
    }
}

fn stored(row: &Value) -> Row {
    let body = RowBody::parse(&row.to_string()).unwrap();
    Row { body, etag: Etag::new("W/\"1\""), timestamp: Time::EPOCH }
}

/// A body as JSON whose `Puts` and `Deletes` are read, since their white space is nobody's business.
fn readable(row: &Value) -> Value {
    let mut row = row.clone();
    for list in ["Puts", "Deletes", "Rows"] {
        if let Some(text) = row[list].as_str() {
            row[list] = serde_json::from_str(text).unwrap();
        }
    }
    row
}

fn written(body: &RowBody) -> Value {
    readable(&serde_json::from_str(body.json()).unwrap())
}

#[test]
fn versions_sort_as_their_bytes() {
    let vectors = vectors();
    let ascending = vectors["version_order"]["ascending"].as_array().unwrap();
    for pair in ascending.windows(2) {
        assert!(version(pair[0].as_str().unwrap()) < version(pair[1].as_str().unwrap()), "{pair:?}");
    }
    assert!(ascending.len() > 10);
}

#[test]
fn versions_are_told_from_other_texts() {
    let vectors = vectors();
    each(&vectors["version"]["valid"], |text| assert!(Version::parse(text.as_str().unwrap()).is_ok(), "{text}"));
    each(&vectors["version"]["invalid"], |case| assert!(Version::parse(text(case, "text")).is_err(), "{case}"));
    each(&vectors["implicit_version"], |case| {
        let timestamp = Time::parse_storage(text(case, "timestamp")).unwrap();
        let region = Region::new(text(case, "region")).unwrap();
        assert_eq!(Version::implicit(timestamp, &region).as_str(), text(case, "version"));
    });
}

#[test]
fn the_clock_issues_above_what_it_knows() {
    let clock = &vectors()["clock"];
    let region = Region::new(text(clock, "region")).unwrap();
    let writer = WriterId(u32::from_str_radix(text(clock, "writer"), 16).unwrap());
    let skew = std::time::Duration::from_secs(clock["skew_seconds"].as_u64().unwrap());
    each(&clock["cases"], |case| {
        let mut clock = HybridClock::new(region.clone(), writer, skew);
        if let Some(last) = case["last"].as_str() {
            // What it issued last is what it issued at that moment.
            clock.issue(Time::parse(last).unwrap(), None).unwrap();
        }
        let over = case["over"].as_str().map(version);
        let issued = clock.issue(Time::parse(text(case, "now")).unwrap(), over.as_ref()).ok();
        assert_eq!(issued.as_ref().map(Version::as_str), case["issued"].as_str(), "{case}");
    });
}

#[test]
fn shards_tombstones_and_cache_keys_are_named_alike() {
    let vectors = vectors();
    each(&vectors["shard"], |case| {
        let table = TableName::new(text(case, "table")).unwrap();
        let shard = Shard::of(&table, &PartitionKey::from(text(case, "partition")));
        assert_eq!(shard.partition().as_str(), text(case, "shard"), "{case}");
    });
    each(&vectors["tombstone_key"], |case| {
        let id = id(case);
        assert_eq!(tombstone_key(&id), RowKey::from(text(case, "key")), "{case}");
        assert_eq!(Shard::of(&id.table, &id.partition).to_string(), text(case, "shard"), "{case}");
    });
    let template = KeyTemplate::default();
    each(&vectors["cache_key"], |case| assert_eq!(template.key(&id(case)), text(case, "key"), "{case}"));
}

#[test]
fn records_and_tombstones_are_written_alike() {
    each(&vectors()["record"], |case| {
        let change = change(&case["change"]);
        let records: Vec<_> = encode_change(&change).unwrap().iter().map(written).collect();
        let expected: Vec<_> = case["records"].as_array().unwrap().iter().map(readable).collect();
        assert_eq!(records, expected, "{}", case["name"]);
        let tombstones = change.deletes.iter().map(|row| {
            let id = RowId::new(change.table.clone(), change.partition.clone(), row.clone());
            Tombstone { id, version: change.version.clone() }
        });
        let expected = case["tombstones"].as_array().unwrap();
        assert_eq!(tombstones.clone().map(|stone| written(&encode_tombstone(&stone))).collect::<Vec<_>>(), *expected);
        for (stone, row) in tombstones.zip(expected) {
            assert_eq!(decode_tombstone(&stored(row)).unwrap(), stone);
        }
        let rows = case["records"].as_array().unwrap().iter().map(|row| decode_record(&stored(row)).unwrap().change);
        let (puts, deletes) = rows.fold((vec![], vec![]), |(mut puts, mut deletes), part| {
            assert_eq!((&part.version, &part.base), (&change.version, &change.base));
            puts.extend(part.puts);
            deletes.extend(part.deletes);
            (puts, deletes)
        });
        assert_eq!((puts, deletes), (change.puts, change.deletes));
    });
}

#[test]
fn relayed_records_are_written_alike() {
    each(&vectors()["relayed_record"], |case| {
        let change = change(&case["change"]);
        let number = usize::try_from(case["number"].as_u64().unwrap()).unwrap();
        assert_eq!(written(&encode_relayed_nth(&change, number)), readable(&case["record"]));
        assert_eq!(decode_record(&stored(&case["record"])).unwrap().change, change);
    });
}

#[test]
fn messages_are_read_alike() {
    each(&vectors()["message"], |case| {
        let change = change(&case["change"]);
        assert_eq!(decode_message(text(case, "text")).unwrap(), change, "{case}");
        assert_eq!(decode_message(&feed::encode_message(&change)).unwrap(), change);
    });
}

#[test]
fn what_is_malformed_has_the_same_reason_for_everyone() {
    let vectors = vectors();
    fn same<T: std::fmt::Debug>(case: &Value, found: Result<T, Malformed>) {
        let found = found.expect_err(&case.to_string());
        assert_eq!(found.reason.as_str(), text(case, "reason"), "{found}; {case}");
    }
    each(&vectors["malformed_record"], |case| same(case, decode_record(&stored(&case["record"]))));
    each(&vectors["malformed_message"], |case| same(case, decode_message(text(case, "text"))));
}

#[test]
fn the_applied_log_is_read_alike() {
    each(&vectors()["applied"], |case| {
        let applied = decode_applied(&stored(&case["row"])).unwrap();
        assert_eq!(applied.source.as_str(), text(case, "source"));
        let mut expected: Vec<_> = case["rows"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| {
                let part = |n: usize| row[n].as_str().unwrap();
                RowId::new(TableName::new(part(0)).unwrap(), part(1).into(), part(2).into())
            })
            .collect();
        expected.sort();
        assert_eq!(applied.rows, expected);
    });
}

#[test]
fn routes_lead_to_the_same_accounts() {
    let vectors = vectors();
    let document = text(&vectors["routes"], "document");
    let row = RowBody::builder(&PartitionKey::from(PublishedRoutes::PARTITION), &PublishedRoutes::current());
    let published = PublishedRoutes::decode(&row.string("Routes", document).finish()).unwrap();
    let runtime = Runtime::simulated(Time::from_unix_seconds(1), 1);
    let home: Arc<dyn Tables> = MemoryTables::new(published.region.clone(), published.home.clone(), runtime);
    let store = RegionStore::new(published.region.clone(), vec![Account { tables: home, queue: None }]);
    store.go_by(Some(published.clone()), Instant::now());
    each(&vectors["routes"]["cases"], |case| {
        let (table, partition) = (TableName::new(text(case, "table")).unwrap(), text(case, "partition").into());
        let place = published.rules.place(&table, &partition);
        assert_eq!(place.account.as_str(), text(case, "account"), "{case}");
        assert_eq!(place.route.map(|route| route.name.as_str()), case["route"].as_str(), "{case}");
        let others = store.other_places(&table, &partition);
        let others: Vec<&str> = others.iter().map(|other| other.account().as_str()).collect();
        assert_eq!(serde_json::json!(others), case["others"], "{case}");
    });
    let written: Value = serde_json::from_str(&published.encode().string("Routes").unwrap()).unwrap();
    assert_eq!(written, serde_json::from_str::<Value>(document).unwrap());
}
