//! Backfills on memory stores, in virtual time.

mod cut_off;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::*;
use crate::feed::encode_tombstone;
use crate::model::{AccountName, PartitionKey, Row, RowBody, RowId, SystemTable, Time, Tombstone, Version, WriterId};
use crate::ops::world::{EAST, NORTH, World, region, table};
use crate::stores::memory::{Fault, Faults, MemoryTables, RequestKind};
use crate::stores::{Account, Condition, Operation, Tables};
use crate::topology::Role;
use crate::writer::{Writer, WriterOptions};

const START: i64 = 1_700_000_000;

/// Two regions without daemons, of one account and of two, where north has nothing.
struct Pair {
    stores: [RegionStore; 2],
    accounts: [Vec<Arc<MemoryTables>>; 2],
    runtime: Runtime,
    owners: AtomicU64,
}

fn version(n: usize, tick: i64) -> Version {
    Version::new(Time::from_unix_seconds(START - 1_000) + Duration::from_micros(tick as u64), &region(n), WriterId(1))
}

fn id(n: usize) -> RowId {
    RowId::new(table(), format!("p{:04}", n / 10).as_str().into(), format!("r{n:06}").as_str().into())
}

fn body(id: &RowId, text: &str) -> RowBody {
    RowBody::builder(&id.partition, &id.row).string("A", text).finish()
}

async fn put(store: &RegionStore, body: RowBody) {
    let write = Operation::InsertOrReplace(body);
    store.holding(&table(), write.partition()).write(&table(), &write).await.unwrap();
}

async fn fill(store: &RegionStore, rows: usize) {
    let mut partitions: BTreeMap<PartitionKey, Vec<Operation>> = BTreeMap::new();
    for n in 0..rows {
        // Every third one has a version.
        let row = body(&id(n), "a");
        let row = if n % 3 == 0 { row.stamped(&version(EAST, n as i64)) } else { row };
        partitions.entry(id(n).partition).or_default().push(Operation::Insert(row));
    }
    for (partition, rows) in partitions {
        store.holding(&table(), &partition).transact(&table(), &partition, &rows).await.unwrap();
    }
}

type Rows = BTreeMap<RowId, (Version, Option<String>)>;

/// What a region holds: by key, the version that everybody reads out of it, and what it says.
fn rows(accounts: &[Arc<MemoryTables>]) -> Rows {
    let rows = accounts.iter().flat_map(|account| {
        let region = account.region().clone();
        account.snapshot(&table()).into_iter().map(move |row| (row.version(&region), row))
    });
    rows.map(|(version, row)| (copy::id(&table(), &row), (version, row.body.string("A")))).collect()
}

fn equal(one: &Rows, other: &Rows) {
    let ids: BTreeSet<&RowId> = one.keys().chain(other.keys()).collect();
    let differ = ids.into_iter().find(|id| one.get(id) != other.get(id));
    assert!(
        differ.is_none(),
        "{differ:?}: {:?} and {:?}",
        differ.map(|id| one.get(id)),
        differ.map(|id| other.get(id))
    );
}

impl Pair {
    async fn new(rows: usize) -> Self {
        let runtime = Runtime::simulated(Time::from_unix_seconds(START), 7);
        let account = |n: usize, of: usize| {
            let name = AccountName::new(&format!("{}{of}", ["east", "north"][n])).unwrap();
            MemoryTables::new(region(n), name, runtime.clone())
        };
        let accounts = [vec![account(EAST, 0)], vec![account(NORTH, 0), account(NORTH, 1)]];
        let store = |n: usize| -> RegionStore {
            let of =
                accounts[n].iter().map(|tables| Account { tables: tables.clone() as Arc<dyn Tables>, queue: None });
            RegionStore::new(region(n), of.collect())
        };
        let stores = [store(EAST), store(NORTH)];
        create_missing(&stores[EAST]).await.unwrap();
        stores[EAST].home().create_table(&table()).await.unwrap();
        fill(&stores[EAST], rows).await;
        tokio::time::advance(Duration::from_secs(300)).await;
        let pair = Self { stores, accounts, runtime, owners: AtomicU64::new(0) };
        for account in pair.accounts.iter().flatten() {
            // A store that answers at once never lets anybody else go on.
            account.faults().set_latency(Duration::from_millis(2), Duration::ZERO);
        }
        pair
    }

    fn backfill(&self) -> Backfill {
        backfill(self.stores.to_vec(), &self.runtime, self.owners.fetch_add(1, Relaxed))
    }

    fn rows(&self, n: usize) -> Rows {
        rows(&self.accounts[n])
    }

    fn is_equal(&self) {
        equal(&self.rows(EAST), &self.rows(NORTH));
    }

    async fn ranges(&self) -> Vec<Range> {
        self.backfill().hold().unwrap().ranges(&table()).await.unwrap()
    }

    fn faults(&self) -> Vec<Faults> {
        self.accounts.iter().flatten().map(|account| account.faults()).collect()
    }

    fn requests(&self, n: usize, kind: RequestKind) -> u64 {
        self.accounts[n].iter().map(|tables| tables.faults().requests(kind)).sum()
    }

    /// How often each row is written at the destination from now on.
    fn watch(&self) -> Arc<Mutex<BTreeMap<RowId, u64>>> {
        let written = Arc::<Mutex<BTreeMap<RowId, u64>>>::default();
        for account in &self.accounts[NORTH] {
            let written = written.clone();
            account.watch(move |effect| {
                if *effect.table == table() && effect.after.is_ok() {
                    let (partition, row) = (effect.operation.partition().clone(), effect.operation.row().clone());
                    *written.lock().unwrap().entry(RowId::new(table(), partition, row)).or_default() += 1;
                }
            });
        }
        written
    }

    async fn bury(&self, n: usize, id: &RowId, version: &Version) {
        let tombstone = encode_tombstone(&Tombstone { id: id.clone(), version: version.clone() });
        let write = Operation::InsertOrReplace(tombstone);
        let tables = self.stores[n].holding(&id.table, &id.partition);
        tables.write(&SystemTable::Feed.name(), &write).await.unwrap();
    }
}

fn backfill(regions: Vec<RegionStore>, runtime: &Runtime, owner: u64) -> Backfill {
    let writers = regions.iter().map(|store| (store.region().clone(), Role::Writer)).collect();
    Backfill {
        regions,
        copies: vec![],
        from: region(EAST),
        to: region(NORTH),
        tables: TableFilter::Every,
        only: None,
        share_percent: 100,
        account_rows: Backfill::ACCOUNT_ROWS,
        stamp: false,
        range_rows: 500,
        owner: format!("somebody {owner}"),
        roles: FileRoles::new(writers),
        line: replicator::Settings::default(),
        runtime: runtime.clone(),
    }
}

async fn start(backfill: &Backfill) -> Result<Backfilled, BackfillError> {
    backfill.start(false, &CancellationToken::new(), &mut |_| {}).await
}

async fn resume(backfill: &Backfill) -> Result<Backfilled, BackfillError> {
    backfill.resume(&CancellationToken::new(), &mut |_| {}).await
}

#[tokio::test(start_paused = true)]
async fn every_row_is_copied_with_the_version_that_it_has_and_a_second_time_nothing_is_written() {
    const ROWS: u64 = 8_000;
    let pair = Pair::new(ROWS as usize).await;
    let planned = pair.backfill().plan(&mut |_| {}).await.unwrap();
    assert!((5_000..12_000).contains(&planned.tables[0].rows), "{planned:?}");
    assert!((60.0..73.0).contains(&planned.tables[0].unversioned_percent), "{planned:?}");
    let done = start(&pair.backfill()).await.unwrap();
    assert_eq!((done.rows(), done.tables[0].written, done.is_done()), (ROWS, ROWS, true), "{done:?}");
    pair.is_equal();
    let stamped = pair.accounts[NORTH].iter().flat_map(|account| account.snapshot(&table()));
    assert!(stamped.into_iter().all(|row| row.body.version().is_some()), "those that had none have one there");
    let ranges = pair.ranges().await;
    assert!(ranges.len() > 3, "{} ranges", ranges.len());
    for range in &ranges {
        assert_eq!((range.copy, range.counts.errors, &range.last_error), (Copied::Verified, 0, &None));
        assert!(range.began.is_some() && range.began <= range.copied && range.copied <= range.verified);
    }
    let bytes: u64 = ranges.iter().map(|range| range.counts.bytes).sum();
    assert_eq!(bytes, done.tables[0].bytes);
    assert!(bytes > ROWS * 50);

    let written = pair.watch();
    let again = start(&pair.backfill()).await.unwrap();
    assert_eq!((again.rows(), again.tables[0].written, again.is_done()), (ROWS, 0, true));
    assert_eq!(*written.lock().unwrap(), BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn a_row_without_a_version_is_the_same_change_for_everybody_who_meets_it() {
    let pair = Pair::new(100).await;
    start(&pair.backfill()).await.unwrap();
    // Live changes come after it, whoever brings them: one is written, one deleted, by the protocol.
    let writer = Writer::new(pair.stores[EAST].clone(), WriterOptions::default(), pair.runtime.clone());
    let there = Writer::new(pair.stores[NORTH].clone(), WriterOptions::default(), pair.runtime.clone());
    writer.insert_or_replace(&table(), &body(&id(1), "changed"), None).await.unwrap();
    writer.delete(&table(), &id(2).partition, &id(2).row, Condition::Present, None).await.unwrap();
    there.insert_or_replace(&table(), &body(&id(4), "changed there"), None).await.unwrap();
    there.delete(&table(), &id(5).partition, &id(5).row, Condition::Present, None).await.unwrap();
    let raw = body(&id(7), "changed by somebody who knows of nothing");
    put(&pair.stores[EAST], raw).await;
    let again = start(&pair.backfill()).await.unwrap();
    assert!(again.is_done(), "{again:?}");
    let (east, mut north) = (pair.rows(EAST), pair.rows(NORTH));
    assert!(again.tables[0].waiting == 1 && north.remove(&id(2)).is_some(), "a delete that a daemon has yet to bring");
    equal(&east, &north);
    let says = |n: usize| north.get(&id(n)).and_then(|(_, text)| text.as_deref());
    assert_eq!([says(1), says(4), says(5)], [Some("changed"), Some("changed there"), None]);
    assert_eq!(says(7), Some("changed by somebody who knows of nothing"));
    assert_eq!(again.tables[0].written, 2, "the others were not touched");
}

#[tokio::test(start_paused = true)]
async fn rows_are_given_their_versions_at_the_source_where_that_is_asked_for() {
    let pair = Pair::new(1_000).await;
    let before = pair.rows(EAST);
    let mut backfill = pair.backfill();
    backfill.stamp = true;
    // One of a transaction was written just now.
    let row = pair.accounts[EAST][0].clone();
    let raced = Arc::new(AtomicU64::new(0));
    let seen = raced.clone();
    pair.accounts[EAST][0].faults().set_rule(move |request| {
        let first =
            request.table == Some(&table()) && request.kind == RequestKind::Transact && seen.fetch_add(1, Relaxed) == 0;
        first.then(|| Fault::Delay(Duration::from_millis(50)))
    });
    let write = async {
        while raced.load(Relaxed) == 0 {
            sleep(Duration::from_millis(1)).await;
        }
        let line = row.by_another_line();
        line.write(&table(), &Operation::InsertOrReplace(body(&id(1), "raced"))).await.unwrap();
    };
    let (done, ()) = tokio::join!(start(&backfill), write);
    let done = done.unwrap();
    let bare = |rows: Vec<Row>| rows.iter().filter(|row| row.body.version().is_none()).count();
    assert_eq!((done.tables[0].stamped, bare(pair.accounts[EAST][0].snapshot(&table()))), (665, 1));
    let mut after = pair.rows(EAST);
    assert_eq!(after.remove(&id(1)).unwrap().1.as_deref(), Some("raced"), "what is written meanwhile stays");
    assert!(after.iter().all(|(id, held)| before.get(id) == Some(held)), "it is the version that everybody read");
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_for_wrongly_is_told_with_what_to_do() {
    let pair = Pair::new(10).await;
    let said = |error: BackfillError| (error.is_usage(), error.to_string());
    let mut wrong = pair.backfill();
    wrong.only = Some(TableName::new("nowhere").unwrap());
    let (usage, text) = said(start(&wrong).await.unwrap_err());
    assert!(usage && text.contains("east has no table nowhere") && text.contains("orders"), "{text}");
    let mut wrong = pair.backfill();
    wrong.to = Region::new("mars").unwrap();
    let (usage, text) = said(wrong.status().await.unwrap_err());
    assert!(usage && text.contains("no region mars") && text.contains("east, north"), "{text}");
    wrong.to = region(EAST);
    assert!(said(wrong.plan(&mut |_| {}).await.unwrap_err()).0);
    for refused in [resume(&pair.backfill()).await, pair.backfill().pause().await, pair.backfill().status().await] {
        let (usage, text) = said(refused.unwrap_err());
        assert!(!usage && text.contains("ever begun") && text.contains("backfill start"), "{text}");
    }
    assert_eq!(pair.accounts[NORTH][0].snapshot(&table()), [], "nothing was begun");
}

#[tokio::test(start_paused = true)]
async fn neither_account_is_asked_more_than_the_share_and_one_that_asks_for_less_is_asked_less() {
    let pair = Pair::new(20_000).await;
    let slow = Backfill { share_percent: 5, range_rows: 5_000, ..pair.backfill() };
    // Rows a second that were written there, by second.
    let (seconds, began) = (Arc::<Mutex<BTreeMap<u64, u64>>>::default(), Instant::now());
    let counted = seconds.clone();
    for account in &pair.accounts[NORTH] {
        let counted = counted.clone();
        account.watch(move |_| *counted.lock().unwrap().entry(began.elapsed().as_secs()).or_default() += 1);
    }
    let throttled = async {
        sleep(Duration::from_secs(12)).await;
        pair.accounts[EAST][0].faults().fail_next(RequestKind::Query, Fault::throttled(Duration::ZERO));
    };
    let (done, ()) = tokio::join!(start(&slow), throttled);
    assert!(done.unwrap().is_done());
    let seconds = seconds.lock().unwrap().clone();
    let within = |from: u64, to: u64| seconds.range(from..to).map(|(_, rows)| rows).sum::<u64>();
    // 1,000 rows a second are read, and what is under way at the beginning.
    assert!(within(0, 12) <= 13_000 && within(3, 12) >= 4_500, "{seconds:?}");
    assert!(within(13, 19) * 9 / 6 <= within(3, 12) * 5 / 6, "{seconds:?}");
    pair.is_equal();
}

#[tokio::test(start_paused = true)]
async fn what_fails_for_a_while_is_tried_again_and_what_fails_for_good_ends_it() {
    let pair = Pair::new(2_000).await;
    for account in &pair.accounts[NORTH] {
        account.faults().fail_next(RequestKind::Transact, Fault::lost_reply());
        account.faults().fail_next(RequestKind::Query, Fault::lost_request());
    }
    pair.accounts[EAST][0].faults().fail_next(RequestKind::Transact, Fault::lost_reply());
    let done = start(&pair.backfill()).await.unwrap();
    assert!(done.is_done() && done.tables[0].errors > 0 && done.tables[0].last_error.is_some(), "{done:?}");
    pair.is_equal();

    let pair = Pair::new(2_000).await;
    let began = Instant::now();
    pair.accounts[NORTH].iter().for_each(|account| {
        account.faults().set_rule(|request| {
            let data = request.table.is_some_and(|named| *named == table());
            data.then(Fault::lost_request)
        });
    });
    let error = start(&pair.backfill()).await.unwrap_err().to_string();
    assert!(error.contains("nothing of orders came to north for 5 minutes") && error.contains("resume"), "{error}");
    assert!((300..400).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let ranges = pair.ranges().await;
    assert!(ranges.iter().any(|range| range.counts.errors > 5 && range.last_error.is_some()), "{ranges:?}");
    pair.faults().iter().for_each(Faults::clear);
    assert!(resume(&pair.backfill()).await.unwrap().is_done());
}

#[tokio::test(start_paused = true)]
async fn what_differs_after_the_copy_is_mended_and_what_the_destination_alone_has_is_left() {
    let pair = Pair::new(10).await;
    create_missing(&pair.stores[NORTH]).await.unwrap();
    for account in &pair.accounts[NORTH] {
        account.create_table(&table()).await.unwrap();
    }
    let stamped = |n: usize, by: usize, tick: i64| body(&id(n), "there").stamped(&version(by, tick));
    // Deleted here since; one who was killed has left it there. The clocks of two writers here differed, too.
    put(&pair.stores[NORTH], stamped(100, EAST, 5)).await;
    pair.bury(EAST, &id(100), &version(EAST, 6)).await;
    put(&pair.stores[NORTH], stamped(101, EAST, 5)).await;
    pair.bury(EAST, &id(101), &version(EAST, 4)).await;
    put(&pair.stores[NORTH], stamped(102, NORTH, 5)).await;
    put(&pair.stores[NORTH], stamped(103, EAST, 5)).await;
    // Sunk here.
    put(&pair.stores[EAST], body(&id(104), "sunk").stamped(&version(EAST, 4))).await;
    put(&pair.stores[NORTH], stamped(104, EAST, 5)).await;
    tokio::time::advance(Duration::from_secs(300)).await;
    let done = start(&pair.backfill()).await.unwrap();
    let of = &done.tables[0];
    assert_eq!((of.mended, of.extra, of.waiting, done.is_done()), (2, 2, 1, true), "{done:?}");
    let (mut east, mut north) = (pair.rows(EAST), pair.rows(NORTH));
    let left: BTreeSet<_> = [102, 103].map(|n| north.remove(&id(n)).map(|(version, _)| version)).into();
    assert_eq!(left, [Some(version(NORTH, 5)), Some(version(EAST, 5))].into());
    let (lifted, text) = east.remove(&id(104)).unwrap();
    assert!(lifted > version(EAST, 5) && text.as_deref() == Some("sunk"), "the region's own order is kept: {lifted}");
    assert_eq!(north.remove(&id(104)).map(|(version, _)| version), Some(version(EAST, 5)), "a daemon brings it");
    equal(&east, &north);
    assert!(!north.contains_key(&id(100)) && !north.contains_key(&id(101)));
}

#[tokio::test(start_paused = true)]
async fn both_regions_are_written_to_and_deleted_from_while_it_runs_and_are_equal_afterwards() {
    const ROWS: usize = 2_400;
    let world = World::new(&[Role::Writer, Role::Writer]).await;
    let store = |n: usize| -> RegionStore {
        let tables = world.stores[n].by_another_line();
        tables.faults().set_latency(Duration::from_millis(20), Duration::ZERO);
        RegionStore::new(region(n), vec![Account { tables, queue: None }])
    };
    let stores = vec![store(EAST), store(NORTH)];
    fill(&store(EAST), ROWS).await;
    let mut slow = backfill(stores, &world.runtime, 1);
    slow.share_percent = 5;
    let deleted = Mutex::new(BTreeSet::new());
    let write = async |by: usize, n: usize| {
        let (writer, id) = (&world.writers[by], id(n));
        match n % 2 {
            0 => {
                writer.delete(&table(), &id.partition, &id.row, Condition::Present, None).await.unwrap();
                deleted.lock().unwrap().insert(id);
            }
            _ => drop(writer.insert_or_replace(&table(), &body(&id, "live"), None).await.unwrap()),
        }
    };
    // Three of ten, spread over all, half of them in either region.
    let live = async {
        for n in (0..ROWS).filter(|n| n % 10 < 3) {
            let n = (n * 1_013) % ROWS;
            write(n % 20 / 10, n).await;
            sleep(Duration::from_millis(7)).await;
        }
    };
    let mut killed = 0;
    let backfilling = async {
        let mut turn = 0;
        loop {
            turn += 1;
            let one = Backfill { owner: format!("turn {turn}"), ..slow.clone() };
            let stop = CancellationToken::new();
            let run = async {
                if turn == 1 {
                    one.start(false, &stop, &mut |_| {}).await
                } else {
                    one.resume(&stop, &mut |_| {}).await
                }
            };
            tokio::select! {
                biased;
                done = run => break done.unwrap(),
                () = sleep(Duration::from_millis(if turn == 1 { 1_500 } else { 17_000 })), if turn <= 3 => killed += 1,
            }
        }
    };
    let (done, ()) = tokio::join!(backfilling, live);
    assert!(done.is_done() && killed > 0, "{killed} {done:?}");
    world.until("no record is left", 300, |world| world.records() == 0).await;
    let accounts = |n: usize| rows(&[world.stores[n].clone()]);
    equal(&accounts(EAST), &accounts(NORTH));
    assert_eq!(accounts(EAST).len(), ROWS - lock(&deleted).len());
    assert!(lock(&deleted).iter().all(|id| !accounts(NORTH).contains_key(id)), "deleted rows stay so");
}
