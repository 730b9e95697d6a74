//! A copy among everybody else: daemons of both regions run, writers change and delete rows of both, and the command is
//! killed again and again. What counts is what is there in the end, which is read by another way than the command's.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tablerelay::model::*;
use tablerelay::replicator::create_missing;
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Condition, Operation, Scope};
use tablerelay::writer::{Writer, WriterOptions};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::FAST;
use crate::whole::command::{self, Used};
use crate::whole::configuration;
use crate::whole::store::{Store, TOGETHER, partition, table};
use crate::whole::support::relay::{Config, Daemon};

const KILLS: usize = 10;
/// How many of a hundred rows are written to meanwhile: two of three of these are changed, the others deleted.
const PERCENT: usize = 30;
const WRITERS: usize = 8;
const ATTEMPTS: usize = 10;
/// How long all of it may take, beyond what the rows take on the slowest store.
const PATIENCE: Duration = Duration::from_secs(3_600);
/// How long the daemons may take for what was written last. An Azurite reads all of a table for each page of a few rows.
const CAUGHT_UP: Duration = Duration::from_secs(1_800);
const LOOK: Duration = Duration::from_millis(100);

/// What a range's row in the ledger says: copy flag, when it was copied, and rows.
type Ranges = BTreeMap<String, (String, Option<String>, usize)>;

fn key(n: usize) -> (PartitionKey, RowKey) {
    (partition(n / TOGETHER), format!("r{:03}", n % TOGETHER).as_str().into())
}

/// What becomes of a row while it is copied: stays, is changed, is deleted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    Changes,
    Goes,
}

fn fate(n: usize) -> Fate {
    // Spread over the partitions, and the same for everybody who asks.
    match (n.wrapping_mul(7_919) / 13) % 100 {
        fate if fate >= PERCENT => Fate::Stays,
        fate if fate % 3 == 0 => Fate::Goes,
        _ => Fate::Changes,
    }
}

fn body(n: usize, text: &str) -> RowBody {
    let (partition, row) = key(n);
    RowBody::builder(&partition, &row).string("Value", &"x".repeat(100)).string("Text", text).finish()
}

/// The rows that are written to, in an order that has nothing to do with that of the copy.
fn touched(rows: usize) -> Vec<usize> {
    let stride = rows / TOGETHER;
    let all = (0..TOGETHER).flat_map(|r| (0..stride).map(move |p| p * TOGETHER + r));
    all.filter(|n| fate(*n) != Fate::Stays).collect()
}

pub async fn run(rows: usize, azurite: bool) {
    let start = |name: &str| if azurite { Store::azurite(name) } else { Store::start(name) };
    let (west, north) = (start("west"), start("north"));
    let orders = table("orders");
    let part = |n: usize| {
        let rows = (n * TOGETHER..(n + 1) * TOGETHER).map(|n| Operation::Insert(body(n, "old")));
        (partition(n), rows.collect())
    };
    west.fill(&orders, (0..rows / TOGETHER).map(part)).await;
    for store in [&west, &north] {
        create_missing(&store.region_store()).await.expect("system tables");
    }
    let config = configuration(&west, &north, "[replication]\nsettle_window = \"30s\"\nmax_clock_skew = \"30s\"\n");
    let daemons = ["west", "north"].map(|region| Daemon::start(&config, region, "info", &[]));
    println!("{rows} rows on {}, {PERCENT} % written to meanwhile", if azurite { "Azurites" } else { "memory stores" });

    let began = Instant::now();
    let writes = Arc::new(Writes { rows: touched(rows), ..Writes::default() });
    let mut writers = writers(&west, &writes);
    let used = copy_and_kill(&config, &west, rows, &writes).await;
    while let Some(done) = writers.join_next().await {
        done.expect("writers do not panic");
    }
    println!("  copied, compared and written to in {:.0} s, {KILLS} times killed", began.elapsed().as_secs_f64());
    let changed = writes.rows.iter().filter(|n| fate(**n) == Fate::Changes).count();
    println!("  {changed} rows changed, {} deleted", writes.rows.len() - changed);
    println!("  resident memory of the command {:.1} MiB at most (bound 128)", used.resident);
    let warned = || daemons.iter().map(|daemon| format!("{}\n{}", daemon.url, daemon.said())).collect::<String>();
    until_equal(&west, &north, rows, &warned).await;
    println!("  equal {:.0} s after the start, row by row", began.elapsed().as_secs_f64());
    let verified = command::run(&config, &["verify", "--from", "west", "--to", "north", "--content"]).await;
    println!("  verify --content: {} in {:.0} s\n", verified.status, verified.took.as_secs_f64());
    assert!(verified.status.success() && used.resident <= 128.0, "{:#}", verified.told["tables"]);
    drop(daemons);
}

/// What writers do, no faster than the copy gets on, so that they write until its end.
#[derive(Default)]
struct Writes {
    rows: Vec<usize>,
    next: AtomicUsize,
    allowed: AtomicUsize,
    done: AtomicUsize,
}

fn writers(west: &Store, writes: &Arc<Writes>) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let writer = Writer::new(west.region_store(), WriterOptions::default(), Runtime::system());
        let writes = writes.clone();
        writers.spawn(async move { writes.make(&writer).await });
    }
    writers
}

impl Writes {
    async fn make(&self, writer: &Writer) {
        let orders = table("orders");
        loop {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(n) = self.rows.get(next).copied() else { return };
            while next >= self.allowed.load(Ordering::Relaxed) {
                sleep(LOOK / 10).await;
            }
            let (partition, row) = key(n);
            for attempt in 1.. {
                let written = match fate(n) {
                    Fate::Goes => writer.delete(&orders, &partition, &row, Condition::Present, None).await,
                    _ => writer.insert_or_replace(&orders, &body(n, "new"), None).await,
                };
                match written {
                    Ok(_) => break,
                    // An Azurite at its limits may be too slow to answer: it is written again, with a new version.
                    Err(error) => assert!(attempt < ATTEMPTS, "row {n}: {error}"),
                }
            }
            self.done.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// So much of the copy is done: as much of this may be, and a part more.
    fn allow(&self, done: f64) {
        let allowed = self.rows.len() as f64 * (done + 1.0 / KILLS as f64);
        self.allowed.store(allowed as usize, Ordering::Relaxed);
    }
}

/// Starts it, kills it when a further part of the rows is copied, and goes on.
async fn copy_and_kill(config: &Config, west: &Store, rows: usize, writes: &Writes) -> Used {
    let (mut used, mut before) = (Used::default(), Ranges::new());
    // Slow enough to be killed in time, until it is not killed any more.
    let slow = (rows / 60).to_string();
    let slow = ["--share", "100", "--account-rows", &slow];
    for run in 0..=KILLS {
        let (what, is_last) = (if run == 0 { "start" } else { "resume" }, run == KILLS);
        let rate = if is_last { FAST } else { slow };
        let arguments = [&["backfill", what, "--from", "west", "--to", "north"], &rate[..]].concat();
        let mut running = command::start(config, &arguments);
        // Each gets on by a part of the rows, and ten of these parts are less than all.
        let (began, part) = (Instant::now(), copied(&before) + rows / 2 / KILLS);
        let mut now = ranges(west).await;
        while running.is_running() && (is_last || copied(&now) < part) {
            writes.allow(copied(&now) as f64 / rows as f64);
            sleep(LOOK).await;
            now = ranges(west).await;
            assert!(began.elapsed() < PATIENCE, "it gets on");
        }
        let ran = if is_last { running.ended() } else { running.kill() };
        used.resident = used.resident.max(ran.used.resident);
        now = ranges(west).await;
        for (name, (flag, at, rows)) in before.iter().filter(|(_, (flag, ..))| flag == "copied" || flag == "verified") {
            assert_eq!((&now[name].1, now[name].2), (at, *rows), "{name} was {flag}, and is not done again");
        }
        let through = now.values().filter(|(_, at, _)| at.is_some()).count();
        println!(
            "  {what:<7} {through:>3} of {:>3} ranges copied, {:>8} rows, {:>7} writes, {}",
            now.len(),
            copied(&now),
            writes.done.load(Ordering::Relaxed),
            ran.status
        );
        assert!(is_last || !ran.status.success(), "it was killed before it was through");
        assert!(!is_last || ran.status.success(), "{:#}", ran.told);
        before = now;
    }
    writes.allow(1.0);
    used
}

async fn ranges(west: &Store) -> Ranges {
    let scope = Scope::Partition { partition: "backfill".into(), from: None, through: None };
    let mut ranges = Ranges::new();
    let range = |row: RowBody| {
        let rows = row.string("Rows")?.parse().ok()?;
        Some((row.row().to_string(), (row.string("Copy")?, row.string("Copied"), rows)))
    };
    west.read(&SystemTable::Control.name(), scope, |row| ranges.extend(range(row))).await;
    ranges
}

fn copied(ranges: &Ranges) -> usize {
    ranges.values().map(|(_, _, rows)| rows).sum()
}

/// What a region holds: by number of the row, its version as everybody reads it, and what it says.
async fn held(store: &Store) -> HashMap<usize, (Option<Version>, Option<String>)> {
    let mut held = HashMap::new();
    let number = |row: &RowBody| -> Option<usize> {
        let partition: usize = row.partition().as_str().strip_prefix("order-")?.parse().ok()?;
        Some(partition * TOGETHER + row.row().as_str().strip_prefix('r')?.parse::<usize>().ok()?)
    };
    let mut take = |row: RowBody| {
        let n = number(&row).expect("a row of ours");
        assert!(held.insert(n, (row.version().cloned(), row.string("Text"))).is_none(), "row {n} twice");
    };
    store.read(&table("orders"), Scope::Table, &mut take).await;
    held
}

/// Waits until the daemons have brought what writers wrote last, and both regions hold what they should.
async fn until_equal(west: &Store, north: &Store, rows: usize, said: &impl Fn() -> String) {
    let began = Instant::now();
    loop {
        let looking = Instant::now();
        let (here, there) = (held(west).await, held(north).await);
        let looked = looking.elapsed();
        let is_right = |n: &usize| {
            let text = match fate(*n) {
                Fate::Stays => "old",
                Fate::Changes => "new",
                Fate::Goes => return !here.contains_key(n) && !there.contains_key(n),
            };
            let (Some((version, at)), Some((theirs, far))) = (here.get(n), there.get(n)) else { return false };
            // Where it came from a row without a version stays as it is.
            at.as_deref() == Some(text) && far.as_deref() == Some(text) && (version.is_none() || version == theirs)
        };
        let wrong: Vec<usize> = (0..rows).filter(|n| !is_right(n)).collect();
        let Some(first) = wrong.first().copied() else {
            assert_eq!(here.len(), there.len(), "nothing else is there");
            return;
        };
        let (at, far) = (here.get(&first), there.get(&first));
        assert!(
            began.elapsed() < CAUGHT_UP,
            "{} rows are not as they should be, row {first}: {at:?}, {far:?}\n{}",
            wrong.len(),
            said()
        );
        // Reading both tables takes what the daemons would need, so most of the time is theirs.
        sleep((looked * 2).clamp(LOOK * 50, LOOK * 600)).await;
    }
}
