//! Store requests per 1,000 changed rows: the source is loaded first, then the line is started.

use std::time::Duration;

use tablerelay::feed::{Shard, encode_tombstone, tombstone_key};
use tablerelay::model::*;
use tablerelay::replicator::Settings;
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::MemoryTables;
use tablerelay::stores::{Operation, Tables};

use crate::world::{LATENCY, World, table};

pub fn run() {
    println!("store requests per 1,000 changed rows, one destination, no cache (virtual time)");
    println!("  {:<58} {:>9} {:>9} {:>7}", "", "delivered", "settled*", "bound");
    report("transactions of 100 contiguous rows, fresh partitions", 100, 1_000, load_transactions);
    report("single rows in random partitions", 2_400, 1_000, load_singles);
    report("the same, over 1,000 tombstones in every shard", 4_400, 1_000, load_singles_among_tombstones);
    report("1,000 updates of 100 hot rows", 400, 100, load_hot);
    println!("  * until the last record has ended, less the polling of an idle feed over the same time");
    println!("  idle: {:.1} requests a second (bound 20)\n", on_virtual_time(async { idle(&quiet().await).await }));
}

type Loader = fn(&mut World) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>>;

fn report(name: &str, bound: u64, rows: usize, load: Loader) {
    let (delivered, settled) = on_virtual_time(async {
        let mut world = World::new(simulated()).await;
        load(&mut world).await;
        world.set_latency(LATENCY);
        let (before, began) = (world.requests(), world.runtime.instant());
        let stop = world.start(Settings::default());
        world.delivered(rows).await;
        let delivered = world.requests() - before;
        world.settled().await;
        let (settled, took) = (world.requests() - before, began.elapsed());
        let idle = idle(&world).await * took.as_secs_f64();
        stop.cancel();
        (delivered, (settled as f64 - idle).max(0.0) as u64)
    });
    let verdict = if delivered.max(settled) <= bound { "" } else { "  OVER" };
    println!("  {name:<58} {delivered:>9} {settled:>9} {bound:>7}{verdict}");
}

fn on_virtual_time<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(work)
}

fn simulated() -> Runtime {
    Runtime::simulated(Time::from_unix_seconds(1_700_000_000), 1)
}

async fn quiet() -> World {
    let world = World::new(simulated()).await;
    world.set_latency(LATENCY);
    world.start(Settings::default());
    tokio::time::sleep(Duration::from_secs(10)).await;
    world
}

/// Requests a second of a line that has nothing to do.
async fn idle(world: &World) -> f64 {
    tokio::time::sleep(Duration::from_secs(10)).await;
    let before = world.requests();
    tokio::time::sleep(Duration::from_secs(100)).await;
    (world.requests() - before) as f64 / 100.0
}

fn load_transactions(world: &mut World) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
    Box::pin(async move {
        for n in 0..10 {
            let rows: Vec<String> = (0..100).map(|row| format!("r{row:03}")).collect();
            world.write(&format!("tx{n}"), &rows).await;
        }
    })
}

fn load_singles(world: &mut World) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
    Box::pin(async move {
        for _ in 0..1_000 {
            let partition = format!("{:016x}", world.runtime.random());
            world.write(&partition, &["r".to_owned()]).await;
        }
    })
}

fn load_singles_among_tombstones(world: &mut World) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
    Box::pin(async move {
        let version = world.version();
        for store in [world.source.clone(), world.destination.clone()] {
            fill_with_tombstones(&store, &version).await;
        }
        load_singles(world).await;
    })
}

fn load_hot(world: &mut World) -> std::pin::Pin<Box<dyn Future<Output = ()> + '_>> {
    Box::pin(async move {
        for n in 0..1_000 {
            world.write(&format!("hot{}", n % 10), &[format!("r{:02}", n % 100)]).await;
        }
    })
}

/// A little over 1,000 tombstones in each shard.
async fn fill_with_tombstones(store: &MemoryTables, version: &Version) {
    let mut counts = [0; Shard::COUNT];
    for n in 0.. {
        if counts.iter().all(|count| *count > 1_010) {
            return;
        }
        let id = RowId::new(table(), PartitionKey::new(format!("gone{n}")), "r".into());
        let shard = Shard::of(&id.table, &id.partition);
        counts[shard.index()] += 1;
        debug_assert!(tombstone_key(&id).as_str().starts_with("t:"));
        let tombstone = encode_tombstone(&Tombstone { id, version: version.clone() });
        store.write(&SystemTable::Feed.name(), &Operation::Insert(tombstone)).await.expect("a tombstone");
    }
}
