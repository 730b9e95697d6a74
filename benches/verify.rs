//! What it takes to compare two regions, and whether what differs is found and mended exactly. `cargo bench --bench verify`
//!
//! A million rows (`-- --rows 100000` is another size) in each of two memory stores, which are processes of their own, as the command is.
//! First they are equal, and requests are counted by the stores themselves: three a thousand rows and side are the bound. Then a
//! thousand rows are made to differ, in each of the ways there are; what the command names is held against what was planted, and
//! after `--repair` every row of both regions against what it should be, by its ETag too, which any write changes.

#[path = "verify/planted.rs"]
mod planted;
#[allow(dead_code, reason = "what several benches share, of which each needs a part")]
#[path = "whole/mod.rs"]
mod whole;

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use tablerelay::model::*;
use tablerelay::replicator::create_missing;
use tablerelay::resolve::Difference;
use tablerelay::stores::{Operation, Scope, Tables};

use planted::{Planted, body, key, version};
use whole::command::{self, Ran};
use whole::store::{Store, TOGETHER, partition, table};
use whole::support::relay::Config;

/// How many rows are made to differ.
const DIFFERENT: usize = 1_000;
const VERIFY: [&str; 5] = ["verify", "--from", "west", "--to", "north"];

type Requests = BTreeMap<String, u64>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo test --benches` runs this too, with `--test`.
    if arguments.iter().any(|argument| argument == "--test") {
        return;
    }
    whole::block_on(run(whole::rows_asked_for(&arguments, 1_000_000)));
}

/// Two stores, and what was asked of each by a command.
struct Pair {
    stores: [Store; 2],
    config: Config,
}

impl Pair {
    async fn requests(&self) -> [Requests; 2] {
        [self.stores[0].requests().await, self.stores[1].requests().await]
    }

    /// Runs the command, and says how many requests of each kind it took of each side.
    async fn run(&self, more: &[&str]) -> (Ran, [Requests; 2]) {
        let before = self.requests().await;
        let ran = command::run(&self.config, &[&VERIFY[..], more].concat()).await;
        let mut after = self.requests().await;
        for (after, before) in after.iter_mut().zip(&before) {
            after.iter_mut().for_each(|(kind, n)| *n -= before.get(kind).copied().unwrap_or(0));
        }
        (ran, after)
    }
}

async fn run(rows: usize) {
    let pair = filled(rows).await;
    let (equal, requests) = pair.run(&[]).await;
    tell("equal, by version", rows, &equal, &requests);
    assert!(equal.status.success(), "{:#}", equal.told["tables"]);
    let most = |requests: &Requests| requests.values().sum::<u64>() as f64 / rows as f64 * 1_000.0;
    assert!(requests.iter().all(|requests| most(requests) <= 3.0), "{requests:?}");

    let planted: BTreeMap<usize, Planted> =
        (0..DIFFERENT).map(|n| (n * (rows / DIFFERENT) + n % 97, Planted::nth(n))).collect();
    for (n, planted) in &planted {
        planted.plant(&pair.stores, *n).await;
    }
    let (found, requests) = pair.run(&["--content"]).await;
    tell("a thousand planted, by content", rows, &found, &requests);
    are_named_exactly(&found.told, &planted);
    let written = |requests: &Requests| requests["write"] + requests["transact"];
    println!("  writes while it looked: {} and {}, how far it is", written(&requests[0]), written(&requests[1]));

    let before = [held(&pair.stores[0]).await, held(&pair.stores[1]).await];
    let (mended, requests) = pair.run(&["--content", "--repair"]).await;
    tell("repaired", rows, &mended, &requests);
    let after = [held(&pair.stores[0]).await, held(&pair.stores[1]).await];
    assert!(mended.status.success(), "{:#}", mended.told["tables"]);
    is_mended_exactly(&before, &after, &planted);
    let (again, requests) = pair.run(&["--content"]).await;
    let deleted = planted.values().filter(|planted| planted.left().is_none()).count();
    tell("once more", rows - deleted, &again, &requests);
    assert!(again.status.success(), "{:#}", again.told["tables"]);
}

async fn filled(rows: usize) -> Pair {
    let stores = [Store::start("west"), Store::start("north")];
    let orders = table("orders");
    for store in &stores {
        create_missing(&store.region_store()).await.expect("system tables");
        let row = |n: usize| Operation::Insert(body(n, "a", &version(0, 5)));
        let part = |n: usize| (partition(n), (n * TOGETHER..(n + 1) * TOGETHER).map(row).collect());
        store.fill(&orders, (0..rows / TOGETHER).map(part)).await;
    }
    let config = whole::configuration(&stores[0], &stores[1], "");
    Pair { stores, config }
}

fn tell(what: &str, rows: usize, ran: &Ran, requests: &[Requests; 2]) {
    let of = |n: usize| requests[n].values().sum::<u64>() as f64 / rows as f64 * 1_000.0;
    println!(
        "{what}: {} differ, {} mended; {:.2} and {:.2} requests a thousand rows, {:.1} MiB at most (bound 100), {:.1} s",
        sum(&ran.told, "differences"),
        ran.told["tables"][0]["mended"],
        of(0),
        of(1),
        ran.used.resident,
        ran.took.as_secs_f64()
    );
    assert!(ran.used.resident <= 100.0, "{:.1} MiB", ran.used.resident);
    assert_eq!(ran.told["tables"][0]["rows"].as_u64(), Some(rows as u64), "{:#}", ran.told["tables"]);
}

fn sum(told: &Value, of: &str) -> u64 {
    let kinds = told["tables"][0][of].as_object().expect("by kind");
    kinds.values().filter_map(Value::as_u64).sum()
}

/// Every row that was planted is named with its kind, and no other one.
fn are_named_exactly(told: &Value, planted: &BTreeMap<usize, Planted>) {
    let text = |row: &Value, name: &str| row[name].as_str().expect("a text").to_owned();
    let named = told["named"].as_array().expect("rows");
    let named: BTreeMap<(String, String), String> =
        named.iter().map(|row| ((text(row, "partition"), text(row, "row")), text(row, "kind"))).collect();
    let expected = |(n, planted): (&usize, &Planted)| {
        let (partition, row) = key(*n);
        ((partition.as_str().to_owned(), row.as_str().to_owned()), planted.kind.to_string())
    };
    assert_eq!(named, planted.iter().map(expected).collect(), "named exactly");
}

/// What a region holds: by number of the row, what it says, its version, and its ETag, which any write changes.
async fn held(store: &Store) -> HashMap<usize, (String, Version, Etag)> {
    let mut held = HashMap::new();
    let mut query = tablerelay::stores::Query::new(Scope::Table);
    loop {
        let page = store.tables.query(&table("orders"), &query).await.expect("the store answers");
        for row in page.rows {
            let n = planted::number(&row.body);
            let (text, version) = (row.body.string("A").expect("a text"), row.body.version().expect("one").clone());
            held.insert(n, (text, version, row.etag));
        }
        query.continuation = page.continuation;
        if query.continuation.is_none() {
            return held;
        }
    }
}

type Held = HashMap<usize, (String, Version, Etag)>;

fn is_mended_exactly(before: &[Held; 2], after: &[Held; 2], planted: &BTreeMap<usize, Planted>) {
    for (n, planted) in planted {
        let of = |side: usize| after[side].get(n).map(|(text, version, _)| (text.as_str(), version));
        assert_eq!(of(0), of(1), "{}: row {n} is equal", planted.kind);
        match (planted.left(), of(0)) {
            (None, here) => assert_eq!(here, None, "{}: row {n} stays deleted", planted.kind),
            // Nobody can tell which of two contents of one version is right: what stands here gets a new one.
            (Some((text, _)), Some((here, _))) if planted.kind == Difference::Content => assert_eq!(here, text),
            (Some((text, version)), here) => assert_eq!(here, Some((text, &version)), "{}: row {n}", planted.kind),
        }
    }
    for (side, (before, after)) in before.iter().zip(after).enumerate() {
        let touched = after.iter().filter(|(n, row)| !planted.contains_key(n) && before.get(n) != Some(row)).count();
        assert_eq!(touched, 0, "nothing else is touched in {}", ["west", "north"][side]);
        println!("  {}: {} rows, no other row touched, by its ETag", ["west", "north"][side], after.len());
    }
}
