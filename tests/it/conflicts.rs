//! Two regions change a row at the same time, on Azurite: both rows are in the journal, and an ordinary update is not.

use serde_json::Value;
use tablerelay::model::{RowBody, TableName, Version};
use tablerelay::replicator::create_missing;
use tablerelay::runtime::Runtime;
use tablerelay::stores::RegionStore;
use tablerelay::writer::{Writer, WriterOptions};

use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, configuration};
use crate::support::eventually;
use crate::support::relay::Daemon;

const REPLICATION: &str = "settle_window = \"15s\"\nmax_clock_skew = \"15s\"\n";

fn table() -> TableName {
    TableName::new("orders").expect("a table")
}

async fn put(store: &RegionStore, row: &str, value: &str) -> Version {
    let writer = Writer::new(store.clone(), WriterOptions::default(), Runtime::system());
    let body = RowBody::builder(&"p".into(), &row.into()).string("Value", value).finish();
    writer.insert_or_replace(&table(), &body, None).await.expect("the region takes it").version
}

async fn version(store: &RegionStore, row: &str) -> Option<Version> {
    let found = store.home().get(&table(), &"p".into(), &row.into()).await.expect("Azurite answers");
    found.and_then(|row| row.body.version().cloned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_conflict_is_listed_with_both_rows_and_an_ordinary_update_is_not() {
    let sites: Vec<Site> =
        ["east", "north"].into_iter().map(|name| Site::new(name, Azurite::shared().account())).collect();
    for site in &sites {
        create_missing(&site.store).await.expect("Azurite creates tables");
        site.store.home().create_table(&table()).await.expect("Azurite creates tables");
    }
    let config = configuration(&sites, REPLICATION);
    let (east, north) = (&sites[0].store, &sites[1].store);
    // Nobody replicates yet, so neither of them knows of the other.
    let loser = put(east, "contested", "of the east").await;
    let winner = put(north, "contested", "of the north").await;
    assert!(winner > loser);
    let daemons = ["east", "north"].map(|region| Daemon::start(&config, region, "info", &[]));
    eventually("the later one stands in the east", || async {
        version(east, "contested").await == Some(winner.clone())
    })
    .await;

    // Each of them writes over what the other wrote, and did not read it.
    let mut last = put(east, "handed on", "0").await;
    for round in 1..6 {
        let (from, to) = if round % 2 == 0 { (north, east) } else { (east, north) };
        eventually("the update arrives", || async { version(to, "handed on").await == Some(last.clone()) }).await;
        last = put(to, "handed on", &round.to_string()).await;
        eventually("the update comes back", || async { version(from, "handed on").await == Some(last.clone()) }).await;
    }

    let listed = config.run(&["conflicts", "list", "--table", "orders", "--output", "json"], &[]);
    assert_eq!((listed.code, listed.err.as_str()), (Some(0), ""), "{}", listed.err);
    let report: Value = serde_json::from_str(&listed.out).expect("JSON");
    let conflicts = report["conflicts"].as_array().expect("a list");
    assert_eq!((&report["schema"], conflicts.len()), (&1.into(), 1), "{report:#}");
    let conflict = &conflicts[0];
    assert_eq!(conflict["row"], "contested", "{conflict}");
    assert_eq!(
        (&conflict["winner"]["version"], &conflict["loser"]["version"]),
        (&winner.as_str().into(), &loser.as_str().into())
    );
    assert_eq!((&conflict["decision"], &conflict["destination"]), (&"later-time".into(), &"east".into()), "{conflict}");
    assert!(conflict["skew_milliseconds"].as_i64().is_some_and(|skew| skew.abs() < 5_000), "{conflict}");
    let id = conflict["id"].as_str().expect("an ID");
    let shown = config.run(&["conflicts", "show", id], &[]);
    for words in ["of the east", "of the north", loser.as_str(), winner.as_str(), "remedy"] {
        assert!(shown.out.contains(words), "{words}: {}", shown.out);
    }
    let none = config.run(&["conflicts", "show", "0123456789abcdef"], &[]);
    assert_eq!(none.code, Some(1), "{}", none.out);
    assert!(none.err.contains("conflicts list"), "{}", none.err);
    drop(daemons);
}
