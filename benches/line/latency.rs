//! Commit to visible: from the source's `Timestamp` of a row to the destination's, both by the same clock.

use std::collections::BTreeMap;
use std::time::Duration;

use tablerelay::model::{RowKey, Time};
use tablerelay::replicator::Settings;
use tablerelay::runtime::Runtime;
use tablerelay::stores::memory::MemoryTables;
use tokio::time::Instant;

use crate::world::{LATENCY, World, table, write_at};

pub fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    println!("commit to visible, memory stores with 5 ms of latency");
    for rate in [100, 1_000, 2_000] {
        let delays = runtime.block_on(busy(rate));
        println!(
            "  {rate:>5} single rows/s       p50 {:>5} ms   p99 {:>5} ms (bound 150)",
            percentile(&delays, 50).as_millis(),
            percentile(&delays, 99).as_millis()
        );
    }
    let first = runtime.block_on(after_idleness());
    println!(
        "  the first change after idleness, worst of {}: {} ms (bound 1,500)\n",
        first.len(),
        percentile(&first, 100).as_millis()
    );
}

fn percentile(delays: &[Duration], percent: usize) -> Duration {
    delays.get((delays.len() * percent / 100).min(delays.len().saturating_sub(1))).copied().unwrap_or_default()
}

async fn busy(rate: u32) -> Vec<Duration> {
    let mut world = World::new(Runtime::system()).await;
    world.set_latency(LATENCY);
    let stop = world.start(Settings::default());
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (began, mut writes) = (Instant::now(), tokio::task::JoinSet::new());
    // The first second is the way from idle to busy.
    for n in 0..rate * 6 {
        tokio::time::sleep_until(began + Duration::from_secs_f64(f64::from(n) / f64::from(rate))).await;
        let (store, version) = (world.source.clone(), world.version());
        writes.spawn(async move { write_at(store.as_ref(), &version, &format!("p{n}"), &["r".to_owned()]).await });
        while writes.try_join_next().is_some() {}
    }
    while writes.join_next().await.is_some() {}
    let from = world.runtime.now() - Duration::from_secs(5);
    let delays = delays(&world, rate as usize * 6, from).await;
    stop.cancel();
    delays
}

async fn after_idleness() -> Vec<Duration> {
    let mut world = World::new(Runtime::system()).await;
    world.set_latency(LATENCY);
    let stop = world.start(Settings::default());
    let mut worst = Vec::new();
    for n in 0..5 {
        tokio::time::sleep(Duration::from_millis(6_000 + 170 * n)).await;
        world.write(&format!("p{n}"), &["r".to_owned()]).await;
        worst = delays(&world, n as usize + 1, Time::EPOCH).await;
    }
    stop.cancel();
    worst
}

async fn delays(world: &World, rows: usize, from: Time) -> Vec<Duration> {
    let times = |store: &MemoryTables| -> BTreeMap<(String, RowKey), Time> {
        let rows = store.snapshot(&table()).into_iter();
        rows.map(|row| ((row.body.partition().to_string(), row.body.row().clone()), row.timestamp)).collect()
    };
    while world.destination.snapshot(&table()).len() < rows {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let written = times(&world.source);
    let arrived = times(&world.destination);
    let mut delays: Vec<Duration> =
        written.iter().filter(|(_, at)| **at >= from).map(|(row, at)| arrived[row].since(*at)).collect();
    delays.sort();
    delays
}
