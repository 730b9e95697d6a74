//! `verify` as somebody types it, on real servers: what differs is told by its kind, shown before it is mended, and mended.

use std::collections::BTreeMap;

use serde_json::Value;
use tablerelay::model::{Region, RowBody, SystemTable, TableName, Time, Version, WriterId};
use tablerelay::replicator::create_missing;
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Condition, Operation, Query, Scope};
use tablerelay::writer::{Writer, WriterOptions};

use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, configuration};

/// Short, since what was written a moment ago is waited for.
const REPLICATION: &str = "settle_window = \"2s\"\nmax_clock_skew = \"2s\"\n";
const VERIFY: [&str; 5] = ["verify", "--from", "west", "--to", "north"];

fn table() -> TableName {
    TableName::new("orders").expect("a table")
}

/// A version that west issued long ago.
fn version(tick: i64) -> Version {
    let west = Region::new("west").expect("a region");
    Version::new(Time::from_ticks(Time::from_unix_seconds(1_700_000_000).ticks() + tick), &west, WriterId(1))
}

/// Writes a row that nobody announces.
async fn put(site: &Site, key: &str, text: &str, version: Option<&Version>) {
    let body = RowBody::builder(&"p".into(), &key.into()).string("Text", text).finish();
    let body = version.map_or(body.clone(), |version| body.stamped(version));
    site.store.home().write(&table(), &Operation::InsertOrReplace(body)).await.expect("Azurite takes it");
}

async fn held(site: &Site) -> BTreeMap<String, (Option<Version>, Option<String>)> {
    let page = site.store.home().query(&table(), &Query::new(Scope::Table)).await.expect("Azurite answers");
    let rows = page.rows.into_iter().map(|row| row.body);
    rows.map(|row| (row.row().to_string(), (row.version().cloned(), row.string("Text")))).collect()
}

/// Three regions; no daemon has run in north.
async fn sites() -> Vec<Site> {
    let sites: Vec<Site> =
        ["west", "north", "south"].into_iter().map(|name| Site::new(name, Azurite::shared().account())).collect();
    for site in &sites {
        if site.region.as_str() != "north" {
            create_missing(&site.store).await.expect("Azurite creates tables");
        }
        site.store.home().create_table(&table()).await.expect("Azurite creates tables");
    }
    sites
}

/// Takes every announcement out of a feed, and leaves the tombstones.
async fn lose_announcements(site: &Site) {
    let feed = SystemTable::Feed.name();
    let page = site.store.home().query(&feed, &Query::new(Scope::Table)).await.expect("Azurite answers");
    for row in page.rows.iter().filter(|row| row.body.row().as_str().starts_with("c:")) {
        let (partition, row) = (row.body.partition().clone(), row.body.row().clone());
        let delete = Operation::Delete { partition, row, condition: Condition::Present };
        site.store.home().write(&feed, &delete).await.expect("Azurite takes it");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_told_by_its_kind_and_mended_and_nothing_else_is_touched() {
    let sites = sites().await;
    let config = configuration(&sites, REPLICATION);
    let (west, north) = (&sites[0], &sites[1]);
    let run = |more: &[&str]| {
        let (config, arguments) = (&config, [&VERIFY[..], more].concat());
        let ended = config.run(&arguments, &[]);
        println!("{arguments:?}: {:?}\n{}\n{}", ended.code, ended.out, ended.err);
        ended
    };
    for key in ["same", "odd 'key'", "ünlike", "deleted"] {
        put(west, key, "a", Some(&version(1))).await;
        put(north, key, "a", Some(&version(1))).await;
    }
    put(west, "missing", "a", Some(&version(1))).await;
    put(west, "unversioned", "a", None).await;
    put(west, "stale", "b", Some(&version(2))).await;
    put(north, "stale", "a", Some(&version(1))).await;
    put(north, "extra", "a", None).await;
    put(west, "says", "a", Some(&version(1))).await;
    put(north, "says", "b", Some(&version(1))).await;
    // Deleted by the protocol, and the announcement was lost.
    let writer = Writer::new(west.store.clone(), WriterOptions::default(), Runtime::system());
    let gone = writer.delete(&table(), &"p".into(), &"deleted".into(), Condition::Present, None).await;
    let gone = gone.expect("Azurite takes it").version;
    let announced = run(&["--output", "json"]);
    let told: Value = serde_json::from_str(&announced.out).expect("JSON");
    assert_eq!(announced.code, Some(3), "{}", announced.err);
    let named = told["named"].as_array().expect("rows").clone();
    let of = |row: &str| named.iter().find(|named| named["row"] == row).unwrap_or(&Value::Null).clone();
    assert_eq!((&of("deleted")["kind"], &of("deleted")["waits"]), (&"deleted-here".into(), &"announced".into()));
    lose_announcements(west).await;

    let before = (held(west).await, held(north).await);
    let planned = run(&["--content", "--repair", "--dry-run"]);
    assert_eq!(planned.code, Some(3));
    for words in ["MISSING", "would copy", "would delete", "would take-over", "would lift", "6 differ; 9 rows"] {
        assert!(planned.out.contains(words), "{words} is missing: {}", planned.out);
    }
    assert_eq!((held(west).await, held(north).await), before, "nothing was done");

    let mended = run(&["--content", "--repair", "--output", "json"]);
    assert_eq!(mended.code, Some(0), "{}", mended.err);
    let told: Value = serde_json::from_str(&mended.out).expect("JSON");
    assert_eq!((&told["schema"], &told["tables"][0]["mended"]), (&1.into(), &6.into()), "{told:#}");
    let (now, mut there) = (held(west).await, held(north).await);
    // What carries no version where it was written is stamped where it was brought.
    let (brought, taken) = (there["unversioned"].clone(), now["extra"].clone());
    assert_eq!((brought.0.is_some(), taken.0.is_some()), (true, true));
    there.extend([("unversioned".to_owned(), (None, brought.1)), ("extra".to_owned(), taken)]);
    assert_eq!(now, there);
    let of = |row: &str| now.get(row).cloned();
    for key in ["same", "odd 'key'", "ünlike", "missing"] {
        assert_eq!(of(key), Some((Some(version(1)), Some("a".to_owned()))), "{key}");
    }
    assert_eq!(of("stale"), Some((Some(version(2)), Some("b".to_owned()))));
    assert_eq!(of("deleted"), None, "it stays deleted, as {gone}");
    let (lifted, text) = of("says").expect("it is there");
    assert_eq!((lifted > Some(version(1)), text.as_deref()), (true, Some("a")), "west has issued it");

    let equal = run(&["--content"]);
    assert_eq!((equal.code, equal.out.contains("west to north: equal; 8 rows compared whole")), (Some(0), true));
    let one = run(&["--table", "orders", "--partition", "p", "--row", "same"]);
    assert_eq!((one.code, one.out.contains("equal; 1 rows")), (Some(0), true));
}

#[test]
fn what_is_typed_wrong_is_told() {
    let sites: Vec<Site> =
        ["west", "north"].into_iter().map(|name| Site::new(name, Azurite::shared().account())).collect();
    let config = configuration(&sites, REPLICATION);
    for (arguments, words) in [
        (&["--from", "west", "--to", "east"][..], "there is no region east; the configuration has north, west"),
        (&["--from", "west", "--to", "west"], "should be two regions"),
        (&["--from", "west", "--to", "north", "--table", "nowhere"], "neither region has a table nowhere"),
        (&["--from", "west", "--to", "north", "--partition", "p"], "--table"),
        (&["--from", "west"], "--to"),
    ] {
        let ended = config.run(&[&["verify"], arguments].concat(), &[]);
        assert_eq!((ended.code, ended.err.contains(words)), (Some(2), true), "{arguments:?}: {}", ended.err);
    }
}
