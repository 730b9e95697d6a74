//! The two steps when nothing goes wrong, and when the store says no.

use std::time::Duration;

use super::bench::{At, Bench, body, delete, partition};
use crate::model::Etag;
use crate::stores::memory::{Fault, RequestKind};
use crate::stores::{Condition, ErrorKind, Operation};
use crate::writer::{WriteError, WriterOptions};

#[tokio::test(start_paused = true)]
async fn a_put_is_announced_and_the_row_carries_its_version() {
    let bench = Bench::new().await;
    let written = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap();
    let row = bench.row("a").unwrap();
    assert_eq!((row.body.version(), Some(&row.etag)), (Some(&written.version), written.etag()));
    assert_eq!(row.body.string("Name").as_deref(), Some("value"));
    let records = bench.records();
    assert_eq!(records.len(), 1);
    assert_eq!((&records[0].change.version, &records[0].change.puts), (&written.version, &vec!["a".into()]));
    assert_eq!(records[0].key.as_str(), format!("c:{}", written.version));
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_the_steps_leaves_an_announcement_and_nothing_else() {
    let bench = Bench::new().await;
    bench.fault_once(At::Data, Fault::Freeze);
    {
        let row = body("a");
        let write = bench.writer.insert(&bench.orders, &row, None);
        tokio::pin!(write);
        let crashed = tokio::time::timeout(Duration::from_secs(1), &mut write).await;
        assert!(crashed.is_err(), "the write waits at the store");
        assert_eq!(bench.faults().frozen(), 1);
    }
    assert!(bench.row("a").is_none());
    assert_eq!(bench.records().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn every_operation_does_what_it_does_in_table_storage() {
    let bench = Bench::new().await;
    let (writer, orders) = (&bench.writer, &bench.orders);
    let mut last = writer.insert_or_replace(orders, &body("a"), None).await.unwrap();
    let etag = last.etag().unwrap().clone();
    for step in 0..4 {
        let read = bench.row("a").unwrap();
        let written = match step {
            0 => writer.replace(orders, &read.body, Condition::Matches(etag.clone()), None).await,
            1 => writer.merge(orders, &body("a"), Condition::Present, None).await,
            2 => writer.insert_or_merge(orders, &body("a"), None).await,
            _ => writer.insert_or_replace(orders, &body("a"), read.body.version()).await,
        }
        .unwrap();
        assert!(written.version > last.version);
        assert_eq!(bench.version_of("a").as_ref(), Some(&written.version));
        last = written;
    }
    let bases: Vec<_> = bench.records().into_iter().map(|record| record.change.base.is_some()).collect();
    assert_eq!(bases, [false, true, false, false, true], "Base is there where the writer had read the row");
}

#[tokio::test(start_paused = true)]
async fn a_refused_write_keeps_its_status_and_takes_its_record_back() {
    let bench = Bench::new().await;
    let (writer, orders) = (&bench.writer, &bench.orders);
    writer.insert(orders, &body("a"), None).await.unwrap();
    let old = Condition::Matches(Etag::new("W/\"other\""));
    let cases = [
        (409, writer.insert(orders, &body("a"), None).await),
        (412, writer.replace(orders, &body("a"), old.clone(), None).await),
        (412, writer.merge(orders, &body("a"), old.clone(), None).await),
        (404, writer.merge(orders, &body("b"), Condition::Present, None).await),
        (412, writer.delete(orders, &partition(), &"a".into(), old, None).await),
    ];
    for (status, result) in cases {
        let err = result.unwrap_err();
        assert!(matches!(err, WriteError::Refused(_)), "{err}");
        assert_eq!(err.status(), Some(status), "{err}");
    }
    assert_eq!(bench.records().len(), 1, "only that of the first insert is left");
    assert_eq!(bench.tombstones().len(), 1, "the refused delete leaves its tombstone");
    assert!(bench.row("a").is_some());
}

#[tokio::test(start_paused = true)]
async fn what_the_service_would_refuse_is_not_announced() {
    let bench = Bench::new().await;
    let before = bench.faults().all_requests();
    let mut large = crate::model::RowBody::builder(&partition(), &"a".into());
    for n in 0..252 {
        large = large.string(&format!("P{n}"), "");
    }
    let err = bench.writer.insert(&bench.orders, &large.finish(), None).await.unwrap_err();
    assert!(err.to_string().contains("RelayVersion among them"), "{err}");
    let twice = vec![Operation::Insert(body("a")), delete("a")];
    let err = bench.writer.transaction(&bench.orders, &partition(), twice, None).await.unwrap_err();
    assert!(matches!(&err, WriteError::Refused(failed) if failed.index == Some(1)), "{err}");
    let system = crate::model::SystemTable::Control.name();
    let err = bench.writer.insert(&system, &body("a"), None).await.unwrap_err();
    assert!(matches!(err, WriteError::Change(_)), "{err}");
    assert_eq!(bench.faults().requests(RequestKind::Write), 0);
    assert!(bench.faults().all_requests() <= before + 1, "one look at a tombstone at most");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_announced_as_one_and_fails_as_one() {
    let bench = Bench::new().await;
    let (writer, orders) = (&bench.writer, &bench.orders);
    writer.insert(orders, &body("old"), None).await.unwrap();
    let operations = vec![Operation::Insert(body("a")), Operation::InsertOrMerge(body("b")), delete("old")];
    let written = writer.transaction(orders, &partition(), operations.clone(), None).await.unwrap();
    assert_eq!(written.etags.iter().map(Option::is_some).collect::<Vec<_>>(), [true, true, false]);
    let record = bench.records().pop().unwrap();
    assert_eq!((record.change.puts.len(), record.change.deletes.len()), (2, 1));
    assert_eq!(bench.version_of("a"), Some(written.version.clone()));
    assert_eq!(bench.tombstones()[0].version, written.version);
    let err = writer.transaction(orders, &partition(), operations, None).await.unwrap_err();
    assert!(matches!(&err, WriteError::Refused(failed) if failed.index == Some(0)), "{err}");
    assert_eq!((err.status(), bench.records().len()), (Some(409), 2));
}

#[tokio::test(start_paused = true)]
async fn more_than_a_record_holds_goes_into_several_all_before_the_write() {
    let bench = Bench::new().await;
    let keys: Vec<String> = (0..100).map(|n| format!("r{n:03}")).collect();
    let inserts = keys.iter().map(|key| Operation::Insert(body(key))).collect();
    bench.writer.transaction(&bench.orders, &partition(), inserts, None).await.unwrap();
    bench.fault_once(At::Data, Fault::lost_request());
    let deletes = keys.iter().map(|key| delete(key)).collect::<Vec<_>>();
    let lost = bench.writer.transaction(&bench.orders, &partition(), deletes.clone(), None).await.unwrap_err();
    assert!(matches!(lost, WriteError::Unknown { .. }), "{lost}");
    let announced: Vec<_> = bench.records().iter().skip(1).map(|record| record.change.deletes.len()).collect();
    assert_eq!((announced, bench.tombstones().len()), (vec![99, 1], 100));
    let written = bench.writer.transaction(&bench.orders, &partition(), deletes, None).await.unwrap();
    assert!(bench.tombstones().iter().all(|stone| stone.version == written.version));
    assert!(bench.tables.snapshot(&bench.orders).is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_new_version_is_above_what_was_read_and_nothing_from_the_future_is_overwritten() {
    let bench = Bench::new().await;
    let near = bench.ahead(Duration::from_secs(59));
    let read = bench.delivered("a", &near).await;
    let condition = Condition::Matches(read.etag.clone());
    let written = bench.writer.replace(&bench.orders, &read.body, condition, None).await.unwrap();
    assert!(written.version > near);
    let far = bench.ahead(Duration::from_secs(61));
    let before = bench.records();
    for result in [
        bench.writer.insert_or_replace(&bench.orders, &body("a"), Some(&far)).await,
        bench.writer.delete(&bench.orders, &partition(), &"a".into(), Condition::Present, Some(&far)).await,
    ] {
        let err = result.unwrap_err().to_string();
        assert!(err.contains("row orders(\"p\",\"a\")") && err.contains("ahead"), "{err}");
    }
    assert_eq!(bench.records(), before);
}

#[tokio::test(start_paused = true)]
async fn a_row_that_is_made_again_is_above_the_tombstone_that_another_region_left() {
    for look in [true, false] {
        let bench = Bench::with(WriterOptions { look_at_tombstones: look, ..WriterOptions::default() }, 7).await;
        let deleted = bench.ahead(Duration::from_secs(30));
        bench.tombstone("a", &deleted).await;
        let written = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap();
        assert_eq!(written.version > deleted, look);
        let records = bench.records();
        assert_eq!(records.len(), 1, "the announcement that was too low is taken back");
        assert_eq!(records[0].change.version, written.version);
        bench.tombstone("b", &bench.ahead(Duration::from_secs(61))).await;
        let refused = bench.writer.insert(&bench.orders, &body("b"), None).await;
        match look {
            true => assert!(matches!(refused, Err(WriteError::AheadOfClock { .. }))),
            false => assert!(refused.is_ok()),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_missing_feed_is_created_and_a_missing_table_is_the_callers() {
    let region = Bench::without_feed().await;
    region.writer.insert(&region.orders, &body("a"), None).await.unwrap();
    assert_eq!(region.records().len(), 1);
    let stock = crate::model::TableName::new("stock").unwrap();
    let err = region.writer.insert(&stock, &body("a"), None).await.unwrap_err();
    assert_eq!(err.store_error().map(|err| err.kind), Some(ErrorKind::NoTable));
    assert_eq!(region.records().len(), 1);
}
