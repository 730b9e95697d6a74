//! What the memory store has beyond the suite that all adapters pass: its clock, its latency, its faults.

use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::model::{AccountName, PartitionKey, Region, RowBody, RowKey, TableName, Time};
use crate::runtime::Runtime;
use crate::stores::{Condition, Continuation, ErrorKind, Operation, Query, Queue, Scope, StoreError, Tables};

const NOON: i64 = 1_795_348_800;

fn runtime() -> Runtime {
    Runtime::simulated(Time::from_unix_seconds(NOON), 7)
}

async fn store() -> (Arc<MemoryTables>, TableName) {
    let store = MemoryTables::new(Region::new("west").unwrap(), AccountName::new("west1").unwrap(), runtime());
    let table = TableName::new("Orders").unwrap();
    assert!(store.create_table(&table).await.unwrap());
    (store, table)
}

fn insert(row: &str) -> Operation {
    Operation::Insert(RowBody::builder(&PartitionKey::from("p"), &RowKey::from(row)).string("A", row).finish())
}

fn keys(store: &MemoryTables, table: &TableName) -> Vec<String> {
    store.snapshot(table).iter().map(|row| row.body.row().as_str().to_owned()).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn stamps_rise_strictly_and_the_clock_shows_whole_seconds() {
    let (store, table) = store().await;
    tokio::time::advance(Duration::from_millis(1_700)).await;
    let operations: Vec<_> = ["a", "b", "c"].map(insert).into();
    let etags = store.transact(&table, &"p".into(), &operations).await.unwrap();
    let rows = store.snapshot(&table);
    let start = Time::from_unix_seconds(NOON) + Duration::from_millis(1_700);
    let stamps: Vec<_> = rows.iter().map(|row| row.timestamp).collect();
    assert_eq!(stamps, [start, start.next(), start.next().next()]);
    assert_eq!(etags, rows.iter().map(|row| Some(row.etag.clone())).collect::<Vec<_>>());
    assert_eq!(etags[1].as_ref().unwrap().as_str(), "W/\"datetime'2026-11-22T12%3A00%3A01.7000001Z'\"");
    let date = store.clock().at(Instant::now()).unwrap();
    assert_eq!(date, Time::from_unix_seconds(NOON) + Duration::from_millis(1_700), "the first reply was at noon sharp");
}

#[tokio::test(start_paused = true)]
async fn the_clock_is_the_servers_and_never_ahead_of_it() {
    let skewed = runtime().skewed(3 * Time::TICKS_PER_SECOND / 2);
    let store = MemoryTables::new(Region::new("west").unwrap(), AccountName::new("west1").unwrap(), skewed.clone());
    store.tables().await.unwrap();
    assert_eq!(store.clock().at(Instant::now()), Some(Time::from_unix_seconds(NOON + 1)));
    assert!(store.clock().at(Instant::now()).unwrap() <= skewed.now());
}

#[tokio::test(start_paused = true)]
async fn latency_is_paid_half_before_the_effect() {
    let (store, table) = store().await;
    store.faults().set_latency(Duration::from_millis(100), Duration::ZERO);
    let start = Instant::now();
    store.write(&table, &insert("a")).await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_millis(100));
    assert_eq!(store.snapshot(&table)[0].timestamp, Time::from_unix_seconds(NOON) + Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_cut_account_answers_nothing_and_tells_no_time() {
    let (store, table) = store().await;
    let known = store.clock().at(Instant::now());
    store.faults().cut(true);
    let error = store.write(&table, &insert("a")).await.unwrap_err();
    assert_eq!((error.kind, error.status), (ErrorKind::Unreachable, None));
    tokio::time::advance(5 * SECOND).await;
    assert_eq!(store.clock().at(Instant::now()), known.map(|time| time + 5 * SECOND));
    store.faults().cut(false);
    store.write(&table, &insert("a")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn another_line_to_an_account_is_cut_alone_and_leads_to_the_same_rows() {
    let (near, table) = store().await;
    let far = near.by_another_line();
    far.faults().set_latency(SECOND, Duration::ZERO);
    let start = Instant::now();
    far.write(&table, &insert("a")).await.unwrap();
    assert_eq!((start.elapsed(), keys(&near, &table)), (SECOND, vec!["a".to_owned()]));
    far.faults().cut(true);
    assert_eq!(far.write(&table, &insert("b")).await.unwrap_err().kind, ErrorKind::Unreachable);
    near.write(&table, &insert("b")).await.unwrap();
    assert_eq!((keys(&far, &table).len(), near.faults().requests(RequestKind::Write)), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_line_that_is_cut_after_the_effect_loses_the_reply() {
    let (store, table) = store().await;
    store.faults().set_latency(SECOND, Duration::ZERO);
    let operation = insert("a");
    let write = store.write(&table, &operation);
    let cut = async {
        tokio::time::sleep(Duration::from_millis(700)).await;
        store.faults().cut(true);
    };
    let (result, ()) = tokio::join!(write, cut);
    assert_eq!(result.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(keys(&store, &table), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn scripted_faults_strike_once_each_and_in_order() {
    let (store, table) = store().await;
    let faults = store.faults();
    faults.fail_next(RequestKind::Write, Fault::throttled(3 * SECOND));
    faults.fail_next(RequestKind::Write, Fault::lost_request());
    faults.fail_next(RequestKind::Write, Fault::lost_reply());
    store.query(&table, &Query::new(Scope::Table)).await.unwrap();
    let throttled = store.write(&table, &insert("a")).await.unwrap_err();
    assert_eq!((throttled.kind, throttled.retry_after), (ErrorKind::Throttled, Some(3 * SECOND)));
    assert_eq!(store.write(&table, &insert("b")).await.unwrap_err().kind, ErrorKind::Unreachable);
    assert_eq!(store.write(&table, &insert("c")).await.unwrap_err().kind, ErrorKind::Unreachable);
    store.write(&table, &insert("d")).await.unwrap();
    assert_eq!(keys(&store, &table), ["c", "d"], "only the lost reply took effect");
    assert_eq!((faults.requests(RequestKind::Write), faults.requests(RequestKind::Query)), (4, 1));
    assert_eq!(faults.all_requests(), 6, "with the creation of the table");
}

#[tokio::test(start_paused = true)]
async fn a_rule_sees_what_is_asked() {
    let (store, table) = store().await;
    store.faults().set_rule(|request| {
        let poisoned = request.operations.iter().any(|operation| operation.row().as_str() == "poison");
        poisoned.then(|| Fault::Before(StoreError::answered(ErrorKind::Server, 500, "InternalError", "no")))
    });
    store.write(&table, &insert("a")).await.unwrap();
    let failed = store.transact(&table, &"p".into(), &[insert("b"), insert("poison")]).await.unwrap_err();
    assert_eq!((failed.index, failed.error.status), (None, Some(500)));
    store.faults().clear();
    store.write(&table, &insert("poison")).await.unwrap();
    assert_eq!(keys(&store, &table), ["a", "poison"]);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_request_waits_for_its_release() {
    let (store, table) = store().await;
    let faults = store.faults();
    faults.fail_next(RequestKind::Write, Fault::Freeze);
    let operation = insert("a");
    let release = async {
        while faults.frozen() == 0 {
            tokio::task::yield_now().await;
        }
        assert!(keys(&store, &table).is_empty());
        faults.release();
    };
    let (result, ()) = tokio::join!(store.write(&table, &operation), release);
    result.unwrap();
    assert_eq!((faults.frozen(), keys(&store, &table).len()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_late_write_takes_effect_on_its_condition_as_it_is_then() {
    let (store, table) = store().await;
    let faults = store.faults();
    for operation in [insert("a"), insert("b")] {
        faults.fail_next(RequestKind::Write, Fault::Late(SECOND));
        assert_eq!(store.write(&table, &operation).await.unwrap_err().kind, ErrorKind::Unreachable);
    }
    assert!(keys(&store, &table).is_empty());
    let etag = store.write(&table, &insert("a")).await.unwrap().unwrap();
    tokio::time::advance(SECOND).await;
    assert_eq!(keys(&store, &table), ["a", "b"]);
    assert_eq!(store.snapshot(&table)[0].etag, etag, "the late insert met the row that was put there meanwhile");
}

#[tokio::test(start_paused = true)]
async fn delays_are_paid_on_the_way_they_are_on() {
    let (store, table) = store().await;
    let faults = store.faults();
    faults.fail_next(RequestKind::Write, Fault::Delay(SECOND));
    faults.fail_next(RequestKind::Write, Fault::DelayReply(SECOND));
    let start = Instant::now();
    store.write(&table, &insert("a")).await.unwrap();
    store.write(&table, &insert("b")).await.unwrap();
    assert_eq!(start.elapsed(), 2 * SECOND);
    let stamps: Vec<_> = store.snapshot(&table).iter().map(|row| row.timestamp).collect();
    let one = Time::from_unix_seconds(NOON + 1);
    assert_eq!(stamps, [one, one.next()], "the first took effect late, the second at once");
}

#[tokio::test(start_paused = true)]
async fn short_pages_begin_with_an_empty_one_and_miss_nothing() {
    let (store, table) = store().await;
    let operations: Vec<_> = (0..10).map(|i| insert(&i.to_string())).collect();
    store.transact(&table, &"p".into(), &operations).await.unwrap();
    store.faults().set_short_pages(NonZeroU16::new(3));
    let mut query = Query::new(Scope::Table);
    let (mut sizes, mut rows) = (Vec::new(), Vec::new());
    loop {
        let page = store.query(&table, &query).await.unwrap();
        sizes.push(page.rows.len());
        rows.extend(page.rows);
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            break;
        }
    }
    assert_eq!(sizes, [0, 3, 3, 3, 1]);
    assert_eq!(rows, store.snapshot(&table));
}

#[tokio::test(start_paused = true)]
async fn a_continuation_of_another_store_is_refused() {
    let (store, table) = store().await;
    for bad in ["", "p", "1!4!....", "1!4!gICA"] {
        let continuation = Some(Continuation { next_partition: bad.to_owned(), next_row: None });
        let query = Query { continuation, ..Query::new(Scope::Table) };
        let error = store.query(&table, &query).await.unwrap_err();
        assert_eq!((error.kind, error.code.as_str()), (ErrorKind::Invalid, "InvalidInput"), "{bad}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_queue_of_an_account_shares_its_faults() {
    let (store, _) = store().await;
    let queue = store.queue("relay-changes");
    assert_eq!(queue.send("x").await.unwrap_err().code, "QueueNotFound");
    queue.create().await.unwrap();
    store.faults().cut(true);
    assert_eq!(queue.send("x").await.unwrap_err().kind, ErrorKind::Unreachable);
    store.faults().cut(false);
    queue.send("x").await.unwrap();
    let another = store.by_another_line().queue("relay-changes");
    assert_eq!((store.queue("relay-changes").len(), another.len()), (1, 1), "it is one queue however it is reached");
    assert!(store.queue("others").is_empty());
    assert_eq!((queue.name(), queue.len(), store.faults().requests(RequestKind::Send)), ("relay-changes", 1, 3));
}

#[tokio::test(start_paused = true)]
async fn messages_are_gone_after_a_week() {
    let queue = MemoryQueue::new("relay-changes", runtime());
    queue.create().await.unwrap();
    queue.send("x").await.unwrap();
    tokio::time::advance(Duration::from_secs(7 * 24 * 60 * 60)).await;
    assert_eq!(queue.receive(1, SECOND).await.unwrap(), []);
    assert!(queue.is_empty());
}

#[tokio::test]
async fn a_merge_that_breaks_a_limit_is_refused_with_its_index() {
    let (store, table) = store().await;
    let with = |from: usize, count: usize| {
        let mut body = RowBody::builder(&"p".into(), &"a".into());
        for i in from..from + count {
            body = body.int64(&format!("P{i}"), 1);
        }
        body.finish()
    };
    store.write(&table, &Operation::Insert(with(0, 200))).await.unwrap();
    let merge = Operation::Merge(with(200, 53), Condition::Present);
    let failed = store.transact(&table, &"p".into(), &[insert("b"), merge]).await.unwrap_err();
    assert_eq!(
        (failed.index, failed.error.status, failed.error.code.as_str()),
        (Some(1), Some(400), "TooManyProperties")
    );
    assert_eq!(keys(&store, &table), ["a"]);
    store.write(&table, &Operation::Merge(with(200, 52), Condition::Present)).await.unwrap();
}
