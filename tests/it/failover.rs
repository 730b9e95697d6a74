//! Failovers by the command, on real servers, while applications write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tablerelay::model::{RowBody, SystemTable, TableName};
use tablerelay::replicator::{create_missing, read_links};
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Query, RegionStore, Scope};
use tablerelay::writer::{Writer, WriterOptions};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::daemon::get;
use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, warnings};
use crate::support::eventually;
use crate::support::relay::{Config, Daemon, Ended, region};

const NAMES: [&str; 3] = ["west", "north", "south"];
pub(super) const WEST: usize = 0;
pub(super) const NORTH: usize = 1;
pub(super) const SOUTH: usize = 2;
const WINDOW: Duration = Duration::from_secs(8);
const REPLICATION: &str = "settle_window = \"8s\"\nmax_clock_skew = \"8s\"\nlease = \"2s\"\n";
const PARTITIONS: u32 = 5;
/// The new writer is to serve so soon after the command has begun.
const SERVING_WITHIN: Duration = Duration::from_secs(5);

pub(super) fn orders() -> TableName {
    TableName::new("orders").expect("a table")
}

/// Regions with a daemon each, and applications that write wherever `/health/write` says so.
pub(super) struct World {
    pub sites: Vec<Site>,
    pub daemons: Vec<Option<Daemon>>,
    pub config: Arc<Config>,
    pub writers: Vec<Writer>,
    /// Every region writes rows of its own; where one alone writes, all rows are written by whoever that is.
    pub apart: bool,
    /// What was acknowledged last, by row.
    pub written: Mutex<BTreeMap<String, String>>,
}

impl World {
    /// The regions have these roles, each on what `azurite` gives it.
    pub async fn new(roles: &[&str], azurite: impl Fn(usize) -> Arc<Azurite>) -> Self {
        Self::with(roles, azurite, "").await
    }

    /// The same with more in the configuration.
    pub async fn with(roles: &[&str], azurite: impl Fn(usize) -> Arc<Azurite>, more: &str) -> Self {
        let sites: Vec<Site> = (0..roles.len()).map(|n| Site::new(NAMES[n], azurite(n).account())).collect();
        let text = |(site, role): (&Site, &&str)| {
            let name = site.region.as_str();
            let region = region(name, role, &site.account.connection_string());
            format!("{region}[region.{name}.cache]\nurl = \"{}\"\n", site.redis.url())
        };
        let regions: String = sites.iter().zip(roles).map(text).collect();
        let config = Config::new(&format!("[table.orders]\n[replication]\n{REPLICATION}{more}{regions}"));
        for site in &sites {
            create_missing(&site.store).await.expect("Azurite creates tables");
            site.store.home().create_table(&orders()).await.expect("Azurite creates tables");
        }
        let options = WriterOptions { settle_window: WINDOW, max_clock_skew: WINDOW, ..WriterOptions::default() };
        let writers = sites.iter().map(|site| Writer::new(site.store.clone(), options, Runtime::system())).collect();
        let daemons: Vec<_> = NAMES[..roles.len()].iter().map(|name| Some(start(&config, name))).collect();
        daemons.iter().flatten().for_each(|daemon| drop(daemon.event("daemon-ready")));
        let apart = roles.iter().all(|role| *role == "writer");
        Self { sites, daemons, config: Arc::new(config), writers, apart, written: Mutex::default() }
    }

    pub async fn serves(&self, n: usize) -> bool {
        match &self.daemons[n] {
            Some(daemon) => get(daemon, "/health/write").await.0 == 200,
            None => false,
        }
    }

    pub async fn serving(&self) -> Vec<&str> {
        let mut serving = Vec::new();
        for (n, site) in self.sites.iter().enumerate() {
            if self.serves(n).await {
                serving.push(site.region.as_str());
            }
        }
        serving
    }

    /// Writes wherever writes are served, until it is stopped.
    pub async fn write(&self, stop: &CancellationToken) {
        for number in 0u32.. {
            for (n, writer) in self.writers.iter().enumerate() {
                if stop.is_cancelled() {
                    return;
                }
                if !self.serves(n).await {
                    continue;
                }
                let whose = if self.apart { NAMES[n] } else { "row" };
                let (partition, row) = (format!("p{}", number % PARTITIONS), format!("{whose}{}", number % 40));
                let value = format!("{number} of {}", NAMES[n]);
                let body = RowBody::builder(&partition.as_str().into(), &row.as_str().into()).string("N", &value);
                // One that is not acknowledged may be there or not, until the row is written again.
                writer.insert_or_replace(&orders(), &body.finish(), None).await.expect("Azurite takes it");
                self.written.lock().expect("one at a time").insert(format!("{partition}/{row}"), value);
            }
        }
    }

    /// Runs a command while everybody goes on.
    pub async fn command(&self, arguments: &[&'static str]) -> Ended {
        let (config, arguments) = (self.config.clone(), arguments.to_vec());
        tokio::task::spawn_blocking(move || config.run(&arguments, &[])).await.expect("it runs")
    }

    pub async fn all_are_equal(&self) {
        self.all_hold_what_was_written(held).await;
    }

    /// The same, without reading a table whole.
    async fn all_are_equal_by_partition(&self) {
        self.all_hold_what_was_written(|store| async {
            let scopes = (0..PARTITIONS).map(|number| {
                let partition = format!("p{number}").as_str().into();
                Scope::Partition { partition, from: None, through: None }
            });
            let parts = scopes.map(|scope| held_in(store, scope));
            futures::future::join_all(parts).await.into_iter().flatten().collect()
        })
        .await;
    }

    async fn all_hold_what_was_written<'a, F>(&'a self, held: impl Fn(&'a RegionStore) -> F)
    where
        F: Future<Output = BTreeMap<String, String>>,
    {
        let written = self.written.lock().expect("one at a time").clone();
        assert!(written.len() > 20, "too little was written to prove anything: {}", written.len());
        eventually("all regions hold what was acknowledged last", || async {
            let held = futures::future::join_all(self.sites.iter().map(|site| held(&site.store))).await;
            held.iter().all(|held| *held == written)
        })
        .await;
    }

    /// The rows of a region's trail.
    pub async fn epochs(&self, n: usize) -> Vec<RowBody> {
        let (from, through) = (Some("epoch:".into()), Some("epoch;".into()));
        let query = Query::new(Scope::Partition { partition: "roles".into(), from, through });
        let page = self.sites[n].store.home().query(&SystemTable::Control.name(), &query).await.expect("it answers");
        page.rows.into_iter().map(|row| row.body).collect()
    }

    /// What a region's trail says of its epochs: their kinds, who, and what was at risk.
    pub async fn trail(&self, n: usize) -> Vec<[Option<String>; 3]> {
        let rows = self.epochs(n).await.into_iter();
        rows.map(|row| ["Kind", "Who", "Risk"].map(|name| row.string(name))).collect()
    }

    pub async fn kinds(&self, n: usize) -> String {
        let kinds = self.trail(n).await.into_iter().map(|[kind, ..]| kind.expect("a kind"));
        kinds.collect::<Vec<_>>().join(" ")
    }
}

fn start(config: &Config, region: &str) -> Daemon {
    Daemon::start(config, region, "info", &[])
}

/// The rows of a region.
pub(super) async fn held(store: &RegionStore) -> BTreeMap<String, String> {
    held_in(store, Scope::Table).await
}

async fn held_in(store: &RegionStore, scope: Scope) -> BTreeMap<String, String> {
    let mut query = Query::new(scope);
    let mut held = BTreeMap::new();
    loop {
        let page = store.home().query(&orders(), &query).await.expect("it answers");
        let row = |row: &RowBody| (format!("{}/{}", row.partition(), row.row()), row.string("N").expect("it has one"));
        held.extend(page.rows.iter().map(|each| row(&each.body)));
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return held;
        }
    }
}

async fn there_and_back(roles: &[&str], serving: [&[&str]; 2]) {
    let azurite = Arc::new(Azurite::start());
    let world = World::new(roles, |_| azurite.clone()).await;
    let stop = CancellationToken::new();
    let story = async {
        for (to, serving) in [("north", serving[0]), ("west", serving[1])] {
            let before = world.written.lock().expect("one at a time").clone();
            eventually("something is written", || async { *world.written.lock().expect("one") != before }).await;
            let ended = world.command(&["failover", "--planned", "--to", to, "--why", "a test"]).await;
            assert_eq!(ended.code, Some(0), "{ended:?}");
            assert!(ended.out.contains(&format!("{to} serves writes")), "{ended:?}");
            println!("{roles:?}: {}", ended.out.lines().last().unwrap_or_default());
            eventually("health says so", || async { world.serving().await == serving }).await;
        }
        eventually("enough is written", || async { world.written.lock().expect("one").len() > 20 }).await;
        stop.cancel();
    };
    tokio::join!(story, world.write(&stop));
    world.all_are_equal().await;
    for (n, name) in NAMES.iter().enumerate().take(world.sites.len()) {
        assert_eq!(world.kinds(n).await, "first planned planned", "{name}");
    }
    let said: String = world.daemons.iter().flatten().map(warnings).collect();
    assert!(!said.contains("\"ERROR\""), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_and_back_loses_nothing_in_active_passive() {
    there_and_back(&["writer", "standby"], [&["north"], &["west"]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_and_back_loses_nothing_in_active_active() {
    there_and_back(&["writer", "standby", "replica"], [&["north"], &["west"]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_and_back_loses_nothing_in_multi_active() {
    there_and_back(&["writer", "writer"], [&["north"], &["west", "north"]]).await;
}

/// The writer's daemon and store die, the role is forced away, the region is back with this role, and is failed back to; then these serve.
async fn forced(roles: &[&str], back_as: &str, serving: &[&str]) {
    let (lost, kept) = (Arc::new(Azurite::start_on_disk_and_tell()), Arc::new(Azurite::start()));
    let azurite = |n| if n == WEST { lost.clone() } else { kept.clone() };
    let mut world = World::new(roles, azurite).await;
    let stop = CancellationToken::new();
    let some = async {
        eventually("some rows", || async { world.written.lock().expect("one at a time").len() > 20 }).await;
        stop.cancel();
    };
    tokio::join!(some, world.write(&stop));
    // So that what is at risk is told by what was published, and is nothing.
    world.all_are_equal().await;
    eventually("what the links of west have come to is published elsewhere", || async {
        let told = read_links(&world.sites[NORTH].store).await.unwrap_or_default();
        told.iter().any(|link| link.source.as_str() == "west" && link.last_sync.is_some())
    })
    .await;
    it_is_not_forced_without_yes(&world).await;

    let daemon = world.daemons[WEST].take().expect("it runs");
    daemon.signal("KILL");
    assert_eq!(daemon.ended(), 137);
    lost.stop();
    let began = Instant::now();
    let command = world.command(&["failover", "--force", "--to", "north", "--yes", "--who", "ada", "--output", "json"]);
    let served = async {
        eventually("north serves", || world.serves(NORTH)).await;
        began.elapsed()
    };
    let (ended, served) = tokio::join!(command, served);
    println!("north served {served:.1?} after the command had begun");
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(served < SERVING_WITHIN, "{served:?}");
    let told: Value = serde_json::from_str(&ended.out).expect("JSON");
    let link = &told["survey"]["risk"]["links"][0];
    assert_eq!((&link["exact"], &told["done"]["unreached"][0]), (&false.into(), &"west".into()), "{told:#}");
    assert!(link["last_sync"].is_string() && link["published"].is_string(), "{told:#}");
    for n in NORTH..roles.len() {
        eventually("all have heard", || async { world.kinds(n).await == "first forced" }).await;
        let trail = world.trail(n).await;
        let [_, who, risk] = trail.last().expect("a trail");
        assert_eq!(who.as_deref(), Some("ada"));
        assert!(risk.as_ref().is_some_and(|risk| risk.contains("\"exact\":false")), "{risk:?}");
    }
    if roles.len() > SOUTH {
        let again = world.command(&["failover", "--force", "--to", "south", "--yes"]).await;
        assert_eq!((again.code, again.err.contains("--again")), (Some(1), true), "{again:?}");
    }

    // West is back, and never serves; then it is asked to.
    lost.resume();
    world.daemons[WEST] = Some(start(&world.config, "west"));
    let back = world.daemons[WEST].as_ref().expect("it runs");
    let confirmed = back.event("roles-confirmed");
    assert_eq!((&confirmed["role"], &confirmed["epoch"]), (&back_as.into(), &2.into()), "{confirmed}");
    back.event("daemon-ready");
    assert_eq!(world.serving().await, ["north"]);
    world.all_are_equal_by_partition().await;
    no_table_is_read_whole(&lost);
    world.all_are_equal().await;
    // The server's log comes a moment after its answer.
    eventually("one who does read it whole is told of", || async { !lost.reads_of_whole(&orders()).0.is_empty() })
        .await;
    let ended = world.command(&["failover", "--planned", "--to", "west"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    eventually("west serves", || async { world.serving().await == serving }).await;
    assert_eq!(world.kinds(WEST).await, "first forced planned");
}

async fn it_is_not_forced_without_yes(world: &World) {
    let refused = world.command(&["failover", "--force", "--to", "north"]).await;
    assert_eq!((refused.code, refused.err.contains("--yes")), (Some(1), true), "{refused:?}");
    assert!(
        refused.out.contains("west to north") && refused.out.contains("yes"),
        "exact while it answers: {refused:?}"
    );
}

/// A region that is back became equal by what its feed and its log name, not by reading its tables.
fn no_table_is_read_whole(azurite: &Azurite) {
    let (whole, requests) = azurite.reads_of_whole(&orders());
    assert!(requests > 0, "it tells of none, so it says nothing");
    println!("{requests} requests about the table since it was back, {} of them to read it whole", whole.len());
    assert_eq!(whole, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_failover_serves_within_five_seconds_in_active_passive() {
    forced(&["writer", "standby"], "standby", &["west"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_failover_serves_within_five_seconds_in_active_active() {
    forced(&["writer", "standby", "replica"], "standby", &["west"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forced_failover_serves_within_five_seconds_in_multi_active() {
    forced(&["writer", "writer"], "replica", &["west", "north"]).await;
}

/// The writer's daemon and store die with rows that nobody has got; the role is forced away; when the region is back an application
/// goes on writing there. The trail tells how many rows were not sent, and which; what becomes of all of it says the policy.
async fn unsent_and_late(late_writes: &str) {
    let (lost, kept) = (Arc::new(Azurite::start_on_disk_and_tell()), Arc::new(Azurite::start()));
    let azurite = |n| if n == WEST { lost.clone() } else { kept.clone() };
    let more = format!("[failover]\nlate_writes = \"{late_writes}\"\n");
    let mut world = World::with(&["writer", "standby", "replica"], azurite, &more).await;
    let stop = CancellationToken::new();
    let some = async {
        eventually("some rows", || async { world.written.lock().expect("one at a time").len() > 20 }).await;
        stop.cancel();
    };
    tokio::join!(some, world.write(&stop));
    world.all_are_equal().await;

    let daemon = world.daemons[WEST].take().expect("it runs");
    daemon.signal("KILL");
    assert_eq!(daemon.ended(), 137);
    let put = async |row: &str, value: &str| {
        let body = RowBody::builder(&"p0".into(), &row.into()).string("N", value).finish();
        world.writers[WEST].insert_or_replace(&orders(), &body, None).await.expect("Azurite takes it");
    };
    // One is new, one is over what all have.
    put("unsent", "unsent").await;
    put("row0", "unsent").await;
    lost.stop();
    let ended = world.command(&["failover", "--force", "--to", "north", "--yes"]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");

    lost.resume();
    world.daemons[WEST] = Some(start(&world.config, "west"));
    world.daemons[WEST].as_ref().expect("it runs").event("unsent-counted");
    let put = async |row: &str, value: &str| {
        let body = RowBody::builder(&"p0".into(), &row.into()).string("N", value).finish();
        world.writers[WEST].insert_or_replace(&orders(), &body, None).await.expect("Azurite takes it");
    };
    put("late", "late").await;
    for n in [WEST, NORTH, SOUTH] {
        eventually("the trail tells what was not sent", || async {
            let forced = world.epochs(n).await.pop().expect("a trail");
            forced.string("Unsent").as_deref() == Some("2") && forced.string("UnsentLeftOut").as_deref() == Some("0")
        })
        .await;
        let rows = world.epochs(n).await.pop().and_then(|row| row.string("UnsentRows")).expect("which");
        assert!(rows.contains("\"row0\"") && rows.contains("\"unsent\""), "{rows}");
    }
    let merged = late_writes == "merge";
    if merged {
        let mut written = world.written.lock().expect("one at a time");
        for (row, value) in [("p0/unsent", "unsent"), ("p0/row0", "unsent"), ("p0/late", "late")] {
            written.insert(row.to_owned(), value.to_owned());
        }
    }
    world.all_are_equal_by_partition().await;
    no_table_is_read_whole(&lost);
    world.all_are_equal().await;
    let conflicts = world.command(&["conflicts", "list", "--output", "json"]).await;
    let conflicts: Value = serde_json::from_str(&conflicts.out).expect("JSON");
    let named = conflicts["conflicts"].as_array().expect("a list").iter();
    let named: BTreeSet<&str> =
        named.filter(|of| of["decision"] == "late-write").filter_map(|of| of["row"].as_str()).collect();
    let all = BTreeSet::from(["late", "row0", "unsent"]);
    assert_eq!(named, if merged { BTreeSet::new() } else { all }, "{conflicts:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_lost_region_had_not_sent_and_what_comes_late_is_counted_and_merged() {
    unsent_and_late("merge").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_lost_region_had_not_sent_and_what_comes_late_goes_to_the_journal_and_nowhere_else() {
    unsent_and_late("journal").await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_exit_code() {
    let azurite = Arc::new(Azurite::start());
    let world = World::new(&["writer", "standby"], |_| azurite.clone()).await;
    for (arguments, code, said) in [
        (&["failover", "--to", "east"][..], 2, "no region east"),
        (&["failover", "--to", "west"], 1, "west is the writer already"),
        (&["failover", "--to", "north", "--planned", "--force"], 2, "cannot be used with"),
        (&["failover", "--to", "north", "--again"], 2, "--force"),
    ] {
        let ended = world.command(arguments).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(said), "{arguments:?}: {ended:?}");
    }
}
