//! Verifying pairs on memory stores, in virtual time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::feed::{
    Entry as Quarantined, Hint, Malformed, Reason, Source, encode_hint, encode_relayed, encode_tombstone,
};
use crate::model::{AccountName, Change, RowBody, SystemTable, Tombstone, Version, WriterId};
use crate::ops::world::{EAST, NORTH, World, region, table};
use crate::replicator::create_missing;
use crate::resolve::Difference;
use crate::stores::memory::{MemoryTables, RequestKind};
use crate::stores::{Account, Operation, Tables};
use crate::topology::Role;

/// Long enough ago for everything to have been brought.
const SETTLED: Duration = Duration::from_secs(300);
const START: i64 = 1_700_000_000;

/// Two regions without daemons, of one account and of three.
struct Pair {
    stores: [RegionStore; 2],
    accounts: [Vec<Arc<MemoryTables>>; 2],
    verify: Verify,
}

fn version(n: usize, tick: i64) -> Version {
    Version::new(Time::from_unix_seconds(START - 1_000) + Duration::from_micros(tick as u64), &region(n), WriterId(1))
}

fn id(n: usize) -> RowId {
    RowId::new(table(), format!("p{:03}", n % 211).as_str().into(), format!("r{n:06}").as_str().into())
}

fn body(id: &RowId, text: &str, version: &Version) -> RowBody {
    RowBody::builder(&id.partition, &id.row).string("A", text).finish().stamped(version)
}

impl Pair {
    async fn new() -> Self {
        let runtime = Runtime::simulated(Time::from_unix_seconds(START), 7);
        let account = |n: usize, of: usize| {
            let account = AccountName::new(&format!("{}{of}", ["east", "north"][n])).unwrap();
            MemoryTables::new(region(n), account, runtime.clone())
        };
        let accounts = [vec![account(EAST, 0)], (0..3).map(|of| account(NORTH, of)).collect::<Vec<_>>()];
        let store = |n: usize| -> RegionStore {
            let of =
                accounts[n].iter().map(|tables| Account { tables: tables.clone() as Arc<dyn Tables>, queue: None });
            RegionStore::new(region(n), of.collect())
        };
        let stores = [store(EAST), store(NORTH)];
        for store in &stores {
            create_missing(store).await.unwrap();
            for account in store.accounts() {
                account.tables.create_table(&table()).await.unwrap();
            }
        }
        let roles = FileRoles::new([(region(EAST), Role::Writer), (region(NORTH), Role::Writer)].into());
        let pair = (&region(EAST), &region(NORTH));
        let line = replicator::Settings::default();
        let verify = Verify::of(stores.to_vec(), pair, TableFilter::Every, roles, line, runtime);
        Self { stores, accounts, verify }
    }

    async fn put(&self, n: usize, id: &RowId, text: &str, version: &Version) {
        let write = Operation::InsertOrReplace(body(id, text, version));
        self.stores[n].holding(&id.table, &id.partition).write(&id.table, &write).await.unwrap();
    }

    /// Puts rows into both, many in a transaction.
    async fn fill(&self, rows: impl Iterator<Item = usize>) {
        let mut partitions: BTreeMap<PartitionKey, Vec<Operation>> = BTreeMap::new();
        for n in rows {
            let row = Operation::Insert(body(&id(n), "a", &version(n / 7 % 2, 5)));
            partitions.entry(id(n).partition).or_default().push(row);
        }
        for (partition, rows) in partitions {
            for store in &self.stores {
                for rows in rows.chunks(100) {
                    store.holding(&table(), &partition).transact(&table(), &partition, rows).await.unwrap();
                }
            }
        }
    }

    async fn put_both(&self, id: &RowId, text: &str, version: &Version) {
        self.put(EAST, id, text, version).await;
        self.put(NORTH, id, text, version).await;
    }

    async fn bury(&self, n: usize, id: &RowId, version: &Version) {
        let tombstone = encode_tombstone(&Tombstone { id: id.clone(), version: version.clone() });
        let (feed, write) = (SystemTable::Feed.name(), Operation::InsertOrReplace(tombstone));
        self.stores[n].holding(&id.table, &id.partition).write(&feed, &write).await.unwrap();
    }

    async fn run(&self) -> Verified {
        self.verify.run(&CancellationToken::new(), &mut |_| {}).await.unwrap()
    }

    fn requests(&self, n: usize, kind: RequestKind) -> u64 {
        self.accounts[n].iter().map(|tables| tables.faults().requests(kind)).sum()
    }

    fn writes(&self) -> u64 {
        let of = |n| self.requests(n, RequestKind::Write) + self.requests(n, RequestKind::Transact);
        of(EAST) + of(NORTH)
    }

    /// What both hold, but for how far a verification is.
    fn contents(&self) -> Vec<Vec<crate::model::Row>> {
        let tables = [table(), SystemTable::Feed.name(), SystemTable::Applied.name(), SystemTable::Conflicts.name()];
        let accounts = || self.accounts.iter().flatten();
        tables.iter().flat_map(|table| accounts().map(move |account| account.snapshot(table))).collect()
    }

    fn rows(&self, n: usize) -> BTreeMap<RowId, RowBody> {
        let rows = self.accounts[n].iter().flat_map(|account| account.snapshot(&table())).map(|row| row.body);
        rows.map(|body| (RowId::new(table(), body.partition().clone(), body.row().clone()), body)).collect()
    }

    /// Counts the writes to rows of the application from now on, by row.
    fn watch(&self) -> Arc<Mutex<BTreeMap<RowId, u64>>> {
        let touched = Arc::<Mutex<BTreeMap<RowId, u64>>>::default();
        for account in self.accounts.iter().flatten() {
            let touched = touched.clone();
            account.watch(move |effect| {
                if *effect.table == table() && effect.after.is_ok() {
                    let (partition, row) = (effect.operation.partition().clone(), effect.operation.row().clone());
                    *touched.lock().unwrap().entry(RowId::new(table(), partition, row)).or_default() += 1;
                }
            });
        }
        touched
    }

    /// Makes a row differ in one of the ways there are.
    async fn plant(&self, n: usize) -> Difference {
        let (id, old, new) = (id(n), version(n / 7 % 2, 5), version(n / 7 % 2, 6));
        let kind = [
            Difference::Missing,
            Difference::Stale,
            Difference::Extra,
            Difference::Newer,
            Difference::Content,
            Difference::DeletedHere,
            Difference::DeletedThere,
        ][n % 7];
        match kind {
            Difference::Missing => self.put(EAST, &id, "a", &old).await,
            Difference::Stale => {
                self.put(EAST, &id, "b", &new).await;
                self.put(NORTH, &id, "a", &old).await;
            }
            Difference::Extra => self.put(NORTH, &id, "a", &old).await,
            Difference::Newer => {
                self.put(EAST, &id, "a", &old).await;
                self.put(NORTH, &id, "b", &new).await;
            }
            Difference::Content => {
                self.put(EAST, &id, "a", &old).await;
                self.put(NORTH, &id, "b", &old).await;
            }
            Difference::DeletedHere => {
                self.bury(EAST, &id, &new).await;
                self.put(NORTH, &id, "a", &old).await;
            }
            Difference::DeletedThere => {
                self.put(EAST, &id, "a", &old).await;
                self.bury(NORTH, &id, &new).await;
            }
        }
        kind
    }
}

fn named(verified: &Verified) -> BTreeMap<String, Difference> {
    verified.named.iter().map(|differs| (differs.row.clone(), differs.kind)).collect()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_differences_of_every_kind_are_found_exactly_and_nothing_is_written() {
    let mut pair = Pair::new().await;
    let mut planted = BTreeMap::new();
    pair.fill((0..12_000).filter(|n| n % 12 != 5)).await;
    for n in (0..12_000).filter(|n| n % 12 == 5) {
        planted.insert(id(n).row.to_string(), pair.plant(n).await);
    }
    tokio::time::advance(SETTLED).await;
    let before = pair.writes();
    pair.verify.content = true;
    let found = pair.run().await;
    assert_eq!(planted.len(), 1_000);
    assert_eq!(named(&found), planted);
    assert_eq!((found.rows(), found.different(), found.waits(), found.left_out), (12_000, 1_000, 0, 0));
    assert!(!found.is_equal() && found.named.iter().all(|differs| differs.fate == Fate::Found));
    assert_eq!(pair.writes(), before + 1, "how far it is, and nothing else");

    pair.verify.content = false;
    let found = pair.run().await;
    planted.retain(|_, kind| *kind != Difference::Content);
    assert_eq!(named(&found), planted, "by versions alone");
}

#[tokio::test(start_paused = true)]
async fn three_requests_for_a_thousand_rows_and_side_are_enough() {
    let pair = Pair::new().await;
    const ROWS: usize = 100_000;
    pair.fill((0..ROWS).filter(|n| n % 1_000 != 7)).await;
    for n in (0..ROWS).filter(|n| n % 1_000 == 7) {
        pair.plant(n).await;
    }
    tokio::time::advance(SETTLED).await;
    let asked = |n| pair.requests(n, RequestKind::Get) + pair.requests(n, RequestKind::Query);
    let before = [asked(EAST), asked(NORTH)];
    let found = pair.run().await;
    assert_eq!((found.rows(), found.different()), (ROWS as u64, 100 - 14), "by versions alone");
    for n in [EAST, NORTH] {
        let requests = asked(n) - before[n];
        assert!(requests <= 3 * ROWS as u64 / 1_000, "{requests} requests to {}", region(n));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_written_a_moment_ago_is_waited_for_before_it_counts() {
    let pair = Pair::new().await;
    pair.put(EAST, &id(1), "a", &version(EAST, 5)).await;
    let began = tokio::time::Instant::now();
    let found = pair.run().await;
    assert_eq!(named(&found), [(id(1).row.to_string(), Difference::Missing)].into());
    let waited = began.elapsed();
    assert!(waited >= Duration::from_secs(60) && waited < Duration::from_secs(90), "{waited:?}");

    // Now it is old, and counts at once.
    let began = tokio::time::Instant::now();
    assert_eq!(pair.run().await.different(), 1);
    assert!(began.elapsed() < Duration::from_secs(1));

    // What comes while it is waited for is no difference.
    pair.put(EAST, &id(2), "a", &version(EAST, 5)).await;
    let later = async {
        tokio::time::sleep(Duration::from_secs(30)).await;
        pair.put_both(&id(1), "b", &version(EAST, 6)).await;
        pair.put(NORTH, &id(2), "a", &version(EAST, 5)).await;
    };
    let (found, ()) = tokio::join!(pair.run(), later);
    assert_eq!((named(&found).len(), found.rows()), (1, 2), "the first one differed for long");
    assert_eq!(pair.run().await.different(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_to_wait_is_named_by_that_and_is_no_difference() {
    let pair = Pair::new().await;
    let (east, north) = (pair.stores[EAST].home(), pair.stores[NORTH].home());
    for n in 0..5 {
        pair.put(EAST, &id(n), "a", &version(EAST, 5)).await;
    }
    let change = Change {
        table: table(),
        partition: id(0).partition.clone(),
        puts: vec![id(0).row.clone()],
        deletes: vec![],
        version: version(EAST, 5),
        base: None,
    };
    east.write(&SystemTable::Feed.name(), &Operation::Insert(encode_relayed(&change))).await.unwrap();
    let hint = |n: usize| Hint { id: id(n), version: version(EAST, 5), since: Time::from_unix_seconds(START) };
    let write = Operation::Insert(encode_hint("north", &hint(1)));
    east.write(&SystemTable::Backlog.name(), &write).await.unwrap();
    // One for a third region says nothing.
    let write = Operation::Insert(encode_hint("south", &hint(4)));
    east.write(&SystemTable::Backlog.name(), &write).await.unwrap();
    for (n, version) in [(2, version(EAST, 5)), (3, version(EAST, 4))] {
        let why = Malformed::new(Reason::Refused, "too much");
        let mut entry = Quarantined::new(Source::Row, &why, Time::EPOCH, format!("{n}"));
        (entry.table, entry.partition) = (Some(table().to_string()), Some(id(n).partition.to_string()));
        (entry.row, entry.version) = (Some(id(n).row.to_string()), Some(version.to_string()));
        let write = Operation::Insert(entry.identified().encode());
        north.write(&SystemTable::Quarantine.name(), &write).await.unwrap();
    }
    tokio::time::advance(SETTLED).await;
    let found = pair.run().await;
    let waits: Vec<_> = found.named.iter().map(|differs| (differs.row.clone(), differs.waits)).collect();
    let of = |n: usize, waits| (id(n).row.to_string(), waits);
    assert_eq!(
        waits,
        [
            of(0, Some(Waits::Announced)),
            of(1, Some(Waits::Hinted)),
            of(2, Some(Waits::Quarantined)),
            of(3, None),
            of(4, None),
        ],
        "what lies in quarantine is an older version, and a third region's hint is no word on these two"
    );
    assert_eq!((found.different(), found.waits()), (2, 3));
}

#[tokio::test(start_paused = true)]
async fn a_pass_that_ended_early_is_gone_on_with_and_no_stretch_is_read_again() {
    let mut pair = Pair::new().await;
    pair.verify.stretch_rows = 8_000;
    let rows = 10_000;
    // The first partition and the last one.
    let alone = [0, 210];
    pair.fill((0..rows).filter(|n| !alone.contains(n))).await;
    for n in alone {
        pair.put(EAST, &id(n), "a", &version(EAST, 5)).await;
    }
    tokio::time::advance(SETTLED).await;
    for account in pair.accounts.iter().flatten() {
        // A store that answers at once never lets anybody ask for the end.
        account.faults().set_latency(Duration::from_millis(1), Duration::ZERO);
    }
    let stop = CancellationToken::new();
    let mut seen = 0;
    let mut tell = |so_far: &Verified| {
        seen = so_far.rows();
        if seen > 9_000 {
            stop.cancel();
        }
    };
    let ended = pair.verify.run(&stop, &mut tell).await;
    assert!(matches!(ended, Err(VerifyError::Stopped)));
    let before = pair.requests(EAST, RequestKind::Query);
    pair.verify.resume = true;
    let found = pair.run().await;
    let queries = pair.requests(EAST, RequestKind::Query) - before;
    assert!(found.resumed && (2..=10).contains(&queries), "{queries} for 2,000 rows");
    assert_eq!((found.rows(), found.different()), (rows as u64, 2), "what was found before counts");

    // There is nothing to go on with any more: a pass of its own.
    tokio::time::advance(Duration::from_secs(5)).await;
    let again = pair.run().await;
    assert!(!again.resumed && again.began > found.began);
    assert_eq!((again.rows(), again.different(), again.named.len()), (rows as u64, 2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_part_is_verified_alone_and_rows_where_no_route_leads_are_told_of() {
    let mut pair = Pair::new().await;
    for n in 0..211 * 3 {
        pair.put(EAST, &id(n), "a", &version(EAST, 5)).await;
    }
    let stranger = id(0);
    let holds = pair.stores[NORTH].holding(&stranger.table, &stranger.partition).account().clone();
    let other = pair.accounts[NORTH].iter().find(|tables| *tables.account() != holds).unwrap();
    let write = Operation::Insert(body(&stranger, "a", &version(EAST, 5)));
    other.write(&table(), &write).await.unwrap();
    tokio::time::advance(SETTLED).await;
    let all = pair.run().await;
    assert_eq!((all.rows(), all.different()), (633, 633), "nobody reads the stranger");
    assert_eq!(all.tables[0].misplaced, [(region(NORTH), 1)].into());
    pair.verify.partition = Some(id(7).partition.clone());
    assert_eq!(pair.run().await.different(), 3);
    pair.verify.row = Some(id(7).row.clone());
    let one = pair.run().await;
    assert_eq!((one.rows(), one.named[0].mend), (1, crate::resolve::Mend::Copy));
    pair.verify.only = Some(TableName::new("stock").unwrap());
    let error = pair.verify.run(&CancellationToken::new(), &mut |_| {}).await.unwrap_err();
    assert!(error.is_usage() && error.to_string().contains("there are: orders"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn regions_that_are_written_to_all_the_while_are_equal() {
    let world = World::new(&[Role::Writer, Role::Standby, Role::Replica]).await;
    let verify = verify(&world);
    let found = world
        .writing_under(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            let mut found = Vec::new();
            for _ in 0..6 {
                found.push(verify.run(&CancellationToken::new(), &mut |_| {}).await.unwrap());
            }
            found
        })
        .await;
    for verified in &found {
        assert_eq!((verified.different(), verified.waits(), verified.rows()), (0, 0, 20), "{:?}", verified.named);
    }
}

/// Verifies the first two regions by lines of its own.
fn verify(world: &World) -> Verify {
    let (failover, _) = world.failover(EAST);
    let (pair, line) = ((&region(EAST), &region(NORTH)), replicator::Settings::default());
    let of = Verify::of(failover.regions, pair, TableFilter::Every, world.file.clone(), line, world.runtime.clone());
    Verify { content: true, ..of }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_differences_of_every_kind_are_mended_exactly_and_nothing_else_is_touched() {
    let mut pair = Pair::new().await;
    let mut planted = BTreeMap::new();
    pair.fill((0..4_000).filter(|n| n % 4 != 1)).await;
    for n in (0..4_000).filter(|n| n % 4 == 1) {
        planted.insert(id(n), pair.plant(n).await);
    }
    tokio::time::advance(SETTLED).await;
    (pair.verify.content, pair.verify.repair) = (true, Repair::DryRun);
    let (before, writes) = (pair.contents(), pair.writes());
    let planned = pair.run().await;
    assert_eq!((planned.different(), planned.mended(), planned.dry_run), (1_000, 0, true));
    assert!(planned.named.iter().all(|differs| differs.fate == Fate::Planned));
    assert_eq!((pair.contents() == before, pair.writes()), (true, writes + 1), "how far it is, and nothing else");

    let touched = pair.watch();
    pair.verify.repair = Repair::Yes;
    let mended = pair.run().await;
    let left: Vec<_> = mended.named.iter().filter(|differs| differs.fate != Fate::Mended).collect();
    assert_eq!((mended.different(), mended.mended(), mended.is_equal()), (1_000, 1_000, true), "{left:?}");
    let touched: BTreeMap<RowId, u64> = std::mem::take(&mut touched.lock().unwrap());
    assert_eq!(touched.keys().collect::<Vec<_>>(), planted.keys().collect::<Vec<_>>(), "these rows and no others");
    let rows = [pair.rows(EAST), pair.rows(NORTH)];
    for (id, kind) in &planted {
        let issuer = id.row.as_str()[1..].parse::<usize>().unwrap() / 7 % 2;
        // R10: where the loser's own region has issued what is newer elsewhere, what its store has decided for is lifted.
        let lifted = match kind {
            Difference::Content => true,
            Difference::Stale | Difference::DeletedHere => issuer == NORTH,
            Difference::Newer | Difference::DeletedThere => issuer == EAST,
            Difference::Missing | Difference::Extra => false,
        };
        assert_eq!(touched[id], if lifted { 2 } else { 1 }, "writes to {id}, which was {kind}");
        let held = [EAST, NORTH].map(|n| rows[n].get(id).cloned());
        assert_eq!(held[EAST], held[NORTH], "{kind}");
        let held = held[EAST].as_ref().map(|row| (row.version().cloned().unwrap(), row.string("A").unwrap()));
        match kind {
            Difference::Content => {
                let (version_now, text) = held.unwrap();
                assert!(version_now.is_of(&region(issuer)) && version_now > version(issuer, 5), "{version_now}");
                assert_eq!(text, ["a", "b"][issuer], "its own region has the word");
            }
            _ if lifted => {
                let (version_now, text) = held.unwrap();
                assert!(version_now.is_of(&region(issuer)) && version_now > version(issuer, 6), "{version_now}");
                assert_eq!(text, "a", "what stands in its own region");
            }
            Difference::DeletedHere | Difference::DeletedThere => assert_eq!(held, None, "nothing comes back"),
            Difference::Missing | Difference::Extra => assert_eq!(held, Some((version(issuer, 5), "a".to_owned()))),
            Difference::Stale | Difference::Newer => assert_eq!(held, Some((version(issuer, 6), "b".to_owned()))),
        }
    }
    pair.verify.repair = Repair::No;
    let again = pair.run().await;
    assert_eq!((again.different(), again.waits()), (0, 0), "{:?}", again.named);
}

#[tokio::test(start_paused = true)]
async fn what_is_mended_comes_to_every_other_region_too_and_a_row_that_is_refused_is_left() {
    let world = World::new(&[Role::Writer, Role::Writer, Role::Writer]).await;
    let mut verify = Verify { repair: Repair::Yes, ..verify(&world) };
    let at = |n: usize| world.stores[n].clone();
    let old = version(NORTH, 5);
    // North alone has this one: nobody has announced it.
    at(NORTH).write(&table(), &Operation::Insert(body(&id(1), "a", &old))).await.unwrap();
    // North alone knows that this one was deleted.
    for n in [EAST, 2] {
        at(n).write(&table(), &Operation::Insert(body(&id(2), "a", &old))).await.unwrap();
    }
    let tombstone = encode_tombstone(&Tombstone { id: id(2), version: version(NORTH, 6) });
    at(NORTH).write(&SystemTable::Feed.name(), &Operation::Insert(tombstone)).await.unwrap();
    // North has one that would win for ever.
    let future = Version::new(world.runtime.now() + Duration::from_secs(900), &region(NORTH), WriterId(1));
    at(NORTH).write(&table(), &Operation::Insert(body(&id(3), "a", &future))).await.unwrap();
    tokio::time::sleep(SETTLED).await;
    let mended = verify.run(&CancellationToken::new(), &mut |_| {}).await.unwrap();
    let fates: Vec<_> = mended.named.iter().map(|differs| (differs.kind, differs.fate)).collect();
    let of =
        [(Difference::Extra, Fate::Mended), (Difference::DeletedThere, Fate::Mended), (Difference::Extra, Fate::Left)];
    assert_eq!(fates, of, "{:?}", mended.named);
    assert!(!mended.is_equal() && mended.named[2].why.as_ref().unwrap().contains("quarantine"), "{:?}", mended.named);
    world
        .until("south has both", 200, |world| {
            world.records() == 0 && [EAST, 2].iter().all(|n| world.contents(*n) == [body(&id(1), "a", &old)])
        })
        .await;

    // It is named now, and no difference.
    (verify.repair, verify.content) = (Repair::No, false);
    let again = verify.run(&CancellationToken::new(), &mut |_| {}).await.unwrap();
    assert_eq!((again.different(), again.named[0].waits), (0, Some(Waits::Quarantined)), "{:?}", again.named);
}

#[tokio::test(start_paused = true)]
async fn regions_that_are_written_to_while_they_are_mended_stay_right() {
    let world = World::new(&[Role::Writer, Role::Standby, Role::Replica]).await;
    let verify = Verify { repair: Repair::Yes, ..verify(&world) };
    world
        .writing_under(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            for round in 0..8 {
                // Behind everybody's back: an old state of a row that is being written.
                let rows = world.stores[NORTH].snapshot(&table());
                let row = &rows[round % rows.len()];
                let old = body(&RowId::new(table(), "p".into(), row.body.row().clone()), "old", &version(EAST, 1));
                world.stores[NORTH].write(&table(), &Operation::InsertOrReplace(old)).await.unwrap();
                verify.run(&CancellationToken::new(), &mut |_| {}).await.unwrap();
            }
        })
        .await;
    world.nothing_is_lost().await;
    let found = Verify { repair: Repair::No, ..verify }.run(&CancellationToken::new(), &mut |_| {}).await.unwrap();
    assert_eq!((found.different(), found.waits()), (0, 0), "{:?}", found.named);
}
