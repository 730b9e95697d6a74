//! The daemon on real servers: it carries, it ends when it is told to, and nothing is lost when it is killed.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tablerelay::feed::is_record_key;
use tablerelay::model::{AccountName, Region, Row, RowBody, SystemTable, TableName};
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, AzureTables, HttpOptions};
use tablerelay::stores::{Account, ErrorKind, Operation, Query, RegionStore, Scope, Tables};
use tablerelay::writer::{Writer, WriterOptions};
use tokio::time::Instant;

use crate::azure_tables::body;
use crate::support::azurite::{Azurite, TestAccount};
use crate::support::eventually;
use crate::support::redis::{Options, Redis};
use crate::support::relay::{Config, Daemon, region};

/// Short, so that records end while a test waits.
const WINDOW: Duration = Duration::from_secs(2);
const REPLICATION: &str = "[replication]\nsettle_window = \"2s\"\nmax_clock_skew = \"2s\"\n";

pub(super) fn orders() -> TableName {
    TableName::new("orders").unwrap()
}

fn tables(region: &str, account: &TestAccount) -> Arc<AzureTables> {
    let target = AccountTarget::from_connection_string(&account.connection_string()).unwrap();
    let (region, name) = (Region::new(region).unwrap(), AccountName::new("one").unwrap());
    AzureTables::connect(region, name, &target, &HttpOptions::default(), Runtime::system()).unwrap()
}

fn writer(tables: &Arc<AzureTables>) -> Writer {
    let account = Account { tables: tables.clone(), queue: None };
    let options = WriterOptions { settle_window: WINDOW, max_clock_skew: WINDOW, ..WriterOptions::default() };
    Writer::new(RegionStore::new(tables.region().clone(), vec![account]), options, Runtime::system())
}

/// Every row of a table; none where there is no table.
pub(super) async fn rows(tables: &AzureTables, table: &TableName) -> Vec<Row> {
    let mut query = Query::new(Scope::Table);
    let mut rows = Vec::new();
    loop {
        let page = match tables.query(table, &query).await {
            Err(error) if error.kind == ErrorKind::NoTable => return rows,
            page => page.unwrap(),
        };
        rows.extend(page.rows);
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return rows;
        }
    }
}

fn open_records(feed: &[Row]) -> usize {
    feed.iter().filter(|row| is_record_key(row.body.row())).count()
}

/// Two regions in one Azurite, west with a writer.
pub(super) struct Regions {
    pub west: Arc<AzureTables>,
    pub north: Arc<AzureTables>,
    pub config: Config,
    pub writer: Writer,
}

impl Regions {
    pub(super) async fn new(more: &str) -> Self {
        let (west, north) = (Azurite::shared().account(), Azurite::shared().account());
        let regions = [("west", &west), ("north", &north)]
            .map(|(name, account)| region(name, "writer", &account.connection_string()));
        let config = Config::new(&format!("[table.orders]\n{REPLICATION}{}{more}", regions.concat()));
        let (west, north) = (tables("west", &west), tables("north", &north));
        west.create_table(&orders()).await.unwrap();
        let writer = writer(&west);
        Self { west, north, config, writer }
    }

    /// With a feed, so that a writer need not wait for the daemon.
    pub(super) async fn prepared(self) -> Self {
        self.west.create_table(&SystemTable::Feed.name()).await.unwrap();
        self
    }
}

pub(super) async fn get(daemon: &Daemon, path: &str) -> (u16, String) {
    let reply = reqwest::get(format!("{}{path}", daemon.url)).await.expect("the endpoint is up");
    (reply.status().as_u16(), reply.text().await.expect("a reply has a body"))
}

#[tokio::test]
async fn a_change_is_carried_and_told_of_and_sigterm_ends_the_daemon_within_ten_seconds() {
    let regions = Regions::new("").await;
    let daemon = Daemon::start(&regions.config, "west", "info", &[]);
    daemon.event("daemon-ready");
    assert_eq!(get(&daemon, "/readyz").await.0, 200);
    for system in SystemTable::ALL {
        assert!(regions.west.tables().await.unwrap().contains(&system.name()), "{} should be there", system.name());
        // The daemon of north does not run.
        let what = format!("{} is in north", system.name());
        eventually(&what, || async { regions.north.tables().await.unwrap().contains(&system.name()) }).await;
    }

    let written = regions.writer.insert(&orders(), &body("p", "r", r#","N":1"#), None).await.unwrap();
    eventually("the row is in north", || async { rows(&regions.north, &orders()).await.len() == 1 }).await;
    let there = &rows(&regions.north, &orders()).await[0];
    assert_eq!(there.body.version(), Some(&written.version));

    let metrics = get(&daemon, "/metrics").await.1;
    let applied = "tablerelay_changes_applied_total{destination=\"north\",outcome=\"inserted\"} 1";
    assert!(metrics.contains(applied), "{metrics}");
    eventually("status tells of the link", || async {
        let ended = regions.config.run(&["status", "--output", "json"], &[]);
        let status: Value = serde_json::from_str(&ended.out).unwrap();
        ended.code == Some(0)
            && status["links"][0]["destination"] == "north"
            && status["links"][0]["state"] == "flowing"
            && status["links"][0]["last_sync"].is_string()
    })
    .await;

    let asked = Instant::now();
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    daemon.event("daemon-stopped");
    assert!(!daemon.said().contains("shutdown-late"), "{}", daemon.said());
}

#[tokio::test]
async fn nothing_is_lost_when_the_daemon_is_killed_again_and_again() {
    const KILLS: usize = 4;
    const ROWS_EACH: usize = 60;
    let regions = Regions::new("").await.prepared().await;
    for round in 0..KILLS {
        let daemon = Daemon::start(&regions.config, "west", "info", &[]);
        for n in 0..ROWS_EACH {
            let row = body(&format!("p{}", n % 7), &format!("r{round}-{n}"), r#","N":1"#);
            regions.writer.insert(&orders(), &row, None).await.unwrap();
        }
        // In the middle of its work, as far as there is one left.
        daemon.signal("KILL");
        assert_eq!(daemon.ended(), 137);
    }
    let daemon = Daemon::start(&regions.config, "west", "info", &[]);
    let bodies = |rows: Vec<Row>| {
        let mut bodies: Vec<_> = rows.into_iter().map(|row| row.body.json().to_string()).collect();
        bodies.sort();
        bodies
    };
    let here = bodies(rows(&regions.west, &orders()).await);
    assert_eq!(here.len(), KILLS * ROWS_EACH);
    eventually("north is equal", || async { bodies(rows(&regions.north, &orders()).await) == here }).await;
    eventually("every record has ended", || async {
        open_records(&rows(&regions.west, &SystemTable::Feed.name()).await) == 0
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
}

#[tokio::test]
async fn a_daemon_waits_for_storage_that_is_not_there_yet() {
    let regions = Regions::new("").await;
    let port = crate::support::ports::free();
    let late = format!("AccountName=a;AccountKey=QUJD;TableEndpoint=http://127.0.0.1:{port}/a");
    let account = "TABLERELAY__REGION__WEST__ACCOUNT__WEST1__CONNECTION_STRING";
    let daemon = Daemon::start(&regions.config, "west", "info", &[(account, &late)]);
    daemon.event("source-unreachable");
    assert_eq!(get(&daemon, "/livez").await.0, 200, "no restart would help");
    assert_eq!(get(&daemon, "/readyz").await.0, 503);
    daemon.signal("INT");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
}

/// Real requests with real credentials, some refused, at the level that says the most.
#[tokio::test]
async fn no_secret_is_in_the_logs_nor_on_the_endpoint_at_any_level() {
    const SECRET: &str = "hunter2hunter2";
    const ENCODED: &str = "aHVudGVyMmh1bnRlcjI=";
    let redis = Redis::with(Options { password: Some(SECRET.to_owned()), ..Options::default() });
    let (known, refused) = (Azurite::shared().account(), Azurite::shared().account());
    // A key that Azurite does not know, a signature that it did not make, and a Redis that wants the password.
    let more = format!(
        "[region.east]\nrole = \"writer\"\n[region.east.account.e1]\nconnection_string = \"${{EAST}}\"\n\
         [region.south]\nrole = \"writer\"\n[region.south.account.s1]\ntable_endpoint = \"{}\"\ncredential = \"sas\"\n\
         sas = \"sv=2020-12-06&ss=t&srt=sco&sp=rwdlacu&se=2099-01-01T00:00:00Z&sig={SECRET}\"\n\
         [region.west.cache]\nurl = \"{}\"\n",
        refused.table_endpoint,
        redis.url(),
    );
    let wrong_key = format!("AccountName={};AccountKey={ENCODED};TableEndpoint={}", known.name, known.table_endpoint);
    let regions = Regions::new(&more).await;
    let daemon = Daemon::start(&regions.config, "west", "trace", &[("EAST", &wrong_key)]);
    daemon.event("daemon-ready");
    regions.writer.insert(&orders(), &body("p", "r", r#","N":1"#), None).await.unwrap();
    eventually("the row is in north", || async { rows(&regions.north, &orders()).await.len() == 1 }).await;
    daemon.event("access-denied");
    eventually("the cache holds the row", || async {
        let keys: Vec<String> = redis.command(&["KEYS", "orders:*"]).await;
        keys == ["orders:p:r"]
    })
    .await;
    let mut shown = Vec::new();
    for path in ["/status", "/metrics", "/"] {
        shown.push(get(&daemon, path).await.1);
    }
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0, "{}", daemon.said());
    shown.push(daemon.said());
    let own_key = "dGhlIGtleSBvZiBhY2NvdW50"; // How the keys of all test accounts begin.
    for text in &shown {
        for secret in [SECRET, ENCODED.trim_end_matches('='), own_key, "SharedKeyLite", "sig="] {
            assert!(!text.contains(secret), "{secret} is in\n{text}");
        }
    }
    assert!(shown.concat().contains("\"level\":\"TRACE\"") || shown.concat().contains("\"level\":\"DEBUG\""));
}

#[tokio::test]
async fn what_lies_in_quarantine_is_listed_and_shown() {
    let regions = Regions::new("").await.prepared().await;
    let wrong =
        r#"{"PartitionKey":"00","RowKey":"c:2026-01-01T00:00:00.0000000Z@west.00000001","Table":"orders","Puts":"no"}"#;
    let record = RowBody::parse(wrong).unwrap();
    let feed = SystemTable::Feed.name();
    regions.west.write(&feed, &Operation::Insert(record)).await.unwrap();
    let daemon = Daemon::start(&regions.config, "west", "info", &[]);
    let id = daemon.event("record-quarantined")["id"].as_str().unwrap().to_owned();
    let listed = regions.config.run(&["quarantine", "list"], &[]);
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""));
    assert!(listed.out.contains(&id) && listed.out.contains("orders"), "{}", listed.out);
    let shown = regions.config.run(&["quarantine", "show", &id, "--output", "json"], &[]);
    let value: Value = serde_json::from_str(&shown.out).unwrap();
    let whole = value["entries"][0]["whole"].as_str().unwrap();
    assert!(shown.code == Some(0) && whole.contains("\"Puts\":\"no\""), "{value:#}");
    let nobody = regions.config.run(&["quarantine", "show", "0000000000000000"], &[]);
    assert_eq!(nobody.code, Some(1), "{}", nobody.err);
    assert!(nobody.err.contains("`tablerelay quarantine list`"), "{}", nobody.err);
    eventually("the feed is clean", || async { open_records(&rows(&regions.west, &feed).await) == 0 }).await;
}
