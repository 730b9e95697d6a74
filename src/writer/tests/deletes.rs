//! Deletes and their tombstones.

use std::time::Duration;

use super::bench::{At, Bench, body, delete, partition};
use crate::model::{RowKey, Version};
use crate::stores::memory::{Fault, RequestKind};
use crate::stores::{Condition, Operation, Query, Scope, Tables};
use crate::writer::{WriteError, Written};

async fn deleted(bench: &Bench, key: &str) -> Result<Written, WriteError> {
    bench.writer.delete(&bench.orders, &partition(), &RowKey::from(key), Condition::Present, None).await
}

#[tokio::test(start_paused = true)]
async fn a_delete_raises_its_tombstone_with_its_record_and_then_takes_the_row_out() {
    let bench = Bench::new().await;
    bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap();
    let transactions = bench.faults().requests(RequestKind::Transact);
    let written = deleted(&bench, "a").await.unwrap();
    assert_eq!(bench.faults().requests(RequestKind::Transact), transactions + 1);
    assert!(bench.row("a").is_none());
    let tombstones = bench.tombstones();
    assert_eq!((tombstones.len(), &tombstones[0].version), (1, &written.version));
    assert_eq!(bench.records()[1].change.deletes, ["a".into()]);
    assert_eq!(written.etags, [None]);
}

#[tokio::test(start_paused = true)]
async fn deleting_what_is_not_there_is_a_success_and_leaves_a_tombstone() {
    let bench = Bench::new().await;
    let first = deleted(&bench, "a").await.unwrap();
    let second = deleted(&bench, "a").await.unwrap();
    assert!(second.version > first.version);
    assert_eq!(bench.tombstones().iter().map(|stone| &stone.version).collect::<Vec<_>>(), [&second.version]);
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_of_a_region_whose_clock_is_ahead_is_raised_above_it() {
    let bench = Bench::new().await;
    let foreign = bench.ahead(Duration::from_secs(40));
    bench.tombstone("a", &foreign).await;
    let written = deleted(&bench, "a").await.unwrap();
    assert!(written.version > foreign);
    assert_eq!(bench.tombstones()[0].version, written.version);
    bench.tombstone("a", &bench.ahead(Duration::from_secs(200))).await;
    let before = bench.tombstones();
    let err = deleted(&bench, "a").await.unwrap_err();
    assert!(matches!(&err, WriteError::AheadOfClock { row, .. } if row.row.as_str() == "a"), "{err}");
    assert_eq!(bench.tombstones(), before, "it is never lowered");
}

#[tokio::test(start_paused = true)]
async fn many_tombstones_are_found_by_one_range_however_short_its_pages() {
    let bench = Bench::new().await;
    let keys: Vec<String> = (0..20).map(|n| format!("r{n}")).collect();
    let mut highest: Option<Version> = None;
    for (n, key) in keys.iter().enumerate() {
        bench.writer.insert(&bench.orders, &body(key), None).await.unwrap();
        if n % 2 == 0 {
            let version = bench.ahead(Duration::from_secs(n as u64 + 1));
            bench.tombstone(key, &version).await;
            highest = highest.max(Some(version));
        }
    }
    bench.faults().set_short_pages(std::num::NonZeroU16::new(3));
    let deletes: Vec<Operation> = keys.iter().map(|key| delete(key)).collect();
    let written = bench.writer.transaction(&bench.orders, &partition(), deletes, None).await.unwrap();
    assert!(Some(&written.version) > highest.as_ref());
    assert!(bench.tombstones().iter().all(|stone| stone.version == written.version));
    assert_eq!(bench.tombstones().len(), 20);
}

#[tokio::test(start_paused = true)]
async fn a_tombstone_that_cannot_be_read_is_named_and_left_alone() {
    let bench = Bench::new().await;
    deleted(&bench, "a").await.unwrap();
    let feed = crate::model::SystemTable::Feed.name();
    let page = bench.tables.query(&feed, &Query::new(Scope::Table)).await.unwrap();
    let stone = page.rows.iter().find(|row| row.body.row().as_str().starts_with("t:")).unwrap();
    let broken = crate::model::RowBody::builder(stone.body.partition(), stone.body.row()).string("Row", "?").finish();
    bench.tables.write(&feed, &Operation::InsertOrReplace(broken)).await.unwrap();
    let err = deleted(&bench, "a").await.unwrap_err();
    assert!(matches!(err, WriteError::Tombstone(_)), "{err}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_reply_to_the_announcement_of_a_delete_is_recognised() {
    let bench = Bench::new().await;
    bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap();
    bench.fault_once(At::Feed, Fault::lost_reply());
    let written = deleted(&bench, "a").await.unwrap();
    assert_eq!(bench.records().len(), 2);
    assert_eq!(bench.records()[1].change.version, written.version, "no second version was taken");
    assert_eq!(bench.tombstones()[0].version, written.version);
}
