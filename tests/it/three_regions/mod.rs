//! Three regions on real servers, a daemon each, writers in all of them, and everything going wrong that can. Afterwards
//! all regions hold the same, every cache holds the newest, and nothing is left to be done.

mod author;
mod book;
mod contested;
mod crashes;
mod kills;
mod odd;
mod own;
mod picture;
mod queued;
mod values;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;
use tablerelay::feed::{Reason, Shard};
use tablerelay::model::{RowBody, SystemTable, TableName, Time};
use tablerelay::replicator::create_missing;
use tablerelay::runtime::Runtime;
use tablerelay::stores::Operation;
use tokio::time::Instant;

use self::author::Author;
use self::book::Book;
use self::picture::{Region, faults, open_records, report, unexpected_quarantine};
use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, configuration, warnings};
use crate::support::ports;
use crate::support::redis::Redis;
use crate::support::relay::{Config, Daemon};

const NAMES: [&str; 3] = ["east", "north", "west"];
/// Short, so that what waits for it ends soon; long enough for two steps on a busy machine.
const SETTLE_WINDOW: Duration = Duration::from_secs(15);
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(15);
/// Three Azurites on few cores bear no more. Who is killed and started again has to wait for its own lease to run out.
const REPLICATION: &str = "settle_window = \"15s\"\nmax_clock_skew = \"15s\"\npoll_busy = \"400ms\"\nrequests_in_flight = 8\nlease = \"2s\"\n";
/// How long it may take until nothing is wrong any more, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(90);
/// The share of all writes after which a daemon is killed, started again, and another one ended in peace.
const KILL_AT: usize = 25;
const START_AT: usize = 50;
const TERMINATE_AT: usize = 70;
const ALL_WRITES: usize = author::WRITES * NAMES.len();

/// Three regions, what they run on, and the file that describes them.
struct World {
    azurites: [Azurite; 3],
    sites: [Site; 3],
    config: Config,
}

impl World {
    async fn new(azurite: impl Fn() -> Azurite, redis: impl Fn() -> Redis) -> Self {
        let azurites = NAMES.map(|_| azurite());
        let sites = [0, 1, 2].map(|n| Site::with(NAMES[n], azurites[n].account(), redis()));
        prepare(&sites).await;
        let config = configuration(&sites, REPLICATION);
        Self { azurites, sites, config }
    }
}

/// What the writers do comes from this.
fn seed() -> u64 {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Runtime::system().random() % 1_000_000);
    println!("SEED={seed} repeats what the writers do");
    seed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_regions_end_equal_whatever_their_writers_did() {
    let world = Arc::new(World::new(Azurite::start, Redis::start).await);
    let daemons = NAMES.map(|region| start(&world.config, region)).into();
    write_under(trouble, &world, daemons, seed(), 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_kills_lose_nothing() {
    let world = Arc::new(World::new(Azurite::start_on_disk, kills::lasting_redis).await);
    let daemons = kills::DAEMONS.iter().map(|region| start(&world.config, NAMES[*region])).collect();
    let seed = seed();
    let trouble = move |world: &World, daemons, progress: &AtomicUsize| kills::trouble(world, daemons, progress, seed);
    write_under(trouble, &world, daemons, seed, kills::ROUNDS).await;
}

/// Everything that the writers of three regions do, while daemons and servers are in trouble; then all must be well.
async fn write_under<T>(trouble: T, world: &Arc<World>, daemons: Vec<Daemon>, seed: u64, rounds: usize)
where
    T: FnOnce(&World, Vec<Daemon>, &AtomicUsize) -> Vec<Daemon> + Send + 'static,
{
    let begun = Instant::now();
    let progress = Arc::new(AtomicUsize::new(0));
    let trouble = {
        let (world, progress) = (world.clone(), progress.clone());
        // Apart, since it waits for processes and the writers must not.
        tokio::task::spawn_blocking(move || trouble(&world, daemons, &progress))
    };
    let sites = &world.sites;
    let authors: Vec<_> = sites.iter().enumerate().map(|(number, site)| Author::new(site, number, &progress)).collect();
    let writing = futures::future::join_all(authors.iter().map(|author| author.write(seed, rounds)));
    let mut book = Book::default();
    writing.await.into_iter().for_each(|written| book.absorb(written));
    println!("{} writes to {} rows in {:?}", book.acknowledged, book.rows().len(), begun.elapsed());
    let daemons = trouble.await.expect("the trouble is over");
    println!("the trouble was over after {:?}", begun.elapsed());

    let written = Runtime::system().now();
    let known = book.rows();
    eventually_nothing_is_wrong(sites, &daemons, &book, &known).await;
    println!("nothing is wrong after {:?}; unexpected answers: {:#?}", begun.elapsed(), book.troubles);
    eventually_every_link_has_passed(&world.config, written).await;
    every_link_is_told_of_by_two_regions_alone(&world.config);
    // Not for a moment only; but a message that a killed daemon had received comes back within a minute, and is a record again.
    eventually_nothing_is_wrong(sites, &daemons, &book, &known).await;
    assert!(book.uncertain.len() * 10 < known.len(), "the servers were too slow to prove much: {:#?}", book.troubles);
    for daemon in &daemons {
        daemon.signal("TERM");
        assert_eq!(daemon.ended(), 0, "{}", warnings(daemon));
        assert!(!daemon.said().contains("\"ERROR\""), "nothing here is for a person to act on: {}", warnings(daemon));
    }
}

fn start(config: &Config, region: &str) -> Daemon {
    Daemon::start(config, region, "info", &[])
}

/// System tables, which writers need before any daemon runs; each data table in one region alone, where its first writer
/// is; and what is malformed: a record in the first region, a message in the last.
async fn prepare(sites: &[Site]) {
    for site in sites {
        create_missing(&site.store).await.expect("Azurite creates tables");
        for table in ["Own", "Contested", "Odd", "Queued", "Crashed"] {
            let table = TableName::new(table).expect("a table");
            site.store.home().create_table(&table).await.expect("Azurite creates tables");
        }
    }
    let shard = Shard::of(&TableName::new("Own").expect("a table"), &"p".into()).partition();
    let record = Operation::Insert(RowBody::builder(&shard, &"c:nonsense".into()).string("Puts", "{").finish());
    sites[0].store.home().write(&SystemTable::Feed.name(), &record).await.expect("the feed is there");
    let queue = sites[2].store.accounts()[0].queue.as_ref().expect("the account has a queue");
    queue.send(r#"{"table":"Own","partition":7}"#).await.expect("the queue is there");
}

/// One daemon is killed in the middle and started again later; another is told to end, and started again.
fn trouble(world: &World, mut daemons: Vec<Daemon>, progress: &AtomicUsize) -> Vec<Daemon> {
    eventually_written(progress, KILL_AT * ALL_WRITES / 100);
    daemons[1].signal("KILL");
    assert_eq!(daemons[1].ended(), 137);
    eventually_written(progress, START_AT * ALL_WRITES / 100);
    daemons[1] = start(&world.config, NAMES[1]);
    eventually_written(progress, TERMINATE_AT * ALL_WRITES / 100);
    let asked = Instant::now();
    daemons[0].signal("TERM");
    assert_eq!(daemons[0].ended(), 0, "{}", daemons[0].said());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    daemons[0] = start(&world.config, NAMES[0]);
    daemons
}

/// Waits for so many writes.
fn eventually_written(progress: &AtomicUsize, writes: usize) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let written = progress.load(Ordering::Relaxed);
        if written >= writes {
            return;
        }
        assert!(Instant::now() < deadline, "the writers came to {written} of {writes} writes");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// How much is wrong, and a report for people.
async fn look(sites: &[Site], book: &Book, known: &BTreeSet<&tablerelay::model::RowId>) -> (usize, String) {
    let regions = futures::future::join_all(sites.iter().map(|site| Region::read(site, known))).await;
    let mut found = faults(&regions, book);
    found.extend(unexpected_quarantine(&regions, &[&[Reason::BadJson], &[], &[Reason::BadJson]]));
    (found.len(), report(&found, &regions, book))
}

async fn eventually_nothing_is_wrong(
    sites: &[Site],
    daemons: &[Daemon],
    book: &Book,
    known: &BTreeSet<&tablerelay::model::RowId>,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let late = Instant::now() >= deadline;
        let open = futures::future::join_all(sites.iter().map(open_records)).await;
        // All else costs more to ask.
        if late || open.iter().all(|open| *open == 0) {
            let (found, report) = look(sites, book, known).await;
            if found == 0 {
                return;
            }
            let warned: String = daemons.iter().map(warnings).collect();
            assert!(!late, "{report}\nthe daemons warned of\n{warned}");
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// Each region in turn cannot be reached: the others still tell of all links, its own among them.
fn every_link_is_told_of_by_two_regions_alone(config: &Config) {
    std::thread::scope(|scope| {
        for region in NAMES {
            scope.spawn(move || {
                let upper = region.to_uppercase();
                let account = format!("TABLERELAY__REGION__{upper}__ACCOUNT__{upper}1__CONNECTION_STRING");
                let nowhere =
                    format!("AccountName=a;AccountKey=QUJD;TableEndpoint=http://127.0.0.1:{}/a", ports::free());
                let ended = config.run(&["status", "--output", "json"], &[(&account, &nowhere)]);
                assert_eq!(ended.code, Some(0), "{}", ended.err);
                let status: Value = serde_json::from_str(&ended.out).expect("JSON was asked for");
                assert_eq!(status["unreachable"][0]["region"], region, "{status:#}");
                let count = |list: &str| status[list].as_array().map(Vec::len);
                let counts = [count("unreachable"), count("links"), count("unknown")];
                assert_eq!(counts, [Some(1), Some(6), Some(0)], "{status:#}");
            });
        }
    });
}

/// `tablerelay status`, asked from nowhere in particular, tells of all six links, and that each is through with what was
/// written by then.
async fn eventually_every_link_has_passed(config: &Config, time: Time) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let ended = config.run(&["status", "--output", "json"], &[]);
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let status: Value = serde_json::from_str(&ended.out).expect("JSON was asked for");
        let links = status["links"].as_array().expect("links are listed");
        let passed = |link: &&Value| {
            let last_sync = link["last_sync"].as_str().and_then(|text| Time::parse(text).ok());
            link["state"] == "flowing" && link["backlog_rows"] == 0 && last_sync.is_some_and(|last| last > time)
        };
        if links.len() == 6 && links.iter().filter(passed).count() == 6 {
            return;
        }
        assert!(Instant::now() < deadline, "every link should have passed {time}: {status:#}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
