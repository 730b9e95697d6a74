//! Rows that a destination refuses, by the command: on stores that are as strict as Azure.

use std::path::Path;

use serde_json::Value;
use tablerelay::feed::encode_change;
use tablerelay::model::{Change, Region, RowBody, SystemTable, TableName, Version, WriterId};
use tablerelay::runtime::Runtime;
use tablerelay::stores::azure::{AccountTarget, HttpOptions};
use tablerelay::stores::{Operation, Tables};

use crate::azure_tables::connect;
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::relay::{Config, Daemon, Ended, PROGRAM, region};

fn table() -> TableName {
    TableName::new("orders").expect("a table")
}

/// Two regions on stores that are served, and what a daemon of the first finds there.
struct Regions {
    west: std::sync::Arc<tablerelay::stores::azure::AzureTables>,
    north: std::sync::Arc<tablerelay::stores::azure::AzureTables>,
    config: Config,
    _store: Process,
}

impl Regions {
    async fn start() -> Self {
        let arguments = ["store", "serve", "--listen", "127.0.0.1:0", "--account", "west", "--account", "north"];
        let store = Process::start(Path::new(PROGRAM), &arguments, &[], &std::env::temp_dir());
        let [west, north] = ["west", "north"].map(|account| {
            let says = format!("DefaultEndpointsProtocol=http;AccountName={account};");
            store.wait_for("a connection string", |line| line.starts_with(&says).then(|| line.to_owned()))
        });
        let regions = [region("west", "writer", &west), region("north", "writer", &north)].concat();
        let regions = regions.replace("connection_string", "queue = false\nconnection_string");
        let replication = "[replication]\nsettle_window = \"2s\"\nmax_clock_skew = \"2s\"\n";
        let config = Config::new(&format!("[table.orders]\n{replication}{regions}"));
        let client = |text: &str| {
            connect(&AccountTarget::from_connection_string(text).expect("its own"), &HttpOptions::default())
        };
        let regions = Self { west: client(&west), north: client(&north), config, _store: store };
        for tables in [&regions.west, &regions.north] {
            tables.create_table(&table()).await.expect("the store creates tables");
            for system in SystemTable::ALL {
                tables.create_table(&system.name()).await.expect("the store creates tables");
            }
        }
        regions
    }

    /// Announces and writes a row in the west.
    async fn put(&self, row: RowBody) {
        let version = Version::new(Runtime::system().now(), &Region::new("west").expect("a region"), WriterId(7));
        let (partition, puts) = (row.partition().clone(), vec![row.row().clone()]);
        let change = Change { table: table(), partition, puts, deletes: vec![], version, base: None };
        for record in encode_change(&change).expect("one row") {
            let record = Operation::Insert(record);
            self.west.write(&SystemTable::Feed.name(), &record).await.expect("the feed takes it");
        }
        let written = Operation::InsertOrReplace(row);
        self.west.write(&table(), &written).await.expect("the region takes it");
    }

    fn listed(&self) -> Vec<Value> {
        let listed = self.config.run(&["quarantine", "list", "--output", "json"], &[]);
        let report: Value = serde_json::from_str(&listed.out).expect("JSON");
        report["entries"].as_array().expect("a list").clone()
    }

    fn quarantine(&self, arguments: &[&str]) -> Ended {
        self.config.run(&[&["quarantine"], arguments].concat(), &[])
    }

    async fn arrived(&self, row: &str) -> bool {
        self.north.get(&table(), &"p".into(), &row.into()).await.expect("the north answers").is_some()
    }
}

/// The JSON that a command prints, which ends with this code.
fn told(ended: &Ended, code: i32) -> Value {
    assert_eq!(ended.code, Some(code), "{}", ended.err);
    serde_json::from_str(&ended.out).expect("JSON")
}

/// As many properties as Azure takes, so that there is no room for a version.
fn full(row: &str) -> RowBody {
    (0..252).fold(RowBody::builder(&"p".into(), &row.into()), |row, n| row.string(&format!("P{n}"), "x")).finish()
}

fn small(row: &str) -> RowBody {
    RowBody::builder(&"p".into(), &row.into()).string("Value", "small").finish()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_too_large_is_quarantined_replayed_dropped_and_superseded() {
    let regions = Regions::start().await;
    let daemon = Daemon::start(&regions.config, "west", "info", &[]);
    regions.put(full("full")).await;
    regions.put(small("fine")).await;
    eventually("the next row arrives", || async { regions.arrived("fine").await }).await;
    eventually("the row is in quarantine", || async { regions.listed().len() == 1 }).await;
    let entry = &regions.listed()[0];
    let id = entry["id"].as_str().expect("an ID").to_owned();
    assert_eq!(
        (entry["reason"].as_str(), entry["destination"].as_str()),
        (Some("too-large"), Some("north")),
        "{entry}"
    );
    assert_eq!((entry["row"].as_str(), entry["partition"].as_str()), (Some("full"), Some("p")), "{entry}");
    let shown = regions.quarantine(&["show", &id]);
    assert!(shown.out.contains("remedy") && shown.out.contains("252"), "{}", shown.out);

    // Given a version, it is too large for its own region as well; that is said, and the entry stays.
    let restamped = regions.quarantine(&["replay", &id, "--restamp"]);
    assert_eq!(restamped.code, Some(1), "{}", restamped.out);
    for words in [id.as_str(), "stays in quarantine", "could not be given a new version"] {
        assert!(restamped.err.contains(words), "{words}: {}", restamped.err);
    }
    let restamped = regions.quarantine(&["replay", &id, "--restamp", "--output", "json"]);
    let failed = &told(&restamped, 1)["entries"][0];
    assert_eq!((&failed["dealt"], &failed["taken_out"]), (&"failed".into(), &false.into()), "{failed:#}");
    assert!(failed["error"].as_str().is_some_and(|why| why.contains("could not be given")), "{failed:#}");
    let replayed = regions.quarantine(&["replay", &id]);
    assert_eq!((replayed.code, replayed.err.as_str()), (Some(0), ""), "{}", replayed.err);
    assert!(replayed.out.contains("announced again"), "{}", replayed.out);
    eventually("it is refused again, under the same ID", || async {
        regions.listed().iter().any(|entry| entry["id"] == id.as_str())
    })
    .await;

    let dropped = told(&regions.quarantine(&["drop", &id, "--output", "json"]), 0);
    assert_eq!((&dropped["schema"], &dropped["entries"][0]["dealt"]), (&1.into(), &"dropped".into()), "{dropped:#}");
    let none = regions.quarantine(&["drop", "0123456789abcdef"]);
    assert_eq!(none.code, Some(1), "{}", none.out);
    assert!(none.err.contains("quarantine list"), "{}", none.err);

    regions.put(full("other")).await;
    eventually("another is in quarantine", || async { regions.listed().iter().any(|entry| entry["row"] == "other") })
        .await;
    regions.put(small("other")).await;
    eventually("the later version arrives", || async { regions.arrived("other").await }).await;
    eventually("its entry has gone by itself", || async {
        regions.listed().iter().all(|entry| entry["row"] != "other")
    })
    .await;
    daemon.signal("TERM");
    assert_eq!(daemon.ended(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restamped_row_has_a_new_version_everywhere() {
    let regions = Regions::start().await;
    let daemon = Daemon::start(&regions.config, "west", "info", &[]);
    let west = Region::new("west").expect("a region");
    let ahead = Version::new(Runtime::system().now() + std::time::Duration::from_secs(3_600), &west, WriterId(9));
    let (puts, row) = (vec!["r".into()], small("r").stamped(&ahead));
    let (partition, deletes) = ("p".into(), vec![]);
    let change = Change { table: table(), partition, puts, deletes, version: ahead.clone(), base: None };
    for record in encode_change(&change).expect("one row") {
        let record = Operation::Insert(record);
        regions.west.write(&SystemTable::Feed.name(), &record).await.expect("the feed takes it");
    }
    regions.west.write(&table(), &Operation::Insert(row)).await.expect("the region takes it");
    eventually("it is in quarantine", || async { regions.listed().len() == 1 }).await;
    let entry = &regions.listed()[0];
    assert_eq!(entry["reason"], "future-version", "{entry}");
    let id = entry["id"].as_str().expect("an ID");
    let restamped = told(&regions.quarantine(&["replay", id, "--restamp", "--output", "json"]), 0);
    let stamped = &restamped["entries"][0]["stamped"][0];
    eventually("the row arrives", || async { regions.arrived("r").await }).await;
    let there = regions.north.get(&table(), &"p".into(), &"r".into()).await.expect("the north answers").expect("a row");
    assert!(there.body.version().is_some_and(|version| *version < ahead), "{there:?}");
    let version = there.body.version().map(|version| version.as_str().to_owned());
    assert_eq!((stamped["region"].as_str(), stamped["version"].as_str()), (Some("west"), version.as_deref()));
    assert!(regions.listed().iter().all(|entry| entry["id"] != id), "the entry is gone");
    drop(daemon);
}
