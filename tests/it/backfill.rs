//! `backfill` as somebody types it, on real servers: planned, killed in the middle, refused, gone on with, paused, and equal at the end.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tablerelay::model::{PartitionKey, Row, RowBody, RowId, SystemTable, TableName, Version};
use tablerelay::replicator::create_missing;
use tablerelay::runtime::Runtime;
use tablerelay::stores::{Condition, Operation, Query, Scope};
use tablerelay::writer::{Writer, WriterOptions};

use crate::support::azurite::Azurite;
use crate::support::deployment::{Site, configuration};
use crate::support::eventually;
use crate::support::process::Process;
use crate::support::relay::{Config, Daemon, PROGRAM};

const REPLICATION: &str = "settle_window = \"4s\"\nmax_clock_skew = \"4s\"\n";
const PAIR: [&str; 4] = ["--from", "west", "--to", "north"];
/// Rows of each table.
const ORDERS: usize = 7_000;
const STOCK: usize = 600;

fn table(name: &str) -> TableName {
    TableName::new(name).expect("a table")
}

fn id(name: &str, n: usize) -> RowId {
    RowId::new(table(name), format!("p{:03}", n / 100).as_str().into(), format!("r{n:05}").as_str().into())
}

fn body(id: &RowId, text: &str) -> RowBody {
    RowBody::builder(&id.partition, &id.row).string("Text", text).finish()
}

/// Rows that were there before anybody replicated anything.
async fn fill(site: &Site, name: &str, rows: usize) {
    site.store.home().create_table(&table(name)).await.expect("Azurite creates tables");
    for first in (0..rows).step_by(100) {
        let rows: Vec<Operation> = (first..first + 100).map(|n| Operation::Insert(body(&id(name, n), "old"))).collect();
        let partition: PartitionKey = id(name, first).partition;
        site.store.home().transact(&table(name), &partition, &rows).await.expect("Azurite takes it");
    }
}

async fn rows(site: &Site, table: &TableName, scope: Scope) -> Vec<Row> {
    let (mut query, mut rows) = (Query::new(scope), Vec::new());
    loop {
        let page = site.store.home().query(table, &query).await.expect("Azurite answers");
        rows.extend(page.rows);
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return rows;
        }
    }
}

/// What a region holds: by key, the version that everybody reads out of the row, and what it says.
async fn held(site: &Site, name: &str) -> BTreeMap<RowId, (Version, Option<String>)> {
    let rows = rows(site, &table(name), Scope::Table).await.into_iter();
    let id = |row: &Row| RowId::new(table(name), row.body.partition().clone(), row.body.row().clone());
    rows.map(|row| (id(&row), (row.version(&site.region), row.body.string("Text")))).collect()
}

/// The ranges of the ledger: by key, the copy flag, the time at which it was copied, and rows.
async fn ranges(site: &Site) -> BTreeMap<String, (String, Option<String>, u64)> {
    let scope = Scope::Partition { partition: "backfill".into(), from: None, through: None };
    let rows = rows(site, &SystemTable::Control.name(), scope).await.into_iter().map(|row| row.body);
    let range = |row: RowBody| {
        let rows = row.string("Rows")?.parse().ok()?;
        Some((row.row().to_string(), (row.string("Copy")?, row.string("Copied"), rows)))
    };
    rows.filter_map(range).collect()
}

fn gone_through(ranges: &BTreeMap<String, (String, Option<String>, u64)>) -> u64 {
    ranges.values().map(|(_, _, rows)| rows).sum()
}

fn begin(config: &Config, arguments: &[&str]) -> Process {
    let path = config.path();
    let environment = [("TABLERELAY_CONFIG", path.to_str().expect("a path"))];
    Process::start(Path::new(PROGRAM), &[&["backfill"], arguments, &PAIR].concat(), &environment, &std::env::temp_dir())
}

fn run(config: &Config, what: &str, more: &[&str]) -> (Option<i32>, String, String) {
    let ended = config.run(&[&["backfill", what], &PAIR[..], more].concat(), &[]);
    println!("{what} {more:?}: {:?}\n{}\n{}", ended.code, ended.out, ended.err);
    (ended.code, ended.out, ended.err)
}

fn is_planned_and_not_begun(config: &Config) {
    let (code, out, _) = run(config, "plan", &["--output", "json"]);
    let plan: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &plan["tables"][1]["rows"], &plan["tables"][1]["counted"]),
        (Some(0), &STOCK.into(), &true.into())
    );
    let about = plan["tables"][0]["rows"].as_u64().expect("a number");
    assert!((3_000..15_000).contains(&about), "{plan:#}");
    let (code, _, err) = run(config, "resume", &[]);
    assert!(code == Some(1) && err.contains("ever begun") && err.contains("backfill start"), "{err}");
}

/// By the protocol, in the middle of a copy: what is copied already, and what is not.
async fn write_and_delete(west: &Site) {
    let writer = Writer::new(west.store.clone(), WriterOptions::default(), Runtime::system());
    for n in (0..ORDERS).step_by(ORDERS / 40) {
        let id = id("orders", n);
        match n % 2 {
            0 => drop(writer.insert_or_replace(&id.table, &body(&id, "live"), None).await.expect("written")),
            _ => drop(writer.delete(&id.table, &id.partition, &id.row, Condition::Present, None).await.expect("gone")),
        }
    }
}

async fn are_equal(west: &Site, north: &Site) {
    for (name, rows) in [("orders", ORDERS), ("stock", STOCK)] {
        let equal = || async { held(west, name).await == held(north, name).await };
        eventually("what daemons bring is there too", equal).await;
        let deleted =
            if name == "orders" { (0..ORDERS).step_by(ORDERS / 40).filter(|n| n % 2 == 1).count() } else { 0 };
        assert_eq!(held(north, name).await.len(), rows - deleted, "what was deleted meanwhile stays so");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_and_paused_while_everybody_writes_it_goes_on_and_the_regions_are_equal() {
    let sites: Vec<Site> =
        ["west", "north"].into_iter().map(|name| Site::new(name, Azurite::shared().account())).collect();
    let (west, north) = (&sites[0], &sites[1]);
    create_missing(&west.store).await.expect("Azurite creates tables");
    fill(west, "orders", ORDERS).await;
    fill(west, "stock", STOCK).await;
    let config = configuration(&sites, REPLICATION);

    is_planned_and_not_begun(&config);
    let daemons = ["west", "north"].map(|region| Daemon::start(&config, region, "info", &[]));
    let first = begin(&config, &["start", "--share", "8"]);
    eventually("some hundred rows are copied", || async { gone_through(&ranges(west).await) >= 500 }).await;
    write_and_delete(west).await;
    first.signal("KILL");
    let (code, _, err) = run(&config, "start", &[]);
    assert!(code == Some(1) && err.contains("orders is being copied to north by"), "{err}");
    let before = ranges(west).await;
    assert!(gone_through(&before) < (ORDERS + STOCK) as u64, "it was killed in the middle: {before:?}");

    // It goes on once the hold of who was killed has run out; then it is paused.
    let second = begin(&config, &["resume", "--share", "8"]);
    let reached = gone_through(&before) + 500;
    eventually("it goes on", || async { gone_through(&ranges(west).await) >= reached }).await;
    let (code, out, _) = run(&config, "pause", &["--output", "json"]);
    let paused: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &paused["tables"][0]["state"]), (Some(0), &"paused".into()), "{paused:#}");
    second.wait_for("the word of where it stands", |line| {
        line.contains("`tablerelay backfill resume` goes on").then_some(())
    });
    let (code, _, err) = run(&config, "start", &["--table", "orders"]);
    assert!(code == Some(1) && err.contains("is paused") && err.contains("--again"), "{err}");

    let paused = ranges(west).await;
    let (code, out, _) = run(&config, "resume", &["--share", "100"]);
    assert!(code == Some(0) && out.contains("rows copied and verified"), "{out}");
    let after = ranges(west).await;
    for (key, (flag, copied, rows)) in
        paused.iter().chain(&before).filter(|(_, (flag, ..))| flag == "copied" || flag == "verified")
    {
        assert_eq!((&after[key].1, after[key].2), (copied, *rows), "{key} was {flag} and is not touched again");
    }
    assert!(after.values().all(|(flag, ..)| flag == "verified"), "{after:?}");
    let (code, out, _) = run(&config, "status", &["--output", "json"]);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &told["schema"], &told["tables"][0]["state"]), (Some(0), &1.into(), &"done".into()), "{told:#}");
    let (code, _, err) = run(&config, "pause", &[]);
    assert!(code == Some(1) && err.contains("is done"), "{err}");

    are_equal(west, north).await;
    drop(daemons);
    // A second one has nothing to write.
    let (code, out, _) = run(&config, "start", &["--share", "100", "--output", "json"]);
    let again: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((code, &again["tables"][0]["written"], &again["tables"][1]["written"]), (Some(0), &0.into(), &0.into()));
}

#[test]
fn what_is_typed_wrong_is_told_with_what_to_do() {
    let sites: Vec<Site> =
        ["west", "north"].into_iter().map(|name| Site::new(name, Azurite::shared().account())).collect();
    let config = configuration(&sites, REPLICATION);
    for (arguments, words) in [
        (
            &["start", "--from", "west", "--to", "east"][..],
            "there is no region east; the configuration has north, west",
        ),
        (&["plan", "--from", "west", "--to", "west"], "should be two regions"),
        (&["start", "--from", "west", "--to", "north", "--table", "nowhere"], "west has no table nowhere"),
        (&["start", "--from", "west", "--to", "north", "--share", "101"], "101"),
        (&["pause", "--from", "west"], "--to"),
    ] {
        let ended = config.run(&[&["backfill"], arguments].concat(), &[]);
        assert_eq!((ended.code, ended.err.contains(words)), (Some(2), true), "{arguments:?}: {}", ended.err);
    }
    let ended = config.run(&[&["backfill", "status"], &PAIR[..]].concat(), &[]);
    assert_eq!((ended.code, ended.err.contains("backfill start")), (Some(1), true), "{}", ended.err);
}
