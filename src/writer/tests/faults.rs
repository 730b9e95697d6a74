//! Lost requests, lost replies, late ones.

use std::time::Duration;

use super::bench::{At, Bench, body, delete, partition};
use crate::stores::memory::{Fault, RequestKind};
use crate::stores::{Condition, ErrorKind, Operation, StoreError};
use crate::writer::WriteError;

#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_read_back_and_nothing_is_sent_twice() {
    let bench = Bench::new().await;
    bench.fault_once(At::Data, Fault::lost_reply());
    let written = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap();
    assert_eq!(written.etag(), Some(&bench.row("a").unwrap().etag));
    assert_eq!(bench.faults().requests(RequestKind::Write), 2, "one record, one write");
    bench.fault_once(At::Data, Fault::lost_reply());
    bench.writer.delete(&bench.orders, &partition(), &"a".into(), Condition::Present, None).await.unwrap();
    bench.fault_once(At::Data, Fault::lost_reply());
    let operations = vec![Operation::Insert(body("b")), Operation::Insert(body("c"))];
    let written = bench.writer.transaction(&bench.orders, &partition(), operations, None).await.unwrap();
    assert!(written.etags.iter().all(Option::is_some));
    assert_eq!(bench.records().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_lost_request_is_said_to_be_unknown_and_stays_announced() {
    let bench = Bench::new().await;
    for fault in [Fault::lost_request(), Fault::throttled(Duration::ZERO)] {
        let records = bench.records().len();
        bench.fault_once(At::Data, fault.clone());
        let err = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap_err();
        assert!(matches!(err, WriteError::Unknown { .. }), "{err}");
        assert_eq!(err.status(), matches!(fault, Fault::Before(StoreError { status: Some(_), .. })).then_some(503));
        assert_eq!(bench.records().len(), records + 1);
    }
    bench.fault_once(At::Data, Fault::Late(Duration::from_secs(10)));
    let err = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap_err();
    let WriteError::Unknown { version, .. } = err else { panic!("{err}") };
    tokio::time::advance(Duration::from_secs(11)).await;
    assert_eq!(bench.version_of("a").as_ref(), Some(&version), "it took effect after all");
    assert!(bench.records().iter().any(|record| record.change.version == version), "and is announced");
}

#[tokio::test(start_paused = true)]
async fn a_newer_version_of_somebody_else_does_not_prove_a_write() {
    let bench = Bench::new().await;
    let newer = bench.ahead(Duration::from_secs(5));
    bench.delivered("a", &newer).await;
    bench.fault_once(At::Data, Fault::lost_request());
    let err = bench.writer.insert_or_replace(&bench.orders, &body("a"), None).await.unwrap_err();
    assert!(matches!(err, WriteError::Unknown { .. }), "{err}");
    bench.fault_once(At::Data, Fault::lost_request());
    let delete = bench.writer.delete(&bench.orders, &partition(), &"a".into(), Condition::Present, None).await;
    assert!(matches!(delete, Err(WriteError::Unknown { .. })), "{delete:?}");
    assert_eq!((bench.version_of("a"), bench.records().len()), (Some(newer), 2));
}

#[tokio::test(start_paused = true)]
async fn a_request_to_slow_down_that_says_nothing_was_done_is_a_refusal() {
    let bench = Bench::new().await;
    let many = StoreError::answered(ErrorKind::Throttled, 429, "TooManyRequests", "slow down");
    bench.fault_once(At::Data, Fault::Before(many));
    let err = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap_err();
    assert!(matches!(err, WriteError::Refused(_)), "{err}");
    assert!(bench.records().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_announcement_is_sent_again_until_it_stands_there_once() {
    for fault in [Fault::lost_reply(), Fault::lost_request(), Fault::throttled(Duration::from_secs(1))] {
        let bench = Bench::new().await;
        bench.fault_times(At::Feed, 3, fault);
        let written = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap();
        let records = bench.records();
        assert_eq!((records.len(), &records[0].change.version), (1, &written.version));
    }
}

#[tokio::test(start_paused = true)]
async fn an_announcement_that_takes_half_the_window_begins_again_with_a_new_version() {
    let bench = Bench::new().await;
    bench.fault_once(At::Feed, Fault::DelayReply(Duration::from_secs(31)));
    let written = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap();
    let records = bench.records();
    assert_eq!(records.len(), 2, "the first stays: whether it stands there was not known");
    assert_eq!(records[1].change.version, written.version);
    assert_eq!(bench.version_of("a"), Some(written.version));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_given_up_on_with_its_own_error() {
    let bench = Bench::new().await;
    bench.faults().cut(true);
    let started = bench.runtime.instant();
    let err = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap_err();
    assert_eq!(err.store_error().map(|err| err.kind), Some(ErrorKind::Unreachable), "{err}");
    assert!(started.elapsed() <= Duration::from_secs(90), "{:?}", started.elapsed());
    let denied = StoreError::answered(ErrorKind::Denied, 403, "AuthorizationFailure", "no");
    bench.faults().cut(false);
    bench.fault_once(At::Feed, Fault::Before(denied));
    let err = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap_err();
    assert_eq!(err.status(), Some(403));
    bench.fault_times(At::FeedRead, 100, Fault::lost_request());
    let err = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap_err();
    assert!(matches!(err, WriteError::Announce(_)), "{err}");
    assert!(bench.row("a").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_reply_that_comes_late_makes_it_announce_again() {
    let bench = Bench::new().await;
    bench.fault_once(At::Data, Fault::DelayReply(Duration::from_secs(31)));
    let written = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap();
    let keys: Vec<_> = bench.records().iter().map(|record| record.key.to_string()).collect();
    assert_eq!(keys, [format!("c:{}", written.version), format!("c:{}~1", written.version)]);
    // Longer than the whole window: no reply, so it is read back.
    bench.fault_once(At::Data, Fault::DelayReply(Duration::from_secs(600)));
    let read = bench.row("a").unwrap();
    let written = bench.writer.replace(&bench.orders, &read.body, Condition::Present, None).await.unwrap();
    assert_eq!(bench.records().iter().filter(|record| record.change.version == written.version).count(), 2);
    bench.fault_once(At::Data, Fault::DelayReply(Duration::from_secs(40)));
    let operations = vec![delete("a"), Operation::Insert(body("b"))];
    let written = bench.writer.transaction(&bench.orders, &partition(), operations, None).await.unwrap();
    let last = bench.records().pop().unwrap();
    assert_eq!(last.key.as_str(), format!("c:{}~1", written.version));
    assert_eq!((last.change.puts.len(), last.change.deletes.len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_late_write_that_cannot_be_announced_again_is_not_called_a_success() {
    let bench = Bench::new().await;
    let seen = std::sync::atomic::AtomicUsize::new(0);
    bench.faults().set_rule(move |request| {
        let writes = !request.operations.is_empty();
        let number = if writes { seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst) } else { 0 };
        match (writes, number) {
            (true, 1) => Some(Fault::DelayReply(Duration::from_secs(31))),
            (true, 2..) => Some(Fault::lost_request()),
            _ => None,
        }
    });
    let err = bench.writer.insert(&bench.orders, &body("a"), None).await.unwrap_err();
    assert!(matches!(err, WriteError::Unannounced { .. }), "{err}");
}
