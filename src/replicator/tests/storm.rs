//! An account that refuses everything is asked almost nothing, and all goes as before soon after it answers again.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;
use crate::resolve::Freshness;
use crate::stores::{Retrying, StoreError, Throttled};

/// Transactions of five rows in so many partitions.
const PARTITIONS: usize = 10;
const ROWS: [&str; 5] = ["r0", "r1", "r2", "r3", "r4"];
/// Between two transactions, usually: a hundred rows a second.
const USUAL: Duration = Duration::from_millis(50);
const HOUR: Duration = Duration::from_secs(3_600);

impl World {
    /// Two regions as the program sees them: by lines with its adapters around. Returns what goes wrong on these.
    async fn with_adapters() -> (Self, [Faults; 2]) {
        let mut world = Self::new(2).await;
        let mut faults = Vec::new();
        for n in 0..2 {
            let line = world.stores[n].by_another_line();
            line.faults().set_latency(Duration::from_millis(5), Duration::ZERO);
            faults.push(line.faults());
            let patience = Freshness::patience(Settings::default().settle_window);
            let throttled = Throttled::new(line, world.runtime.clone(), patience);
            let tables: Arc<dyn Tables> = Retrying::new(throttled, world.runtime.clone());
            let region = world.regions[n].region().clone();
            world.regions[n] = RegionStore::new(region, vec![crate::stores::Account { tables, queue: None }]);
        }
        let faults = faults.try_into().expect("two regions have two");
        (world, faults)
    }

    async fn transaction(&mut self, n: usize) {
        let (version, partition) = (self.version(0), format!("p{}", n % PARTITIONS));
        self.announce(0, &partition, &ROWS, &[], &version).await;
        let rows = ROWS.iter().map(|row| Self::body(&partition, row, "x", &version));
        let rows: Vec<_> = rows.map(Operation::InsertOrReplace).collect();
        self.stores[0].transact(&table(), &partition.as_str().into(), &rows).await.unwrap();
    }

    /// A transaction each `pause` for so long; says how many rows came to the other region in each second.
    async fn load(&mut self, pause: Duration, lasts: Duration, came: &AtomicU64) -> Vec<u64> {
        let (began, mut seconds) = (self.runtime.instant(), vec![]);
        for n in 0.. {
            let now = self.runtime.instant() - began;
            if now.as_secs() as usize > seconds.len() {
                seconds.push(came.swap(0, Relaxed));
            }
            if now >= lasts {
                return seconds;
            }
            self.transaction(n).await;
            tokio::time::sleep_until(began + pause * (n as u32 + 1)).await;
        }
        seconds
    }

    /// Counts the application's rows that are written in a region.
    fn count_arrivals(&self, n: usize) -> Arc<AtomicU64> {
        let came = Arc::new(AtomicU64::new(0));
        let counts = came.clone();
        self.stores[n].watch(move |effect| {
            if *effect.table == table() && effect.after.is_ok() {
                counts.fetch_add(1, Relaxed);
            }
        });
        came
    }
}

fn busy(retry_after: Option<Duration>) -> Fault {
    let error = StoreError::answered(ErrorKind::Throttled, 503, "ServerBusy", "the server is busy");
    Fault::Before(StoreError { retry_after, ..error })
}

/// Seldom enough that an hour of virtual time is seconds of ours.
fn calm() -> Settings {
    Settings {
        poll_busy: Duration::from_millis(500),
        poll_active: Duration::from_secs(1),
        poll_idle: Duration::from_secs(4),
        ..Settings::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_an_hour_is_not_amplified_and_over_within_thirty_seconds() {
    let (mut world, [_, far]) = World::with_adapters().await;
    let came = world.count_arrivals(1);
    world.start_one(0, &calm());
    let calm_pause = Duration::from_secs(20);
    let before = world.load(USUAL, Duration::from_secs(12), &came).await;
    let usual = before[2..].iter().sum::<u64>() / (before.len() as u64 - 2);
    far.set_rule(|_| Some(busy(None)));
    let sent = far.all_requests();
    world.load(calm_pause, HOUR, &came).await;
    let (requests, changes) = (far.all_requests() - sent, HOUR.as_secs() / calm_pause.as_secs());
    let throttled = world.boards[0].snapshot().throttled;
    assert!(throttled.iter().any(|account| account.region.as_str() == "north" && account.shut), "{throttled:?}");
    far.set_rule(|_| None);
    let after = world.load(USUAL, Duration::from_secs(40), &came).await;
    let recovered = after.windows(3).position(|three| three.iter().sum::<u64>() * 100 >= 3 * usual * 95);
    let probes = HOUR.as_millis() as u64 / 2_500;
    println!(
        "storm of an hour: {requests} requests for {changes} changes and {probes} intervals; usually {usual} rows/s, \
         again after {recovered:?} s: {after:?}"
    );
    assert!(requests <= changes * 11 / 10 + probes, "{requests} requests for {changes} changes");
    assert!(recovered.is_some_and(|second| second + 3 <= 30), "{after:?} rows a second, usually {usual}");
    assert!(
        after[30..].iter().sum::<u64>() * 100 >= (after.len() as u64 - 30) * usual * 95,
        "and it stays so: {after:?}"
    );
    world.settle(Duration::from_secs(100)).await;
    world.until_drained(0).await;
    assert_eq!(world.contents(0), world.contents(1));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(world.boards[0].snapshot().throttled, vec![], "what is over is not told of");
}

#[tokio::test(start_paused = true)]
async fn carriers_do_not_storm_their_own_account() {
    for retry_after in [None, Some(Duration::from_secs(20))] {
        let (mut world, [own, far]) = World::with_adapters().await;
        world.start_one(0, &Settings::default());
        world.settle(Duration::from_secs(5)).await;
        own.set_rule(move |_| Some(busy(retry_after)));
        let (sent, sent_far) = (own.all_requests(), far.all_requests());
        tokio::time::sleep(Duration::from_secs(600)).await;
        let requests = own.all_requests() - sent;
        let interval = retry_after.unwrap_or(Duration::from_millis(2_500));
        let bound = 10 + 16 + 600_000 / interval.as_millis() as u64;
        assert!(requests <= bound, "{requests} requests in ten minutes, {bound} are allowed");
        assert!(far.all_requests() - sent_far > 100, "what another account is asked does not depend on this one");
        own.set_rule(|_| None);
        world.put(0, "p", "r", "1").await;
        world.settle(Duration::from_secs(30)).await;
        assert_eq!(world.contents(0), world.contents(1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_hot_partition_holds_up_no_other() {
    let (mut world, [_, far]) = World::with_adapters().await;
    let came = world.count_arrivals(1);
    world.start_one(0, &calm());
    world.load(USUAL, Duration::from_secs(4), &came).await;
    far.set_rule(|request| {
        let hot = request.partition.is_some_and(|partition| partition.as_str() == "p7");
        hot.then(|| busy(Some(Duration::from_secs(1))))
    });
    let seconds = world.load(USUAL, Duration::from_secs(12), &came).await;
    let rows: u64 = seconds[2..].iter().sum();
    assert!(rows >= 10 * 80, "{seconds:?} rows a second; of a hundred that are offered ninety are not hot");
    far.set_rule(|_| None);
    world.settle(Duration::from_secs(100)).await;
    world.until_drained(0).await;
    assert_eq!(world.contents(0), world.contents(1));
}
