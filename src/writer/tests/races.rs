//! Writers against each other and against a bad line: whatever stands there was announced.

use std::sync::Mutex;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::bench::{Bench, body, delete, partition};
use crate::model::{Change, RowId};
use crate::stores::memory::{Fault, Request};
use crate::stores::{Condition, Operation};
use crate::writer::{WriteError, Writer, WriterOptions, Written};

/// A fault for one request in six.
fn trouble(random: &mut StdRng) -> Option<Fault> {
    Some(match random.next_u64() % 40 {
        0 => Fault::lost_request(),
        1 => Fault::lost_reply(),
        2 => Fault::throttled(Duration::from_millis(200)),
        3 => Fault::Delay(Duration::from_secs(3)),
        4 => Fault::DelayReply(Duration::from_secs(35)),
        5 => Fault::Late(Duration::from_secs(8)),
        6 => Fault::Delay(Duration::from_secs(31)),
        _ => return None,
    })
}

async fn one_write(bench: &Bench, writer: &Writer, random: &mut StdRng) -> Result<Written, WriteError> {
    let key = ["a", "b", "c"][(random.next_u64() % 3) as usize];
    let read = bench.row(key);
    let over = read.as_ref().and_then(|row| row.body.version().cloned());
    let condition = match &read {
        Some(row) if random.next_u64().is_multiple_of(2) => Condition::Matches(row.etag.clone()),
        _ => Condition::Present,
    };
    match random.next_u64() % 6 {
        0 => writer.insert(&bench.orders, &body(key), over.as_ref()).await,
        1 => writer.insert_or_replace(&bench.orders, &body(key), None).await,
        2 => writer.merge(&bench.orders, &body(key), condition, over.as_ref()).await,
        3 => {
            let operations =
                vec![Operation::InsertOrMerge(body("a")), Operation::InsertOrReplace(body("b")), delete("c")];
            writer.transaction(&bench.orders, &partition(), operations, over.as_ref()).await
        }
        _ => writer.delete(&bench.orders, &partition(), &key.into(), condition, over.as_ref()).await,
    }
}

fn bad_line(bench: &Bench, seed: u64) {
    let random = Mutex::new(StdRng::seed_from_u64(seed));
    bench.faults().set_rule(move |_: &Request<'_>| trouble(&mut random.lock().unwrap()));
}

fn names(change: &Change, id: &RowId, deleted: bool) -> bool {
    change.rows().any(|(row, gone)| row == *id && gone == deleted)
}

/// Goes by at once: the runtime is paused.
async fn within_virtual_time(millis: u64) {
    tokio::time::sleep(Duration::from_millis(millis)).await;
}

async fn history(seed: u64) -> (usize, usize) {
    let bench = Bench::with(WriterOptions::default(), seed).await;
    bench.faults().set_latency(Duration::from_millis(50), Duration::from_millis(200));
    bad_line(&bench, seed);
    let writers = [bench.writer_with_skew(-200), bench.writer_with_skew(0), bench.writer_with_skew(200)];
    let mut acknowledged: Vec<Written> = Vec::new();
    let mut refused = 0;
    let streams = writers.iter().enumerate().map(|(n, writer)| {
        let (bench, mut random) = (&bench, StdRng::seed_from_u64(seed * 10 + n as u64));
        async move {
            let mut results = Vec::new();
            for _ in 0..12 {
                results.push(one_write(bench, writer, &mut random).await);
                let pause = random.next_u64() % 100;
                within_virtual_time(pause).await;
            }
            results
        }
    });
    for result in futures::future::join_all(streams).await.into_iter().flatten() {
        match result {
            Ok(written) => acknowledged.push(written),
            Err(_) => refused += 1,
        }
    }
    bench.faults().clear();
    within_virtual_time(60_000).await;
    let changes: Vec<Change> = bench.records().into_iter().map(|record| record.change).collect();
    for row in bench.tables.snapshot(&bench.orders) {
        let id = RowId::new(bench.orders.clone(), row.body.partition().clone(), row.body.row().clone());
        let announced =
            changes.iter().any(|change| Some(&change.version) == row.body.version() && names(change, &id, false));
        assert!(announced, "seed {seed}: {id} has {:?}, which nobody announced", row.body.version());
    }
    for stone in bench.tombstones() {
        let highest =
            changes.iter().filter(|change| names(change, &stone.id, true)).map(|change| &change.version).max();
        assert!(highest <= Some(&stone.version), "seed {seed}: the tombstone of {} was lowered", stone.id);
    }
    for written in &acknowledged {
        let announced = changes.iter().any(|change| change.version == written.version);
        assert!(announced, "seed {seed}: {} was acknowledged and is not announced", written.version);
    }
    (acknowledged.len(), refused)
}

#[tokio::test(start_paused = true)]
async fn whatever_stands_in_the_table_was_announced_and_no_tombstone_was_lowered() {
    let (mut acknowledged, mut refused) = (0, 0);
    for seed in 0..80 {
        let (good, bad) = history(seed).await;
        (acknowledged, refused) = (acknowledged + good, refused + bad);
    }
    assert!(acknowledged > 600 && refused > 200, "{acknowledged} acknowledged, {refused} not");
}

#[tokio::test(start_paused = true)]
async fn writers_that_delete_the_same_row_at_once_all_get_through() {
    let bench = Bench::new().await;
    bench.faults().set_latency(Duration::from_millis(5), Duration::from_millis(5));
    let writers: Vec<Writer> = (0..4).map(|n| bench.writer_with_skew(n * 100)).collect();
    let (p, a) = (partition(), "a".into());
    let deletes = writers.iter().map(|writer| writer.delete(&bench.orders, &p, &a, Condition::Present, None));
    let results = futures::future::join_all(deletes).await;
    let highest = results.into_iter().map(|result| result.unwrap().version).max().unwrap();
    assert_eq!(bench.tombstones()[0].version, highest);
}
