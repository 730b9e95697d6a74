//! Waiting for a write, synchronous tables and the health endpoints, on real servers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tablerelay::model::{Consistency, Region, TableConsistency, Version, WriterId};
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Account, Condition, RegionStore, Tables};
use tablerelay::writer::{Writer, WriterOptions};
use tokio::time::Instant;

use crate::azure_tables::body;
use crate::daemon::{Regions, get, orders};
use crate::support::azurite::{Azurite, TestAccount};
use crate::support::relay::{Config, Daemon, Ended, region};
use crate::support::{eventually, ports};

const WINDOW: Duration = Duration::from_secs(2);

/// `wait` in a thread of its own, since the test goes on meanwhile.
async fn wait(regions: &Arc<Regions>, arguments: &[&str]) -> Ended {
    let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let regions = regions.clone();
    let run = move || {
        let all: Vec<&str> = ["wait"].into_iter().chain(arguments.iter().map(String::as_str)).collect();
        regions.config.run(&all, &[])
    };
    tokio::task::spawn_blocking(run).await.expect("the command runs")
}

fn row_of<'a>(version: &'a str, region: &'a str, row: &'a str) -> Vec<&'a str> {
    vec!["--version", version, "--region", region, "--table", "orders", "--partition", "p", "--row", row]
}

fn encoded(version: &Version) -> String {
    version.as_str().replace('@', "%40").replace(':', "%3A")
}

#[tokio::test]
async fn a_write_is_waited_for_by_command_and_over_http_and_one_that_does_not_come_is_told() {
    let regions = Arc::new(Regions::new("").await.prepared().await);
    let written = regions.writer.insert(&orders(), &body("p", "r", r#","N":1"#), None).await.unwrap();
    let version = written.version.as_str();

    // No daemon runs: nothing comes, and the exit code says so.
    let began = Instant::now();
    let late = wait(&regions, &[row_of(version, "north", "r"), vec!["--timeout", "1s"]].concat()).await;
    assert_eq!(late.code, Some(4), "{late:?}");
    assert!(began.elapsed() > Duration::from_secs(1) && late.err.contains("north did not have"), "{late:?}");
    let late = wait(&regions, &["--version", version, "--region", "north", "--timeout", "1s"]).await;
    assert_eq!(late.code, Some(4), "{late:?}");
    // It stands where it was written.
    let once = ["--output", "json", "--timeout", "0s"];
    let own = wait(&regions, &[row_of(version, "west", "r"), once.to_vec()].concat()).await;
    let own: Value = serde_json::from_str(&own.out).unwrap();
    assert_eq!(
        (&own["reached"], &own["by"], &own["version"], &own["stands"]),
        (&true.into(), &"row".into(), &version.into(), &version.into()),
        "{own:#}"
    );
    let not_there = wait(&regions, &[row_of(version, "north", "r"), once.to_vec()].concat()).await;
    let looked: Value = serde_json::from_str(&not_there.out).unwrap();
    assert_eq!((not_there.code, &looked["looks"], &looked["error"]), (Some(4), &1.into(), &Value::Null), "{looked:#}");

    let row = row_of(version, "north", "r");
    let waiting = wait(&regions, &row);
    tokio::pin!(waiting);
    assert!(tokio::time::timeout(Duration::from_millis(300), waiting.as_mut()).await.is_err(), "nobody brings it");
    let daemon = Daemon::start(&regions.config, "west", "info", &[]);
    let came = waiting.await;
    assert_eq!((came.code, came.err.as_str()), (Some(0), ""), "{came:?}");
    assert!(regions.north.get(&orders(), &"p".into(), &"r".into()).await.unwrap().is_some());

    let everything = wait(&regions, &["--version", version, "--region", "north"]).await;
    assert_eq!(everything.code, Some(0), "{everything:?}");
    assert!(everything.out.contains("Last Sync Time is"), "{everything:?}");

    let deleted = regions.writer.delete(&orders(), &"p".into(), &"r".into(), Condition::Present, None).await.unwrap();
    let query = format!("version={}&region=north&table=orders&partition=p&row=r", encoded(&deleted.version));
    let (code, text) = get(&daemon, &format!("/wait?{query}")).await;
    let told: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &told["reached"], &told["by"]), (200, &true.into(), &"tombstone".into()), "{told:#}");
    assert!(regions.north.get(&orders(), &"p".into(), &"r".into()).await.unwrap().is_none());

    let (code, text) = get(&daemon, &format!("/wait?version={}&region=north", encoded(&deleted.version))).await;
    assert!(code == 200 && text.contains("\"by\":\"last-sync\""), "{code} {text}");
    let never =
        Version::new(deleted.version.time() + Duration::from_secs(60), &Region::new("west").unwrap(), WriterId(1));
    let (code, text) = get(&daemon, &format!("/wait?version={}&region=north&timeout=400ms", encoded(&never))).await;
    assert!(code == 504 && text.contains("\"reached\":false"), "{code} {text}");
}

#[tokio::test]
async fn what_cannot_be_waited_for_is_refused_with_two() {
    let regions = Arc::new(Regions::new("").await);
    let good = "2026-01-01T00:00:00.0000000Z@west.00000001";
    for (arguments, words) in [
        (vec!["--version", "yesterday", "--region", "north"], "is no version"),
        (vec!["--version", good, "--region", "south"], "there is no region south"),
        (vec!["--version", &good.replace("west", "south"), "--region", "north"], "there is no region south"),
        (vec!["--version", good, "--region", "north", "--table", "orders"], "--partition"),
        (vec!["--version", good, "--region", "north", "--timeout", "5"], "a duration with its unit"),
    ] {
        let ended = wait(&regions, &arguments).await;
        assert!(ended.code == Some(2) && ended.err.contains(words), "{arguments:?}: {ended:?}");
    }
}

fn region_of(tables: &Arc<AzureTables>) -> RegionStore {
    RegionStore::new(tables.region().clone(), vec![Account { tables: tables.clone(), queue: None }])
}

#[tokio::test]
async fn a_synchronous_write_returns_when_the_destination_has_it_or_says_that_it_has_not() {
    let regions = Regions::new("").await.prepared().await;
    let every = Consistency::Synchronous { copies: 1, within: Duration::from_secs(2) };
    let consistency = TableConsistency { every, ..TableConsistency::default() };
    let options = WriterOptions { settle_window: WINDOW, max_clock_skew: WINDOW, ..WriterOptions::default() };
    let writer = Writer::new(region_of(&regions.west), options, Runtime::system());
    let writer = writer.with_destinations(consistency, vec![region_of(&regions.north)]);

    let alone = writer.insert(&orders(), &body("p", "alone", r#","N":1"#), None).await.unwrap();
    assert_eq!(alone.copies.to_string(), "written, confirmed by 0 of 1 destinations");
    assert_eq!(alone.copies.unconfirmed[0].region.as_str(), "north");
    let home = regions.west.get(&orders(), &"p".into(), &"alone".into()).await.unwrap().expect("it took place");
    assert_eq!(home.body.version(), Some(&alone.version));

    let daemon = Daemon::start(&regions.config, "west", "info", &[]);
    daemon.event("daemon-ready");
    eventually("north has the table", || async { regions.north.tables().await.unwrap().contains(&orders()) }).await;
    for n in 0..5 {
        let key = format!("r{n}");
        let written = writer.insert(&orders(), &body("p", &key, r#","N":1"#), None).await.unwrap();
        let there = regions.north.get(&orders(), &"p".into(), &key.as_str().into()).await.unwrap();
        assert!(written.copies.is_met(), "{:?}", written.copies);
        assert_eq!(there.expect("the call has returned").body.version(), Some(&written.version));
    }
    let deleted = writer.delete(&orders(), &"p".into(), &"r0".into(), Condition::Present, None).await.unwrap();
    assert!(deleted.copies.is_met(), "{:?}", deleted.copies);
    assert!(regions.north.get(&orders(), &"p".into(), &"r0".into()).await.unwrap().is_none());
}

/// A writer in west, whose table is there.
async fn writer_in_west(account: &TestAccount) -> Writer {
    let target = AccountTarget::from_connection_string(&account.connection_string()).unwrap();
    let tables = crate::azure_tables::connect(&target, &HttpOptions::default());
    tables.create_table(&orders()).await.unwrap();
    let options = WriterOptions { settle_window: WINDOW, max_clock_skew: WINDOW, ..WriterOptions::default() };
    Writer::new(region_of(&tables), options, Runtime::system())
}

#[tokio::test]
async fn a_region_that_falls_behind_refuses_its_readers_on_a_listener_of_their_own() {
    let (west_account, north_account) = (Azurite::shared().account(), Azurite::shared().account());
    let regions = [("west", "writer", &west_account), ("north", "replica", &north_account)]
        .map(|(name, role, account)| region(name, role, &account.connection_string()));
    let config = Config::new(&format!(
        "[table.orders]\nconsistency = \"bounded\"\nmax_staleness = \"10s\"\n[replication]\nsettle_window = \"2s\"\n\
         max_clock_skew = \"2s\"\n{}",
        regions.concat()
    ));
    let port = ports::free();
    let listen = format!("127.0.0.1:{port}");
    let daemons = [
        Daemon::start(&config, "west", "info", &[]),
        Daemon::start(&config, "north", "info", &[("TABLERELAY__HEALTH__LISTEN", &listen)]),
    ];
    let code = |url: String| async move { reqwest::get(url).await.expect("it listens").status().as_u16() };
    let read = || code(format!("http://{listen}/health/read"));
    eventually("readers are let in", || async { read().await == 200 }).await;
    assert_eq!(code(format!("http://{listen}/health/write")).await, 503);
    for (path, there, here) in
        [("/readyz", 200, 200), ("/health/read", 200, 404), ("/status", 404, 200), ("/wait", 404, 400)]
    {
        let codes = (code(format!("http://{listen}{path}")).await, get(&daemons[1], path).await.0);
        assert_eq!(codes, (there, here), "{path}");
    }

    // West's daemon reaches north no more and has something for it, and goes on in its own region: north sees there that it lives.
    let nowhere = format!("AccountName=a;AccountKey=QUJD;TableEndpoint=http://127.0.0.1:{}/a", ports::free());
    let [old, north] = daemons;
    old.signal("TERM");
    assert_eq!(old.ended(), 0, "{}", old.said());
    let key = "TABLERELAY__REGION__NORTH__ACCOUNT__NORTH1__CONNECTION_STRING";
    let west = Daemon::start(&config, "west", "info", &[(key, &nowhere)]);
    let late = writer_in_west(&west_account).await;
    late.insert(&orders(), &body("p", "late", r#","N":1"#), None).await.unwrap();
    eventually("readers of north are refused", || async { read().await == 503 }).await;
    assert_eq!(get(&west, "/health/read").await.0, 200);
    assert_eq!(north.event("readers-refused")["region"], "north");

    // With the writer gone, it is the best that there is.
    west.signal("KILL");
    eventually("readers of north are let in", || async { read().await == 200 }).await;
    north.event("readers-served-stale");
}
