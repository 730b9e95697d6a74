//! The world of one history: regions with their accounts and caches, and lines to them.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tablerelay::cache::CacheMode;
use tablerelay::model::{AccountName, Region, Row, RowId, RowKey, SystemTable, TableName, Time};
use tablerelay::replicator::{Settings, create_missing};
use tablerelay::resolve::Freshness;
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::{Faults, MemoryCache, MemoryTables};
use tablerelay::stores::{
    Account, Condition, Metered, MeteredQueue, Operation, Queue, RegionStore, Retrying, Tables, Throttled,
    ThrottledQueue,
};
use tablerelay::topology::{
    Ageing, Alone, FileRoles, LateWrites, Partitions, ReadRules, Role, Route, RoutedTables, Routes,
};

use crate::chronicle::Chronicle;
use crate::dice::Dice;
use crate::kinds::Kind;
use crate::shape::{Focus, Shape, Topology};
use crate::sky::{Line, Sky};
use crate::whereabouts::Whereabouts;

pub const NAMES: [&str; 5] = ["east", "north", "south", "up", "west"];
/// The accounts of a region. The first of them by name is its home, however many it has.
pub const ACCOUNTS: [&str; 4] = ["one", "two", "three", "zero"];
/// The queue of changes.
const QUEUE: &str = "relay-changes";

/// One region.
pub struct Place {
    pub name: Region,
    pub accounts: Vec<Arc<MemoryTables>>,
    pub cache: Arc<MemoryCache>,
}

pub struct World {
    pub shape: Shape,
    pub dice: Dice,
    pub runtime: Runtime,
    pub sky: Arc<Sky>,
    pub chronicle: Chronicle,
    pub places: Vec<Place>,
    pub settings: Settings,
}

/// The tables of the application.
pub fn tables() -> [TableName; 2] {
    // As the protocol has it, a table's name is compared without case, and letters are enough for both.
    ["orders", "Stock"].map(|name| TableName::new(name).expect("a good name"))
}

impl World {
    pub async fn new(seed: u64) -> Self {
        let dice = Dice::seeded(seed);
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_795_000_000), seed);
        let shape = Shape::of(seed, &dice);
        let names: Vec<String> = NAMES[..shape.regions()].iter().map(|name| (*name).to_owned()).collect();
        let chronicle = Chronicle::new(names.clone(), &runtime, shape.skew);
        if shape.late_writes == LateWrites::Journal {
            chronicle.book().journals = Some(shape.window / 2 + shape.quarter() + Duration::from_millis(1_500));
        }
        (chronicle.book().collects, chronicle.book().window) = (shape.collects, shape.window);
        chronicle.book().whereabouts = shape.rebalances.map(|(region, _)| Whereabouts::of(region));
        let sky = Sky::new(dice.clone(), chronicle.clone(), &shape, names);
        let settings = Settings {
            settle_window: shape.window,
            max_clock_skew: shape.skew,
            sweep_every: Duration::from_secs(5),
            publish_every: Duration::from_secs(2),
            max_open_records: shape.max_open_records,
            backoff_last: shape.backoff,
            park_after: shape.park_after,
            lease: shape.lease,
            late_writes: shape.late_writes,
            minds_marks: shape.collects.is_some(),
            roles_poll: Duration::from_secs(1).min(shape.window / 8),
            tombstone_scan: dice.pick(&[1, 3, 1_000]),
            ..Settings::default()
        };
        let mut world = Self { shape, dice, runtime, sky, chronicle, places: vec![], settings };
        for number in 0..world.shape.regions() {
            let place = world.place(number).await;
            world.places.push(place);
        }
        world
    }

    async fn place(&self, number: usize) -> Place {
        let name = Region::new(NAMES[number]).expect("a good name");
        let mut accounts = Vec::new();
        for account in &ACCOUNTS[..self.shape.accounts[number]] {
            // The clocks of storage are kept well, but not perfectly.
            let clock = self.runtime.skewed(self.dice.skew(Duration::from_millis(100)));
            let store = MemoryTables::new(name.clone(), AccountName::new(account).expect("a good name"), clock);
            for table in tables() {
                store.create_table(&table).await.expect("nothing goes wrong yet");
            }
            let (chronicle, region, at) = (self.chronicle.clone(), name.clone(), accounts.len());
            store.watch(move |effect| chronicle.take((number, at), &region, effect));
            accounts.push(store);
        }
        let cache = MemoryCache::new(CacheMode::WriteThrough, None, self.runtime.clone());
        let (sky, line) =
            (self.sky.clone(), Line { who: "cache".into(), from: number, to: number, account: 0, cache: true });
        cache.faults().set_latency(Duration::from_millis(1), Duration::ZERO);
        cache.faults().set_rule(move |request| sky.meet(&line, request));
        let plain = accounts.iter().map(|store| {
            let queue: Arc<dyn Queue> = store.queue(QUEUE);
            Account { tables: store.clone(), queue: Some(queue) }
        });
        let store = RegionStore::new(name.clone(), plain.collect());
        create_missing(&store).await.expect("nothing goes wrong yet");
        Place { name, accounts, cache }
    }

    /// The roles that the file of this world gives.
    pub fn roles(&self) -> FileRoles {
        let role = |region: usize| match self.shape.topology {
            _ if self.shape.writes(region) => Role::Writer,
            Topology::ActivePassive => Role::Standby,
            // One is kept for a failover.
            Topology::ActiveActive if region == self.shape.regions() - 1 => Role::Standby,
            Topology::ActiveActive | Topology::MultiActive => Role::Replica,
        };
        let named = NAMES[..self.shape.regions()].iter().enumerate();
        FileRoles::new(named.map(|(region, name)| (Region::new(name).expect("a good name"), role(region))).collect())
    }

    /// What readers are let in or refused by, where there is a limit on staleness.
    pub fn reading(&self) -> Option<ReadRules> {
        Some(ReadRules { limit: self.shape.limit?, alone: Alone::Serve })
    }

    /// A region as `who`, from region `from`, sees it: by lines of its own. A daemon's adapters wrap what they use, as in
    /// the program.
    pub fn lines(&self, who: &str, from: usize, to: usize, daemon: bool) -> RegionStore {
        let place = &self.places[to];
        let accounts = place.accounts.iter().enumerate().map(|(account, store)| {
            let line = store.by_line(&format!("{who}>{}", place.name));
            self.spoil(&line.faults(), Line { who: who.into(), from, to, account, cache: false }, daemon);
            let queue = line.queue(QUEUE);
            if !daemon {
                return Account { tables: line, queue: Some(queue) };
            }
            let queue = MeteredQueue::new(place.name.clone(), line.account().clone(), queue);
            let patience = Freshness::patience(self.shape.window);
            let throttled = Throttled::new(Metered::new(line), self.runtime.clone(), patience);
            let queue = ThrottledQueue::beside(&throttled, queue);
            Account { tables: Retrying::new(throttled, self.runtime.clone()), queue: Some(queue) }
        });
        match self.shape.rebalances.filter(|(region, _)| *region == to) {
            None => RegionStore::new(place.name.clone(), accounts.collect()),
            Some((_, first)) => RegionStore::routed(place.name.clone(), accounts.collect(), self.routes(to, 0..first)),
        }
    }

    /// Rules that spread the rows of a region over these of its accounts; those that have stood for a while are cold, where there is such a place.
    pub fn routes(&self, region: usize, accounts: impl IntoIterator<Item = usize>) -> Routes {
        let name = |at: usize| AccountName::new(ACCOUNTS[at]).expect("a good name");
        let aged = self.shape.cold_region().filter(|cold| *cold == region).map(|_| Route {
            name: "old".to_owned(),
            tables: RoutedTables::Every,
            partitions: Partitions::Every,
            accounts: vec![name(self.shape.accounts[region] - 1)],
            tier: None,
            ageing: Some(Ageing { date: Ageing::TIMESTAMP.to_owned(), after: Duration::from_secs(1) }),
        });
        Routes::new(aged.into_iter().collect(), accounts.into_iter().map(name)).expect("one account at least")
    }

    fn spoil(&self, faults: &Faults, line: Line, daemon: bool) {
        let far = if line.from == line.to { Duration::ZERO } else { self.shape.latency };
        faults.set_latency(self.shape.latency + far, self.shape.jitter);
        if daemon && self.shape.may(Kind::ShortPages) {
            faults.set_short_pages(NonZeroU16::new(1 + self.dice.below(4) as u16));
            self.chronicle.count(Kind::ShortPages);
        }
        let sky = self.sky.clone();
        faults.set_rule(move |request| sky.meet(&line, request));
    }

    /// Every row of the application in a region, with its table; wherever it stands, and what stands at home where it has a cold place, too.
    pub fn rows(&self, region: usize) -> Vec<(RowId, Row)> {
        let mut rows = self.rows_of_accounts(region);
        if self.shape.cold_region() == Some(region) {
            let cold = self.rows_in(region, self.shape.homes(region)).count();
            let book = self.chronicle.book();
            let whereabouts = book.whereabouts.as_ref().expect("it has rows that move");
            let mut homes: BTreeMap<RowId, usize> = BTreeMap::new();
            rows.iter().for_each(|(id, _)| *homes.entry(id.clone()).or_default() += 1);
            let hidden = |id: &RowId, row: &Row| {
                let version = row.version(&self.places[region].name);
                homes[id] > 1 || whereabouts.buries(id, version.as_str())
            };
            // The cold account is read last.
            let first = rows.len() - cold;
            let mut at = 0;
            rows.retain(|(id, row)| {
                at += 1;
                at <= first || !hidden(id, row)
            });
        }
        rows
    }

    fn rows_in(&self, region: usize, account: usize) -> impl Iterator<Item = (RowId, Row)> {
        let store = self.places[region].accounts[account].clone();
        let of = move |table: TableName| {
            let rows = store.snapshot(&table).into_iter();
            rows.map(move |row| (RowId::new(table.clone(), row.body.partition().clone(), row.body.row().clone()), row))
        };
        tables().into_iter().flat_map(of)
    }

    /// By account, in their order.
    fn rows_of_accounts(&self, region: usize) -> Vec<(RowId, Row)> {
        (0..self.places[region].accounts.len()).flat_map(|account| self.rows_in(region, account)).collect()
    }

    /// Rows of a system table in a region.
    pub fn system(&self, region: usize, table: SystemTable) -> Vec<Row> {
        let name = table.name();
        self.places[region].accounts.iter().flat_map(|store| store.snapshot(&name)).collect()
    }

    /// The rows by which the daemons of a region keep their leases are deleted.
    pub fn steal_leases(&self, region: usize) {
        let (home, table) = (&self.places[region].accounts[0], SystemTable::Control.name());
        for row in home.snapshot(&table).into_iter().filter(|row| row.body.partition().as_str() == "daemon") {
            let (partition, row) = (row.body.partition().clone(), row.body.row().clone());
            let delete = Operation::Delete { partition, row, condition: Condition::Present };
            // Without faults the store answers at once.
            let deleted = home.write(&table, &delete).now_or_never();
            assert!(matches!(deleted, Some(Ok(_))), "{deleted:?}");
        }
    }

    /// Records, hints and messages that are left in a region.
    pub fn left(&self, region: usize) -> Vec<String> {
        let records = self.system(region, SystemTable::Feed);
        let records = records.into_iter().map(|row| row.body.row().as_str().to_owned());
        let records = records.filter(|key| !key.starts_with("t:"));
        let hints = self
            .system(region, SystemTable::Backlog)
            .into_iter()
            .map(|row| format!("a hint for {}", row.body.partition()));
        let messages = self.places[region].accounts.iter().map(|store| store.queue(QUEUE).len());
        let messages = messages.filter(|len| *len > 0).map(|len| format!("{len} messages"));
        records.chain(hints).chain(messages).collect()
    }

    /// The row of a tale.
    pub fn row_of_tale(&self, number: usize) -> RowId {
        let partition = format!("p{}", number % self.shape.partitions);
        RowId::new(tables()[0].clone(), partition.as_str().into(), format!("tale{number:03}").as_str().into())
    }

    /// Rows that were there before: so many in each partition that nobody else writes, and half of those that are written.
    pub fn rows_of_old(&self, alone: usize) -> Vec<RowId> {
        let mut rows = Vec::new();
        for table in tables() {
            for partition in (0..self.shape.partitions).map(|partition| format!("p{partition}")) {
                let written = (0..self.shape.rows).filter(|_| self.dice.chance(500)).map(|n| format!("r{n}"));
                let keys = written.chain((0..alone).map(|n| format!("old{n}")));
                let id = |key: String| RowId::new(table.clone(), partition.as_str().into(), key.as_str().into());
                rows.extend(keys.map(id));
            }
        }
        rows
    }

    /// One of the few rows of this world.
    pub fn some_row(&self) -> RowId {
        let table = tables()[usize::from(self.dice.chance(100))].clone();
        let partition = format!("p{}", self.dice.below(self.shape.partitions));
        let names = ["r", "it's", "a b", "é%"];
        let row = if self.shape.focus == Focus::Wide { self.dice.pick(&names) } else { names[0] };
        let row = RowKey::from(format!("{row}{}", self.dice.below(self.shape.rows)).as_str());
        RowId::new(table, partition.as_str().into(), row)
    }
}
