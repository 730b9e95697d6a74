//! Whole lines of several regions on memory stores, in virtual time, for the tests of what is done to them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::failover::{Done, Failover, FailoverError};
use crate::feed::is_record_key;
use crate::model::{AccountName, Region, RowBody, SystemTable, TableName, Time};
use crate::replicator::{CopySetup, Replicator, Roles, Settings, Setup, StatusBoard, create_missing};
use crate::runtime::Runtime;
use crate::stores::memory::{Faults, MemoryTables};
use crate::stores::{Account, RegionStore, Tables};
use crate::topology::{Assignment, CopyRule, FileRoles, Role, RolesRow, TableFilter, WriteHealth};
use crate::writer::{Writer, WriterOptions};

pub(super) const NAMES: [&str; 3] = ["east", "north", "south"];
pub(super) const EAST: usize = 0;
pub(super) const NORTH: usize = 1;

pub(super) fn region(n: usize) -> Region {
    Region::new(NAMES[n]).unwrap()
}

pub(super) fn table() -> TableName {
    TableName::new("orders").unwrap()
}

pub(super) struct World {
    pub runtime: Runtime,
    pub file: FileRoles,
    pub stores: Vec<Arc<MemoryTables>>,
    /// The lines from each region's daemon to each region.
    pub lines: BTreeMap<(usize, usize), Arc<MemoryTables>>,
    pub roles: Vec<Option<Arc<Roles>>>,
    pub boards: Vec<Option<Arc<StatusBoard>>>,
    pub stops: Vec<CancellationToken>,
    pub writers: Vec<Writer>,
    pub written: Mutex<BTreeMap<String, usize>>,
    /// Destinations that are no regions, and their stores.
    pub copies: Vec<CopySetup>,
    pub copied: Vec<Arc<MemoryTables>>,
}

fn store(n: usize, tables: Arc<MemoryTables>) -> RegionStore {
    RegionStore::new(region(n), vec![Account { tables, queue: None }])
}

impl World {
    /// Regions with these roles, a daemon each, all of which know their role.
    pub async fn new(roles: &[Role]) -> Self {
        Self::with_copies(roles, vec![]).await
    }

    /// The same, with copies.
    pub async fn with_copies(roles: &[Role], rules: Vec<(&str, CopyRule)>) -> Self {
        let runtime = Runtime::simulated(Time::from_unix_seconds(1_700_000_000), 7);
        let file = FileRoles::new(roles.iter().enumerate().map(|(n, role)| (region(n), *role)).collect());
        let (mut stores, mut writers) = (vec![], vec![]);
        for n in 0..roles.len() {
            let tables = MemoryTables::new(region(n), AccountName::new("one").unwrap(), runtime.clone());
            create_missing(&store(n, tables.clone())).await.unwrap();
            tables.create_table(&table()).await.unwrap();
            writers.push(Writer::new(store(n, tables.clone()), WriterOptions::default(), runtime.clone()));
            stores.push(tables);
        }
        let (boards, stops) = (vec![None; roles.len()], vec![CancellationToken::new(); roles.len()]);
        let roles = vec![None; roles.len()];
        let (lines, written) = (BTreeMap::new(), Mutex::default());
        let (mut copies, mut copied) = (vec![], vec![]);
        for (name, rule) in rules {
            let name = Region::new(name).unwrap();
            let tables = MemoryTables::new(name.clone(), AccountName::new("one").unwrap(), runtime.clone());
            tables.faults().set_latency(Duration::from_millis(5), Duration::ZERO);
            let store = RegionStore::new(name, vec![Account { tables: tables.clone(), queue: None }]);
            create_missing(&store).await.unwrap();
            copies.push(CopySetup { store, rule: Arc::new(rule) });
            copied.push(tables);
        }
        let mut world = Self { runtime, file, stores, lines, roles, boards, stops, writers, written, copies, copied };
        for n in 0..world.stores.len() {
            world.start(n);
        }
        world
            .until("all regions know their roles", 10, |world| world.roles.iter().flatten().all(|r| r.is_confirmed()))
            .await;
        tokio::time::sleep(Duration::from_secs(10)).await;
        world
    }

    pub fn start(&mut self, n: usize) {
        for to in 0..self.stores.len() {
            let line = self.stores[to].by_another_line();
            line.faults().set_latency(Duration::from_millis(5), Duration::ZERO);
            self.lines.insert((n, to), line);
        }
        let line = |to: usize| store(to, self.lines[&(n, to)].clone());
        let replicator = Replicator::new(Setup {
            local: line(n),
            copies: self.copies.clone(),
            destinations: (0..self.stores.len()).filter(|to| *to != n).map(line).collect(),
            cache: None,
            tables: TableFilter::Every,
            roles: self.file.clone(),
            reading: None,
            settings: Settings::default(),
            runtime: self.runtime.clone(),
        });
        self.roles[n] = Some(replicator.status().roles().clone());
        self.boards[n] = Some(replicator.status());
        self.stops[n] = CancellationToken::new();
        let stop = self.stops[n].clone();
        #[expect(clippy::disallowed_methods, reason = "the test's world is the supervisor")]
        tokio::spawn(async move { replicator.run(stop).await.expect("the line runs until it is stopped") });
    }

    /// A region as the daemon of another one sees it.
    pub fn line(&self, from: usize, to: usize) -> RegionStore {
        store(to, self.lines[&(from, to)].clone())
    }

    /// A copy by a line of its own.
    pub fn copy_line(&self, n: usize) -> RegionStore {
        let tables = self.copied[n].by_another_line();
        tables.faults().set_latency(Duration::from_millis(5), Duration::ZERO);
        RegionStore::new(self.copies[n].store.region().clone(), vec![Account { tables, queue: None }])
    }

    /// What the daemon of a region tells of itself.
    pub fn board(&self, n: usize) -> Arc<StatusBoard> {
        self.boards[n].clone().expect("it runs")
    }

    /// The daemon of a region is gone at once, without a last word; so is its store.
    pub fn lose(&mut self, n: usize) {
        for to in 0..self.stores.len() {
            self.lines[&(n, to)].faults().cut(true);
            self.lines[&(to, n)].faults().cut(true);
        }
        self.stops[n].cancel();
        self.roles[n] = None;
    }

    /// The store of a region is back, and a daemon starts there.
    pub fn bring_back(&mut self, n: usize) {
        (0..self.stores.len()).for_each(|to| self.lines[&(to, n)].faults().cut(false));
        self.start(n);
    }

    /// What a command runs with: lines of its own, whose faults are its own, too.
    pub fn failover(&self, to: usize) -> (Failover, Vec<Faults>) {
        let lines: Vec<_> = self.stores.iter().map(|store| store.by_another_line()).collect();
        lines.iter().for_each(|line| line.faults().set_latency(Duration::from_millis(5), Duration::ZERO));
        let faults = lines.iter().map(|line| line.faults()).collect();
        let regions = lines.into_iter().enumerate().map(|(n, line)| store(n, line)).collect();
        let failover = Failover {
            regions,
            file: self.file.clone(),
            to: region(to),
            from: None,
            who: "ada".to_owned(),
            why: "a test".to_owned(),
            lease: Settings::default().lease,
            cool_down: Duration::from_secs(600),
            runtime: self.runtime.clone(),
        };
        (failover, faults)
    }

    pub async fn planned(&self, to: usize) -> Result<Done, FailoverError> {
        self.failover(to).0.planned(Duration::from_secs(60), &CancellationToken::new(), &mut |_| {}).await
    }

    pub fn serving(&self) -> Vec<usize> {
        let now = self.runtime.instant();
        let serves =
            |roles: &Option<Arc<Roles>>| roles.as_ref().is_some_and(|r| r.writing(now) == WriteHealth::Serving);
        (0..self.roles.len()).filter(|n| serves(&self.roles[*n])).collect()
    }

    pub async fn until(&self, what: &str, seconds: u64, holds: impl Fn(&Self) -> bool) {
        let deadline = self.runtime.instant() + Duration::from_secs(seconds);
        while !holds(self) {
            assert!(self.runtime.instant() < deadline, "not within {seconds} s: {what}; {:?} serve", self.serving());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// One write wherever writes are served, as applications do that go by `/health/write`.
    pub async fn write(&self, number: usize) {
        let Some(n) = self.serving().first().copied() else { return };
        let key = format!("r{}", number % 20);
        let body = RowBody::builder(&"p".into(), &key.as_str().into()).string("N", &number.to_string()).finish();
        self.writers[n].insert_or_replace(&table(), &body, None).await.unwrap();
        self.written.lock().unwrap().insert(key, number);
    }

    /// Writes every 20 ms until `work` is over.
    pub async fn writing_under<T>(&self, work: impl Future<Output = T>) -> T {
        let write = async {
            for number in 0.. {
                self.write(number).await;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! { biased; done = work => done, () = write => unreachable!("it writes for ever") }
    }

    pub fn records(&self) -> usize {
        let of = |store: &Arc<MemoryTables>| {
            let feed = store.snapshot(&SystemTable::Feed.name());
            feed.iter().filter(|row| is_record_key(row.body.row())).count()
        };
        self.stores.iter().map(of).sum()
    }

    pub fn contents(&self, n: usize) -> Vec<RowBody> {
        self.stores[n].snapshot(&table()).into_iter().map(|row| row.body).collect()
    }

    /// Everything that was acknowledged last is everywhere.
    pub async fn nothing_is_lost(&self) {
        self.until("no record is left", 200, |world| world.records() == 0).await;
        for (n, name) in NAMES.iter().enumerate().take(self.stores.len()) {
            assert_eq!(self.contents(0), self.contents(n), "{} and {name} differ", NAMES[0]);
        }
        let held = self.contents(0).into_iter();
        let held: BTreeMap<_, usize> =
            held.map(|row| (row.row().to_string(), row.string("N").unwrap().parse().unwrap())).collect();
        assert_eq!(held, *self.written.lock().unwrap());
    }

    pub fn trail(&self, n: usize) -> Vec<Assignment> {
        let rows = self.stores[n].snapshot(&SystemTable::Control.name()).into_iter();
        let rows = rows.filter(|row| row.body.row().as_str().starts_with(RolesRow::TRAIL));
        rows.map(|row| RolesRow::decode(&row.body).unwrap().assignment).collect()
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_where_writes_are_served_comes_to_all_regions() {
    let world = World::new(&[Role::Writer, Role::Standby]).await;
    assert_eq!(world.serving(), [EAST]);
    for number in 0..3 {
        world.write(number).await;
    }
    world.nothing_is_lost().await;
    assert_eq!((world.contents(NORTH).len(), world.trail(NORTH).len()), (3, 1));
}
