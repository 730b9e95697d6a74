//! Rows of the system tables, and messages of the queue.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use tablerelay::feed::{
    Entry, Malformed, Reason, Source, decode_applied, decode_message, decode_record, decode_tombstone, encode_applied,
    encode_change, encode_message, encode_numbered, encode_tombstone,
};
use tablerelay::model::{Change, ClosedList, Etag, Region, Row, RowBody, Time, Version, WriterId};
use tablerelay::settle::LinkStatus;
use tablerelay::stores::limits;

/// The words by which an error may name what is wrong.
const NAMES: [&str; 16] = [
    "Table",
    "table",
    "Partition",
    "partition",
    "Puts",
    "puts",
    "Deletes",
    "deletes",
    "Version",
    "version",
    "Row",
    "row",
    "key",
    "message",
    "region",
    "record",
];

/// A row as a store returns it, taken for each thing that a system table may hold.
pub fn feed_row(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let Ok(row) = Row::from_wire(text, None) else { return false };
    same_body(&row.body);
    let version = row.version(&Region::new("west").expect("a region"));
    assert_eq!(Version::parse(version.as_str()).as_ref(), Ok(&version));
    [record(&row), tombstone(&row), applied(&row), entry(&row), link(&row.body)].contains(&true)
}

/// A body is what it says: read again it is the same, and so it is once it was stamped.
pub fn same_body(body: &RowBody) {
    assert_eq!(RowBody::parse(body.json()).as_ref(), Ok(body));
    let version = Version::new(Time::EPOCH, &Region::new("west").expect("a region"), WriterId(7));
    let stamped = body.stamped(&version);
    assert_eq!(RowBody::parse(stamped.json()).as_ref(), Ok(&stamped));
    assert_eq!((stamped.version(), stamped.partition(), stamped.row()), (Some(&version), body.partition(), body.row()));
}

fn stored(body: RowBody) -> Row {
    Row { body, etag: Etag::new("W/\"1\""), timestamp: Time::EPOCH }
}

fn record(row: &Row) -> bool {
    let found = decode_record(row);
    let understood = found.is_ok();
    match found {
        Ok(record) => {
            bounded(&record.change);
            let again =
                decode_record(&stored(encode_numbered(&record.change, 0))).expect("what was read can be written");
            assert_eq!((again.change, again.shard), (record.change, record.shard));
        }
        Err(why) => named(&why, Source::Record, row.body.json()),
    }
    understood
}

/// What a record or a message announces keeps the limits, and can be announced.
fn bounded(change: &Change) {
    assert!((1..=100).contains(&change.len()) && change.deletes.len() <= 99, "{change:?}");
    let records = encode_change(change).expect("what was read can be announced");
    let parts = records.into_iter().map(|body| decode_record(&stored(body)).expect("a record").change);
    let (puts, deletes): (Vec<_>, Vec<_>) = parts.map(|part| (part.puts, part.deletes)).unzip();
    assert_eq!((puts.concat(), deletes.concat()), (change.puts.clone(), change.deletes.clone()));
}

/// What is malformed says what, and goes into quarantine as a row that Azure takes, whole as far as it fits.
fn named(why: &Malformed, source: Source, whole: &str) {
    assert!(NAMES.iter().any(|name| why.detail.contains(name)), "{why}: it should name something");
    let entry = Entry::new(source, why, Time::EPOCH, whole);
    let body = entry.encode();
    limits::check_body(&body).expect("Azure takes every entry of the quarantine");
    let back = Entry::decode(&stored(body)).expect("what was put into quarantine can be read");
    assert!(whole.starts_with(&back.whole), "what is kept is how it begins");
    assert_eq!(back.whole.encode_utf16().count() + back.cut, whole.encode_utf16().count());
    assert_eq!((back.id, back.reason), (entry.id, why.reason));
}

fn tombstone(row: &Row) -> bool {
    let found = decode_tombstone(row);
    let understood = found.is_ok();
    match found {
        Ok(tombstone) => {
            let again = stored(encode_tombstone(&tombstone));
            assert_eq!((again.body.partition(), again.body.row()), (row.body.partition(), row.body.row()));
            assert_eq!(decode_tombstone(&again), Ok(tombstone));
        }
        Err(why) => assert_eq!(why.reason, Reason::UnreadableTombstone),
    }
    understood
}

fn applied(row: &Row) -> bool {
    let Ok(applied) = decode_applied(row) else { return false };
    assert!(applied.rows.len() <= row.body.json().len() && applied.rows.is_sorted());
    let bodies = encode_applied(&applied.source, Time::EPOCH, WriterId(1), 0, &applied.rows);
    let mut rows: Vec<_> =
        bodies.into_iter().flat_map(|body| decode_applied(&stored(body)).expect("ours").rows).collect();
    rows.sort();
    assert_eq!(rows, applied.rows);
    true
}

fn entry(row: &Row) -> bool {
    let found = Entry::decode(row);
    let understood = found.is_ok();
    match found {
        // What is too long is cut when it is written down; after that it stays.
        Ok(entry) => {
            let once = Entry::decode(&stored(entry.encode())).expect("what was written can be read");
            assert_eq!(
                (once.reason, once.source, once.at, &once.id),
                (entry.reason, entry.source, entry.at, &entry.id)
            );
            assert!(once.cut >= entry.cut.min(i64::MAX as usize) && entry.whole.starts_with(&once.whole));
            assert_eq!(Entry::decode(&stored(once.encode())).as_ref(), Ok(&once));
        }
        Err(why) => assert!(!why.field.is_empty() && why.id == row.body.row().as_str()),
    }
    understood
}

fn link(body: &RowBody) -> bool {
    let found = LinkStatus::decode(body);
    let understood = found.is_ok();
    match found {
        Ok(link) => {
            assert!(LinkStatus::decode(&link.encode()).is_ok_and(|again| again.state == link.state));
            let once = LinkStatus::decode(&link.encode()).expect("what was written can be read");
            assert_eq!(LinkStatus::decode(&once.encode()).as_ref(), Ok(&once));
        }
        Err(why) => assert!(why.to_string().contains("should have")),
    }
    understood
}

/// A message of the queue, plain or in base64.
pub fn queue_message(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let found = decode_message(text);
    let understood = found.is_ok();
    match found {
        Ok(change) => {
            bounded(&change);
            let plain = encode_message(&change);
            for form in
                [STANDARD.encode(&plain), STANDARD_NO_PAD.encode(&plain), format!("\u{feff} {plain}\r\n"), plain]
            {
                assert_eq!(decode_message(&form).as_ref(), Ok(&change), "{form}");
            }
        }
        Err(why) => {
            assert!(Reason::ALL.contains(&why.reason));
            named(&why, Source::Message, text);
        }
    }
    understood
}
