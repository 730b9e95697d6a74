//! One destination frozen, as `backlog` has it, where the daemon and each store are processes of their own: what is measured is
//! the program as its users run it. Lag is seen from outside, by reading the destination that is well until it has what was
//! written.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tablerelay::model::*;
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Query, RegionStore, Scope, Tables};
use tokio::time::Instant;

use crate::process::resident_mib_of;
use crate::processes::support::relay::{Config, Daemon, region as section};
use crate::processes::{Kind, Store, region};
use crate::world::{table, write_at};

/// Rows of a transaction, which is a partition.
const TOGETHER: usize = 10;
/// How long may pass until something is so.
const PATIENCE: Duration = Duration::from_secs(300);

/// How much is written, in changed rows.
struct Load {
    rows: usize,
    usual: usize,
    /// Until the destination is surely parked, and in all while it is frozen.
    parking: usize,
    frozen: usize,
    a_second: usize,
}

impl Kind {
    fn load(self) -> Load {
        match self {
            Self::Served => Load { rows: 5_000, usual: 20_000, parking: 30_000, frozen: 200_000, a_second: 1_500 },
            // A twentieth: Azurite sorts a row into all the others at every insert, on one core.
            Self::Azurite => Load { rows: 250, usual: 2_000, parking: 2_500, frozen: 10_000, a_second: 100 },
        }
    }
}

/// What was written last, for whoever waits for it elsewhere.
type Latest = Arc<Mutex<Option<(String, Version, Instant)>>>;

struct World {
    stores: [Store; 3],
    regions: [RegionStore; 3],
    daemon: Daemon,
    clock: HybridClock,
    runtime: Runtime,
    rows: Vec<String>,
    load: Load,
}

/// Percentiles of the lag, in ms.
struct Lag {
    samples: usize,
    at: [f64; 2],
}

/// The most that was seen at a time.
#[derive(Default)]
struct Peaks {
    hints: usize,
    resident: f64,
}

pub fn run(kind: Kind) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(freeze(kind));
}

async fn freeze(kind: Kind) {
    let mut world = World::new(kind).await;
    let load = kind.load();
    let mut peaks = Peaks::default();
    world.write(load.usual, &mut peaks).await;
    let before = world.write(load.usual, &mut peaks).await;
    let resident = resident_mib_of(&world.daemon.pid);
    world.stores[2].freeze();
    let began = Instant::now();
    let parking = world.write(load.parking, &mut peaks).await;
    let parked = world.write(load.frozen - load.parking, &mut peaks).await;
    let took = began.elapsed();
    let state =
        world.status().await["links"].as_array().into_iter().flatten().find_map(|link| {
            (link["destination"] == "up").then(|| link["state"].as_str().unwrap_or_default().to_owned())
        });
    let empty =
        world.until("the feed is empty", async |world| world.count(0, SystemTable::Feed, "c:").await == 0).await;
    let hints = world.count(0, SystemTable::Backlog, "").await;
    world.stores[2].thaw();
    let equal = world
        .until("all are equal", async |world| {
            let hints = world.count(0, SystemTable::Backlog, "").await;
            hints == 0
                && world.versions(2).await == world.versions(0).await
                && world.versions(1).await == world.versions(0).await
        })
        .await;
    let after = world.write(load.usual, &mut peaks).await;
    println!(
        "one of two destinations frozen for {} writes to {} rows ({took:.0?}), {}, the daemon a process of its own",
        load.frozen,
        load.rows,
        kind.name()
    );
    println!("  its link                   {:>9}", state.unwrap_or_else(|| "unknown".to_owned()));
    println!("  of the other:                    lag p50 (ratio)   lag p95 (ratio)    samples");
    for (when, lag) in [("before", &before), ("until it was parked", &parking), ("parked", &parked), ("after", &after)]
    {
        let lags = [0, 1].map(|n| {
            let ratio = lag.at[n] * 2.0 / (before.at[n] + after.at[n]);
            format!("{:>7.0} ms ({ratio:.2})", lag.at[n])
        });
        println!("  {when:<28} {}  {:>9}", lags.join("  "), lag.samples);
    }
    println!("  hints                      {hints:>9}, at most {} (bound {})", peaks.hints, load.rows);
    println!("  the feed was empty         {empty:>9.1?} after the last write, the destination still frozen");
    println!(
        "  the daemon's memory        {:>9.0} MiB resident at most, {resident:.0} before (bound 128)",
        peaks.resident
    );
    println!("  all equal after the thaw   {equal:>9.1?}\n");
}

impl World {
    async fn new(kind: Kind) -> Self {
        let (load, runtime) = (kind.load(), Runtime::system());
        let (names, stores) = (["west", "north", "up"], [kind.start(), kind.start(), kind.start()]);
        let mut regions = Vec::new();
        let mut text = String::new();
        for (name, store) in names.iter().zip(&stores) {
            regions.push(region(name, store, &table()).await);
            text += &section(name, "writer", &store.connection_string);
            text += "queue = false\n";
        }
        text += "[table.orders]\n";
        let regions: [RegionStore; 3] = regions.try_into().expect("three of them");
        let clock = HybridClock::new(regions[0].region().clone(), runtime.writer_id(), Duration::from_secs(60));
        let rows = (0..TOGETHER).map(|row| format!("r{row}")).collect();
        let daemon = Daemon::start(&Config::new(&text), "west", "info", &[]);
        Self { stores, regions, daemon, clock, runtime, rows, load }
    }

    /// Writes so many rows at the load's rate, and sees how long some of them take to the destination that is well.
    async fn write(&mut self, rows: usize, peaks: &mut Peaks) -> Lag {
        let (latest, over) = (Latest::default(), Arc::new(AtomicBool::new(false)));
        let sampler = self.sampler(latest.clone(), over.clone());
        let (began, mut writes) = (Instant::now(), tokio::task::JoinSet::new());
        for n in 0..rows / TOGETHER {
            let due = began + Duration::from_secs_f64((n * TOGETHER) as f64 / self.load.a_second as f64);
            tokio::time::sleep_until(due).await;
            let version = self.clock.issue(self.runtime.now(), None).expect("a version");
            let (store, rows, latest) = (self.regions[0].home().clone(), self.rows.clone(), latest.clone());
            let partition = format!("p{}", n % (self.load.rows / TOGETHER));
            writes.spawn(async move {
                write_at(store.as_ref(), &version, &partition, &rows).await;
                *latest.lock().expect("nobody panics here") = Some((partition, version, Instant::now()));
            });
            while writes.try_join_next().is_some() {}
            if n % (self.load.a_second / TOGETHER) == 0 {
                self.look(peaks).await;
            }
        }
        while writes.join_next().await.is_some() {}
        over.store(true, Relaxed);
        let mut delays = sampler.await.expect("it samples to the end");
        delays.sort_by(f64::total_cmp);
        let at = |percent: usize| delays.get(delays.len() * percent / 100).copied().unwrap_or(f64::NAN);
        Lag { samples: delays.len(), at: [at(50), at(95)] }
    }

    fn sampler(&self, latest: Latest, over: Arc<AtomicBool>) -> tokio::task::JoinHandle<Vec<f64>> {
        let (north, row) = (self.regions[1].home().clone(), RowKey::from(self.rows[0].as_str()));
        #[expect(clippy::disallowed_methods, reason = "it is awaited")]
        tokio::spawn(async move {
            let mut delays = Vec::new();
            while !over.load(Relaxed) {
                let taken = latest.lock().expect("nobody panics here").take();
                let Some((partition, version, written)) = taken else {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                    continue;
                };
                let partition = PartitionKey::from(partition.as_str());
                while !there(&north, &partition, &row, &version).await && written.elapsed() < PATIENCE {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                delays.push(written.elapsed().as_secs_f64() * 1e3);
            }
            delays
        })
    }

    async fn look(&self, peaks: &mut Peaks) {
        peaks.resident = peaks.resident.max(resident_mib_of(&self.daemon.pid));
        peaks.hints = peaks.hints.max(self.count(0, SystemTable::Backlog, "").await);
    }

    async fn status(&self) -> serde_json::Value {
        let answer = reqwest::get(format!("{}/status", self.daemon.url)).await.expect("the daemon answers");
        answer.json().await.expect("JSON")
    }

    /// Waits until something is so; says how long that took.
    async fn until(&self, what: &str, so: impl AsyncFn(&Self) -> bool) -> Duration {
        let began = Instant::now();
        while !so(self).await {
            assert!(began.elapsed() < PATIENCE, "after {PATIENCE:?} it is not so that {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        began.elapsed()
    }

    /// Rows of a system table whose keys begin so.
    async fn count(&self, region: usize, table: SystemTable, prefix: &str) -> usize {
        let rows = all(self.regions[region].home(), &table.name()).await;
        rows.iter().filter(|body| body.row().as_str().starts_with(prefix)).count()
    }

    async fn versions(&self, region: usize) -> Vec<(String, Option<String>)> {
        let rows = all(self.regions[region].home(), &table()).await;
        let mut rows: Vec<_> = rows
            .iter()
            .map(|body| {
                (format!("{}/{}", body.partition(), body.row()), body.version().map(|version| version.to_string()))
            })
            .collect();
        rows.sort();
        rows
    }
}

async fn there(tables: &Arc<dyn Tables>, partition: &PartitionKey, row: &RowKey, version: &Version) -> bool {
    let row = tables.get(&table(), partition, row).await.expect("it is well");
    row.is_some_and(|row| row.body.version().is_some_and(|there| there >= version))
}

async fn all(tables: &Arc<dyn Tables>, table: &TableName) -> Vec<RowBody> {
    let (mut query, mut rows) = (Query::new(Scope::Table), Vec::new());
    loop {
        let page = tables.query(table, &query).await.expect("it answers");
        rows.extend(page.rows.into_iter().map(|row| row.body));
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return rows;
        }
    }
}
