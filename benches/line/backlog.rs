//! One destination frozen while many writes to few rows go on: what the others notice, and what is kept.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tablerelay::feed::is_record_key;
use tablerelay::model::*;
use tablerelay::replicator::{Replicator, Settings, Setup, StatusBoard, create_missing};
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::{Fault, MemoryTables};
use tablerelay::stores::{Account, Operation, RegionStore, Tables};
use tablerelay::topology::{FileRoles, TableFilter};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::process::{cpu_seconds, resident_mib};
use crate::world::{LATENCY, body, table, write_at};

/// Distinct rows: transactions of ten in so many partitions.
const PARTITIONS: usize = 500;
const ROWS: usize = 10 * PARTITIONS;
/// Changed rows before the freeze, from its beginning until the link is surely parked, in all while it lasts, and in a second.
const USUAL: usize = 40_000;
const PARKING: usize = 48_000;
const FROZEN: usize = 200_000;
const RATE: usize = 4_000;

/// Source, a destination that is well, and one that freezes.
struct World {
    stores: [Arc<MemoryTables>; 3],
    board: Option<Arc<StatusBoard>>,
    stop: CancellationToken,
    clock: HybridClock,
    runtime: Runtime,
    watch: Arc<Watch>,
    rows: Vec<String>,
}

/// From a version's write at the source to its arrival at the destination that is well.
#[derive(Default)]
struct Watch {
    written: Mutex<HashMap<String, Instant>>,
    delays: Mutex<Vec<Duration>>,
}

/// What a part of the run cost.
struct Phase {
    lag: [(usize, Duration); 2],
    /// CPU of this process in µs, writer and stores included, and requests to the source, of each changed row.
    cpu: f64,
    requests: f64,
}

impl Phase {
    /// Lag is compared with the mean of before and after: others use the machine too.
    fn tell(&self, when: &str, before: &Self, after: &Self) {
        let lags = [0, 1].map(|n| {
            let usual = (before.lag[n].1 + after.lag[n].1) / 2;
            let (lag, ratio) = (self.lag[n].1, self.lag[n].1.as_secs_f64() / usual.as_secs_f64());
            format!("{:>7} ms ({ratio:.2})", lag.as_millis())
        });
        println!("  {when:<28} {}  {:>7.1} µs  {:>7.3}", lags.join("  "), self.cpu, self.requests);
    }
}

/// The most that was seen at a time.
#[derive(Default)]
struct Peaks {
    hints: AtomicUsize,
    records: AtomicUsize,
    resident: AtomicUsize,
    over: AtomicBool,
}

pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(freeze());
}

async fn freeze() {
    let mut world = World::new().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = resident_mib();
    world.write(USUAL).await;
    let usual = world.write(USUAL).await;
    world.stores[2].faults().set_rule(|_| Some(Fault::Freeze));
    let peaks = Arc::new(Peaks::default());
    let sampler = world.sample(peaks.clone());
    let began = Instant::now();
    let parking = world.write(PARKING).await;
    let frozen = world.write(FROZEN - PARKING).await;
    peaks.over.store(true, Relaxed);
    sampler.await.expect("it samples to the end");
    let (took, hints) = (began.elapsed(), world.hints());
    let links = world.board.as_ref().expect("it was started").snapshot().links;
    let state = links.iter().find(|link| link.destination.as_str() == "up").map(|link| link.state);
    world.stores[2].faults().set_rule(|_| None);
    world.stores[2].faults().release();
    let thawed = Instant::now();
    while world.hints() > 0 || world.records() > 0 || world.contents(2) != world.contents(0) {
        assert!(thawed.elapsed() < Duration::from_secs(300), "{} hints are left", world.hints());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let thawed = thawed.elapsed();
    let again = world.write(USUAL).await;
    world.stop.cancel();
    println!("one of two destinations frozen for {FROZEN} writes to {ROWS} rows ({took:.0?}), memory stores with 5 ms");
    println!("  its link                   {:>9}", state.map_or("unknown".into(), |state| state.to_string()));
    println!(
        "  of the other:                    lag p50 (ratio)   lag p95 (ratio)   CPU a row   requests to the source a row"
    );
    for (when, phase) in [("before", &usual), ("until it was parked", &parking), ("parked", &frozen), ("after", &again)]
    {
        phase.tell(when, &usual, &again);
    }
    println!("  hints                      {hints:>9}, at most {} (bound {ROWS})", peaks.hints.load(Relaxed));
    println!("  records in the feed        {:>9} at most once it was parked", peaks.records.load(Relaxed));
    println!(
        "  resident memory            {:>9} MiB with three stores, {:.0} before (bound 128 for the daemon)",
        peaks.resident.load(Relaxed),
        before
    );
    println!("  all equal after the thaw   {thawed:>9.1?}\n");
}

impl World {
    async fn new() -> Self {
        let runtime = Runtime::system();
        let make = |name: &str| {
            let region = Region::new(name).expect("a region");
            let store =
                MemoryTables::new(region.clone(), AccountName::new("one").expect("an account"), runtime.clone());
            let tables: Arc<dyn Tables> = store.clone();
            (store, RegionStore::new(region, vec![Account { tables, queue: None }]))
        };
        let made = ["west", "north", "up"].map(make);
        let clock = HybridClock::new(made[0].1.region().clone(), runtime.writer_id(), Duration::from_secs(60));
        for (_, region) in &made {
            create_missing(region).await.expect("system tables");
            region.home().create_table(&table()).await.expect("the data table");
        }
        let stores = made.each_ref().map(|(store, _)| store.clone());
        let watch = Arc::new(Watch::default());
        watch.attach(&stores);
        let mut world = Self {
            stores,
            board: None,
            stop: CancellationToken::new(),
            clock,
            runtime,
            watch,
            rows: (0..10).map(|row| format!("r{row}")).collect(),
        };
        world.load().await;
        world.start(made.map(|(_, region)| region));
        world
    }

    /// The rows stand everywhere already, so that what grows is the line and its hints.
    async fn load(&mut self) {
        let version = self.version();
        for n in 0..PARTITIONS {
            let partition = format!("p{n}");
            for store in &self.stores {
                let rows: Vec<Operation> =
                    self.rows.iter().map(|row| Operation::Insert(body(&partition, row, &version))).collect();
                store.transact(&table(), &partition.as_str().into(), &rows).await.expect("loaded");
            }
        }
        self.stores.iter().for_each(|store| store.faults().set_latency(LATENCY, Duration::ZERO));
    }

    fn start(&mut self, [local, north, up]: [RegionStore; 3]) {
        let regions = [&local, &north, &up].map(|region| region.region().clone());
        let replicator = Replicator::new(Setup {
            local,
            copies: vec![],
            destinations: vec![north, up],
            cache: None,
            tables: TableFilter::Every,
            roles: FileRoles::multi_active(regions),
            reading: None,
            settings: Settings::default(),
            runtime: self.runtime.clone(),
        });
        self.board = Some(replicator.status());
        let stopped = self.stop.clone();
        #[expect(clippy::disallowed_methods, reason = "a benchmark is its own supervisor")]
        tokio::spawn(async move { replicator.run(stopped).await.expect("the line runs until it is stopped") });
    }

    fn version(&mut self) -> Version {
        self.clock.issue(self.runtime.now(), None).expect("a version")
    }

    async fn write(&mut self, rows: usize) -> Phase {
        let (cpu, requests) = (cpu_seconds(), self.stores[0].faults().all_requests());
        let (began, mut writes) = (Instant::now(), tokio::task::JoinSet::new());
        for n in 0..rows / 10 {
            tokio::time::sleep_until(began + Duration::from_secs_f64(n as f64 * 10.0 / RATE as f64)).await;
            let (store, version, rows) = (self.stores[0].clone(), self.version(), self.rows.clone());
            let partition = format!("p{}", n % PARTITIONS);
            writes.spawn(async move { write_at(store.as_ref(), &version, &partition, &rows).await });
            while writes.try_join_next().is_some() {}
        }
        while writes.join_next().await.is_some() {}
        tokio::time::sleep(Duration::from_secs(1)).await;
        let requests = self.stores[0].faults().all_requests() - requests;
        let per_row = |all: f64| all / rows as f64;
        Phase { lag: self.lag(), cpu: per_row((cpu_seconds() - cpu) * 1e6), requests: per_row(requests as f64) }
    }

    /// Delays of a change, by percentile, since the last time that this was asked.
    fn lag(&self) -> [(usize, Duration); 2] {
        let mut delays = std::mem::take(&mut *self.watch.delays.lock().expect("nobody panics here"));
        delays.sort();
        [50, 95].map(|percent| (percent, delays.get(delays.len() * percent / 100).copied().unwrap_or_default()))
    }

    fn hints(&self) -> usize {
        self.stores[0].snapshot(&SystemTable::Backlog.name()).len()
    }

    fn records(&self) -> usize {
        let feed = self.stores[0].snapshot(&SystemTable::Feed.name());
        feed.iter().filter(|row| is_record_key(row.body.row())).count()
    }

    fn contents(&self, store: usize) -> Vec<RowBody> {
        self.stores[store].snapshot(&table()).into_iter().map(|row| row.body).collect()
    }

    fn sample(&self, peaks: Arc<Peaks>) -> tokio::task::JoinHandle<()> {
        let (board, store) = (self.board.clone().expect("it was started"), self.stores[0].clone());
        #[expect(clippy::disallowed_methods, reason = "it is awaited")]
        tokio::spawn(async move {
            while !peaks.over.load(Relaxed) {
                tokio::time::sleep(Duration::from_millis(500)).await;
                let hints = store.snapshot(&SystemTable::Backlog.name()).len();
                peaks.hints.fetch_max(hints, Relaxed);
                peaks.resident.fetch_max(resident_mib() as usize, Relaxed);
                let records: usize = board.snapshot().feed_records.values().sum();
                if hints == ROWS {
                    peaks.records.fetch_max(records, Relaxed);
                }
            }
        })
    }
}

impl Watch {
    fn attach(self: &Arc<Self>, stores: &[Arc<MemoryTables>; 3]) {
        let key = |body: &RowBody| Some(format!("{} {}", body.version()?, body.row()));
        let watch = self.clone();
        stores[0].watch(move |effect| {
            let key = effect.operation.body().and_then(key);
            if let Some(key) = key.filter(|_| *effect.table == table()) {
                watch.written.lock().expect("nobody panics here").insert(key, Instant::now());
            }
        });
        let watch = self.clone();
        stores[1].watch(move |effect| {
            let key = effect.operation.body().and_then(key);
            let Some(key) = key.filter(|_| *effect.table == table()) else { return };
            if let Some(at) = watch.written.lock().expect("nobody panics here").remove(&key) {
                watch.delays.lock().expect("nobody panics here").push(at.elapsed());
            }
        });
    }
}
