//! Synchronous tables: the call returns when others have the write, and says so when they have not.

use std::sync::Arc;
use std::time::Duration;

use super::bench::{Bench, body};
use crate::feed::encode_tombstone;
use crate::model::{AccountName, Consistency, Region, RowId, SystemTable, TableConsistency, Version};
use crate::stores::memory::{MemoryTables, RequestKind};
use crate::stores::{Account, Condition, Operation, RegionStore, Tables};
use crate::writer::{Writer, WriterOptions};

const WITHIN: Duration = Duration::from_secs(5);

/// West with a writer, and destinations that somebody else brings things to.
struct World {
    bench: Bench,
    writer: Arc<Writer>,
    others: Vec<Arc<MemoryTables>>,
}

impl World {
    async fn new(copies: u32) -> Self {
        let bench = Bench::with(WriterOptions::default(), 7).await;
        let mut others = Vec::new();
        for name in ["east", "north", "south"] {
            let (region, account) = (Region::new(name).unwrap(), AccountName::new("one").unwrap());
            let tables = MemoryTables::new(region, account, bench.runtime.clone());
            tables.create_table(&bench.orders).await.unwrap();
            tables.create_table(&SystemTable::Feed.name()).await.unwrap();
            others.push(tables);
        }
        let store = |tables: &Arc<MemoryTables>| {
            RegionStore::new(tables.region().clone(), vec![Account { tables: tables.clone(), queue: None }])
        };
        let every = Consistency::Synchronous { copies, within: WITHIN };
        let consistency = TableConsistency { every, ..TableConsistency::default() };
        let local = Account { tables: bench.tables.clone(), queue: None };
        let local = RegionStore::new(Region::new("west").unwrap(), vec![local]);
        let writer = Writer::new(local, WriterOptions::default(), bench.runtime.clone());
        let writer = Arc::new(writer.with_destinations(consistency, others.iter().map(store).collect()));
        Self { bench, writer, others }
    }

    /// Brings what stands in west to a destination, after a while.
    fn bring(&self, to: usize, row: &'static str, after: Duration) {
        let (from, to, orders) = (self.bench.tables.clone(), self.others[to].clone(), self.bench.orders.clone());
        #[expect(clippy::disallowed_methods, reason = "the test plays the daemon")]
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            let row = from.get(&orders, &"p".into(), &row.into()).await.unwrap().expect("it was written before");
            to.write(&orders, &Operation::InsertOrReplace(row.body)).await.unwrap();
        });
    }

    /// How many reads each destination has had.
    fn reads(&self) -> Vec<u64> {
        let of = |tables: &Arc<MemoryTables>, kind| tables.faults().requests(kind);
        let reads = |tables: &Arc<MemoryTables>| of(tables, RequestKind::Get) + of(tables, RequestKind::Query);
        self.others.iter().map(reads).collect()
    }
}

fn names(regions: &[Region]) -> Vec<&str> {
    regions.iter().map(Region::as_str).collect()
}

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

#[tokio::test(start_paused = true)]
async fn the_call_returns_when_as_many_have_it_as_are_wanted() {
    let world = World::new(2).await;
    world.bring(1, "r", ms(100));
    world.bring(2, "r", ms(700));
    world.bring(0, "r", ms(4_000));
    let began = tokio::time::Instant::now();
    let written = world.writer.insert(&world.bench.orders, &body("r"), None).await.unwrap();
    let took = began.elapsed();
    assert!(written.copies.is_met(), "{:?}", written.copies);
    assert_eq!(names(&written.copies.confirmed), ["north", "south"]);
    assert_eq!(written.copies.to_string(), "written, confirmed by 2 of 2 destinations");
    assert!(took > ms(700) && took < ms(1_700), "{took:?}");
    assert_eq!(world.bench.version_of("r"), Some(written.version));
}

#[tokio::test(start_paused = true)]
async fn a_write_that_has_too_few_copies_in_time_is_no_error_and_says_who_has_it() {
    let world = World::new(3).await;
    world.bring(1, "r", ms(100));
    world.others[2].faults().cut(true);
    let began = tokio::time::Instant::now();
    let written = world.writer.insert(&world.bench.orders, &body("r"), None).await.unwrap();
    assert!(began.elapsed() <= WITHIN, "{:?}", began.elapsed());
    let copies = &written.copies;
    assert!(!copies.is_met(), "{copies:?}");
    assert_eq!(
        (copies.to_string().as_str(), names(&copies.confirmed)),
        ("written, confirmed by 1 of 3 destinations", vec!["north"])
    );
    let unconfirmed: Vec<_> =
        copies.unconfirmed.iter().map(|each| (each.region.as_str(), each.error.is_some())).collect();
    assert_eq!(unconfirmed, [("east", false), ("south", true)]);
    assert_eq!(world.bench.version_of("r"), Some(written.version));
}

#[tokio::test(start_paused = true)]
async fn only_as_many_are_asked_as_are_wanted_and_who_was_quick_is_asked_first() {
    let world = World::new(1).await;
    // East, which is asked first, does not get it; north has had it all along.
    world.bring(1, "a", ms(100));
    let written = world.writer.insert(&world.bench.orders, &body("a"), None).await.unwrap();
    assert_eq!(names(&written.copies.confirmed), ["north"]);
    let before = world.reads();
    world.bring(1, "b", ms(10));
    let written = world.writer.insert(&world.bench.orders, &body("b"), None).await.unwrap();
    assert_eq!(names(&written.copies.confirmed), ["north"]);
    let asked: Vec<u64> = world.reads().iter().zip(before).map(|(after, before)| after - before).collect();
    assert_eq!(asked, [0, 1, 0], "one read of the one that is quick");
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_confirmed_by_its_tombstone_once_the_row_is_gone() {
    let world = World::new(1).await;
    let (orders, north) = (world.bench.orders.clone(), world.others[1].clone());
    for store in &world.others {
        store.write(&orders, &Operation::Insert(body("r").stamped(&world.bench.ahead(Duration::ZERO)))).await.unwrap();
    }
    let writer = world.writer.clone();
    let table = orders.clone();
    #[expect(clippy::disallowed_methods, reason = "the test plays the daemon meanwhile")]
    let deleting = tokio::spawn(async move {
        writer.delete(&table, &"p".into(), &"r".into(), Condition::Present, None).await.unwrap()
    });
    while world.bench.tombstones().is_empty() {
        tokio::time::sleep(ms(5)).await;
    }
    let tombstone = world.bench.tombstones()[0].clone();
    assert_eq!(tombstone.id, RowId::new(orders.clone(), "p".into(), "r".into()));
    let raised = Operation::Insert(encode_tombstone(&tombstone));
    north.write(&SystemTable::Feed.name(), &raised).await.unwrap();
    tokio::time::sleep(ms(2_000)).await;
    assert!(!deleting.is_finished(), "the row still stands there");
    let gone = Operation::Delete { partition: "p".into(), row: "r".into(), condition: Condition::Present };
    north.write(&orders, &gone).await.unwrap();
    let written = deleting.await.unwrap();
    assert_eq!(names(&written.copies.confirmed), ["north"]);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_confirmed_when_every_row_of_it_is_there() {
    let world = World::new(1).await;
    let rows = ["a", "b", "c", "d", "e"];
    for (n, row) in rows.into_iter().enumerate() {
        world.bring(1, row, ms(100 + 300 * n as u64));
    }
    let puts = rows.iter().map(|row| Operation::Insert(body(row))).collect();
    let began = tokio::time::Instant::now();
    let written = world.writer.transaction(&world.bench.orders, &"p".into(), puts, None).await.unwrap();
    assert!(written.copies.is_met() && began.elapsed() > ms(1_300), "{:?} {:?}", began.elapsed(), written.copies);
}

#[tokio::test(start_paused = true)]
async fn something_newer_counts_and_a_table_that_is_not_synchronous_asks_nobody() {
    let world = World::new(1).await;
    let newer: Version = world.bench.ahead(Duration::from_secs(10));
    for store in &world.others {
        store.write(&world.bench.orders, &Operation::Insert(body("r").stamped(&newer))).await.unwrap();
    }
    let written = world.writer.insert(&world.bench.orders, &body("r"), None).await.unwrap();
    assert!(written.copies.is_met(), "{:?}", written.copies);
    let eventual = world.bench.writer.insert(&world.bench.orders, &body("s"), None).await.unwrap();
    assert!(eventual.copies.is_met() && eventual.copies.confirmed.is_empty(), "{:?}", eventual.copies);
}
