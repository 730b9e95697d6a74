//! The regions of the demo, and the lines between them.
//!
//! Every region has a near line to its own account, for its writers and its daemon, and every other region reaches that
//! account by a far line of its own. Cutting a region off cuts its far lines, in both directions: it goes on by itself, as
//! a region does when the network between regions fails.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::DemoError;
use crate::cache::{CacheMode, KeyTemplate};
use crate::feed::is_record_key;
use crate::model::{AccountName, Region, SystemTable, TableName, Time};
use crate::replicator::{CacheSetup, Replicator, Settings, Setup, StatusBoard, create_missing};
use crate::runtime::Runtime;
use crate::stores::memory::{Faults, MemoryCache, MemoryTables};
use crate::stores::{Account, RegionStore, Tables};
use crate::topology::{FileRoles, TableFilter};

/// How long a write may be under way after its announcement: a minute in production, short here so that the demo ends.
pub(super) const SETTLE_WINDOW: Duration = Duration::from_secs(3);
/// From asking to reply within a region, and the evenly drawn part on top of it.
const NEAR: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(1));
/// The same from region to region.
const FAR: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(4));
/// How long the daemons have to end.
const END_WITHIN: Duration = Duration::from_secs(5);

/// The demo's regions, by place.
const REGIONS: [&str; 3] = ["west", "north", "east"];
/// The place of the region that is cut off.
pub(super) const CUT_OFF: usize = 1;

/// The tables that the writers write.
#[derive(Debug, Clone)]
pub(super) struct DataTables {
    /// Rows that one writer alone writes.
    pub orders: TableName,
    /// A few rows that all of them write.
    pub stock: TableName,
}

impl DataTables {
    /// Both.
    pub fn all(&self) -> [&TableName; 2] {
        [&self.orders, &self.stock]
    }
}

/// One region.
#[derive(Debug)]
pub(super) struct Place {
    pub region: Region,
    /// Its account, by the near line.
    pub tables: Arc<MemoryTables>,
    pub cache: Arc<MemoryCache>,
    /// None before its daemon has started.
    pub board: Option<Arc<StatusBoard>>,
    /// The far lines that lead here or away from here.
    far: Vec<Faults>,
}

impl Place {
    /// The region as its own writers and its own daemon see it.
    pub fn near(&self) -> RegionStore {
        store(&self.region, self.tables.clone())
    }

    /// How many records its feed holds.
    pub fn records(&self) -> usize {
        let feed = self.tables.snapshot(&SystemTable::Feed.name());
        feed.iter().filter(|row| is_record_key(row.body.row())).count()
    }
}

fn store(region: &Region, tables: Arc<MemoryTables>) -> RegionStore {
    RegionStore::new(region.clone(), vec![Account { tables, queue: None }])
}

/// All of it, with the daemons that run in it.
#[derive(Debug)]
pub(super) struct World {
    pub places: Vec<Place>,
    pub tables: DataTables,
    pub keys: KeyTemplate,
    pub runtime: Runtime,
    /// Every line to an account.
    lines: Vec<Faults>,
    daemons: JoinSet<Result<(), String>>,
    stop: CancellationToken,
}

impl World {
    /// Three regions with empty tables and running daemons, whose clocks begin at `start`.
    pub async fn start(start: Time, seed: u64) -> Result<Self, DemoError> {
        let runtime = Runtime::simulated(start, seed);
        // These names are constants that keep the rules for names.
        let named = |name| TableName::new(name).expect("a name of letters");
        let mut world = Self {
            places: Vec::new(),
            tables: DataTables { orders: named("orders"), stock: named("stock") },
            keys: KeyTemplate::default(),
            runtime: runtime.clone(),
            lines: Vec::new(),
            daemons: JoinSet::new(),
            stop: CancellationToken::new(),
        };
        for name in REGIONS {
            // As above.
            let region = Region::new(name).expect("a word of lower-case letters");
            // As above.
            let account = AccountName::new(name).expect("a word of lower-case letters");
            let tables = MemoryTables::new(region.clone(), account, runtime.clone());
            create_missing(&store(&region, tables.clone())).await?;
            for table in world.tables.all() {
                tables.create_table(table).await?;
            }
            tables.faults().set_latency(NEAR.0, NEAR.1);
            world.lines.push(tables.faults());
            let cache = MemoryCache::new(CacheMode::WriteThrough, None, runtime.clone());
            cache.faults().set_latency(NEAR.0, NEAR.1);
            world.places.push(Place { region, tables, cache, board: None, far: Vec::new() });
        }
        for n in 0..world.places.len() {
            world.start_daemon(n);
        }
        Ok(world)
    }

    fn start_daemon(&mut self, n: usize) {
        let others: Vec<usize> = (0..self.places.len()).filter(|m| *m != n).collect();
        let destinations = others.into_iter().map(|m| self.far_store(n, m)).collect();
        let roles = FileRoles::multi_active(self.places.iter().map(|place| place.region.clone()));
        let place = &mut self.places[n];
        let replicator = Replicator::new(Setup {
            local: place.near(),
            copies: vec![],
            destinations,
            cache: Some(CacheSetup {
                cache: place.cache.clone(),
                markers: Some(place.cache.client(CacheMode::WriteThrough, None)),
                keys: self.keys.clone(),
                warm: None,
            }),
            tables: TableFilter::named(self.tables.all().map(Clone::clone)),
            roles,
            reading: None,
            settings: settings(),
            runtime: self.runtime.clone(),
        });
        place.board = Some(replicator.status());
        let stop = self.stop.clone();
        self.daemons.spawn(async move { replicator.run(stop).await.map_err(|error| error.to_string()) });
    }

    /// The account of `to` by a far line from `from`.
    fn far_store(&mut self, from: usize, to: usize) -> RegionStore {
        let tables = self.places[to].tables.by_another_line();
        tables.faults().set_latency(FAR.0, FAR.1);
        self.lines.push(tables.faults());
        self.places[from].far.push(tables.faults());
        self.places[to].far.push(tables.faults());
        store(&self.places[to].region, tables)
    }

    /// Cuts a region off from the others, or heals that.
    pub fn cut(&self, n: usize, cut: bool) {
        self.places[n].far.iter().for_each(|line| line.cut(cut));
    }

    /// How many requests were sent to accounts, by writers and daemons, polls included.
    pub fn requests(&self) -> u64 {
        self.lines.iter().map(Faults::all_requests).sum()
    }

    /// Waits for ever, or until a daemon has died.
    pub async fn daemon_died(&mut self) -> DemoError {
        match self.daemons.join_next().await {
            Some(Ok(Err(why))) => DemoError::Daemon(why),
            Some(Err(panic)) => DemoError::Daemon(panic.to_string()),
            Some(Ok(Ok(()))) | None => DemoError::Daemon("it ended although nobody asked it to".to_owned()),
        }
    }

    /// Ends the daemons.
    pub async fn end(mut self) -> Result<(), DemoError> {
        self.stop.cancel();
        let all = async {
            while let Some(ended) = self.daemons.join_next().await {
                ended.map_err(|panic| DemoError::Daemon(panic.to_string()))?.map_err(DemoError::Daemon)?;
            }
            Ok(())
        };
        let late = || DemoError::Daemon(format!("it did not end within {} s", END_WITHIN.as_secs()));
        tokio::time::timeout(END_WITHIN, all).await.unwrap_or_else(|_| Err(late()))
    }
}

/// The configuration's defaults, but for what would make somebody wait who watches.
fn settings() -> Settings {
    Settings {
        settle_window: SETTLE_WINDOW,
        max_clock_skew: SETTLE_WINDOW,
        poll_idle: Duration::from_millis(300),
        look_last_retry: Duration::from_millis(500),
        publish_every: Duration::from_millis(250),
        backoff_last: Duration::from_secs(1),
        ..Settings::default()
    }
}
