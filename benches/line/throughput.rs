//! Rows a second to one destination, beside a bare loop; CPU and memory of a row.

use std::time::Duration;

use tablerelay::model::Version;
use tablerelay::replicator::Settings;
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Operation, Tables};
use tokio::time::Instant;

use crate::process::{cpu_seconds, resident_mib};
use crate::world::{LATENCY, World, body, table, write_at};

const ROWS: usize = 40_000;

pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(rate());
    runtime.block_on(memory());
}

async fn rate() {
    let mut world = World::new(Runtime::system()).await;
    world.set_latency(LATENCY);
    let version = world.version();
    let began = Instant::now();
    for n in 0..ROWS / 100 {
        bare_transaction(&world, &format!("bare{n}"), &version).await;
    }
    let bare = ROWS as f64 / began.elapsed().as_secs_f64();

    let mut world = World::new(Runtime::system()).await;
    for n in 0..ROWS / 100 {
        let rows: Vec<String> = (0..100).map(|row| format!("r{row:03}")).collect();
        world.write(&format!("tx{n}"), &rows).await;
    }
    world.set_latency(LATENCY);
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let stop = world.start(Settings::default());
    while world.destination.snapshot(&table()).len() < ROWS {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let line = ROWS as f64 / began.elapsed().as_secs_f64();
    let cpu = (cpu_seconds() - cpu) / ROWS as f64 * 1e6;
    stop.cancel();
    println!("throughput on memory stores with 5 ms of latency, transactions of 100 rows");
    println!("  a bare loop                {bare:>9.0} rows/s");
    println!("  the line                   {line:>9.0} rows/s   ratio {:.2} (bound 0.8)", line / bare);
    println!("  CPU of a changed row       {cpu:>9.1} µs, stores included\n");
}

async fn bare_transaction(world: &World, partition: &str, version: &Version) {
    let rows: Vec<Operation> =
        (0..100).map(|row| Operation::Insert(body(partition, &format!("r{row:03}"), version))).collect();
    world.destination.transact(&table(), &partition.into(), &rows).await.expect("written");
}

/// Updates at 5,000 rows a second on stores that hold the rows already, so that what grows is the line.
async fn memory() {
    const SECONDS: usize = 10;
    let mut world = World::new(Runtime::system()).await;
    let rows: Vec<String> = (0..10).map(|row| format!("r{row}")).collect();
    let version = world.version();
    for n in 0..5_000 {
        for store in [&world.source, &world.destination] {
            let rows: Vec<Operation> =
                rows.iter().map(|row| Operation::Insert(body(&format!("p{n}"), row, &version))).collect();
            store.transact(&table(), &format!("p{n}").as_str().into(), &rows).await.expect("loaded");
        }
    }
    world.set_latency(LATENCY);
    let stop = world.start(Settings::default());
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (before, mut peak, began) = (resident_mib(), 0.0_f64, Instant::now());
    let mut writes = tokio::task::JoinSet::new();
    for n in 0..SECONDS * 500 {
        tokio::time::sleep_until(began + Duration::from_millis(2) * n as u32).await;
        let (store, version, rows) = (world.source.clone(), world.version(), rows.clone());
        writes.spawn(async move { write_at(store.as_ref(), &version, &format!("p{n}"), &rows).await });
        while writes.try_join_next().is_some() {}
        peak = peak.max(if n % 100 == 0 { resident_mib() } else { 0.0 });
    }
    let took = began.elapsed().as_secs_f64();
    while writes.join_next().await.is_some() {}
    world.settled().await;
    peak = peak.max(resident_mib());
    stop.cancel();
    println!("memory while {:.0} rows/s are updated", (SECONDS * 5_000) as f64 / took);
    println!("  growth over the loaded stores {:>6.1} MiB (bound 64)\n", peak - before);
}
