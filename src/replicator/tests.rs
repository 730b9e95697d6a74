//! The line on memory stores, in virtual time.

mod cache;
mod comeback;
mod conflicts;
mod cut;
mod hints;
mod late;
mod quarantine;
mod readers;
mod roles;
mod storm;
mod taken_out;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::cache::{CacheMode, KeyTemplate};
use crate::feed::{decode_record, encode_change, encode_message, encode_tombstone, is_record_key};
use crate::model::*;
use crate::runtime::Runtime;
use crate::stores::memory::{Fault, Faults, MemoryCache, MemoryTables, RequestKind};
use crate::stores::{Cache, Condition, ErrorKind, Operation, Query, Scope, Tables};
use crate::telemetry::metrics::ApplyOutcome;
use crate::topology::{FileRoles, Role, TableFilter};

struct World {
    stores: Vec<Arc<MemoryTables>>,
    regions: Vec<RegionStore>,
    runtime: Runtime,
    stops: Vec<CancellationToken>,
    caches: Vec<Arc<MemoryCache>>,
    boards: Vec<Arc<StatusBoard>>,
    clocks: Vec<HybridClock>,
    /// Every region is a writer where a test says nothing else.
    roles: BTreeMap<Region, Role>,
}

const NAMES: [&str; 3] = ["east", "north", "west"];

fn table() -> TableName {
    TableName::new("orders").unwrap()
}

impl World {
    async fn new(regions: usize) -> Self {
        Self::seeded(regions, 7).await
    }

    async fn seeded(regions: usize, seed: u64) -> Self {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_700_000_000), seed);
        let mut world = Self {
            stores: vec![],
            regions: vec![],
            runtime,
            stops: vec![],
            caches: vec![],
            boards: vec![],
            clocks: vec![],
            roles: BTreeMap::new(),
        };
        for name in &NAMES[..regions] {
            let region = Region::new(name).unwrap();
            let account = AccountName::new("one").unwrap();
            let store = MemoryTables::new(region.clone(), account, world.runtime.clone());
            store.faults().set_latency(Duration::from_millis(5), Duration::ZERO);
            let tables: Arc<dyn Tables> = store.clone();
            let queue: Arc<dyn crate::stores::Queue> = store.queue("relay-changes");
            let accounts = vec![crate::stores::Account { tables, queue: Some(queue) }];
            world.caches.push(MemoryCache::new(CacheMode::WriteThrough, None, world.runtime.clone()));
            world.roles.insert(region.clone(), Role::Writer);
            world.clocks.push(HybridClock::new(region.clone(), world.runtime.writer_id(), Duration::from_secs(60)));
            let region = RegionStore::new(region, accounts);
            create_missing(&region).await.unwrap();
            store.create_table(&table()).await.unwrap();
            world.stores.push(store);
            world.regions.push(region);
        }
        world
    }

    fn start(&mut self, settings: &Settings) {
        for n in 0..self.regions.len() {
            self.start_one(n, settings);
        }
    }

    fn start_one(&mut self, n: usize, settings: &Settings) {
        let stop = CancellationToken::new();
        let replicator = Replicator::new(Setup {
            local: self.regions[n].clone(),
            copies: vec![],
            destinations: self.regions.iter().enumerate().filter(|(m, _)| *m != n).map(|(_, r)| r.clone()).collect(),
            cache: Some(CacheSetup {
                cache: self.caches[n].clone(),
                markers: Some(self.caches[n].client(CacheMode::WriteThrough, None)),
                keys: KeyTemplate::default(),
                warm: None,
            }),
            tables: TableFilter::Every,
            roles: FileRoles::new(self.roles.clone()),
            reading: None,
            settings: settings.clone(),
            runtime: self.runtime.clone(),
        });
        self.boards.push(replicator.status());
        self.stops.push(stop.clone());
        #[expect(clippy::disallowed_methods, reason = "the test's world is the supervisor")]
        tokio::spawn(async move { replicator.run(stop).await.expect("the line runs until it is stopped") });
    }

    fn version(&mut self, n: usize) -> Version {
        let now = self.runtime.now();
        self.clocks[n].issue(now, None).unwrap()
    }

    async fn announce(&self, n: usize, partition: &str, puts: &[&str], deletes: &[&str], version: &Version) {
        let keys = |names: &[&str]| names.iter().map(|name| RowKey::from(*name)).collect();
        let change = Change {
            table: table(),
            partition: partition.into(),
            puts: keys(puts),
            deletes: keys(deletes),
            version: version.clone(),
            base: None,
        };
        let feed = SystemTable::Feed.name();
        let mut operations: Vec<_> = encode_change(&change).unwrap().into_iter().map(Operation::Insert).collect();
        for (id, _) in change.rows().filter(|(_, delete)| *delete) {
            let tombstone = encode_tombstone(&Tombstone { id, version: version.clone() });
            let there = self.stores[n].get(&feed, tombstone.partition(), tombstone.row()).await.unwrap();
            operations.push(match there {
                Some(row) => Operation::Replace(tombstone, Condition::Matches(row.etag)),
                None => Operation::Insert(tombstone),
            });
        }
        let shard = operations[0].partition().clone();
        self.stores[n].transact(&feed, &shard, &operations).await.unwrap();
    }

    fn body(partition: &str, row: &str, value: &str, version: &Version) -> RowBody {
        RowBody::builder(&partition.into(), &row.into()).string("Value", value).finish().stamped(version)
    }

    async fn put(&mut self, n: usize, partition: &str, row: &str, value: &str) -> Version {
        let version = self.version(n);
        self.announce(n, partition, &[row], &[], &version).await;
        let body = Self::body(partition, row, value, &version);
        self.stores[n].write(&table(), &Operation::InsertOrReplace(body)).await.unwrap();
        version
    }

    async fn delete(&mut self, n: usize, partition: &str, row: &str) -> Version {
        let version = self.version(n);
        self.announce(n, partition, &[], &[row], &version).await;
        let gone = Operation::Delete { partition: partition.into(), row: row.into(), condition: Condition::Present };
        match self.stores[n].write(&table(), &gone).await {
            Err(error) if error.kind != ErrorKind::NotFound => panic!("{error}"),
            _ => version,
        }
    }

    fn faults(&self, n: usize) -> Faults {
        self.stores[n].faults()
    }

    /// Waits until no record is left anywhere.
    async fn settle(&self, within: Duration) {
        let deadline = self.runtime.instant() + within;
        loop {
            let open: usize = self.stores.iter().map(|store| records(store).len()).sum();
            if open == 0 {
                return;
            }
            let left: Vec<_> = self.stores.iter().map(|store| records(store)).collect();
            assert!(self.runtime.instant() < deadline, "records are left: {left:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn contents(&self, n: usize) -> Vec<RowBody> {
        self.stores[n].snapshot(&table()).into_iter().map(|row| row.body).collect()
    }

    fn assert_equal(&self) {
        for (n, name) in NAMES.iter().enumerate().take(self.stores.len()) {
            assert_eq!(self.contents(0), self.contents(n), "{} and {name} differ", NAMES[0]);
        }
    }
}

fn records(store: &MemoryTables) -> Vec<Row> {
    let feed = store.snapshot(&SystemTable::Feed.name());
    feed.into_iter().filter(|row| is_record_key(row.body.row())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_change_is_in_every_other_region_and_its_record_ends_at_once() {
    let mut world = World::new(3).await;
    world.start(&Settings::default());
    let version = world.put(0, "p", "it's", "1").await;
    world.settle(Duration::from_secs(3)).await;
    world.assert_equal();
    assert_eq!(world.contents(2)[0].version(), Some(&version));
    let applied = world.stores[1].snapshot(&SystemTable::Applied.name());
    assert_eq!(applied.len(), 1, "the applied log tells what came in");
}

#[tokio::test(start_paused = true)]
async fn updates_deletes_and_transactions_arrive() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    for round in 0..3 {
        for row in ["a", "b", "c", "d"] {
            world.put(0, "p", row, &format!("{round}")).await;
        }
    }
    world.delete(0, "p", "b").await;
    let version = world.version(0);
    world.announce(0, "q", &["x", "y"], &[], &version).await;
    let both: Vec<_> = ["x", "y"].iter().map(|row| Operation::Insert(World::body("q", row, "t", &version))).collect();
    world.stores[0].transact(&table(), &"q".into(), &both).await.unwrap();
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!(world.contents(1).len(), 5);
}

#[tokio::test(start_paused = true)]
async fn the_higher_version_wins_everywhere_and_the_journal_names_both() {
    let mut world = World::new(3).await;
    let low = world.put(0, "p", "a", "from the east").await;
    tokio::time::advance(Duration::from_millis(10)).await;
    let high = world.put(2, "p", "a", "from the west").await;
    world.start(&Settings::default());
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!(world.contents(1)[0].version(), Some(&high));
    let journal = world.stores[0].snapshot(&SystemTable::Conflicts.name());
    let named = |name: &str| journal.iter().filter_map(|row| row.body.string(name)).collect::<Vec<_>>();
    assert!(named("Winner").iter().all(|winner| winner == high.as_str()), "{journal:?}");
    assert!(named("Loser").iter().all(|loser| loser == low.as_str()));
}

#[tokio::test(start_paused = true)]
async fn what_a_link_delivered_is_counted_by_what_became_of_it() {
    let mut world = World::new(2).await;
    world.put(0, "p", "a", "older").await;
    world.put(0, "p", "b", "alone").await;
    tokio::time::advance(Duration::from_millis(10)).await;
    world.put(1, "p", "a", "newer").await;
    // Only one daemon runs, so that it is the one to find the conflict.
    world.start_one(0, &Settings::default());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let delivered = world.boards[0].snapshot().delivered.remove(world.regions[1].region()).unwrap();
    assert_eq!(delivered.conflicts, 1);
    assert_eq!(delivered.rows[&ApplyOutcome::Superseded], 1);
    assert_eq!(delivered.rows[&ApplyOutcome::Inserted], 1);
}

#[tokio::test(start_paused = true)]
async fn a_delete_is_not_undone_by_an_older_put_of_another_region() {
    let mut world = World::new(2).await;
    world.put(0, "p", "a", "old").await;
    tokio::time::advance(Duration::from_millis(10)).await;
    world.put(1, "p", "a", "newer").await;
    tokio::time::advance(Duration::from_millis(10)).await;
    world.delete(1, "p", "a").await;
    world.start(&Settings::default());
    world.settle(Duration::from_secs(140)).await;
    world.assert_equal();
    assert!(world.contents(0).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_slow_delete_that_removes_a_later_put_is_heard_of() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    // Announced while there is no row; under way for so long that another writer's put comes between.
    let slow = world.version(0);
    world.announce(0, "p", &[], &["a"], &slow).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    world.put(0, "p", "a", "put meanwhile").await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.contents(1).len(), 1);
    let gone = Operation::Delete { partition: "p".into(), row: "a".into(), condition: Condition::Present };
    world.stores[0].write(&table(), &gone).await.unwrap();
    world.settle(Duration::from_secs(200)).await;
    world.assert_equal();
    assert!(world.contents(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_regions_own_order_is_kept_where_its_clocks_disagree() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    world.put(0, "p", "a", "by the fast clock").await;
    world.settle(Duration::from_secs(5)).await;
    // A writer whose clock is behind overwrites blindly: the store of its region has decided.
    let east = Region::new("east").unwrap();
    let behind = Version::new(world.runtime.now() - Duration::from_secs(20), &east, WriterId(9));
    world.announce(0, "p", &["a"], &[], &behind).await;
    let body = World::body("p", "a", "by the slow clock", &behind);
    world.stores[0].write(&table(), &Operation::InsertOrReplace(body)).await.unwrap();
    world.settle(Duration::from_secs(140)).await;
    world.assert_equal();
    assert!(world.contents(1)[0].json().contains("by the slow clock"));
}

#[tokio::test(start_paused = true)]
async fn every_cache_holds_the_newest_version_and_marks_the_deleted() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    world.put(0, "p", "a", "1").await;
    world.put(0, "p", "gone", "1").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let version = world.put(0, "p", "a", "2").await;
    world.delete(0, "p", "gone").await;
    world.settle(Duration::from_secs(100)).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let keys = KeyTemplate::default();
    for (n, cache) in world.caches.iter().enumerate() {
        let row = |row: &str| keys.key(&RowId::new(table(), "p".into(), row.into()));
        let held = cache.get(&row("a")).await.unwrap().unwrap();
        assert_eq!(held.version, version.as_str(), "{}", NAMES[n]);
        assert_eq!(held.entry.as_deref(), Some(&**world.contents(n)[0].json()));
        assert_eq!(cache.get(&row("gone")).await.unwrap().unwrap().entry, None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_follows_its_regions_own_order_where_its_clocks_disagree() {
    // No other region ever had what the fast clock wrote: the cache alone did.
    let mut world = World::new(1).await;
    world.start(&Settings::default());
    for row in ["put", "gone"] {
        world.put(0, "p", row, "by the fast clock").await;
    }
    world.settle(Duration::from_secs(5)).await;
    let behind = Version::new(world.runtime.now() - Duration::from_secs(20), world.regions[0].region(), WriterId(9));
    world.announce(0, "p", &["put"], &["gone"], &behind).await;
    let body = World::body("p", "put", "by the slow clock", &behind);
    world.stores[0].write(&table(), &Operation::InsertOrReplace(body)).await.unwrap();
    let gone = Operation::Delete { partition: "p".into(), row: "gone".into(), condition: Condition::Present };
    world.stores[0].write(&table(), &gone).await.unwrap();
    // Where the first look falls between announcement and delete, the next one is after the window, and the lift has its own.
    world.settle(Duration::from_secs(200)).await;
    let held = |row: &str| KeyTemplate::default().key(&RowId::new(table(), "p".into(), row.into()));
    let put = world.caches[0].get(&held("put")).await.unwrap().unwrap();
    assert_eq!(put.entry.as_deref(), Some(&**world.contents(0)[0].json()));
    assert!(put.entry.unwrap().contains("by the slow clock"));
    assert_eq!(world.caches[0].get(&held("gone")).await.unwrap().unwrap().entry, None);
}

#[tokio::test(start_paused = true)]
async fn messages_become_changes_and_their_deletes_are_enforced() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    let first = world.put(0, "p", "a", "1").await;
    world.settle(Duration::from_secs(5)).await;
    let queue = world.regions[0].accounts()[0].queue.clone().unwrap();
    // A put that was written without a record, and a delete whose row was put back by an older write.
    let put = world.version(0);
    let body = World::body("p", "b", "by queue", &put);
    world.stores[0].write(&table(), &Operation::Insert(body)).await.unwrap();
    let change = |puts: &[&str], deletes: &[&str], version: Version| Change {
        table: table(),
        partition: "p".into(),
        puts: puts.iter().map(|row| RowKey::from(*row)).collect(),
        deletes: deletes.iter().map(|row| RowKey::from(*row)).collect(),
        version,
        base: None,
    };
    queue.send(&encode_message(&change(&["b"], &[], put))).await.unwrap();
    let delete = world.version(0);
    assert!(delete > first);
    queue.send(&encode_message(&change(&[], &["a"], delete))).await.unwrap();
    queue.send("not a record").await.unwrap();
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    let rows: Vec<_> = world.contents(1).iter().map(|row| row.row().clone()).collect();
    assert_eq!(rows, [RowKey::from("b")]);
    assert_eq!(world.stores[0].snapshot(&SystemTable::Quarantine.name()).len(), 1);
    assert!(queue.receive(32, Duration::from_secs(1)).await.unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn messages_of_one_version_are_records_of_their_own() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    let queue = world.regions[0].accounts()[0].queue.clone().unwrap();
    let version = world.version(0);
    for row in ["a", "b", "c"] {
        let body = World::body("p", row, "one transaction", &version);
        world.stores[0].write(&table(), &Operation::Insert(body)).await.unwrap();
    }
    for row in ["a", "b", "c", "b"] {
        let puts = vec![RowKey::from(row)];
        let (version, base) = (version.clone(), None);
        let change = Change { table: table(), partition: "p".into(), puts, deletes: vec![], version, base };
        queue.send(&encode_message(&change)).await.unwrap();
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!(world.contents(1).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_applied_log_is_collected_once_every_link_has_passed_it() {
    let mut world = World::new(3).await;
    world.start(&Settings::default());
    world.put(0, "p", "a", "1").await;
    world.settle(Duration::from_secs(5)).await;
    let left = |world: &World| world.stores[1].snapshot(&SystemTable::Applied.name()).len();
    assert_eq!(left(&world), 1);
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(left(&world), 1, "an announcement might still be open");
    tokio::time::sleep(Duration::from_secs(120)).await;
    assert_eq!(left(&world), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_destination_has_newer_is_announced_for_every_other_region() {
    let mut world = World::new(3).await;
    // The north has a newer row and no daemon: only who finds it can tell the west.
    world.put(0, "p", "a", "older").await;
    tokio::time::advance(Duration::from_millis(10)).await;
    let newer = world.version(1);
    let body = World::body("p", "a", "newer", &newer);
    world.stores[1].write(&table(), &Operation::Insert(body)).await.unwrap();
    world.start_one(0, &Settings::default());
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!(world.contents(2)[0].version(), Some(&newer));
}

#[tokio::test(start_paused = true)]
async fn a_crash_between_announcement_and_write_leaves_nothing_behind() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    let version = world.version(0);
    world.announce(0, "p", &["never"], &[], &version).await;
    world.settle(Duration::from_secs(100)).await;
    assert!(world.contents(0).is_empty() && world.contents(1).is_empty());
}

#[tokio::test(start_paused = true)]
async fn malformed_and_future_records_go_to_quarantine_and_the_line_goes_on() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    let feed = SystemTable::Feed.name();
    let bad = RowBody::builder(&"00".into(), &"c:nonsense".into()).string("Puts", "{").finish();
    world.stores[0].write(&feed, &Operation::Insert(bad)).await.unwrap();
    let east = Region::new("east").unwrap();
    let future = Version::new(world.runtime.now() + Duration::from_secs(300), &east, WriterId(9));
    world.announce(0, "p", &["later"], &[], &future).await;
    let body = World::body("p", "later", "x", &future);
    world.stores[0].write(&table(), &Operation::Insert(body)).await.unwrap();
    world.put(0, "p", "fine", "x").await;
    world.settle(Duration::from_secs(10)).await;
    assert_eq!(world.stores[0].snapshot(&SystemTable::Quarantine.name()).len(), 2);
    assert_eq!(world.contents(1).len(), 1, "a version from the future is not applied");
    // When the clock has passed it, it is announced again.
    for _ in 0..400 {
        tokio::time::advance(Duration::from_secs(1)).await;
        tokio::task::yield_now().await;
    }
    world.settle(Duration::from_secs(100)).await;
    world.assert_equal();
    assert_eq!(world.stores[0].snapshot(&SystemTable::Quarantine.name()).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_written_while_a_slow_look_is_under_way_is_not_from_the_future() {
    let mut world = World::new(1).await;
    let reads = |kind| matches!(kind, RequestKind::Get | RequestKind::Query);
    world.faults(0).set_rule(move |request| {
        (reads(request.kind) && request.table == Some(&table())).then_some(Fault::Delay(Duration::from_secs(5)))
    });
    // No sweep, which would take out again what was put into quarantine for nothing.
    let (max_clock_skew, sweep_every) = (Duration::from_secs(1), Duration::from_secs(3_600));
    world.start(&Settings { max_clock_skew, sweep_every, ..Settings::default() });
    world.put(0, "p", "a", "looked at").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    world.put(0, "p", "a", "found by that look").await;
    world.settle(Duration::from_secs(140)).await;
    assert!(world.stores[0].snapshot(&SystemTable::Quarantine.name()).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_destination_that_is_cut_off_loses_nothing_and_slows_nobody() {
    let mut world = World::new(3).await;
    world.start(&Settings::default());
    world.faults(1).cut(true);
    for n in 0..20 {
        world.put(0, &format!("p{n}"), "a", "x").await;
    }
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(world.contents(2).len(), 20, "the other destination has everything");
    assert_eq!(world.boards[0].snapshot().links[0].state, crate::settle::LinkState::BackingOff);
    tokio::time::sleep(Duration::from_secs(120)).await;
    world.faults(1).cut(false);
    world.settle(Duration::from_secs(200)).await;
    world.until_drained(0).await;
    world.assert_equal();
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(world.boards[0].snapshot().links[0].state, crate::settle::LinkState::Flowing);
}

#[tokio::test(start_paused = true)]
async fn lost_replies_and_short_pages_change_nothing() {
    let mut world = World::new(2).await;
    world.faults(0).set_short_pages(NonZeroU16::new(3));
    let counter = std::sync::atomic::AtomicU64::new(0);
    world.faults(1).set_rule(move |_| {
        let n = counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        (n % 7 == 3).then(Fault::lost_reply)
    });
    for n in 0..30 {
        world.put(0, "p", &format!("r{n}"), "x").await;
    }
    world.delete(0, "p", "r3").await;
    world.start(&Settings::default());
    world.settle(Duration::from_secs(200)).await;
    world.faults(1).clear();
    world.assert_equal();
    assert_eq!(world.contents(1).len(), 29);
}

#[tokio::test(start_paused = true)]
async fn last_sync_time_follows_the_clock_while_idle_and_is_published_at_both_ends() {
    let mut world = World::new(2).await;
    world.start(&Settings::default());
    world.put(0, "p", "a", "x").await;
    tokio::time::sleep(Duration::from_secs(30)).await;
    for region in &world.regions {
        let links = read_links(region).await.unwrap();
        let link = links.iter().find(|link| link.source.as_str() == "east").unwrap();
        let behind = world.runtime.now().since(link.last_sync.unwrap());
        assert!(behind < Duration::from_secs(10), "{behind:?} behind while idle");
        assert_eq!((link.lag, link.backlog_rows), (Duration::ZERO, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_of_a_hundred_rows_costs_few_requests() {
    let mut world = World::new(2).await;
    for n in 0..10 {
        let version = world.version(0);
        let names: Vec<String> = (0..100).map(|row| format!("r{row:03}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let partition = format!("p{n}");
        world.announce(0, &partition, &names, &[], &version).await;
        let rows = names.iter().map(|row| Operation::Insert(World::body(&partition, row, "x", &version)));
        world.stores[0].transact(&table(), &partition.as_str().into(), &rows.collect::<Vec<_>>()).await.unwrap();
    }
    let before: u64 = world.stores.iter().map(|store| store.faults().all_requests()).sum();
    world.start_one(0, &Settings::default());
    world.settle(Duration::from_secs(5)).await;
    let after: u64 = world.stores.iter().map(|store| store.faults().all_requests()).sum();
    world.assert_equal();
    assert!(after - before <= 100, "{} requests for 1,000 rows", after - before);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_decoded_as_it_was_announced() {
    let mut world = World::new(1).await;
    let version = world.put(0, "p", "a", "x").await;
    let row = &records(&world.stores[0])[0];
    assert_eq!(decode_record(row).unwrap().change.version, version);
    let all = Query::new(Scope::Table);
    assert_eq!(world.stores[0].query(&SystemTable::Feed.name(), &all).await.unwrap().rows.len(), 1);
}
