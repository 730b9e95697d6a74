//! Rows that move under constant writes and reads, in virtual time: a command that is killed and begun again, writers and readers that
//! follow the published routes each at its own pace, and bugs that must be caught.

mod passes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use futures::FutureExt;
use tokio::time::timeout;

use super::*;
use crate::feed::is_record_key;
use crate::model::{AccountName, RowBody, RowId, Time, Version, WriterId};
use crate::planted::{Bug, plant};
use crate::replicator::{Replicator, Settings, Setup};
use crate::stores::memory::MemoryTables;
use crate::stores::{Account, Condition, Operation, Tables};
use crate::topology::{FileRoles, Role};
use crate::writer::{Writer, WriterOptions, read_routed};

const ACCOUNTS: usize = 5;
const ROWS: usize = 60;
const HOLD: Duration = Duration::from_secs(20);

fn orders() -> TableName {
    TableName::new("orders").unwrap()
}

fn id(n: usize) -> RowId {
    RowId::new(orders(), format!("customer-{}", n / 3).as_str().into(), format!("r{n}").as_str().into())
}

fn named(name: &str) -> AccountName {
    AccountName::new(name).unwrap()
}

fn west() -> Region {
    Region::new("west").unwrap()
}

/// The routes over the first so many accounts.
fn over(accounts: usize) -> Routes {
    Routes::spread_over((1..=accounts).map(|n| named(&format!("w{n}")))).unwrap()
}

/// What is true of a row, as its only writer knows: a number that rises with each step, and what stands since.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Truth {
    step: u64,
    /// `None` while a write is under way.
    stands: Option<Option<String>>,
}

struct World {
    runtime: Runtime,
    accounts: Vec<Arc<MemoryTables>>,
    north: Arc<MemoryTables>,
    truths: Mutex<BTreeMap<usize, Truth>>,
    missed: Mutex<Vec<String>>,
    stop: CancellationToken,
}

impl World {
    /// Four accounts hold rows, five are in the file of the daemons.
    async fn new(seed: u64) -> Arc<Self> {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_700_000_000), seed);
        let account =
            |region: &str, name: &str| MemoryTables::new(Region::new(region).unwrap(), named(name), runtime.clone());
        let accounts: Vec<_> = (1..=ACCOUNTS).map(|n| account("west", &format!("w{n}"))).collect();
        let north = account("north", "n1");
        let (truths, missed, stop) = (Mutex::default(), Mutex::default(), CancellationToken::new());
        let world = Arc::new(Self { runtime, accounts, north, truths, missed, stop });
        let store = world.store(5);
        create_missing(&store).await.unwrap();
        create_missing(&world.store_of_north()).await.unwrap();
        for tables in world.accounts.iter().chain([&world.north]) {
            tables.create_table(&orders()).await.unwrap();
        }
        let copy = store.read_routes().await.unwrap();
        let first = PublishedRoutes {
            region: west(),
            epoch: 1,
            home: named("w1"),
            hold: HOLD,
            endpoints: BTreeMap::new(),
            rules: over(4),
            moving: None,
        };
        assert!(store.replace_routes(&copy, &first).await.unwrap());
        store.spread_routes(&first).await.unwrap();
        world
    }

    fn line(tables: &Arc<MemoryTables>) -> Account {
        let line = tables.by_another_line();
        line.faults().set_latency(Duration::from_millis(3), Duration::from_millis(4));
        Account { tables: line, queue: None }
    }

    /// West by lines of its own, as a file says that spreads rows over so many accounts.
    fn store(&self, wanted: usize) -> RegionStore {
        RegionStore::routed(west(), self.accounts.iter().map(Self::line).collect(), over(wanted))
    }

    fn store_of_north(&self) -> RegionStore {
        RegionStore::new(self.north.region().clone(), vec![Self::line(&self.north)])
    }

    fn settings(&self) -> Settings {
        Settings {
            settle_window: HOLD,
            park_after: HOLD / 4,
            roles_poll: HOLD / 16,
            // Eighty shards: what the line asks while it waits is most of what a history costs.
            poll_busy: Duration::from_millis(500),
            poll_active: Duration::from_secs(2),
            poll_idle: Duration::from_secs(4),
            ..Settings::default()
        }
    }

    fn daemon(&self, local: RegionStore, other: RegionStore) {
        let roles = [local.region(), other.region()].map(|region| (region.clone(), Role::Writer));
        let replicator = Replicator::new(Setup {
            local,
            destinations: vec![other],
            cache: None,
            copies: Vec::new(),
            tables: TableFilter::Every,
            roles: FileRoles::new(roles.into_iter().collect()),
            reading: None,
            settings: self.settings(),
            runtime: self.runtime.clone(),
        });
        let stop = self.stop.clone();
        #[expect(clippy::disallowed_methods, reason = "the test's world is the supervisor")]
        tokio::spawn(async move { replicator.run(stop).await.expect("the line runs until it is stopped") });
    }

    fn rebalance(&self, wanted: usize) -> Rebalance {
        Rebalance {
            store: self.store(wanted),
            tables: TableFilter::Every,
            share_percent: 100,
            account_rows: 20_000,
            settle_window: HOLD,
            lease: self.settings().lease,
            runtime: self.runtime.clone(),
        }
    }

    fn writer(&self, store: RegionStore) -> Writer {
        let options = WriterOptions { settle_window: HOLD, ..WriterOptions::default() };
        Writer::new(store, options, self.runtime.clone())
    }

    /// Puts and deletes the rows that are its own, over and over. Nobody else writes them, so what it was answered is true.
    async fn write(self: Arc<Self>, part: usize, parts: usize, store: RegionStore) {
        let writer = self.writer(store);
        for round in 0u64.. {
            for n in (part..ROWS).step_by(parts) {
                if self.stop.is_cancelled() {
                    return;
                }
                self.step(&writer, n, round).await;
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
        }
    }

    async fn step(&self, writer: &Writer, n: usize, round: u64) {
        let (id, text) = (id(n), format!("{n} in round {round}"));
        let put = round == 0 || self.runtime.jitter(Duration::from_millis(100)) > Duration::from_millis(30);
        self.now(n, None);
        let done = match put {
            true => {
                let body = RowBody::builder(&id.partition, &id.row).string("A", &text).finish();
                writer.insert_or_replace(&id.table, &body, None).await.map(drop)
            }
            false => writer.delete(&id.table, &id.partition, &id.row, Condition::Present, None).await.map(drop),
        };
        done.unwrap_or_else(|error| panic!("row {n}: {error}"));
        self.now(n, Some(put.then_some(text)));
    }

    fn now(&self, n: usize, stands: Option<Option<String>>) {
        let mut truths = self.truths.lock().unwrap();
        let truth = truths.entry(n).or_default();
        *truth = Truth { step: truth.step + 1, stands };
    }

    fn truth(&self, n: usize) -> Truth {
        self.truths.lock().unwrap().get(&n).cloned().unwrap_or_default()
    }

    /// Reads rows where the published routes say, and notes what was missed though it stood all along.
    async fn read(self: Arc<Self>, store: RegionStore) {
        for n in (0..ROWS).cycle().step_by(7) {
            if self.stop.is_cancelled() {
                return;
            }
            let heard = store.routes_heard().filter(|heard| heard.elapsed() < HOLD / 2);
            if heard.is_none() {
                store.follow_routes().await.unwrap();
            }
            let before = self.truth(n);
            let found = read_routed(&store, &id(n)).await.unwrap();
            if before == self.truth(n) && matches!(before.stands, Some(Some(_))) && found.is_none() {
                let epoch = store.routes_epoch();
                self.missed.lock().unwrap().push(format!("row {n} by the routes of epoch {epoch:?}"));
            }
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    }

    /// Every row that some account of west has of the table: where, and what it says.
    fn held(&self) -> Vec<(RowId, String, Option<String>)> {
        let of = |tables: &Arc<MemoryTables>| {
            let account = tables.account().to_string();
            let row = move |row: crate::model::Row| {
                let id = RowId::new(orders(), row.body.partition().clone(), row.body.row().clone());
                (id, account.clone(), row.body.string("A"))
            };
            tables.snapshot(&orders()).into_iter().map(row).collect::<Vec<_>>()
        };
        self.accounts.iter().flat_map(of).collect()
    }

    fn records(&self) -> usize {
        let of = |tables: &Arc<MemoryTables>| {
            tables.snapshot(&SystemTable::Feed.name()).iter().filter(|row| is_record_key(row.body.row())).count()
        };
        self.accounts.iter().chain([&self.north]).map(of).sum()
    }

    async fn until_quiet(&self) -> Result<(), String> {
        for _ in 0..600 {
            if self.records() == 0 {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        Err(format!("{} records are left", self.records()))
    }

    /// Every row is where the routes lead and nowhere else, in both regions the same, and as its writer knows.
    fn judged(&self, accounts: usize) -> Result<(), String> {
        let rules = over(accounts);
        let (mut here, mut on_the_new_one) = (BTreeMap::new(), 0);
        for (id, account, text) in self.held() {
            let place = rules.place(&id.table, &id.partition).account.to_string();
            if place != account {
                return Err(format!("{id} is in {account}, and its place is {place}"));
            }
            on_the_new_one += usize::from(account == format!("w{ACCOUNTS}"));
            here.insert(id, text);
        }
        if on_the_new_one * 15 < ROWS {
            return Err(format!("only {on_the_new_one} rows are in the new account"));
        }
        for tables in &self.accounts {
            for row in tables.snapshot(&SystemTable::Feed.name()) {
                let id = crate::feed::decode_tombstone(&row).map_err(|error| error.to_string())?.id;
                if rules.place(&id.table, &id.partition).account != tables.account() {
                    return Err(format!("a tombstone of {id} is in {}", tables.account()));
                }
            }
        }
        let row = |row: crate::model::Row| {
            (RowId::new(orders(), row.body.partition().clone(), row.body.row().clone()), row.body.string("A"))
        };
        let there: BTreeMap<_, _> = self.north.snapshot(&orders()).into_iter().map(row).collect();
        for n in 0..ROWS {
            let id = id(n);
            let truth = self.truth(n).stands.ok_or("a writer was cut off")?;
            let (ours, theirs) = (here.get(&id).cloned().flatten(), there.get(&id).cloned().flatten());
            if ours != truth || theirs != truth {
                return Err(format!("{id}: {truth:?} was written, {ours:?} is in west and {theirs:?} in north"));
            }
        }
        let missed = self.missed.lock().unwrap();
        if missed.is_empty() { Ok(()) } else { Err(format!("{} reads missed, first {}", missed.len(), missed[0])) }
    }
}

/// A fifth account is added under constant writes and reads; the command is killed a few times on the way.
async fn history(seed: u64) -> Result<Rebalanced, String> {
    let world = World::new(seed).await;
    world.daemon(world.store(5), world.store_of_north());
    world.daemon(world.store_of_north(), world.store(5));
    let mut crowd = tokio::task::JoinSet::new();
    for part in 0..2 {
        crowd.spawn(world.clone().write(part, 2, world.store(5)));
        crowd.spawn(world.clone().read(world.store(5)));
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    let mut done = None;
    for life in 1..16 {
        let rebalance = world.rebalance(5);
        let lives = Duration::from_secs(6 * life) + world.runtime.jitter(Duration::from_secs(20));
        match timeout(lives, rebalance.run(&CancellationToken::new(), &mut |_, _| {})).await {
            Ok(ended) => {
                done = Some(ended.map_err(|error| error.to_string())?);
                break;
            }
            // Killed: the next one goes on.
            Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
        }
    }
    tokio::time::sleep(Duration::from_secs(15)).await;
    // Writers and readers end where they are; daemons go on until all is told.
    let stop = world.stop.clone();
    crowd.abort_all();
    while crowd.join_next().await.is_some() {}
    // Who was cut off in the middle of a write does not know what stands: it is written once more.
    let writer = world.writer(world.store(5));
    for n in 0..ROWS {
        if world.truth(n).stands.is_none() {
            world.step(&writer, n, 0).await;
        }
    }
    let quiet = world.until_quiet().await;
    stop.cancel();
    quiet?;
    world.judged(5)?;
    done.ok_or_else(|| "it never ended".to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_fifth_account_takes_its_share_under_constant_writes_and_no_read_misses_a_row() {
    let done = history(1).await.unwrap_or_else(|broken| panic!("{broken}"));
    // The commands that were killed did their part of it.
    assert_eq!((done.epoch, done.left), (4, 0), "{done:?}");
}

/// A row whose place is another one by the new routes.
fn moved() -> usize {
    let place = |rules: &Routes, id: &RowId| rules.place(&id.table, &id.partition).account.clone();
    (0..ROWS).find(|n| place(&over(4), &id(*n)) != place(&over(5), &id(*n))).expect("one in five")
}

/// Puts a row where these routes have it, with a version of this second.
async fn put(store: &RegionStore, rules: &Routes, id: &RowId, (text, second): (&str, i64)) {
    let version = Version::new(Time::from_unix_seconds(1_700_000_000 + second), &west(), WriterId(1));
    let body = RowBody::builder(&id.partition, &id.row).string("A", text).finish().stamped(&version);
    let place = store.by(rules).holding(&id.table, &id.partition);
    place.write(&id.table, &Operation::Insert(body)).await.unwrap();
}

/// The new routes come into force, and the old ones are told of.
async fn switch(store: &RegionStore) {
    let copy = store.read_routes().await.unwrap();
    let published = copy.published.clone().unwrap();
    let moving = Some(MovingRows { state: MoveState::Reading, rules: published.rules.clone() });
    let next = PublishedRoutes { epoch: published.epoch + 1, rules: over(5), moving, ..published };
    assert!(store.replace_routes(&copy, &next).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn what_is_newer_in_its_place_stays_when_the_older_one_is_brought_over() {
    for bug in [None, Some(Bug::MovedBlindly)] {
        let world = World::new(1).await;
        let (store, id) = (world.store(5), id(moved()));
        put(&store, &over(4), &id, ("old", 10)).await;
        put(&store, &over(5), &id, ("new", 20)).await;
        switch(&store).await;
        plant(bug);
        store.passage(&id.table, &id.partition).expect("it moves").bring(&id).await.unwrap();
        plant(None);
        let found = read_routed(&store, &id).await.unwrap().expect("it is there");
        assert_eq!(found.body.string("A").unwrap(), if bug.is_none() { "new" } else { "old" });
    }
}

#[tokio::test(start_paused = true)]
async fn a_reader_finds_what_is_still_where_it_was_and_nothing_that_was_deleted_since() {
    for bug in [None, Some(Bug::OldPlaceNotRead)] {
        let world = World::new(1).await;
        let (store, id) = (world.store(5), id(moved()));
        put(&store, &over(4), &id, ("old", 10)).await;
        switch(&store).await;
        plant(bug);
        let found = read_routed(&store, &id).await.unwrap();
        plant(None);
        assert_eq!(found.is_some(), bug.is_none());
        // The tombstone stands in its new place; the copy is still in the old one.
        let version = Version::new(Time::from_unix_seconds(1_700_000_015), &west(), WriterId(1));
        let tombstone = crate::feed::encode_tombstone(&crate::model::Tombstone { id: id.clone(), version });
        let place = store.holding(&id.table, &id.partition);
        place.write(&SystemTable::Feed.name(), &Operation::Insert(tombstone)).await.unwrap();
        assert_eq!(read_routed(&store, &id).await.unwrap(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_writer_puts_by_the_old_routes_comes_to_its_place_and_to_every_region() {
    for bug in [None, Some(Bug::PreviousPlaceForgotten)] {
        let world = World::new(1).await;
        world.daemon(world.store(5), world.store_of_north());
        world.daemon(world.store_of_north(), world.store(5));
        tokio::time::sleep(HOLD).await;
        let (writer, n) = (world.writer(world.store(5)), moved());
        let other = (0..ROWS).find(|other| *other != n).expect("there are more");
        // So it has read the routes, and goes by these for a while.
        world.step(&writer, other, 0).await;
        switch(&world.store(5)).await;
        tokio::time::sleep(HOLD / 8).await;
        plant(bug);
        world.step(&writer, n, 0).await;
        let was = over(4).place(&orders(), &id(n).partition).account.to_string();
        assert!(world.held().iter().any(|(id_of, account, _)| *id_of == id(n) && *account == was));
        world.until_quiet().await.unwrap();
        plant(None);
        world.stop.cancel();
        let is = over(5).place(&orders(), &id(n).partition).account.to_string();
        let came = world.held().iter().any(|(id_of, account, _)| *id_of == id(n) && *account == is);
        let in_north = world.north.snapshot(&orders()).iter().any(|row| *row.body.row() == id(n).row);
        assert_eq!((came, in_north), (bug.is_none(), bug.is_none()));
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_deleted_where_it_was_that_its_place_does_not_have() {
    for planted in [false, true] {
        let world = World::new(1).await;
        let (store, tables, was, id) = (world.store(5), TableFilter::Every, over(4), id(moved()));
        put(&store, &over(4), &id, ("new", 20)).await;
        put(&store, &over(5), &id, ("old", 10)).await;
        assert_eq!(world.held().len(), 2);
        let bringing = Bringing {
            places: store.by(&over(5)),
            store,
            was: &was,
            tables: &tables,
            fresh: HOLD / 2,
            settles: HOLD * 2,
            mirrors: false,
            epoch: 1,
        };
        let (stop, tell) = (CancellationToken::new(), &mut |_| {});
        plant(planted.then_some(Bug::MovedRowDeletedUnverified));
        let cleaned = bringing.clean(&stop, tell).await.unwrap();
        plant(None);
        let newest = world.held().into_iter().any(|(_, _, text)| text.as_deref() == Some("new"));
        assert_eq!((newest, cleaned.open), if planted { (false, 0) } else { (true, 1) }, "{id}");
        if !planted {
            assert_eq!(bringing.pass(&stop, tell).await.unwrap(), Counted { moved: 1, brought: 1, astray: 1 });
            let cleaned = bringing.clean(&stop, tell).await.unwrap();
            assert_eq!((cleaned.deleted, cleaned.open, cleaned.left), (1, 0, 0));
            assert_eq!(world.held().len(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_begins_only_where_every_account_is_carried_and_ends_where_nothing_has_to_move() {
    let world = World::new(1).await;
    let run = async |wanted: usize| world.rebalance(wanted).run(&CancellationToken::new(), &mut |_, _| {}).await;
    assert_eq!(run(4).await.unwrap().passes, 0);
    let error = run(5).await.unwrap_err().to_string();
    assert!(error.contains("0 of 16 shards of account w1"), "{error}");
    assert_eq!(world.store(5).read_routes().await.unwrap().published.unwrap().epoch, 1);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_given_up_while_it_copies_leaves_everything_as_it_was() {
    let world = World::new(1).await;
    world.daemon(world.store(5), world.store_of_north());
    let writer = world.writer(world.store(5));
    for n in 0..ROWS {
        world.step(&writer, n, 0).await;
    }
    tokio::time::sleep(HOLD).await;
    let (begun, stop) = (world.rebalance(5), CancellationToken::new());
    // Copied it is at once, and then it waits until every reader knows.
    let ended = timeout(HOLD / 2, begun.run(&stop, &mut |_, _| {})).await;
    assert!(ended.is_err() && world.held().len() > ROWS, "{ended:?}");
    // What was copied to an account that is no more in the file could not be taken back.
    let four = world.accounts.iter().take(4).map(World::line).collect();
    let without = Rebalance { store: RegionStore::routed(west(), four, over(4)), ..world.rebalance(4) };
    let refused = without.run(&stop, &mut |_, _| {}).await.unwrap_err();
    assert!(matches!(&refused, RebalanceError::AccountGone(account) if account.as_str() == "w5"), "{refused}");
    let done = world.rebalance(4).run(&stop, &mut |_, _| {}).await.unwrap();
    assert_eq!((done.epoch, done.left, world.held().len()), (4, 0, ROWS));
}

#[tokio::test(start_paused = true)]
async fn who_still_copies_gets_no_further_once_another_command_takes_that_back() {
    for bug in [None, Some(Bug::GivenUpUnsaid)] {
        let world = World::new(1).await;
        world.daemon(world.store(5), world.store_of_north());
        tokio::time::sleep(HOLD).await;
        let (copies, takes_back, stop) = (world.rebalance(5), world.rebalance(4), CancellationToken::new());
        plant(bug);
        let copies = async { copies.run(&stop, &mut |_, _| {}).await };
        let takes_back = async {
            tokio::time::sleep(HOLD / 4).await;
            takes_back.run(&stop, &mut |_, _| {}).await
        };
        let (copied, taken_back) = tokio::join!(copies, takes_back);
        plant(None);
        let overtaken = |ended: &Result<Rebalanced, _>| matches!(ended, Err(RebalanceError::Overtaken));
        assert_eq!(
            (overtaken(&copied), overtaken(&taken_back)),
            (bug.is_none(), bug.is_some()),
            "{copied:?} {taken_back:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_overtaken_when_all_is_copied_does_not_begin_again() {
    let world = World::new(1).await;
    world.daemon(world.store(5), world.store_of_north());
    tokio::time::sleep(HOLD).await;
    let direct = world.accounts.iter().map(|tables| Account { tables: tables.clone(), queue: None }).collect();
    let (direct, home) = (RegionStore::routed(west(), direct, over(4)), world.accounts[0].by_another_line());
    // Just as the routes are about to come into force, somebody takes all of it back.
    home.faults().set_rule(move |request| {
        let publishes =
            !request.operations.is_empty() && request.table.is_some_and(|table| *table == SystemTable::Control.name());
        let copy = direct.read_routes().now_or_never().expect("memory answers at once").unwrap();
        let now = copy.published.clone().expect("they are published");
        if publishes && now.epoch == 2 {
            let moving = Some(MovingRows { state: MoveState::Filling, rules: over(4) });
            let given_up = PublishedRoutes { epoch: 3, moving, ..now };
            assert!(direct.replace_routes(&copy, &given_up).now_or_never().expect("at once").unwrap());
        }
        None
    });
    let mut accounts: Vec<Account> = world.accounts.iter().map(World::line).collect();
    accounts[0] = Account { tables: home, queue: None };
    let store = RegionStore::routed(west(), accounts, over(5));
    let rebalance = Rebalance { store, ..world.rebalance(5) };
    let ended = rebalance.run(&CancellationToken::new(), &mut |_, _| {}).await;
    assert!(matches!(ended, Err(RebalanceError::Overtaken)), "{ended:?}");
    assert_eq!(world.store(5).read_routes().await.unwrap().published.unwrap().epoch, 3);
}
